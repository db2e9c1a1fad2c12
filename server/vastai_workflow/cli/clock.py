"""The real clock."""

import time

import anyio


class SystemClock:
    """Unix time, and real waiting."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)
