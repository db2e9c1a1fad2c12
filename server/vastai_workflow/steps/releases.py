"""Releases: what came and was not agreed is ended without being asked. Only machines that carry our order's mark.

A double, one that came late beyond the places of its yes, one that is not as agreed, one that should be gone already;
and a start that still waits for its GPU. With `may_end` false nothing is sent, and what is owed is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vastai_workflow.domain.delivery import compare
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.ledger import CREATE_TIMEOUT_S, VISIBILITY_S, Order, OrderFacts
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ending import ELSEWHERE, NOT_AS_AGREED, end_double, end_order
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.readiness_window import start_is_known

STILLBORN_S: Final = 300.0
"""Seconds after the create in which what came with an error and does not run is ended; later it may have run."""

QUEUE_PATIENCE_S: Final = 60.0
"""Seconds for which a machine whose start got no answer may look as if it waited for its GPU."""

_OWED: Final = "to be released: call wait_until_ready"


@dataclass(slots=True)
class Work:
    """One settling: the newest complete list against the account's orders.

    `owed`: orders with something to release; `ended`: machines that were seen to be gone then.
    """

    deps: Deps
    market: Market
    instances: Mapping[int, Instance]
    orders: dict[str, Order]
    may_end: bool
    notes: list[str] = field(default_factory=list[str])
    owed: list[Order] = field(default_factory=list[Order])
    ended: set[int] = field(default_factory=set[int])

    def tell(self, note: str) -> None:
        """Something the user should know."""
        self.notes.append(note)


async def release_double(work: Work, order: Order, instance: Instance) -> None:
    """A second machine of one order, made by the same request: ours, and more than was agreed."""
    ended = _OWED if not work.may_end else await end_double(work.deps, work.market, instance)
    _told(work, order, instance.id, f"order {order.order_id} made a second machine {instance.id}", ended)


async def release_again(work: Work, order: Order, instance: Instance) -> None:
    """A list shows again what was seen to be gone: ended again if that was wanted, else the user's to decide."""
    if condition(instance).state is State.ENDING:
        return
    shown = f"machine {instance.id} was gone, and is listed again"
    if order.reason == ELSEWHERE:
        work.tell(f"{shown}. Ask the user: keep it or destroy it?")
        return
    ended = _OWED if not work.may_end else await end_double(work.deps, work.market, instance)
    _told(work, order, instance.id, shown, ended)


async def release_late(work: Work, order: Order) -> bool:
    """It showed up after its place was given back: kept while there is a place, else released. True: released."""
    same_yes = [item for item in work.orders.values() if item.confirmation_id == order.confirmation_id]
    if order.instance_id is None or not order.late or sum(item.holds_place for item in same_yes) <= order.places:
        return False
    why = f"machine {order.instance_id} of order {order.order_id} came late, beyond the {order.places} agreed"
    _told(work, order, order.instance_id, why, await _ended(work, order, "it came late, beyond what was agreed"))
    return True


async def release_unfit(work: Work, order: Order, instance: Instance) -> None:
    """Release a machine that is not what was agreed; note one that is dearer than planned. Once per order."""
    stillborn = await _stillborn(work.deps, order, instance)
    if order.rented_price_per_hour is not None and not stillborn:
        return
    delivery = compare(order, instance)
    faults = (*delivery.faults, *([f"the create's reply was an error: {order.reply_error}"] if stillborn else []))
    facts = OrderFacts(rented_price_per_hour=instance.price.per_hour, warnings=delivery.warnings)
    if not faults:
        await work.deps.store.note_order(order.order_id, facts)
        for warning in delivery.warnings:
            work.tell(f"machine {instance.id} {warning}")
        return
    why = "; ".join(faults)
    ended = await _ended(work, order, f"{NOT_AS_AGREED}: {why}")
    if ended == "gone":
        await work.deps.store.note_order(order.order_id, facts)
    _told(work, order, instance.id, f"machine {instance.id} was not as agreed ({why})", ended)


async def cancel_queued_start(work: Work, instance: Instance) -> None:
    """A start whose answer never came, and that waits for its GPU now, would bill at any time later."""
    state, now = condition(instance).state, work.deps.clock.now()
    if state not in {State.QUEUED, State.STOPPED, State.EXITED}:
        return
    window = await work.deps.store.window(instance.id)
    if window.started_at <= 0:
        return
    if state is not State.QUEUED:
        if now >= window.started_at + CREATE_TIMEOUT_S + VISIBILITY_S:  # it had no effect, and can't have one any more
            await start_is_known(work.deps, instance.id)
        return
    if now < window.started_at + QUEUE_PATIENCE_S:
        return
    if not work.may_end:
        work.tell(f"the start of machine {instance.id} waits for its GPU; to be cancelled: call stop_instances")
        return
    try:
        await work.market.stop(instance.id)
    except ProviderError as error:
        work.tell(f"the start of machine {instance.id} waits for its GPU; cancelling it failed: {error.message}")
        return
    await start_is_known(work.deps, instance.id)
    work.tell(f"the start of machine {instance.id} waited for its GPU and was cancelled")


def _told(work: Work, order: Order, instance_id: int, what: str, ended: str) -> None:
    """What became of a machine that was not agreed."""
    if ended == "gone":
        work.ended.add(instance_id)
    if ended == _OWED:
        work.owed.append(order)
        work.tell(f"{what}; {_OWED}")
    else:
        work.tell(f"{what}; released: {ended}")


async def _ended(work: Work, order: Order, reason: str) -> str:
    return await end_order(work.deps, work.market, order, reason=reason) if work.may_end else _OWED


async def _stillborn(deps: Deps, order: Order, instance: Instance) -> bool:
    """The create's reply was an error, and what it made all the same can't serve and never ran."""
    if order.reply_error is None or condition(instance).fatal is None or order.sent_at is None:
        return False
    if deps.clock.now() > order.sent_at + STILLBORN_S:
        return False
    return (await deps.store.window(instance.id)).gpu_s == 0
