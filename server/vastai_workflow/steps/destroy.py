"""The end of machines: sent, repeated while that is safe, and seen. Never "success" from a 200 alone."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.ledger import VISIBILITY_S, IllegalMoveError, Order, OrderFacts, OrderState
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.market import Instance
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

ON_REQUEST: Final = "destroyed on request"
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
    reason: str | None = None


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
    targets = [await _target(deps, i, active.get(i)) for i in ids]
    looks = await _end_all(deps, opened.market, [target for target in targets if target.worth], deadline)
    return tuple([await _told(deps, target, looks.get(target.instance_id)) for target in targets])


async def end_order(deps: Deps, market: Market, order: Order, *, reason: str) -> End:
    """Release a machine of our own and keep in the ledger what became of it."""
    if order.instance_id is None:
        raise AssertionError
    listed = next((item for item in await market.instances() if item.id == order.instance_id), None)
    if listed is not None and not made_by(listed, order, deps.store.store_ids):
        return End(order.instance_id, "unknown", reason="the list shows a machine without our mark under this id")
    known = listed is not None or (await deps.store.window(order.instance_id)).seen_at > 0
    target = Target(order.instance_id, None, (order,), _listed_by(order, known=known), proven=listed is not None)
    look = (await _end_all(deps, market, [target], deps.clock.now() + CALL_BUDGET_S))[order.instance_id]
    await _record(deps, order, look.final, reason)
    return End(order.instance_id, look.final, look.state, reason=reason)


async def end_double(deps: Deps, market: Market, instance: Instance) -> FinalState:
    """End a second machine that carries the mark of one order."""
    target = Target(instance.id, None, (), 0.0, proven=True)
    return (await _end_all(deps, market, [target], deps.clock.now() + CALL_BUDGET_S))[instance.id].final


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


async def _target(deps: Deps, instance_id: int, seen: ActiveInstance | None) -> Target:
    orders = await deps.store.orders(instance_ids=(instance_id,))
    if seen is not None:  # whose reply named it wrongly has another machine
        orders = tuple(o for o in orders if not o.live or made_by(seen.instance, o, deps.store.store_ids))
    live = [order for order in orders if order.live]
    lists_after = max((_listed_by(order, known=seen is not None) for order in live), default=0.0)
    return Target(instance_id, seen, orders, lists_after, proven=seen is not None)


async def _told(deps: Deps, target: Target, look: _Look | None) -> End:
    """What the caller is told of one machine, after the ledger."""
    seen, instance_id = target.seen, target.instance_id
    if not target.worth:
        ended = [order for order in target.orders if order.state is OrderState.RELEASED]
        if ended:
            kept = ended[-1].cost_usd
            return End(instance_id, "gone", State.GONE, None if kept is None else Usd(kept), "it was gone already")
        return End(instance_id, "unknown", reason="this key sees no machine with this id; nothing was sent")
    cost = None if seen is None else await metered(deps, seen.instance)
    if look is None:
        state = State.UNKNOWN if seen is None else seen.state
        return End(instance_id, "still there", state, cost, "nothing was sent, out of time in this call: call again")
    for order in target.orders:
        if order.live:
            await _record(deps, order, look.final, ON_REQUEST, cost)
    why = "" if look.error is None else f"{look.error.message} ({look.error.code}); "
    reason = None if look.final == "gone" else f"{why}{look.reason or 'call destroy_instances again'}"
    return End(instance_id, look.final, look.state, cost, reason)


def _listed_by(order: Order, *, known: bool) -> float:
    """From when on absence from a list means something: at once for a machine that a list has shown already."""
    return 0.0 if known or order.sent_at is None else order.sent_at + VISIBILITY_S


async def _record(deps: Deps, order: Order, final: FinalState, reason: str, cost: Usd | None = None) -> None:
    if final != "gone":
        await deps.store.note_order(order.order_id, OrderFacts(final_state=final, reason=reason))
        return
    amount = None if cost is None else cost.amount
    facts = OrderFacts(ended_at=deps.clock.now(), final_state=final, reason=reason, cost_usd=amount)
    with suppress(IllegalMoveError):  # another call saw its end first
        await deps.store.move_order(order.order_id, OrderState.RELEASED, facts)


async def _end_all(deps: Deps, market: Market, targets: Sequence[Target], deadline: float) -> dict[int, _Look]:
    """DELETE each and look, then those that are left again, in turn: one that is stuck keeps nobody waiting.

    Gone is absent from its own page and from a complete list, read with the renting account's key.
    """
    looks: dict[int, _Look] = {}
    pending = list(targets)
    while pending:
        left: list[Target] = []
        for target in pending:
            if deps.clock.now() >= deadline:
                return looks
            look = looks[target.instance_id] = await _end_once(deps, market, target)
            if look.final == "gone":
                await deps.prober.forget(target.instance_id)
            elif look.error is None or look.error.code not in _DOES_NOT_HEAL:
                left.append(target)
        pending = left
        if not pending or deps.clock.now() + _LOOK_EVERY_S >= deadline:
            return looks
        await deps.clock.sleep(_LOOK_EVERY_S)
    return looks


async def _end_once(deps: Deps, market: Market, target: Target) -> _Look:
    instance_id = target.instance_id
    try:
        if target.proven or await _carries_mark(deps, market, target):
            await market.destroy(instance_id)
        there = await market.instance(instance_id)
        listed = next((item for item in await market.instances() if item.id == instance_id), None)
    except ProviderError as error:
        return _Look("unknown", error=error)
    shown = listed or there
    if shown is None:
        return _Look("gone", State.GONE) if deps.clock.now() >= target.lists_after else _Look("unknown")
    if not target.proven and not any(made_by(shown, order, deps.store.store_ids) for order in target.orders):
        return _Look("unknown", condition(shown).state, reason="a machine without our mark has this id: not touched")
    return _Look("still there", condition(shown).state)


async def _carries_mark(deps: Deps, market: Market, target: Target) -> bool:
    """A reply that named an id proves nothing: the machine's own page has to show our mark."""
    there = await market.instance(target.instance_id)
    return there is not None and any(made_by(there, order, deps.store.store_ids) for order in target.orders)


def _intent(strangers: tuple[int, ...], active: dict[int, ActiveInstance]) -> Intent:
    named = ", ".join(f"{i} ({active[i].label!r}, {active[i].burn})" for i in strangers)
    question = f"Destroy {named}? This server did not rent them; their data is lost."
    return Intent(Purpose.END, strangers, question, detail="destroy")
