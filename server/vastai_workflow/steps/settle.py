"""Settling: hold the ledger against a complete list, so that every order that may have rented is known.

It never sends a create. What this store ordered it adopts or releases; other stores' machines it leaves alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.delivery import compare
from vastai_workflow.domain.ledger import (
    CREATE_TIMEOUT_S,
    GIVES_PLACE_BACK,
    UNSETTLED,
    VISIBILITY_S,
    IllegalMoveError,
    Order,
    OrderFacts,
    OrderState,
)
from vastai_workflow.domain.lifecycle import condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.destroy import NOT_AS_AGREED, end_double, end_order
from vastai_workflow.steps.fleet_view import made_by, marked_by
from vastai_workflow.steps.ports import Market

STILLBORN_S: Final = 300.0
"""Seconds after the create in which what came with an error and does not run is ended; later it may have run."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling found: orders that are still unknown, and what the user should be told."""

    open_orders: tuple[Order, ...]
    notes: tuple[str, ...] = ()


async def settle(deps: Deps, market: Market, account_id: int, instances: Sequence[Instance]) -> Settled:
    """Reconcile this account's orders with one complete list. Call it with the account's lock held."""
    notes: list[str] = []
    orders = {order.order_id: order for order in await deps.store.orders(account_id=account_id)}
    for instance in sorted(instances, key=lambda item: item.id):
        order = orders.get(marked_by(instance, deps.store.store_ids) or "")
        if order is None or order.instance_id == instance.id:
            continue
        if not order.can_have_made(instance.start_date):
            notes.append(f"machine {instance.id} carries a copy of our order {order.order_id}: not ours, left alone")
        elif _named_wrongly(deps, order, instances):
            gave_back = order.state in GIVES_PLACE_BACK
            orders[order.order_id] = await _adopt(deps, order, instance)
            if gave_back:
                notes.append(await _late(deps, market, orders, orders[order.order_id]))
        else:
            notes.append(await _release_double(deps, market, order, instance))
    for order in tuple(orders.values()):
        if order.state is OrderState.RENTED:
            notes.extend(await _check_rented(deps, market, order, instances))
        else:
            orders[order.order_id] = await _judge_absent(deps, order)
    left = tuple(order for order in orders.values() if order.state in UNSETTLED)
    return Settled(left, tuple(notes))


def _named_wrongly(deps: Deps, order: Order, instances: Sequence[Instance]) -> bool:
    """No machine is on record for the order, or the one that its reply named does not carry its mark."""
    named = next((item for item in instances if item.id == order.instance_id), None)
    return order.state is not OrderState.RELEASED and (named is None or not made_by(named, order, deps.store.store_ids))


async def _check_rented(deps: Deps, market: Market, order: Order, instances: Sequence[Instance]) -> tuple[str, ...]:
    instance = next((item for item in instances if item.id == order.instance_id), None)
    if instance is None or not made_by(instance, order, deps.store.store_ids):
        return await _check_missing(deps, market, order)
    stillborn = await _stillborn(deps, order, instance)
    if order.rented_price_per_hour is not None and not stillborn:
        return ()
    return await _check_delivery(deps, market, order, instance, stillborn=stillborn)


async def _stillborn(deps: Deps, order: Order, instance: Instance) -> bool:
    """The create's reply was an error, and what it made all the same can't serve and never ran."""
    if order.reply_error is None or condition(instance).fatal is None or order.sent_at is None:
        return False
    if deps.clock.now() > order.sent_at + STILLBORN_S:
        return False
    return (await deps.store.window(instance.id)).gpu_s == 0


async def _check_delivery(
    deps: Deps, market: Market, order: Order, instance: Instance, *, stillborn: bool
) -> tuple[str, ...]:
    """Release a machine that is not what was agreed; note one that is dearer than planned. Once per order."""
    delivery = compare(order, instance)
    faults = (*delivery.faults, *([f"the create's reply was an error: {order.reply_error}"] if stillborn else []))
    facts = OrderFacts(rented_price_per_hour=instance.price.per_hour, warnings=delivery.warnings)
    if not faults:
        await deps.store.note_order(order.order_id, facts)
        return tuple(f"machine {instance.id} {warning}" for warning in delivery.warnings)
    why = "; ".join(faults)
    end = await end_order(deps, market, order, reason=f"{NOT_AS_AGREED}: {why}")
    if end.final_state == "gone":
        await deps.store.note_order(order.order_id, facts)
    return (f"machine {instance.id} was not as agreed ({why}); released: {end.final_state}",)


async def _check_missing(deps: Deps, market: Market, order: Order) -> tuple[str, ...]:
    """Ended elsewhere, or never there: absent from the list and from its own page, and not just new."""
    if order.instance_id is None or deps.clock.now() < (order.sent_at or 0.0) + VISIBILITY_S:
        return ()
    if await market.instance(order.instance_id) is not None:
        return (f"machine {order.instance_id} shows no mark of our order {order.order_id} now: left as it is",)
    facts = OrderFacts(ended_at=deps.clock.now(), final_state="gone", reason="ended elsewhere, not by this server")
    try:
        await deps.store.move_order(order.order_id, OrderState.RELEASED, facts)
    except IllegalMoveError:  # another call saw its end first
        return ()
    return (f"machine {order.instance_id} of order {order.order_id} is gone; it was not ended by this server",)


async def _adopt(deps: Deps, order: Order, instance: Instance) -> Order:
    facts = OrderFacts(instance_id=instance.id)
    if order.state is OrderState.RENTED:
        return await deps.store.note_order(order.order_id, facts)
    if order.state is OrderState.PLANNED:
        order = await deps.store.move_order(order.order_id, OrderState.SENT, OrderFacts(sent_at=instance.start_date))
    return await deps.store.move_order(order.order_id, OrderState.RENTED, facts)


async def _late(deps: Deps, market: Market, orders: Mapping[str, Order], order: Order) -> str:
    """It showed up after its place was given back: kept while there is a place, else released."""
    confirmation = order.confirmation_id
    taken = sum(item.holds_place for item in orders.values() if item.confirmation_id == confirmation)
    told = f"machine {order.instance_id} of order {order.order_id} showed up after it was given up"
    if taken <= order.places:
        return told
    end = await end_order(deps, market, order, reason="it came late, beyond what was agreed")
    return f"{told}, beyond the {order.places} agreed; released: {end.final_state}"


async def _release_double(deps: Deps, market: Market, order: Order, instance: Instance) -> str:
    """A second machine of one order, made by the same request: ours, and more than was agreed."""
    final = await end_double(deps, market, instance)
    return f"order {order.order_id} made a second machine {instance.id}; released: {final}"


async def _judge_absent(deps: Deps, order: Order) -> Order:
    """Not in the list: not rented, once the request can't be under way any more and the list can't lag any more."""
    now = deps.clock.now()
    if order.state is OrderState.PLANNED and not order.created_at <= now < order.created_at + CONFIRMATION_LIFE_S:
        return await deps.store.move_order(
            order.order_id, OrderState.DROPPED, OrderFacts(reason="its yes expired before it was sent")
        )
    if order.state not in UNSETTLED:
        return order
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
