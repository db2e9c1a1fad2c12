"""Destroy: machines end on request, ours at once, others with a yes, and each is told truthfully."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vastai_workflow.domain.errors import ProviderError, Refusal, WorkflowError, call
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.lifecycle import State
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.money import Usd
from vastai_workflow.domain.question import end_question
from vastai_workflow.domain.workflow import Purpose
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.adoption import adopt
from vastai_workflow.steps.audit import on_request
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.ending import (
    CALL_BUDGET_S,
    ON_REQUEST,
    FinalState,
    Look,
    Target,
    end_all,
    listed_by,
    record_end,
)
from vastai_workflow.steps.fleet_view import ActiveInstance, Origin, made_by, with_orders
from vastai_workflow.steps.fleets import given_up
from vastai_workflow.steps.metering import metered
from vastai_workflow.steps.own_pages import ours_by_page
from vastai_workflow.steps.purposes import Intent, spend
from vastai_workflow.steps.writes import require_writes


@dataclass(frozen=True, slots=True)
class End:
    """How one end went. `state`: as last seen. `cost` is the local meter's; None where it was never seen."""

    instance_id: int
    final_state: FinalState
    state: State = State.UNKNOWN
    cost: Usd | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How each end went, and what follows from them for the rest of a fleet."""

    ends: tuple[End, ...]
    notes: tuple[str, ...] = ()


async def destroy_instances(deps: Deps, caller: Caller, instance_ids: Sequence[int], workflow_id: str | None) -> Ended:
    """End machines and see that they are gone. Ours at once; others only with a yes of their own.

    Without a complete list those end that are ours by their own pages: whoever waits for lists goes on paying.
    """
    require_writes(deps)
    ids = tuple(dict.fromkeys(instance_ids))
    unlisted: ProviderError | None = None
    busy: Refusal | None = None
    try:
        opened = await open_market(deps, caller, workflow_id, ids)
    except ProviderError as error:
        return Ended(tuple(_not_sent(i, error) for i in ids))
    try:
        listed = await opened.market.instances()
        busy = await _busy_for(deps, opened.account.id, listed, ids)
        seen = await with_orders(deps, opened.account.id, listed)
    except ProviderError as error:
        unlisted = error
        seen, _ = await ours_by_page(deps, opened.market, opened.account.id, ids)
    active = {item.instance.id: item for item in seen}
    held_back = () if busy is None else tuple(i for i in ids if i not in active or not active[i].ours)
    if busy is not None and len(held_back) == len(ids):
        raise busy
    ids = tuple(i for i in ids if i not in held_back)
    strangers = tuple(i for i in ids if i in active and not _is_of_ours(active[i]))
    if strangers:
        again = call("destroy_instances", instance_ids=list(ids), workflow_id=workflow_id)
        await spend(deps, caller, opened, _intent(strangers, active, again))
    deadline = deps.clock.now() + CALL_BUDGET_S
    targets = [await _target(deps, i, active.get(i)) for i in ids]
    worth = [target for target in targets if target.worth]
    sender = on_request(caller, workflow_id)
    looks = await end_all(deps, opened.market, worth, deadline, sender, reason=ON_REQUEST)
    told = [await _told(deps, target, looks.get(target.instance_id), unlisted) for target in targets]
    notes = await given_up(deps, [order for target in worth for order in target.orders])
    return Ended((*told, *(_not_sent(i, busy) for i in held_back if busy is not None)), notes)


async def _busy_for(deps: Deps, account_id: int, listed: Sequence[Instance], ids: Sequence[int]) -> Refusal | None:
    """Take on record what these ids name; the refusal where another call rents for the account just now."""
    try:
        await adopt(deps, account_id, listed, ids)
    except Refusal as refusal:
        if refusal.code != "account_busy":
            raise
        return refusal
    return None


def _is_of_ours(item: ActiveInstance) -> bool:
    """Rented by this server, or made beside that by one of its requests: nobody else waits for it."""
    return item.ours or item.origin is Origin.OURS


async def _target(deps: Deps, instance_id: int, seen: ActiveInstance | None) -> Target:
    orders = await deps.store.orders(instance_ids=(instance_id,))
    if seen is not None:  # whose reply named it wrongly has another machine
        orders = tuple(o for o in orders if not o.live or made_by(seen.instance, o, deps.store.store_ids))
    live = [order for order in orders if order.live]
    lists_after = max((listed_by(order, deps.moment(), known=seen is not None) for order in live), default=0.0)
    return Target(instance_id, seen, orders, lists_after, proven=seen is not None)


def _not_sent(instance_id: int, error: WorkflowError) -> End:
    return End(instance_id, "unknown", reason=f"nothing was sent: {error.message} ({error.code})")


async def _told(deps: Deps, target: Target, look: Look | None, unlisted: ProviderError | None) -> End:
    """What the caller is told of one machine, after the ledger. `unlisted`: why no complete list could be read."""
    seen, instance_id = target.seen, target.instance_id
    if not target.worth:
        ended = [order for order in target.orders if order.state is OrderState.RELEASED]
        if ended:
            kept = ended[-1].cost_usd
            return End(instance_id, "gone", State.GONE, None if kept is None else Usd(kept), "it was gone already")
        if unlisted is not None:
            return _not_sent(instance_id, unlisted)
        return End(instance_id, "unknown", reason="this key sees no machine with this id; nothing was sent")
    cost = None if seen is None else await metered(deps, seen.instance)
    if look is None:
        state = State.UNKNOWN if seen is None else seen.state
        return End(instance_id, "still there", state, cost, "nothing was sent, out of time in this call: call again")
    for order in target.orders:
        if order.live:
            await record_end(deps, order, look.final, ON_REQUEST, cost)
    why = "" if look.error is None else f"{look.error.message} ({look.error.code}); "
    reason = None if look.final == "gone" else f"{why}{look.reason or 'call destroy_instances again'}"
    return End(instance_id, look.final, look.state, cost, reason)


def _intent(strangers: tuple[int, ...], active: dict[int, ActiveInstance], again: dict[str, Any]) -> Intent:
    question = end_question("destroy", [f"{i} ({active[i].label!r}, {active[i].burn})" for i in strangers])
    return Intent(Purpose.END, strangers, question, again, detail="destroy")
