"""Clocks that the market and the program under test share."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

EPOCH = 1_795_000_000.0
"""Where a clock starts unless told: a fixed Unix time in November 2026, so that a seed gives the same numbers."""


class Clock(Protocol):
    """Time in Unix seconds, and waiting in the same seconds."""

    def now(self) -> float:
        """The time, in Unix seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this clock."""
        ...


class AdjustableClock(Clock, Protocol):
    """A clock that can also be moved forward from outside."""

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        ...


class VirtualClock:
    """A clock that stands still until it is moved; waiting moves it, and takes no real time."""

    def __init__(self, start: float = EPOCH) -> None:
        self._now = start

    def now(self) -> float:
        """The time, in Unix seconds."""
        return self._now

    def steady(self) -> float:
        """The same: nobody sets it back."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward; a negative number is refused, since time does not run back."""
        if seconds < 0:
            msg = f"a clock only goes forward: got {seconds} s, allowed 0 or more"
            raise ValueError(msg)
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Move the clock forward and let the other tasks run once."""
        self.advance(max(seconds, 0.0))
        await asyncio.sleep(0)


class ScaledClock:
    """Real time, `speed` times faster, from `start` on (the real time when it is None)."""

    def __init__(self, speed: float = 1.0, start: float | None = None) -> None:
        if speed <= 0:
            msg = f"got a speed of {speed}, allowed: more than 0"
            raise ValueError(msg)
        self._speed = speed
        self._start = time.time() if start is None else start
        self._began: Callable[[], float] = time.monotonic
        self._zero = self._began()

    def now(self) -> float:
        """The time, in Unix seconds."""
        return self._start + (self._began() - self._zero) * self._speed

    def steady(self) -> float:
        """The same: nobody sets it back."""
        return self.now()

    def advance(self, seconds: float) -> None:
        """Move the clock forward at once."""
        if seconds < 0:
            msg = f"a clock only goes forward: got {seconds} s, allowed 0 or more"
            raise ValueError(msg)
        self._start += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds` of this clock: `seconds / speed` real ones."""
        await asyncio.sleep(max(seconds, 0.0) / self._speed)
