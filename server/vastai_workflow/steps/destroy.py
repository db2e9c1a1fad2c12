"""The end of machines: sent, repeated while that is safe, and seen. Never "success" from a 200 alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.ledger import VISIBILITY_S, Order, OrderFacts, OrderState
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.money import Usd
from vastai_workflow.domain.workflow import Purpose
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.fleet_view import ActiveInstance, made_by, with_orders
from vastai_workflow.steps.metering import metered
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.purposes import Intent, spend
from vastai_workflow.steps.writes import require_writes

FinalState = Literal["gone", "still there", "unknown"]

CALL_BUDGET_S: Final = 40.0
NOT_AS_AGREED: Final = "not as agreed"
"""How the reason begins for which a machine was released that is not what was agreed."""

_LOOK_EVERY_S: Final = 2.0


_DOES_NOT_HEAL: Final = frozenset({"key_rejected", "scope_missing", "two_factor", "redirect_refused"})
"""Answers after which sending again in the same call is of no use."""


@dataclass(frozen=True, slots=True)
class End:
    """How one end went. `state`: as last seen. `cost` is the local meter's; None where it was never seen."""

    instance_id: int
    final_state: FinalState
    state: State = State.UNKNOWN
    cost: Usd | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """What one DELETE and the looks after it showed."""

    final: FinalState
    state: State = State.UNKNOWN
    error: ProviderError | None = None


async def destroy_instances(
    deps: Deps, caller: Caller, instance_ids: Sequence[int], workflow_id: str | None
) -> tuple[End, ...]:
    """End machines and see that they are gone. Ours at once; others only with a yes of their own."""
    require_writes(deps)
    ids = tuple(dict.fromkeys(instance_ids))
    try:
        opened = await open_market(deps, caller, workflow_id, ids)
        seen = await with_orders(deps, opened.account.id, await opened.market.instances())
    except ProviderError as error:
        return tuple(End(i, "unknown", reason=f"nothing was sent: {error.message} ({error.code})") for i in ids)
    active = {item.instance.id: item for item in seen}
    strangers = tuple(i for i in ids if i in active and not active[i].ours)
    if strangers:
        await spend(deps, caller, opened, _intent(strangers, active))
    deadline = deps.clock.now() + CALL_BUDGET_S
    return tuple([await _end_one(deps, opened.market, i, active.get(i), deadline) for i in ids])


async def end_order(deps: Deps, market: Market, order: Order, *, reason: str) -> End:
    """Release a machine of our own and keep in the ledger what became of it."""
    if order.instance_id is None:
        raise AssertionError
    listed = next((item for item in await market.instances() if item.id == order.instance_id), None)
    if listed is not None and not made_by(listed, order, deps.store.store_id):
        return End(order.instance_id, "unknown", reason="the list shows a machine without our mark under this id")
    deadline = deps.clock.now() + CALL_BUDGET_S
    known = listed is not None or (await deps.store.window(order.instance_id)).seen_at > 0
    look = await _verified_end(deps, market, order.instance_id, deadline, _listed_by(order, known=known))
    await _record(deps, order, look.final, reason)
    return End(order.instance_id, look.final, look.state, reason=reason)


async def _end_one(deps: Deps, market: Market, instance_id: int, seen: ActiveInstance | None, deadline: float) -> End:
    orders = await deps.store.orders(instance_ids=(instance_id,))
    live = [order for order in orders if order.state is OrderState.RENTED]
    if seen is None and not live:
        if any(order.state is OrderState.RELEASED for order in orders):
            return End(instance_id, "gone", State.GONE, reason="it was gone already")
        return End(instance_id, "unknown", reason="this key sees no machine with this id; nothing was sent")
    cost = None if seen is None else await metered(deps, seen.instance)
    if deps.clock.now() >= deadline:
        state = State.UNKNOWN if seen is None else seen.state
        return End(instance_id, "still there", state, cost, "out of time in this call: call again")
    lists_after = max((_listed_by(order, known=seen is not None) for order in live), default=0.0)
    look = await _verified_end(deps, market, instance_id, deadline, lists_after)
    for order in live:
        await _record(deps, order, look.final, "destroyed on request")
    why = "" if look.error is None else f"{look.error.message} ({look.error.code}); "
    reason = None if look.final == "gone" else f"{why}call destroy_instances again"
    return End(instance_id, look.final, look.state, cost, reason)


def _listed_by(order: Order, *, known: bool) -> float:
    """From when on absence from a list means something: at once for a machine that a list has shown already."""
    return 0.0 if known or order.sent_at is None else order.sent_at + VISIBILITY_S


async def _record(deps: Deps, order: Order, final: FinalState, reason: str) -> None:
    facts = OrderFacts(ended_at=deps.clock.now(), final_state=final, reason=reason)
    if final == "gone":
        await deps.store.move_order(order.order_id, OrderState.RELEASED, facts)
    else:
        await deps.store.note_order(order.order_id, OrderFacts(final_state=final, reason=reason))


async def _verified_end(deps: Deps, market: Market, instance_id: int, deadline: float, lists_after: float) -> _Look:
    """DELETE, then look with the renting account's key: gone is absent from its own page and from a complete list."""
    while True:
        look = await _delete_and_look(market, instance_id)
        if look.final == "gone" and deps.clock.now() < lists_after:
            look = _Look("unknown")
        if look.final == "gone":
            await deps.prober.forget(instance_id)
            return look
        hopeless = look.error is not None and look.error.code in _DOES_NOT_HEAL
        if hopeless or deps.clock.now() + _LOOK_EVERY_S >= deadline:
            return look
        await deps.clock.sleep(_LOOK_EVERY_S)


async def _delete_and_look(market: Market, instance_id: int) -> _Look:
    try:
        await market.destroy(instance_id)
        there = await market.instance(instance_id)
        listed = next((item for item in await market.instances() if item.id == instance_id), None)
    except ProviderError as error:
        return _Look("unknown", error=error)
    shown = listed or there
    return _Look("gone", State.GONE) if shown is None else _Look("still there", condition(shown).state)


def _intent(strangers: tuple[int, ...], active: dict[int, ActiveInstance]) -> Intent:
    named = ", ".join(f"{i} ({active[i].label!r}, {active[i].burn})" for i in strangers)
    question = f"Destroy {named}? This server did not rent them; their data is lost."
    return Intent(Purpose.END, strangers, question, detail="destroy")
