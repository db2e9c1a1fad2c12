"""One call's work on a plan: what it knows of the market, and which offer may take the place of one that is gone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vastai_workflow.domain import plan as choosing
from vastai_workflow.domain.errors import ProviderError, Refusal, WorkflowError
from vastai_workflow.domain.ledger import Order
from vastai_workflow.domain.market import Instance, Offer
from vastai_workflow.domain.money import Rate
from vastai_workflow.steps.accounts import Opened
from vastai_workflow.steps.deps import Caller, Deps, Progress
from vastai_workflow.steps.outlook import not_held, search

ROWS: Final = 64
"""Offers that one request can show; a search of the whole market takes up to four of the ten of a minute."""


@dataclass(slots=True)
class Run:
    """One call's work on a plan. `instances`: the newest complete list.

    `ranked`: what this call saw, best first: the plan's own offers and its spare ones, or with `whole` all that fit.
    `stopped_by`: why no more is sent now; `lost`: why the newest order that was given up alone did not rent.
    `later`: planned orders that need a search of the market, which has to wait for its pace: `waits_for`.
    """

    deps: Deps
    caller: Caller
    opened: Opened
    workflow_id: str
    plan_id: str
    deadline: float
    progress: Progress
    notes: list[str]
    ranked: tuple[Offer, ...] = ()
    whole: bool = False
    instances: tuple[Instance, ...] = ()
    stopped_by: WorkflowError | None = None
    lost: WorkflowError | None = None
    later: set[str] = field(default_factory=set[str])
    waits_for: WorkflowError | None = None

    def put_off(self, order_id: str, why: WorkflowError) -> None:
        """This place keeps no other one waiting: the next call looks for its offer."""
        self.later.add(order_id)
        self.waits_for = why

    def offer(self, ask_id: int) -> Offer | None:
        """This offer as seen in this call."""
        return next((item for item in self.ranked if item.ask_id == ask_id), None)


async def look_up(run: Run, values: Mapping[str, Any], ask_ids: Sequence[int]) -> None:
    """These offers as they are now, by one request. What else was seen stays; one that is gone goes."""
    found = await search(run.opened.market, values, tuple(ask_ids)) if ask_ids else ()
    await _seen(run, values, found, without=ask_ids)


async def look_at_market(run: Run, values: Mapping[str, Any]) -> None:
    """Every offer that fits; up to four requests."""
    try:
        found = await search(run.opened.market, values)
    except Refusal:  # the market has no such GPU any more
        found = ()
    await _seen(run, values, found, without=())
    run.whole = True


async def stand_in(
    run: Run, order: Order, values: Mapping[str, Any], used: Collection[int], *, again: bool
) -> Offer | None:
    """The best offer within the ceiling of an order whose own is gone, on a machine that is not among those `used`.

    With `again` those that may be it are looked up once more by one request, unless the pace of searches forbids it.
    ProviderError where nothing that was seen fits, and the market can't be looked at.
    """
    _forget(run, order)
    ceiling = Rate(order.ceiling_per_hour)
    known = fitting(run, ceiling, values, used)
    if known and again:
        try:
            await look_up(run, values, [item.ask_id for item in known[:ROWS]])
        except ProviderError as error:
            if error.code != "rate_limited":
                raise
        known = fitting(run, ceiling, values, used)
    if not known and not run.whole:
        await look_at_market(run, values)
        _forget(run, order)
        known = fitting(run, ceiling, values, used)
    return next(iter(known), None)


def fitting(run: Run, ceiling: Rate | None, values: Mapping[str, Any], used: Collection[int]) -> tuple[Offer, ...]:
    """What may take a place, of what was seen: the plan's spare offers were chosen by the policy already."""
    ranked = [item for item in run.ranked if ceiling is None or item.price <= ceiling]
    return choosing.candidates(ranked, values["policy"] if run.whole else "cheapest", used)


def _forget(run: Run, order: Order) -> None:
    run.ranked = tuple(item for item in run.ranked if item.ask_id != order.ask_id)


async def _seen(run: Run, values: Mapping[str, Any], found: Sequence[Offer], *, without: Collection[int]) -> None:
    new = {item.ask_id for item in found} | set(without)
    kept = [item for item in run.ranked if item.ask_id not in new]
    free = await not_held(run.deps, run.opened.account.id, [*found, *kept])
    run.ranked = choosing.rank(free, values["objective"])
