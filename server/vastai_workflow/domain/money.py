"""Money: dollars and dollars per hour as types of their own, exact (Decimal), never float arithmetic."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final, Self

_CENT: Final = Decimal("0.01")
_SHOWN: Final = Decimal("0.0001")
_HOUR_S: Final = 3600


def exact(value: Decimal | float | str) -> Decimal:
    """The decimal that a person would read: 0.1 becomes 0.1. Refuses anything but a finite number with ValueError."""
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError(f"got {value!r}, allowed a finite amount")
    return number


@dataclass(frozen=True, slots=True, order=True)
class Usd:
    """An amount in US dollars."""

    amount: Decimal

    @classmethod
    def of(cls, value: Decimal | float | str) -> Self:
        """From the wire or a person; a float is read as it prints."""
        return cls(exact(value))

    def __add__(self, other: "Usd") -> "Usd":
        return Usd(self.amount + other.amount)

    def __truediv__(self, rate: "Rate") -> Decimal:
        """How many hours this lasts at a rate: infinite at a rate of zero, none where it is a debt."""
        return max(self.amount, Decimal(0)) / rate.per_hour if rate.per_hour else Decimal("Infinity")

    def number(self) -> float:
        """For JSON: four decimals."""
        return float(self.amount.quantize(_SHOWN, ROUND_HALF_UP))

    def __str__(self) -> str:
        cents = self.amount.quantize(_CENT, ROUND_HALF_UP)
        return f"{'-' if cents < 0 else ''}${abs(cents)}"


@dataclass(frozen=True, slots=True, order=True)
class Rate:
    """A price in US dollars per hour."""

    per_hour: Decimal

    @classmethod
    def of(cls, value: Decimal | float | str) -> Self:
        """From the wire or a person; a float is read as it prints."""
        return cls(exact(value))

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.per_hour + other.per_hour)

    def __sub__(self, other: "Rate") -> "Rate":
        return Rate(self.per_hour - other.per_hour)

    def __mul__(self, factor: Decimal | int) -> "Rate":
        return Rate(self.per_hour * factor)

    def over(self, seconds: float) -> Usd:
        """What it costs for a time in seconds; never negative."""
        return Usd(self.per_hour * max(exact(seconds), Decimal(0)) / _HOUR_S)

    def up_to_the_cent(self) -> "Rate":
        """Rounded up to the next whole cent."""
        return Rate(self.per_hour.quantize(_CENT, ROUND_CEILING))

    def number(self) -> float:
        """For JSON: four decimals."""
        return float(self.per_hour.quantize(_SHOWN, ROUND_HALF_UP))

    def __str__(self) -> str:
        shown = self.per_hour.quantize(_SHOWN, ROUND_HALF_UP)
        cents = shown.quantize(_CENT, ROUND_HALF_UP)
        return f"${cents}/h" if shown == cents else f"${shown}/h"


def total(rates: "list[Rate] | tuple[Rate, ...]") -> Rate:
    """The sum of some rates."""
    return Rate(sum((rate.per_hour for rate in rates), Decimal(0)))


ZERO: Final = Rate(Decimal(0))
"""Nothing per hour."""
