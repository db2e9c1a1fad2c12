"""How often an identity may call an endpoint: a minimum interval, or a number of calls a minute."""

from collections import deque

from vastai_workflow.simulator.exchange import Endpoint

MINUTE_S = 60.0


class Limits:
    """Remembers calls by identity and endpoint."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, str], float] = {}
        self._calls: dict[tuple[str, str], deque[float]] = {}

    def wait_s(self, endpoint: Endpoint, identity: str, now: float) -> float:
        """Seconds to wait before this call is allowed; 0 counts the call as made."""
        key = (identity, f"{endpoint.method} {endpoint.path}")
        if endpoint.per_minute:
            return self._wait_for_a_place(endpoint.per_minute, key, now)
        if not endpoint.interval_s:
            return 0.0
        allowed_at = self._next.get(key, 0.0)
        # 1 ms of grace: sums of seconds in floating point may miss the interval by less than a client can see
        if now + 0.001 >= allowed_at:
            self._next[key] = now + endpoint.interval_s
            return 0.0
        if endpoint.penalty_s:
            allowed_at = self._next[key] = max(allowed_at, now + endpoint.penalty_s)
        return allowed_at - now

    def _wait_for_a_place(self, per_minute: int, key: tuple[str, str], now: float) -> float:
        calls = self._calls.setdefault(key, deque())
        while calls and calls[0] <= now - MINUTE_S:
            calls.popleft()
        if len(calls) < per_minute:
            calls.append(now)
            return 0.0
        return calls[0] + MINUTE_S - now
