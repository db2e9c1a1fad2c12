"""The end of machines: sent, repeated while that is safe, and seen. Never "success" from a 200 alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vastai_workflow.domain.audit import Kind
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.ledger import IllegalMoveError, Moment, Order, OrderFacts, OrderState
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.money import Usd
from vastai_workflow.steps.audit import Sender, by_itself, end_event, record
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.fleet_view import ActiveInstance, made_by
from vastai_workflow.steps.metering import metered
from vastai_workflow.steps.ports import Market

FinalState = Literal["gone", "still there", "unknown"]

CALL_BUDGET_S: Final = 40.0
NOT_AS_AGREED: Final = "not as agreed"
"""How the reason begins for which a machine was released that is not what was agreed."""

CAME_LATE: Final = "it came late, beyond what was agreed"
DOUBLE: Final = "more than was agreed: its order has, or had, another machine"
SHORT_FLEET: Final = "all or nothing: the others did not come"
ON_REQUEST: Final = "destroyed on request"
NOT_OURS: Final = "the reply named machine"
"""How the reason begins for which an order is over that has no machine, as far as lists tell."""

CAME_AFTER_ALL: Final = "came after its order was given up"
ELSEWHERE: Final = "ended elsewhere, not by this server"
_LOOK_EVERY_S: Final = 2.0

_DOES_NOT_HEAL: Final = frozenset({"key_rejected", "scope_missing", "two_factor", "redirect_refused"})
"""Answers after which sending again in the same call is of no use."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the last DELETE of a machine and the looks after it showed."""

    final: FinalState
    state: State = State.UNKNOWN
    error: ProviderError | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to end. `proven`: the list showed it; else its own page has to show our mark before it is ended.

    `lists_after` (Unix seconds): from when on its absence means that it is gone.
    """

    instance_id: int
    seen: ActiveInstance | None
    orders: tuple[Order, ...]
    lists_after: float
    proven: bool

    @property
    def worth(self) -> bool:
        """Whether there is anything to send."""
        return self.proven or any(order.live for order in self.orders)


async def end_order(deps: Deps, market: Market, order: Order, *, reason: str) -> FinalState:
    """Release a machine of our own and keep in the ledger what became of it."""
    deadline = deps.clock.now() + CALL_BUDGET_S
    return (await end_orders(deps, market, [order], deadline, reason=reason))[order.order_id]


async def end_orders(
    deps: Deps, market: Market, orders: Sequence[Order], deadline: float, *, reason: str
) -> dict[str, FinalState]:
    """The same for machines of one workflow, by order id; those that the time does not reach are not in the answer."""
    listed = {item.id: item for item in await market.instances()}
    finals: dict[str, FinalState] = {}
    targets: list[Target] = []
    for order in orders:
        if order.instance_id is None:
            raise AssertionError
        shown = listed.get(order.instance_id)
        if shown is not None and not made_by(shown, order, deps.store.store_ids):
            finals[order.order_id] = "unknown"  # another machine under this id: not touched
            continue
        known = shown is not None or (await deps.store.window(order.instance_id)).seen_at > 0
        lists_after = listed_by(order, deps.moment(), known=known)
        targets.append(Target(order.instance_id, None, (order,), lists_after, proven=shown is not None))
    looks = {} if not targets else await end_all(deps, market, targets, deadline, by_itself(orders[0]), reason=reason)
    for target in targets:
        if target.instance_id in looks:
            [order], final = target.orders, looks[target.instance_id].final
            shown = listed.get(target.instance_id)
            cost = None if shown is None else await metered(deps, shown)
            await record_end(deps, order, final, reason, cost)
            finals[order.order_id] = final
    return finals


async def end_double(deps: Deps, market: Market, instance: Instance, order: Order) -> FinalState:
    """End a machine that carries the mark of an order that has, or had, another one."""
    target = Target(instance.id, None, (), 0.0, proven=True)
    deadline = deps.clock.now() + CALL_BUDGET_S
    return (await end_all(deps, market, [target], deadline, by_itself(order), reason=DOUBLE))[instance.id].final


def listed_by(order: Order, now: Moment, *, known: bool) -> float:
    """From when on absence from a list means something: at once for a machine that a list has shown already."""
    return 0.0 if known else now.unix + order.settles_in(now)


async def record_end(deps: Deps, order: Order, final: FinalState, reason: str, cost: Usd | None = None) -> None:
    """Keep how an order's machine ended, or that it did not yet."""
    amount = None if cost is None else cost.amount
    if final != "gone":
        await deps.store.note_order(order.order_id, OrderFacts(final_state=final, reason=reason, cost_usd=amount))
        return
    facts = OrderFacts(ended_at=deps.clock.now(), final_state=final, reason=reason, cost_usd=amount)
    await close(deps, order, facts)


async def close(deps: Deps, order: Order, facts: OrderFacts) -> bool:
    """An order is over, and with it the host key of its machine, whoever ended that. False: another call was first.

    What the meter showed last stays as its cost where nothing newer is known.
    """
    if order.instance_id is not None:
        await deps.prober.forget(order.instance_id)
        if facts.cost_usd is None and not (facts.reason or "").startswith(NOT_OURS):
            metered_last = (await deps.store.window(order.instance_id)).cost_usd
            facts = facts.model_copy(update={"cost_usd": metered_last})
    try:
        await deps.store.move_order(order.order_id, OrderState.RELEASED, facts)
    except IllegalMoveError:
        return False
    return True


