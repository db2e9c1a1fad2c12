"""Several addresses of one machine, tried with a staggered start: the first that works wins."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncssh

from vastai_workflow.steps.ports import ProbeReport, ProbeStage

REASONS: Final = (
    "host_key_changed",
    "too_much_output",
    "auth_refused",
    "closed",
    "timeout",
    "refused",
    "unreachable",
    "bad_address",
)
"""Why an address did not work, the most telling first: that one is reported where the addresses differ."""


@dataclass
class Attempt:
    """One address and how far it came; `reason` None means that it worked."""

    host: str
    port: int
    stage: ProbeStage = "none"
    reason: str | None = None
    detail: str = ""
    host_key: asyncssh.SSHKey | None = None
    connection: asyncssh.SSHClientConnection | None = field(default=None, repr=False)

    def fail(self, reason: str, detail: str) -> None:
        """Say why it ends here; `detail` is one sentence without the machine's own words, or with cleaned ones."""
        self.reason, self.detail = reason, detail

    async def close(self) -> None:
        """Hang up, without waiting for the other side."""
        if self.connection is not None:
            self.connection.abort()
            await self.connection.wait_closed()
            self.connection = None

    def report(self) -> ProbeReport:
        """What the steps get to see."""
        shown = self.host_key.get_fingerprint() if self.host_key else None
        return ProbeReport(self.stage, self.host, self.port, self.reason, self.detail, shown)


async def first_of(
    attempts: Sequence[Attempt], reach: Callable[[Attempt], Coroutine[Any, Any, None]], *, stagger_s: float
) -> Attempt:
    """The first of at least one attempt that works; the others are ended and closed.

    Each gets a head start of `stagger_s` seconds, or until it fails. Without a winner: the one that came farthest,
    then the one with the most telling reason.
    """
    waiting = list(attempts)
    tried: list[Attempt] = []
    running: dict[asyncio.Task[None], Attempt] = {}
    winner: Attempt | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                tried.append(attempt := waiting.pop(0))
                running[asyncio.create_task(reach(attempt))] = attempt
            patience = stagger_s if waiting else None
            done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                attempt = running.pop(task)
                task.result()
                if attempt.reason is None and winner is None:
                    winner = attempt
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for attempt in tried:
            if attempt is not winner:
                await attempt.close()
    return winner or min(tried, key=_promise)


def _promise(attempt: Attempt) -> tuple[bool, int]:
    return attempt.stage == "none", REASONS.index(attempt.reason or REASONS[-1])
