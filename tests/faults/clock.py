"""The clock of the servers' machine: it may be off against the provider's, and set at any moment.

A process reads it once, when it begins, and counts on from there: it learns of a setting when it is started again.
"""

from vastai_workflow.simulator.clock import VirtualClock


class MachineClock:
    """Shows what somebody set it to, and passes with the true time."""

    def __init__(self, true: VirtualClock, ahead_s: float) -> None:
        self._true = true
        self._ahead_s = ahead_s
        self._booted_at = true.now()

    def now(self) -> float:
        """What it shows, in Unix seconds."""
        return self._true.now() + self._ahead_s

    def steady(self) -> float:
        """Seconds since the machine was booted, whatever is set."""
        return self._true.now() - self._booted_at

    def set_by(self, seconds: float) -> None:
        """Somebody, or a time service, sets it forward, or back where the number is negative."""
        self._ahead_s += seconds

    def reboot(self) -> None:
        """The machine begins anew, and counts from 0."""
        self._booted_at = self._true.now()

    def of_a_process(self) -> "ProcessClock":
        """The time by a process that begins now."""
        return ProcessClock(self, self._true)

    async def sleep(self, seconds: float) -> None:
        """Waiting takes as long as it is, whatever is set meanwhile."""
        await self._true.sleep(seconds)


class ProcessClock:
    """The machine's time when the process began, and what passed since."""

    def __init__(self, machine: MachineClock, true: VirtualClock) -> None:
        self._machine = machine
        self._true = true
        self._ahead_s = machine.now() - true.now()

    def now(self) -> float:
        """Unix seconds."""
        return self._true.now() + self._ahead_s

    def steady(self) -> float:
        """Seconds since the machine was booted."""
        return self._machine.steady()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._true.sleep(seconds)
