"""The real clock."""

import time

import anyio


class SystemClock:
    """Unix time as it was when this process began, and what passed since, sleep of the machine included.

    A clock that is set meanwhile (by its owner, by NTP, after a sleep) neither lengthens a wait nor ends it.
    """

    def __init__(self) -> None:
        """Reads both clocks."""
        self._began = time.time() - self.steady()

    def now(self) -> float:
        """Unix seconds."""
        return self._began + self.steady()

    def steady(self) -> float:
        """Seconds since the machine started; where the system counts those without sleep, at least these."""
        if hasattr(time, "CLOCK_BOOTTIME"):  # Linux
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)
