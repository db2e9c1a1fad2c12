"""How fast calls may go: published intervals are kept, and what may be repeated waits longer each time."""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.steps.ports import Clock
from vastai_workflow.vast.endpoints import Endpoint

MAX_TRIES: Final = 4
MAX_WAIT_S: Final = 30.0
"""All waits of one call together, and the longest wait for a turn."""
REPEAT_WITHIN_S: Final = 75.0
"""No further try later than this after the first began: one time-out of 60 s is repeated, two are not."""
_FIRST_WAIT_S: Final = 0.5
_REPEATED: Final = frozenset({"rate_limited", "provider_down", "unreachable"})


class Limiter:
    """Keeps each route's pace, for one key. Waiters come through one at a time, in the order they asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._doors: dict[tuple[str, str], anyio.Lock] = {}
        self._calls: dict[tuple[str, str], list[float]] = {}

    @asynccontextmanager
    async def turn(self, endpoint: Endpoint) -> AsyncGenerator[None]:
        """Wait for a turn, then hold the call inside. A wait above `MAX_WAIT_S` raises `rate_limited` at once.

        The interval counts from the call's end, since the provider counts from when it saw it.
        """
        calls = self._calls.setdefault(endpoint.route, [])
        async with self._doors.setdefault(endpoint.route, anyio.Lock()):
            wait = self._wait(endpoint, calls)
            if wait > MAX_WAIT_S:
                raise ProviderError(
                    "rate_limited",
                    f"{endpoint.name} may be called {endpoint.pace}: the next time in {wait:.0f} s",
                    retry_after=wait,
                )
            if wait > 0:
                await self._clock.sleep(wait)
            began = self._clock.now()
            calls.append(began)
            del calls[: -endpoint.pace.calls]
        try:
            yield
        finally:
            if began in calls:
                calls.remove(began)
                calls.append(max(self._clock.now(), began))

    def _wait(self, endpoint: Endpoint, calls: list[float]) -> float:
        pace = endpoint.pace
        if len(calls) < pace.calls:
            return 0.0
        return min(min(calls) + pace.seconds - self._clock.now(), pace.seconds)


class Patience:
    """The waits of one call that may be repeated: bounded in tries and time, longer each time, with jitter."""

    def __init__(self, endpoint: Endpoint, clock: Clock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._base = max(_FIRST_WAIT_S, endpoint.pace.spacing_s)
        self._began = clock.now()
        self._tries = 0
        self._waited = 0.0
        self._read_again = False

    def reads_again(self) -> bool:
        """Whether an unreadable answer may be asked for once more; true once."""
        again, self._read_again = not self._read_again, True
        return again

    async def wait(self, error: ProviderError) -> None:
        """Wait before the next try, as long as the provider asks or longer; raises the error where that ends."""
        self._tries += 1
        delay = self._delay(error)
        late = self._clock.now() - self._began > REPEAT_WITHIN_S
        if error.code not in _REPEATED or self._tries >= MAX_TRIES or late or self._waited + delay > MAX_WAIT_S:
            raise error
        self._waited += delay
        await self._clock.sleep(delay)

    def _delay(self, error: ProviderError) -> float:
        grown = self._base * 2 ** (self._tries - 1)
        if error.retry_after is not None:
            return error.retry_after + self._chance.uniform(0, _FIRST_WAIT_S)
        return grown * self._chance.uniform(0.5, 1.0)
