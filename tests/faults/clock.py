"""The clock of the servers' machine: it may be off against the provider's, and may be set at any moment."""

from vastai_workflow.simulator.clock import VirtualClock


class MachineClock:
    """Shows what somebody set it to, and passes with the true time."""

    def __init__(self, true: VirtualClock, ahead_s: float) -> None:
        self._true = true
        self._ahead_s = ahead_s

    def now(self) -> float:
        """What it shows, in Unix seconds."""
        return self._true.now() + self._ahead_s

    def steady(self) -> float:
        """Seconds that only pass, whatever is set."""
        return self._true.now()

    def set_by(self, seconds: float) -> None:
        """Somebody, or a time service, sets it forward, or back where the number is negative."""
        self._ahead_s += seconds

    async def sleep(self, seconds: float) -> None:
        """Waiting takes as long as it is, whatever is set meanwhile."""
        await self._true.sleep(seconds)
