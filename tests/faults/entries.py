"""What the test's own book keeps: what was agreed, what was sent, and what should not run."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

YES_LIFE_S: Final = 1800.0


class Violation(Exception):
    """An invariant that does not hold."""


@dataclass
class Yes:
    """What the user agreed to, as it was shown.

    `said_at`: by the clock of the process that was told; `until_true`: by the true one.
    """

    workflow_id: str
    digest: str
    values: Mapping[str, Any]
    env: Mapping[str, str]
    said_at: float
    until_true: float
    confirmation_id: str | None = None

    @property
    def until(self) -> float:
        """Until when it counts by the server's clock, in Unix seconds."""
        return self.said_at + YES_LIFE_S

    @property
    def ceiling(self) -> Decimal:
        """$/h of one machine."""
        return Decimal(str(self.values["max_price_per_hour"]))

    @property
    def count(self) -> int:
        """How many machines."""
        return int(self.values["count"])


@dataclass(slots=True)
class Put:
    """A create that reached the market. `denied`: a proxy answered that the offer was gone, though it was rented."""

    at: float
    yes: Yes
    denied: bool = False


@dataclass(slots=True)
class Bad:
    """A machine that should not run, and for how long the agent has waited undisturbed since it could be seen."""

    why: str
    waited_s: float = 0.0
