"""The points that processes come to: there one dies or loses its client, or the machine's clock is set."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

ANY_POINT = "*"


class Died(BaseException):
    """The process was killed; no handler of the program under test may catch this."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A kill at the `nth` crossing of a point; at `*`, of any."""

    point: str
    nth: int

    @property
    def named(self) -> bool:
        """Whether it is at a point of its own."""
        return self.point != ANY_POINT

    def __str__(self) -> str:
        return f"killed at crossing {self.nth} of {self.point}"


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The machine's clock is set by so many seconds at the `nth` crossing of any point."""

    nth: int
    seconds: float

    def __str__(self) -> str:
        return f"the server's clock is set by {self.seconds:+g} s at crossing {self.nth}"


@dataclass
class Crossings:
    """Counts the points that processes come to: where one dies or loses its client, or the clock is set."""

    crashes: list[Crash] = field(default_factory=list[Crash])
    steps: Sequence[ClockStep] = ()
    set_clock: Callable[[float], None] | None = None
    hit: list[str] = field(default_factory=list[str])
    _seen: Counter[str] = field(default_factory=Counter[str])
    _hang_up_in: int = 0
    _hang_up: Callable[[], object] | None = None

    def hang_up_in(self, crossings: int, hang_up: Callable[[], object]) -> None:
        """Let the client go away after so many crossings from now."""
        self._hang_up_in, self._hang_up = crossings, hang_up

    def kills(self, point: str) -> bool:
        """Count a crossing; whether the process dies at it."""
        self._seen[point] += 1
        self._seen[ANY_POINT] += 1
        for step in self.steps:
            if step.nth == self._seen[ANY_POINT] and self.set_clock is not None:
                self.set_clock(step.seconds)
        if self._hang_up is not None:
            self._hang_up_in -= 1
            if self._hang_up_in <= 0:
                self._hang_up()
                self._hang_up = None
        due = [crash for crash in self.crashes if self._seen[crash.point] == crash.nth and crash.point in {point, "*"}]
        if due:
            self.hit.append(point)
        return bool(due)
