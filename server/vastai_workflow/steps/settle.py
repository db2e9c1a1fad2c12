"""Settling: hold the ledger against a complete list, so that every order that may have rented is known.

It never sends a create. What this store ordered it adopts or releases; other machines it leaves alone and names.
"""

from dataclasses import dataclass

from vastai_workflow.domain.delivery import compare
from vastai_workflow.domain.errors import WorkflowError
from vastai_workflow.domain.ledger import (
    GIVES_PLACE_BACK,
    UNSETTLED,
    YES_EXPIRED,
    Moment,
    Order,
    OrderFacts,
    OrderState,
)
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ending import CAME_AFTER_ALL, ELSEWHERE, NOT_OURS, ON_REQUEST, close
from vastai_workflow.steps.fleet_view import made_by, marked_by
from vastai_workflow.steps.listing import Listed
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.releases import (
    Work,
    cancel_queued_start,
    release_again,
    release_double,
    release_late,
    release_unfit,
)
from vastai_workflow.steps.untold import keep


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling found: orders that are still unknown, orders with a machine that is still to be released, notes.

    `once`: notes that no later settling finds again. `ended`: machines of the list that are gone since. `short`: of
    fleets that came short, to be released. `busy`: another call holds the account, nothing was looked at.
    """

    open_orders: tuple[Order, ...] = ()
    owed: tuple[Order, ...] = ()
    notes: tuple[str, ...] = ()
    ended: frozenset[int] = frozenset()
    short: tuple[Order, ...] = ()
    busy: bool = False
    once: tuple[str, ...] = ()


async def settle(deps: Deps, market: Market, account_id: int, listed: Listed, *, may_end: bool = True) -> Settled:
    """Reconcile this account's orders with one complete list. Call it with the account's lock held.

    `may_end` false: the ledger is brought up to date, and nothing is sent.
    """
    orders = {order.order_id: order for order in await deps.store.orders(account_id=account_id)}
    work = Work(deps, market, {item.id: item for item in listed.instances}, orders, may_end)
    try:
        await _reconcile(work, listed)
    except WorkflowError:
        keep(deps, account_id, work.notes)  # what was done before is told all the same
        raise
    if work.owed:
        deps.settled_accounts.pop(account_id, None)  # each first look says so, until it is done
    left = tuple(order for order in orders.values() if order.state in UNSETTLED)
    return Settled(left, tuple(work.owed), tuple(work.notes), frozenset(work.ended), once=tuple(work.once))


async def _reconcile(work: Work, listed: Listed) -> None:
    for instance in sorted(listed.instances, key=lambda item: item.id):
        await _claim(work, instance)
        await cancel_queued_start(work, instance)
    for order in tuple(work.orders.values()):
        if order.state is OrderState.RENTED:
            await _check_rented(work, order, listed.asked)
        else:
            work.orders[order.order_id] = await _judge_absent(work.deps, order, listed.asked)


async def _claim(work: Work, instance: Instance) -> None:
    """Find the order that made a machine, by the mark that it carries."""
    order_id = marked_by(instance, work.deps.store.store_ids)
    if order_id is None:
        return
    order = work.orders.get(order_id)
    if order is None:
        work.tell(
            f"machine {instance.id} carries our mark, but this ledger has no order {order_id} "
            "(restored from an older copy, or one at work elsewhere): left alone. Ask the user"
        )
    elif order.instance_id == instance.id:
        if order.state is OrderState.RELEASED:
            await release_again(work, order, instance)
    elif not _is_to_end(order, instance) and await _lacks_a_machine(work, order) and _may_be_its_own(order, instance):
        work.orders[order_id] = await _adopt(work, order, instance)
    elif order.can_have_made(instance.started_there):
        await release_double(work, order, instance)
    else:
        work.tell(
            f"machine {instance.id} carries our order {order_id} and came at another time, most likely a copy: "
            "not ours, left alone. Ask the user"
        )


def _is_to_end(order: Order, instance: Instance) -> bool:
    """The end of the order's machine was asked for, and this one is of the same request: nobody waits for it."""
    return order.final_state is not None and order.can_have_made(instance.started_there)


async def _lacks_a_machine(work: Work, order: Order) -> bool:
    """No machine is on record for the order, or the one that its reply named does not carry its mark."""
    if order.state is OrderState.RELEASED:
        return False
    named = work.instances.get(order.instance_id or 0)
    if named is None and order.instance_id is not None and order.rented_price_per_hour is not None:
        named = await work.market.instance(order.instance_id)  # seen before: this list may have forgotten it
    return named is None or not made_by(named, order, work.deps.store.store_ids)


