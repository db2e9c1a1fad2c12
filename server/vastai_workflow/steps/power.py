"""Power: start, stop, restart; start costs money and needs a yes, recycle loses data and needs one too."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from vastai_workflow.domain.balance import Balance
from vastai_workflow.domain.errors import ProviderError, Uncertain, call
from vastai_workflow.domain.ledger import OrderFacts
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.money import Usd, total
from vastai_workflow.domain.question import end_question, recycle_question, start_question
from vastai_workflow.domain.workflow import Purpose
from vastai_workflow.steps.accounts import Opened, open_market
from vastai_workflow.steps.chosen import Chosen, chosen_machines
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.fleet_view import ActiveInstance, committed
from vastai_workflow.steps.metering import metered
from vastai_workflow.steps.own_pages import read_pages
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.purposes import Intent, Yes, spend, yes_for
from vastai_workflow.steps.readiness_window import recycle_is_asked_for, reset_window, start_is_known
from vastai_workflow.steps.writes import require_writes

_LOOK_EVERY_S: Final = 2.0
_STOP_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Changed:
    """One machine after the request: its state as seen, what it cost so far, and why it is not what was asked."""

    instance_id: int
    state: str
    cost: Usd | None
    reason: str | None = None


async def start_instances(
    deps: Deps, caller: Caller, instance_ids: Sequence[int], workflow_id: str | None
) -> tuple[Changed, ...]:
    """Start stopped machines: billed, so each call needs a yes to these ids and this price. Sent once each."""
    require_writes(deps)
    opened = await open_market(deps, caller, workflow_id, instance_ids)
    async with deps.store.account_lock(opened.account.id):  # the caps hold over parallel calls
        chosen = await chosen_machines(deps, caller, instance_ids, workflow_id)
        asleep = tuple(item for item in chosen.machines if _asleep(item))
        if asleep:
            again = call("start_instances", instance_ids=list(chosen.ids), workflow_id=workflow_id)
            await spend(deps, caller, chosen.opened, _start_intent(asleep, chosen, again))
        return tuple([await _start_one(deps, chosen.opened, item, started=item in asleep) for item in chosen.machines])


def _asleep(item: ActiveInstance) -> bool:
    """Not running, or on its way to a stop."""
    return item.state is not State.RUNNING or item.instance.intended_status != "running"


def _start_intent(asleep: Sequence[ActiveInstance], chosen: Chosen, again: dict[str, Any]) -> Intent:
    ids = tuple(item.instance.id for item in asleep)
    together = total([item.instance.price for item in asleep])
    price = max(item.instance.price for item in asleep)
    others = [item for item in chosen.active if item.instance.id not in ids]
    running = len([item for item in chosen.active if item.state is State.RUNNING])
    burning = total([item.burn for item in others]) + together
    credit = chosen.opened.account.credit
    balance = Balance.of(credit, credit / burning)
    question = start_question([_named(item) for item in asleep], together, running, balance)
    rest = committed(others) + (together - price)
    return Intent(
        Purpose.START,
        ids,
        question,
        again,
        price=price,
        burning=rest,
        running=max(len(chosen.active) - 1, 0),
        balance=balance,
    )


async def stop_instances(
    deps: Deps, caller: Caller, instance_ids: Sequence[int], workflow_id: str | None
) -> tuple[Changed, ...]:
    """Stop machines and look until they are stopped; the disk goes on costing."""
    require_writes(deps)
    chosen = await chosen_machines(deps, caller, instance_ids, workflow_id, stops=True)
    again = call("stop_instances", instance_ids=list(chosen.ids), workflow_id=workflow_id)
    await _yes_for_strangers(deps, caller, chosen, "stop", again)
    reasons = {i: await _failure(chosen.opened.market.stop(i)) for i in chosen.ids}
    for i in chosen.ids:
        if reasons[i] is None:
            await start_is_known(deps, i)
    return await _seen_stopped(deps, chosen.opened, chosen.ids, reasons)


async def restart_instances(
    deps: Deps, caller: Caller, instance_ids: Sequence[int], mode: str, workflow_id: str | None
) -> tuple[Changed, ...]:
    """Reboot, or recycle: a new container on the same GPU, which loses the old one's data and needs a yes."""
    require_writes(deps)
    chosen = await chosen_machines(deps, caller, instance_ids, workflow_id)
    again = call("restart_instances", instance_ids=list(chosen.ids), mode=mode, workflow_id=workflow_id)
    if mode == "recycle":
        strangers = [item.instance.id for item in chosen.machines if not item.ours]
        together = total([item.instance.price for item in chosen.machines])
        question = recycle_question([_named(item) for item in chosen.machines], together, strangers)
        intent = Intent(Purpose.RECYCLE, chosen.ids, question, again, detail="recycle")
        yes = await yes_for(deps, caller, chosen.opened, intent)
        reasons = {i: await _recycled(deps, chosen.opened.market, i, yes) for i in chosen.ids}
    else:
        await _yes_for_strangers(deps, caller, chosen, "reboot", again)
        reasons = {i: await _rebooted(deps, chosen.opened.market, i) for i in chosen.ids}
    return await _seen(deps, chosen.opened, chosen.ids, reasons)


