"""What is left on the account and how long it lasts, as a question says it, and for how long that is true enough."""

from decimal import Decimal
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

from vastai_workflow.domain.money import Usd

_DRIFT: Final = Decimal("0.05")
"""What runs goes on costing while the person thinks: so much of a change makes no other question."""


class Balance(BaseModel):
    """Dollars, and for how many hours they last; None where nothing is spent or that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    credit: Decimal
    lasts_h: Decimal | None = None

    @classmethod
    def of(cls, credit: Usd, runway_h: Decimal | None) -> Self:
        """An infinite runway is none."""
        return cls(credit=credit.amount, lasts_h=runway_h if runway_h is None or runway_h.is_finite() else None)

    def near(self, other: "Balance") -> bool:
        """Whether money and time are the same but for a little."""
        if self.lasts_h is None or other.lasts_h is None:
            return self.lasts_h == other.lasts_h and _near(self.credit, other.credit)
        return _near(self.credit, other.credit) and _near(self.lasts_h, other.lasts_h)

    def __str__(self) -> str:
        left = f"Balance {Usd(self.credit)}"
        if self.credit <= 0:  # official docs: the provider stops what runs
            return f"{left}: without credit Vast.ai may refuse, and stops what runs."
        return f"{left}." if self.lasts_h is None else f"{left} lasts {self.lasts_h:.0f} h."


def _near(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= abs(one) * _DRIFT