def _may_be_its_own(order: Order, instance: Instance) -> bool:
    """From this order's request by its age. At any other age: what was agreed, of an order that has had no machine.

    An order's first machine is no copy, since there was nothing to copy from.
    """
    first = order.instance_id is None and not compare(order, instance).faults
    return first or order.can_have_made(instance.started_there)


async def _adopt(work: Work, order: Order, instance: Instance) -> Order:
    store, facts = work.deps.store, OrderFacts(instance_id=instance.id)
    if order.state is OrderState.RENTED:
        await _tell_of_another(work, order, instance)
        return await store.note_order(order.order_id, facts)
    if order.state is OrderState.PLANNED:
        order = await store.move_order(
            order.order_id, OrderState.SENT, OrderFacts(sent_at=instance.start_date, sent_there=instance.started_there)
        )
    if order.state in GIVES_PLACE_BACK:
        facts = OrderFacts(instance_id=instance.id, late_since=work.deps.clock.now(), warnings=(CAME_AFTER_ALL,))
        work.came_late.add(order.order_id)
    return await store.move_order(order.order_id, OrderState.RENTED, facts)


async def _tell_of_another(work: Work, order: Order, instance: Instance) -> None:
    """The order has another machine than its answer named: the user may look for that one."""
    state = "is not ours"
    if order.instance_id is not None and await work.market.instance(order.instance_id) is None:
        state = "is not listed" if order.settles_in(work.deps.moment()) > 0 else "is gone"  # a new one may lag
    named = f"machine {order.instance_id} of order {order.order_id} {state}"
    work.tell(f"{named}; its request made machine {instance.id}, which is the order's now", once=True)


async def _check_rented(work: Work, order: Order, asked: Moment) -> None:
    instance = work.instances.get(order.instance_id or 0)
    if instance is None or not made_by(instance, order, work.deps.store.store_ids):
        await _check_missing(work, await dated(work.deps, order), asked, named=instance)
        return
    if await release_late(work, order, instance):
        return
    await release_unfit(work, order, instance)
    if order.final_state is not None and order.reason == ON_REQUEST:
        work.tell(f"machine {instance.id} was to be destroyed and is still there: call destroy_instances again")


async def _check_missing(work: Work, order: Order, asked: Moment, *, named: Instance | None) -> None:
    """Ended, or never there: absent from the list and from its own page, and not just new."""
    deps = work.deps
    new = order.settles_in(asked) > 0  # its create may have taken a minute to answer, and lists lag
    if order.instance_id is None or (named is None and new):
        return
    there = await work.market.instance(order.instance_id)
    if there is not None and made_by(there, order, deps.store.store_ids):
        return  # the list lags
    if there is not None and (order.rented_price_per_hour is not None or new):
        work.tell(f"machine {order.instance_id} shows no mark of our order {order.order_id} now: left as it is")
        return
    if there is not None or named is not None:
        reason = f"{NOT_OURS} {order.instance_id}, which is not ours, and none of ours came"
    else:
        reason = ELSEWHERE if order.final_state is None or order.reason is None else order.reason
    facts = OrderFacts(ended_at=deps.clock.now(), final_state="gone", reason=reason)
    if not await close(deps, order, facts):
        return
    work.tell(f"machine {order.instance_id} of order {order.order_id} is gone: {reason}", once=True)


async def _judge_absent(deps: Deps, order: Order, asked: Moment) -> Order:
    """Not in the list: not rented, once the request can't be under way any more and the list can't lag any more."""
    now = asked.unix
    if order.state is OrderState.PLANNED and not order.created_at <= now < order.created_at + CONFIRMATION_LIFE_S:
        return await deps.store.move_order(order.order_id, OrderState.DROPPED, OrderFacts(reason=YES_EXPIRED))
    if order.state not in UNSETTLED:
        return order
    order = await dated(deps, order)
    if order.state is OrderState.SENT:
        reason = OrderFacts(reason="the process that sent it is gone")
        order = await deps.store.move_order(order.order_id, OrderState.UNKNOWN, reason)
    if order.settles_in(asked) > 0:
        return order
    return await deps.store.move_order(order.order_id, OrderState.NOT_RENTED)


async def dated(deps: Deps, order: Order) -> Order:
    """Sent in the past: a clock that went back, or another machine's, made the future of it."""
    now = deps.moment()
    if order.sent_at is not None and order.sent_at <= now.unix:
        return order
    passed = max(now.steady - (now.steady if order.sent_steady is None else order.sent_steady), 0.0)
    facts = OrderFacts(sent_at=now.unix - passed, sent_steady=now.steady - passed)
    return await deps.store.note_order(order.order_id, facts)
