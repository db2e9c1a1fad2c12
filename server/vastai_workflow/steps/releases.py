"""Releases: what came and was not agreed is ended without being asked. Only machines that carry our order's mark.

A double, one that came late beyond the places of its yes, one that is not as agreed, one that should be gone already;
and a start that still waits for its GPU. With `may_end` false nothing is sent, and what is owed is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vastai_workflow.domain.delivery import compare
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.ledger import SETTLES_S, Order, OrderFacts, OrderState
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ending import (
    CAME_AFTER_ALL,
    CAME_LATE,
    ELSEWHERE,
    NOT_AS_AGREED,
    NOT_OURS,
    end_double,
    end_order,
)
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.readiness_window import start_is_known
from vastai_workflow.steps.writes import by_calling

STILLBORN_S: Final = 300.0
"""Seconds after the create in which what came with an error and does not run is ended; later it may have run."""

IN_USE_AFTER_S: Final = 600.0
"""Seconds after it became known from which a machine is no longer ended without a word of the user."""

QUEUE_PATIENCE_S: Final = 60.0
"""Seconds for which a machine whose start got no answer may look as if it waited for its GPU."""

_CHOICE: Final = "Ask the user: keep it or destroy it?"
_OWED: Final = "owed"
_AGAIN: Final = "it may cost money: call wait_until_ready again"


@dataclass(slots=True)
class Work:
    """One settling: the newest complete list against the account's orders.

    `once`: those notes that the next settling does not find again. `owed`: orders with something to release; `ended`:
    machines that were seen to be gone then; `came_late`: orders whose machine this list showed first, after they were
    given up.
    """

    deps: Deps
    market: Market
    instances: Mapping[int, Instance]
    orders: dict[str, Order]
    may_end: bool
    notes: list[str] = field(default_factory=list[str])
    once: list[str] = field(default_factory=list[str])
    owed: list[Order] = field(default_factory=list[Order])
    ended: set[int] = field(default_factory=set[int])
    came_late: set[str] = field(default_factory=set[str])

    def tell(self, note: str, *, once: bool = False) -> None:
        """Something the user should know."""
        self.notes.append(note)
        if once:
            self.once.append(note)


async def release_double(work: Work, order: Order, instance: Instance) -> None:
    """A second machine of one order, made by the same request: ours, and more than was agreed.

    One that was found late may be in use by now: the user's to decide.
    """
    if _is_the_users(work, instance):
        work.tell(f"order {order.order_id} made a second machine {instance.id}, which costs money. {_CHOICE}")
        return
    ended = _OWED if not work.may_end else await end_double(work.deps, work.market, instance, order)
    _told(work, order, instance.id, f"order {order.order_id} made a second machine {instance.id}", ended)


async def release_again(work: Work, order: Order, instance: Instance) -> None:
    """A list shows again what was called gone: ended again if that was wanted, else the user's to decide."""
    if condition(instance).state is State.ENDING:
        return
    shown = f"machine {instance.id} was gone, and is listed again"
    if order.reason == ELSEWHERE or (order.reason or "").startswith(NOT_OURS):
        work.tell(f"{shown}. {_CHOICE}")
        return
    ended = _OWED if not work.may_end else await end_double(work.deps, work.market, instance, order)
    _told(work, order, instance.id, shown, ended)


async def release_late(work: Work, order: Order, instance: Instance) -> bool:
    """It showed up after its place was given back: kept while there is a place, else released. True: released.

    Only orders that have, or had, a machine for the user count, and the newest late one goes first. What may be in use
    or a copy is left to the user.
    """
    if not order.late:
        return False
    same_yes = [item for item in work.orders.values() if item.confirmation_id == order.confirmation_id]
    surplus = sum(map(_counts, same_yes)) - order.places
    late = sorted((item for item in same_yes if item.live and item.late), key=lambda item: item.created_at)
    if surplus <= 0 or order not in late[-surplus:]:
        if order.order_id in work.came_late:
            shown = f"machine {instance.id} of order {order.order_id} showed up after it was given up, and costs money"
            work.tell(f"{shown}. {_CHOICE}", once=True)
        return False
    why = f"machine {instance.id} of order {order.order_id} came late, beyond the {order.places} agreed"
    if not order.can_have_made(instance.started_there) or _is_the_users(work, instance):
        work.tell(f"{why}. {_CHOICE}")
        return False
    ended = await _ended(work, order, CAME_LATE)
    if ended == "gone":
        work.orders[order.order_id] = order.moved(OrderState.RELEASED, OrderFacts(reason=CAME_LATE))
    _told(work, order, instance.id, why, ended)
    return True


