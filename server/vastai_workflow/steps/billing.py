"""Billing: charges, invoices, balance and burn rate of the provider, beside the local meter."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from vastai_workflow.domain.fields import refuse
from vastai_workflow.domain.market import Charge
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.fleet_view import all_active, burning
from vastai_workflow.steps.metering import metered

_DAY_S: Final = 86_400.0
_WEEK_S: Final = 7 * _DAY_S
_LONGEST_S: Final = 366 * _DAY_S


@dataclass(frozen=True, slots=True)
class Bill:
    """A span's charges and payments, and what runs now by the local meter (charges lag behind use)."""

    start: float
    end: float
    charges: tuple[Charge, ...]
    invoices: tuple[Charge, ...]
    credit: Usd
    burn: Rate
    meter: tuple[tuple[int, Usd], ...]

    @property
    def charged(self) -> Usd:
        """The sum of the charges."""
        spent = Usd.of(0)
        for charge in self.charges:
            spent += charge.amount
        return spent


async def billing_report(
    deps: Deps, caller: Caller, start: str | None, end: str | None, workflow_id: str | None
) -> Bill:
    """`start` and `end` are days (YYYY-MM-DD, UTC, both inclusive); the last 7 days by default."""
    now = deps.clock.now()
    until = _day("end", end) + _DAY_S if end is not None else now
    since = _day("start", start) if start is not None else until - _WEEK_S
    if not 0 < until - since <= _LONGEST_S:
        raise refuse("start, end", f"{start} to {end}", "a start before the end, 366 days at most")
    opened = await open_market(deps, caller, workflow_id)
    instances = await opened.market.instances()
    active = await all_active(deps, opened.account.id, instances)
    return Bill(
        start=since,
        end=until,
        charges=await opened.market.charges(since, until),
        invoices=await opened.market.invoices(since, until),
        credit=opened.account.credit,
        burn=burning(active),
        meter=tuple([(instance.id, await metered(deps, instance)) for instance in instances]),
    )


def _day(name: str, text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise refuse(name, text, "a day such as 2026-11-24 (UTC)") from None