async def end_all(
    deps: Deps, market: Market, targets: Sequence[Target], deadline: float, sender: Sender, *, reason: str
) -> dict[int, Look]:
    """DELETE each and look, then those that are left again, in turn: one that is stuck keeps nobody waiting.

    Gone is absent from its own page and from a complete list, read with the renting account's key. Who asked for it and
    what came of it are on the audit trail.
    """
    await record(
        deps, [end_event(deps, Kind.DESTROY, sender, item.instance_id, item.orders, reason) for item in targets]
    )
    looks = await _ended(deps, market, targets, deadline, reason)
    seen = [(item, looks[item.instance_id]) for item in targets if item.instance_id in looks]
    await record(
        deps, [end_event(deps, Kind.ENDED, sender, item.instance_id, item.orders, look.final) for item, look in seen]
    )
    return looks


async def _ended(
    deps: Deps, market: Market, targets: Sequence[Target], deadline: float, reason: str
) -> dict[int, Look]:
    looks: dict[int, Look] = {}
    pending = list(targets)
    while pending:
        since = deps.clock.now()
        asked = await _ask_each(deps, market, pending, deadline, reason)
        looks |= await _seen(deps, market, asked, since)
        if len(asked) < len(pending):
            return looks
        pending = [item for item, _ in asked if _worth_another_try(looks[item.instance_id])]
        if not pending or deps.clock.now() + _LOOK_EVERY_S >= deadline:
            return looks
        await deps.clock.sleep(_LOOK_EVERY_S)
    return looks


_Asked = tuple[Target, "Instance | ProviderError | None"]
"""A machine whose end was asked for, and what its own page said after that."""


async def _ask_each(
    deps: Deps, market: Market, targets: Sequence[Target], deadline: float, reason: str
) -> list[_Asked]:
    """DELETE as many as the time allows. A machine's own page is read a turn later: an end takes a moment to show."""
    asked: list[_Asked] = []
    before: Target | None = None
    for target in targets:
        if deps.clock.now() >= deadline:
            break
        error = await _ask(deps, market, target, reason)
        if before is not None:
            asked.append((before, await _page(market, before)))
        before = target if error is None else None
        if error is not None:
            asked.append((target, error))
    if before is not None:
        asked.append((before, await _page(market, before)))
    return asked


async def _ask(deps: Deps, market: Market, target: Target, reason: str) -> ProviderError | None:
    """DELETE one; the intent is on record before, so that a crash does not hide it."""
    try:
        if target.proven or await _carries_mark(deps, market, target):
            await _intend(deps, target, reason)
            await market.destroy(target.instance_id)
    except ProviderError as error:
        return error
    return None


async def _page(market: Market, target: Target) -> Instance | ProviderError | None:
    try:
        return await market.instance(target.instance_id)
    except ProviderError as error:
        return error


async def _intend(deps: Deps, target: Target, reason: str) -> None:
    for order in target.orders:
        if order.live and order.final_state is None:
            await deps.store.note_order(order.order_id, OrderFacts(final_state="unknown", reason=reason))


async def _seen(deps: Deps, market: Market, asked: Sequence[_Asked], since: float) -> dict[int, Look]:
    """What one complete list, and their pages `since` then, say of those that were asked to end."""
    try:
        listed = {item.id: item for item in await market.instances()} if asked else {}
    except ProviderError as error:
        return {target.instance_id: _by_page(_judged(deps, target, there, {}, since), error) for target, there in asked}
    return {target.instance_id: _judged(deps, target, there, listed, since) for target, there in asked}


def _by_page(look: Look, error: ProviderError) -> Look:
    """Without a complete list a page tells that a machine is still there, never that it is gone."""
    if look.final == "still there":
        return look
    reason = "its own page shows it no more, and it is called gone once a complete list shows it no more either"
    seen = look.final == "gone"
    return Look("unknown", look.state, look.error or error, f"{reason}: call destroy_instances again" if seen else None)


def _judged(
    deps: Deps, target: Target, there: Instance | ProviderError | None, listed: dict[int, Instance], since: float
) -> Look:
    if isinstance(there, ProviderError):
        return Look("unknown", error=there)
    shown = listed.get(target.instance_id) or there
    if shown is None:
        return Look("gone", State.GONE) if since >= target.lists_after else Look("unknown")
    if not target.proven and not any(made_by(shown, order, deps.store.store_ids) for order in target.orders):
        return Look("unknown", condition(shown).state, reason="a machine without our mark has this id: not touched")
    return Look("still there", condition(shown).state)


def _worth_another_try(look: Look) -> bool:
    return look.final != "gone" and (look.error is None or look.error.code not in _DOES_NOT_HEAL)


async def _carries_mark(deps: Deps, market: Market, target: Target) -> bool:
    """A reply that named an id proves nothing: the machine's own page has to show our mark."""
    there = await market.instance(target.instance_id)
    return there is not None and any(made_by(there, order, deps.store.store_ids) for order in target.orders)