def _counts(order: Order) -> bool:
    """Whether it took a place for good: what this server took back itself did not."""
    return order.live or (order.state is OrderState.RELEASED and order.reason != CAME_LATE)


def _is_the_users(work: Work, instance: Instance) -> bool:
    """In use by now, or stopped: whoever stopped it wants its disk."""
    return condition(instance).state is State.STOPPED or may_be_in_use(instance.start_date, work.deps.clock.now())


def may_be_in_use(since: float | None, now: float) -> bool:
    """Known for long: somebody may work on it, so it is theirs to end. A time in the future says nothing."""
    return since is None or not 0 <= now - since < IN_USE_AFTER_S


async def release_unfit(work: Work, order: Order, instance: Instance) -> None:
    """Release a machine that is not what was agreed; note one that is dearer than planned. Once per order.

    A price above the ceiling that is first seen late may be new, and the machine in use: the user's to decide.
    """
    stillborn = await _stillborn(work.deps, order, instance)
    if order.rented_price_per_hour is not None and not stillborn:
        return
    delivery = compare(order, instance)
    faults = (*delivery.faults, *([f"the create's reply was an error: {order.reply_error}"] if stillborn else []))
    came = tuple(warning for warning in order.warnings if warning == CAME_AFTER_ALL)
    facts = OrderFacts(rented_price_per_hour=instance.price.per_hour, warnings=(*came, *delivery.warnings))
    if not faults:
        await work.deps.store.note_order(order.order_id, facts)
        for warning in delivery.warnings:
            work.tell(f"machine {instance.id} {warning}")
        return
    why = "; ".join(faults)
    if delivery.may_be_new and not stillborn and may_be_in_use(instance.start_date, work.deps.clock.now()):
        await work.deps.store.note_order(order.order_id, facts.model_copy(update={"warnings": (*came, *faults)}))
        work.tell(f"machine {instance.id} is not as agreed ({why}). {_CHOICE}", once=True)
        return
    ended = await _ended(work, order, f"{NOT_AS_AGREED}: {why}")
    if ended == "gone":
        await work.deps.store.note_order(order.order_id, facts)
    _told(work, order, instance.id, f"machine {instance.id} was not as agreed ({why})", ended)


async def cancel_queued_start(work: Work, instance: Instance) -> None:
    """A start whose answer never came, and that waits for its GPU now, would bill at any time later."""
    state, now = condition(instance).state, work.deps.clock.now()
    window = await work.deps.store.window(instance.id)
    if window.started_at <= 0:
        return
    ago = now - window.started_at  # in the future: a clock was set back since, and it is not known how long ago
    if state is not State.QUEUED:  # it worked, or can't have an effect any more
        if state is State.RUNNING or not 0 <= ago < SETTLES_S:
            await start_is_known(work.deps, instance.id)
        return
    if 0 <= ago < QUEUE_PATIENCE_S:
        return
    if not work.may_end:
        who = by_calling(work.deps, "stop_instances")
        work.tell(f"the start of machine {instance.id} waits for its GPU; to be cancelled: {who}")
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
        work.tell(f"{what}; released: gone")
        return
    work.owed.append(order)
    owed, unseen = f"to be released: {by_calling(work.deps)}", f"its release is not seen yet ({ended}), {_AGAIN}"
    work.tell(f"{what}; {owed if ended == _OWED else unseen}")


async def _ended(work: Work, order: Order, reason: str) -> str:
    return await end_order(work.deps, work.market, order, reason=reason) if work.may_end else _OWED


async def _stillborn(deps: Deps, order: Order, instance: Instance) -> bool:
    """The create's reply was an error, and what it made all the same can't serve and never ran."""
    if order.reply_error is None or condition(instance).fatal is None or order.sent_at is None:
        return False
    if not order.young(deps.moment(), STILLBORN_S):
        return False
    return (await deps.store.window(instance.id)).gpu_s == 0
