"""What an instance costs: per-second lines of cards and disk, and traffic by the gigabyte."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

Kind = Literal["gpu", "disk", "bwd", "bwu"]
_MICROSECONDS_AN_HOUR = Decimal(3_600_000_000)


def cost(rate: Decimal, seconds: float) -> Decimal:
    """$ of a rate in $/h over some seconds, exact to the microsecond."""
    return rate * Decimal(round(seconds * 1_000_000)) / _MICROSECONDS_AN_HOUR


@dataclass(slots=True)
class Line:
    """A stretch of one charge: at `rate` $/h, or a quantity of traffic at `rate` $/GB."""

    kind: Kind
    start: float
    end: float
    rate: Decimal
    gigabytes: Decimal | None = None

    def amount(self, until: float) -> Decimal:
        """$ of the part before a moment."""
        if self.gigabytes is not None:
            return self.rate * self.gigabytes if self.end <= until else Decimal(0)
        return cost(self.rate, max(min(self.end, until) - self.start, 0.0))

    def description(self, until: float) -> str:
        """The line as the provider words it."""
        if self.gigabytes is not None:
            return f"{self.gigabytes:.3f} GB at ${self.rate:.4f}/GB"
        return f"{max(min(self.end, until) - self.start, 0.0) / 3600:.3f} hours at ${self.rate:.4f}/hour"


@dataclass(slots=True)
class Meter:
    """All charges of one instance."""

    lines: list[Line] = field(default_factory=list[Line])

    def run(self, kind: Kind, rate: Decimal, start: float, end: float) -> Decimal:
        """Charge a stretch of time; gives its cost in $."""
        if rate <= 0 or end <= start:
            return Decimal(0)
        for line in reversed(self.lines):
            if line.kind == kind and line.gigabytes is None:
                if line.end == start and line.rate == rate:
                    before = line.amount(end)
                    line.end = end
                    return line.amount(end) - before
                break
        line = Line(kind, start, end, rate)
        self.lines.append(line)
        return line.amount(end)

    def traffic(self, kind: Kind, gigabytes: Decimal, price: Decimal, at: float) -> Decimal:
        """Charge traffic; gives its cost in $."""
        line = Line(kind, at, at, price, gigabytes)
        self.lines.append(line)
        return line.amount(at)

    def total(self, until: float = float("inf")) -> Decimal:
        """$ charged for what happened before a moment."""
        return sum((line.amount(until) for line in self.lines), Decimal(0))
