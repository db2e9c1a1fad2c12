"""The end of machines: sent, repeated while that is safe, and seen. Never "success" from a 200 alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.money import Usd
from vastai_workflow.domain.workflow import Purpose
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.fleet_view import ActiveInstance, with_orders
from vastai_workflow.steps.metering import metered
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.purposes import Intent, spend
from vastai_workflow.steps.writes import require_writes

FinalState = Literal["gone", "still there", "unknown"]

CALL_BUDGET_S: Final = 40.0
_LOOKS: Final = 6
_LOOK_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class End:
    """How one end went. `cost` is the local meter's; None where the machine was never seen."""

    instance_id: int
    final_state: FinalState
    cost: Usd | None = None
    reason: str | None = None


async def destroy_instances(
    deps: Deps, caller: Caller, instance_ids: Sequence[int], workflow_id: str | None
) -> tuple[End, ...]:
    """End machines and see that they are gone. Ours at once; others only with a yes of their own."""
    require_writes(deps)
    ids = tuple(dict.fromkeys(instance_ids))
    opened = await open_market(deps, caller, workflow_id, ids)
    active = {a.instance.id: a for a in await with_orders(deps, opened.account.id, await opened.market.instances())}
    strangers = tuple(i for i in ids if i in active and not active[i].ours)
    if strangers:
        await spend(deps, caller, opened, _intent(strangers, active))
    deadline = deps.clock.now() + CALL_BUDGET_S
    ends: list[End] = []
    for instance_id in ids:
        ends.append(await _end_one(deps, opened.market, instance_id, active.get(instance_id), deadline))
    return tuple(ends)


async def end_order(deps: Deps, market: Market, order: Order, *, reason: str) -> End:
    """Release a machine of our own and keep in the ledger what became of it."""
    if order.instance_id is None:
        raise AssertionError
    final = await _verified_end(deps, market, order.instance_id, deps.clock.now() + CALL_BUDGET_S)
    await _record(deps, order, final, reason)
    return End(order.instance_id, final, reason=reason)


async def _end_one(deps: Deps, market: Market, instance_id: int, seen: ActiveInstance | None, deadline: float) -> End:
    orders = [o for o in await deps.store.orders(instance_ids=(instance_id,)) if o.state is OrderState.RENTED]
    if seen is None and not orders:
        return End(instance_id, "unknown", reason="this key sees no machine with this id; nothing was sent")
    cost = None if seen is None else await metered(deps, seen.instance)
    if deps.clock.now() >= deadline:
        return End(instance_id, "still there", cost, "out of time in this call: call again")
    final = await _verified_end(deps, market, instance_id, deadline)
    for order in orders:
        await _record(deps, order, final, "destroyed on request")
    reason = None if final == "gone" else "call destroy_instances again"
    return End(instance_id, final, cost, reason)


async def _record(deps: Deps, order: Order, final: FinalState, reason: str) -> None:
    facts = OrderFacts(ended_at=deps.clock.now(), final_state=final, reason=reason)
    if final == "gone":
        await deps.store.move_order(order.order_id, OrderState.RELEASED, facts)
    else:
        await deps.store.note_order(order.order_id, OrderFacts(final_state=final, reason=reason))


async def _verified_end(deps: Deps, market: Market, instance_id: int, deadline: float) -> FinalState:
    """DELETE, then look with the renting account's key until it is absent from a complete list and from its own page."""
    final: FinalState = "unknown"
    for _ in range(_LOOKS):
        final = await _delete_and_look(market, instance_id)
        if final == "gone":
            await deps.prober.forget(instance_id)
            return final
        if deps.clock.now() + _LOOK_EVERY_S >= deadline:
            return final
        await deps.clock.sleep(_LOOK_EVERY_S)
    return final


async def _delete_and_look(market: Market, instance_id: int) -> FinalState:
    try:
        await market.destroy(instance_id)
        there: Instance | None = await market.instance(instance_id)
        listed = any(item.id == instance_id for item in await market.instances())
    except ProviderError:
        return "unknown"
    return "still there" if listed or there is not None else "gone"


def _intent(strangers: tuple[int, ...], active: dict[int, ActiveInstance]) -> Intent:
    named = ", ".join(f"{i} ({active[i].label!r}, {active[i].burn})" for i in strangers)
    question = f"Destroy {named}? This server did not rent them; their data is lost."
    return Intent(Purpose.END, strangers, question, detail="destroy")
