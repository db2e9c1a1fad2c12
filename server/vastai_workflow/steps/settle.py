"""Settling: hold the ledger against a complete list, so that every order that may have rented is known.

It never sends a create. What this store ordered it adopts or releases; other stores' machines it leaves alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.delivery import compare
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.ledger import CREATE_TIMEOUT_S, UNSETTLED, VISIBILITY_S, Order, OrderFacts, OrderState
from vastai_workflow.domain.market import Instance
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.destroy import end_order
from vastai_workflow.steps.fleet_view import marked_by
from vastai_workflow.steps.ports import Market

_CLOCK_SKEW_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling found: orders that are still unknown, and what the user should be told."""

    open_orders: tuple[Order, ...]
    notes: tuple[str, ...] = ()


async def settle(deps: Deps, market: Market, account_id: int, instances: Sequence[Instance]) -> Settled:
    """Reconcile this account's orders with one complete list. Call it with the account's lock held."""
    notes: list[str] = []
    orders = {order.order_id: order for order in await deps.store.orders(account_id=account_id)}
    claimed = {order.instance_id for order in orders.values() if order.instance_id is not None}
    for instance in sorted(instances, key=lambda item: item.id):
        order = orders.get(marked_by(instance, deps.store.store_id) or "")
        if order is None or instance.id in claimed:
            continue
        if order.instance_id is None and _in_window(order, instance):
            orders[order.order_id] = await _adopt(deps, order, instance)
            claimed.add(instance.id)
        elif order.sent_at is not None and _in_window(order, instance):
            notes.append(await _release_double(deps, market, order, instance))
        else:
            notes.append(
                f"machine {instance.id} carries the mark of order {order.order_id} but is not ours: left alone"
            )
    for order in tuple(orders.values()):
        if order.state in UNSETTLED:
            orders[order.order_id] = await _judge_absent(deps, order)
        elif order.state is OrderState.RENTED:
            notes.extend(await check_delivery(deps, market, order, instances))
    left = tuple(order for order in orders.values() if order.state in UNSETTLED)
    return Settled(left, tuple(notes))


async def check_delivery(deps: Deps, market: Market, order: Order, instances: Sequence[Instance]) -> tuple[str, ...]:
    """Release a machine that is not what was agreed; note one that is dearer than planned. Once per order."""
    instance = next((item for item in instances if item.id == order.instance_id), None)
    if instance is None or order.rented_price_per_hour is not None:
        return ()
    delivery = compare(order, instance)
    facts = OrderFacts(rented_price_per_hour=instance.price.per_hour, warnings=delivery.warnings)
    if not delivery.faults:
        await deps.store.note_order(order.order_id, facts)
        return tuple(f"machine {instance.id} {warning}" for warning in delivery.warnings)
    why = "; ".join(delivery.faults)
    end = await end_order(deps, market, order, reason=f"not as agreed: {why}")
    if end.final_state == "gone":
        await deps.store.note_order(order.order_id, facts)
    return (f"machine {instance.id} was not as agreed ({why}); released: {end.final_state}",)


async def _adopt(deps: Deps, order: Order, instance: Instance) -> Order:
    if order.state is OrderState.PLANNED:
        order = await deps.store.move_order(order.order_id, OrderState.SENT, OrderFacts(sent_at=instance.start_date))
    return await deps.store.move_order(order.order_id, OrderState.RENTED, OrderFacts(instance_id=instance.id))


async def _release_double(deps: Deps, market: Market, order: Order, instance: Instance) -> str:
    """A second machine of one order, made by the same request: ours, and more than was agreed."""
    try:
        await market.destroy(instance.id)
    except ProviderError as error:
        return f"order {order.order_id} made a second machine {instance.id}, and ending it failed: {error.message}"
    await deps.prober.forget(instance.id)
    return f"order {order.order_id} made a second machine {instance.id}: it was released"


async def _judge_absent(deps: Deps, order: Order) -> Order:
    """Not in the list: not rented, once the request can't be under way any more and the list can't lag any more."""
    now = deps.clock.now()
    sent_at = now if order.sent_at is None or order.sent_at > now else order.sent_at
    if order.state is OrderState.SENT:
        order = await deps.store.move_order(
            order.order_id, OrderState.UNKNOWN, OrderFacts(sent_at=sent_at, reason="the process that sent it is gone")
        )
    elif sent_at != order.sent_at:
        order = await deps.store.note_order(order.order_id, OrderFacts(sent_at=sent_at))
    if now < sent_at + CREATE_TIMEOUT_S + VISIBILITY_S:
        return order
    return await deps.store.move_order(order.order_id, OrderState.NOT_RENTED)


def _in_window(order: Order, instance: Instance) -> bool:
    """Whether the machine can have been made by this order's one request (others copy the mark later)."""
    if order.sent_at is None or instance.start_date is None:
        return order.sent_at is not None
    earliest, latest = order.sent_at - _CLOCK_SKEW_S, order.sent_at + CREATE_TIMEOUT_S + _CLOCK_SKEW_S
    return earliest <= instance.start_date <= latest


def settle_after(order: Order) -> float:
    """When (Unix seconds) an absent order may be called not rented."""
    return (order.sent_at or 0.0) + CREATE_TIMEOUT_S + VISIBILITY_S