async def _rebooted(deps: Deps, market: Market, instance_id: int) -> str | None:
    await reset_window(deps, instance_id, starting=True)
    return await _failure(market.reboot(instance_id))


async def _recycled(deps: Deps, market: Market, instance_id: int, yes: Yes) -> str | None:
    """The new container makes a host key of its own, which the next login pins and records.

    The old one is dropped before, since a server that dies in between would take the new one for a stranger's; after a
    clear no the ledger's holds on.
    """
    if not await deps.prober.forget(instance_id):
        return f"nothing was sent: its host key can't be dropped, {deps.prober.known_hosts_file} can't be written"
    await yes.spend()
    await reset_window(deps, instance_id, starting=True)
    orders = await deps.store.orders(instance_ids=(instance_id,))
    pinned = [order for order in orders if order.live and order.host_key]
    for order in pinned:
        await recycle_is_asked_for(deps, instance_id, order.host_key or "")
        await deps.store.note_order(order.order_id, OrderFacts(host_key=""))
    try:
        await market.recycle(instance_id)
    except Uncertain as error:
        return _told(error)
    except ProviderError as error:
        for order in pinned:
            await recycle_is_asked_for(deps, instance_id, "")
            await deps.store.note_order(order.order_id, OrderFacts(host_key=order.host_key))
        return _told(error)
    return None


async def _failure(sending: Awaitable[None]) -> str | None:
    """Why a request for one machine failed; the others of the call are still asked for."""
    try:
        await sending
    except ProviderError as error:
        return _told(error)
    return None


def _told(error: ProviderError) -> str:
    return f"{error.message} ({error.code})"


def _named(item: ActiveInstance) -> str:
    return f"{item.instance.id} ({item.label!r})"


async def _yes_for_strangers(deps: Deps, caller: Caller, chosen: Chosen, verb: str, again: dict[str, Any]) -> None:
    strangers = [item for item in chosen.machines if not item.ours]
    if not strangers:
        return
    question = end_question(verb, [_named(item) for item in strangers])
    ids = tuple(item.instance.id for item in strangers)
    await spend(deps, caller, chosen.opened, Intent(Purpose.END, ids, question, again, detail=verb))


async def _start_one(deps: Deps, opened: Opened, item: ActiveInstance, *, started: bool) -> Changed:
    instance_id = item.instance.id
    reason: str | None = None if started else "it was running already"
    lost = False
    if started:
        await reset_window(deps, instance_id, starting=True, started=True)
        try:
            await opened.market.start(instance_id)
        except Uncertain as error:  # still on record as started: settling cancels it if it waits for its GPU
            lost = True
            reason = _told(error)
        except ProviderError as error:
            reason = await _not_started(deps, opened, instance_id, error)
        else:
            await start_is_known(deps, instance_id)
    seen = (await _seen(deps, opened, (instance_id,), {instance_id: reason}))[0]
    if lost and seen.state != State.RUNNING:
        told = f"{reason}; it may still start, and cost money then: look again with instance_status"
        return replace(seen, reason=told)
    return seen


async def _not_started(deps: Deps, opened: Opened, instance_id: int, error: ProviderError) -> str:
    """A queued start would begin to bill at any time later: it is cancelled by a stop."""
    if error.code != "resources_unavailable":
        await start_is_known(deps, instance_id)
        return _told(error)
    try:
        await opened.market.stop(instance_id)
    except ProviderError as failed:
        return f"its GPU is taken and the start is queued; cancelling it failed: {failed.message}"
    await start_is_known(deps, instance_id)
    return "its GPU is taken by somebody else; the queued start was cancelled"


async def _seen_stopped(
    deps: Deps, opened: Opened, ids: Sequence[int], reasons: Mapping[int, str | None]
) -> tuple[Changed, ...]:
    deadline = deps.clock.now() + _STOP_WAIT_S
    while True:
        seen = await _seen(deps, opened, ids, reasons)
        if all(item.state == State.STOPPED for item in seen) or deps.clock.now() + _LOOK_EVERY_S > deadline:
            return seen
        await deps.clock.sleep(_LOOK_EVERY_S)


async def _seen(
    deps: Deps, opened: Opened, ids: Sequence[int], reasons: Mapping[int, str | None]
) -> tuple[Changed, ...]:
    """Each machine by a complete list, else by its own page."""
    unseen = "not in the list"
    try:
        looked = await opened.market.instances()
    except ProviderError as error:
        looked, failed = await read_pages(opened.market, ids)
        unseen = f"{(failed or error).message} ({(failed or error).code})"
    by_id = {instance.id: instance for instance in looked}
    found: list[Changed] = []
    for instance_id in ids:
        instance = by_id.get(instance_id)
        if instance is None:
            found.append(Changed(instance_id, State.UNKNOWN, None, reasons[instance_id] or unseen))
            continue
        window = await deps.store.window(instance_id)
        seen = condition(instance, in_grace=deps.clock.now() < window.grace_until)
        found.append(Changed(instance_id, seen.state, await metered(deps, instance), reasons[instance_id]))
    return tuple(found)
