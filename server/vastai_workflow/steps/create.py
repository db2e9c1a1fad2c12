"""Create: rent a plan once. The same plan again sends nothing twice; it goes on with what is still planned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import anyio

from vastai_workflow.domain.errors import CATALOGUE, LocalError, ProviderError, Refusal, WorkflowError, call
from vastai_workflow.domain.gate import STAGES, Event, Stage, stage_of, unconfirmed
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState, places_taken
from vastai_workflow.domain.market import Offer
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.domain.plan import traffic
from vastai_workflow.domain.question import keep_question
from vastai_workflow.domain.workflow import Confirmation, Plan, Question, Workflow
from vastai_workflow.steps.accounts import Opened, open_market
from vastai_workflow.steps.asking import Whose, named, refusal_that_asks, whose_yes
from vastai_workflow.steps.deps import Caller, Deps, Progress, owned
from vastai_workflow.steps.ending import CALL_BUDGET_S
from vastai_workflow.steps.fleet_view import all_active, in_words
from vastai_workflow.steps.fleets import FleetOutcome, fleet_outcome, release_short_fleets
from vastai_workflow.steps.held import as_agreed
from vastai_workflow.steps.keys import ensure_account_key, refuse_taken_key
from vastai_workflow.steps.orders import ASKS_TO_KEEP, gate_for, gate_of, look_again, newest_rent, place_all
from vastai_workflow.steps.outlook import under
from vastai_workflow.steps.run import ROWS, Run, fitting, look_at_market, look_up
from vastai_workflow.steps.untold import keep, take
from vastai_workflow.steps.writes import require_writes

_MUCH_DEARER: Final = Decimal("1.5")
"""A rise of the traffic's price that the user is told of."""


@dataclass(frozen=True, slots=True)
class Created:
    """Every order of the plan, what the user should be told, and what stopped the work (None: it is done).

    `fleet`: what became of the whole yes, of which the plan may be the rest.
    """

    workflow_id: str
    orders: tuple[Order, ...]
    fleet: FleetOutcome | None = None
    notes: tuple[str, ...] = ()
    stopped: str | None = None
    planned_left: bool = False


async def create_instances(deps: Deps, caller: Caller, workflow_id: str, plan_id: str, progress: Progress) -> Created:
    """Rent what the plan chose, through the gate, within one call's time."""
    require_writes(deps)
    workflow = await owned(deps, caller, workflow_id)
    plan = workflow.plan(plan_id)
    orders = await deps.store.orders(workflow_id=workflow_id)
    own = [order for order in orders if order.plan_id == plan_id]
    if own and all(order.state is not OrderState.PLANNED for order in own):
        return Created(workflow_id, tuple(own), _fleet(orders, own))
    _check_stage(deps, caller, workflow, orders)
    if plan is None:
        raise _plan_unknown(workflow_id, plan_id)
    if plan.digest != workflow.digest and not own:
        raise Refusal("digest_mismatch", "the plan was made for other fields", next_call=_find_call(workflow_id))
    opened = await open_market(deps, caller, workflow_id)
    notes = [*take(deps, opened.account.id), *opened.notes]
    try:
        async with deps.store.account_lock(opened.account.id):
            return await _rent(deps, caller, opened, workflow, plan, notes, progress)
    except WorkflowError as error:  # what settling ended is told all the same
        raise error.told_with(notes) from None
    except anyio.get_cancelled_exc_class():
        keep(deps, opened.account.id, notes)
        raise


async def _rent(
    deps: Deps,
    caller: Caller,
    opened: Opened,
    workflow: Workflow,
    plan: Plan,
    notes: list[str],
    progress: Progress,
) -> Created:
    values = workflow.values
    begun = await _own_orders(deps, workflow, plan)
    run = Run(deps, caller, opened, workflow.workflow_id, plan.plan_id, 0.0, progress, notes)
    await _look(run, plan, begun, values)
    run.deadline = deps.clock.now() + CALL_BUDGET_S
    await look_again(run)
    await _refuse_taken_key(run, plan)
    if not await _own_orders(deps, workflow, plan):
        await _admit(run, workflow, plan)
    run.notes.extend(await _agreed_key_on_account(run, plan))
    try:
        await place_all(run)
        if any(order.live for order in await _own_orders(deps, workflow, plan)):
            await look_again(run)
            run.notes.extend((await release_short_fleets(deps, opened.market, opened.account.id, run.deadline)).notes)
    except ProviderError as error:  # a list failed after money was spent: what is on record is told all the same
        run.stopped_by = run.stopped_by or error
    except LocalError as error:  # the ledger failed: the same, where there is something to tell
        if all(order.state is OrderState.PLANNED for order in await _own_orders(deps, workflow, plan)):
            raise
        run.stopped_by = run.stopped_by or error
    orders = await _own_orders(deps, workflow, plan)
    failed = run.stopped_by or run.lost
    asks = run.stopped_by is not None and run.stopped_by.code == ASKS_TO_KEEP
    if failed is not None and (asks or not any(order.holds_place for order in orders)):
        raise await _explained(run, workflow, failed)
    stopped = None if run.stopped_by is None else _stopped_words(run.stopped_by)
    left = any(order.state is OrderState.PLANNED for order in orders)
    fleet = _fleet(await deps.store.orders(workflow_id=workflow.workflow_id), orders)
    return Created(workflow.workflow_id, orders, fleet, tuple(run.notes), stopped, left)


def _fleet(orders: Sequence[Order], of_plan: Sequence[Order]) -> FleetOutcome | None:
    """What became of the yes that a plan's orders hang on."""
    return fleet_outcome(orders, of_plan[0].confirmation_id) if of_plan else None


async def _look(run: Run, plan: Plan, begun: Sequence[Order], values: Mapping[str, Any]) -> None:
    """The offers still to be rented and the plan's spare ones; before the first order all, where too few are left."""
    wanted = [o.ask_id for o in begun if o.state is OrderState.PLANNED] or [item.ask_id for item in plan.chosen]
    try:
        await look_up(run, values, [*wanted, *plan.spare][: max(ROWS, len(wanted))])
    except ProviderError as error:
        if not begun or error.code != "rate_limited":
            raise
        run.stopped_by = error  # what is planned waits for the next call
    if begun:
        return
    ceiling = Rate.of(values["max_price_per_hour"]) if "max_price_per_hour" in values else None
    left = fitting(run, ceiling, values, ())
    if len(left) < len(plan.chosen):
        await look_at_market(run, values)
    run.ranked = under(run.ranked, ceiling)


def _stopped_words(error: WorkflowError) -> str:
    return error.sentence if isinstance(error, LocalError) else error.message


async def _admit(run: Run, workflow: Workflow, plan: Plan) -> None:
    """The gate for the first order, before anything is written; then all of the plan's orders, as planned."""
    if run.deps.clock.now() >= plan.expires_at:
        raise Refusal("plan_expired", "the plan is older than ten minutes", next_call=_find_call(workflow.workflow_id))
    chosen = _still_there(run, plan, workflow.values)
    refusal = await gate_for(run, chosen[0], None)
    if refusal is not None:
        raise await _explained(run, workflow, refusal)
    confirmation = newest_rent(await owned(run.deps, run.caller, workflow.workflow_id))
    if confirmation is None:
        raise AssertionError
    orders = await run.deps.store.orders(workflow_id=workflow.workflow_id)
    free = confirmation.places - places_taken(orders, confirmation.confirmation_id)
    if free < len(chosen) and workflow.values.get("fleet") == "all_or_nothing":
        spent = Refusal("confirmation_spent", f"got {len(chosen)} machines, all or nothing, but {free} places are left")
        raise await _explained(run, workflow, spent)
    taken = chosen[:free]
    run.notes.extend(_others_taken(plan, taken))
    run.notes.extend(_dearer_traffic(confirmation, taken))
    await run.deps.store.add_orders([_order(run, workflow, confirmation, offer) for offer in taken])


def _dearer_traffic(confirmation: Confirmation, taken: Sequence[Offer]) -> list[str]:
    """No ceiling bounds it, so a large rise since the question is told."""
    asked, now = confirmation.traffic_per_gb, traffic(taken).amount
    if asked is None or now <= asked * _MUCH_DEARER:
        return []
    before = f"${Usd(asked).number():g}/GB when the user was asked"
    return [f"traffic cost {before}, and up to ${Usd(now).number():g}/GB now: tell them"]


async def _refuse_taken_key(run: Run, plan: Plan) -> None:
    """By the yes of what is still planned, or else the newest."""
    workflow = await owned(run.deps, run.caller, run.workflow_id)
    planned = await run.deps.store.orders(workflow_id=run.workflow_id, states=(OrderState.PLANNED,))
    ids = {order.confirmation_id for order in planned if order.plan_id == plan.plan_id}
    yes = next((one for one in workflow.confirmations if one.confirmation_id in ids), newest_rent(workflow))
    if yes is not None:
        await refuse_taken_key(run.deps, run.caller, run.workflow_id, yes)


async def _agreed_key_on_account(run: Run, plan: Plan) -> tuple[str, ...]:
    """Only once an order stands behind the gate: the key of its yes, whatever the draft says by now."""
    orders = await run.deps.store.orders(workflow_id=run.workflow_id, states=(OrderState.PLANNED,))
    planned = next((order for order in orders if order.plan_id == plan.plan_id), None)
    if planned is None or planned.ssh_key is None or await gate_of(run, planned) is not None:
        return ()
    return await ensure_account_key(run.opened.market, run.deps.keys, planned.ssh_key)


def _still_there(run: Run, plan: Plan, values: Mapping[str, Any]) -> list[Offer]:
    """The chosen offers as searched just now; one that is gone gives its turn to the next candidate."""
    fresh = {offer.ask_id: offer for offer in run.ranked}
    chosen = [fresh[item.ask_id] for item in plan.chosen if item.ask_id in fresh]
    used = {offer.machine_id for offer in chosen} | {item.machine_id for item in plan.chosen}
    gone = len(plan.chosen) - len(chosen)
    chosen += fitting(run, None, values, used)[:gone]
    if not chosen:
        raise Refusal("no_offers", "the chosen offers are gone and no other fits")
    if len(chosen) < len(plan.chosen) and values.get("fleet") == "all_or_nothing":
        raise Refusal("no_offers", f"got {len(chosen)} fitting machines, needed all {len(plan.chosen)} or none")
    return chosen


def _others_taken(plan: Plan, taken: Sequence[Offer]) -> list[str]:
    """Those that are rented and were not in the plan that was shown."""
    shown = {item.ask_id for item in plan.chosen}
    others = [offer for offer in taken if offer.ask_id not in shown]
    return [f"a chosen offer is not free any more; taking {offer.ask_id} at {offer.price}" for offer in others]


def _order(run: Run, workflow: Workflow, confirmation: Confirmation, offer: Offer) -> Order:
    if confirmation.ceiling_per_hour is None:
        raise AssertionError
    return Order(
        order_id=f"o_{run.deps.new_id(9)}",
        workflow_id=workflow.workflow_id,
        owner=workflow.owner,
        plan_id=run.plan_id,
        confirmation_id=confirmation.confirmation_id,
        account_id=run.opened.account.id,
        key_source=run.opened.source,
        ask_id=offer.ask_id,
        machine_id=offer.machine_id,
        gpu_name=offer.gpu_name,
        num_gpus=offer.num_gpus,
        gpu_ram_mb=offer.gpu_ram_mb,
        disk_gb=confirmation.values["disk_gb"],
        price_per_hour=offer.price.per_hour,
        ceiling_per_hour=confirmation.ceiling_per_hour,
        agreed_by=confirmation.signed,
        created_at=run.deps.clock.now(),
        ssh_key=confirmation.ssh_key,
        fleet=confirmation.values.get("fleet"),
        places=confirmation.places,
    )


async def _own_orders(deps: Deps, workflow: Workflow, plan: Plan) -> tuple[Order, ...]:
    orders = await deps.store.orders(workflow_id=workflow.workflow_id)
    return tuple(order for order in orders if order.plan_id == plan.plan_id)


def _check_stage(deps: Deps, caller: Caller, workflow: Workflow, orders: Sequence[Order]) -> None:
    stage = stage_of(workflow, orders, deps.clock.now())
    leads = STAGES[stage][Event.CREATE]
    if isinstance(leads, Stage):
        return
    missing = unconfirmed(workflow)
    if leads == "not_confirmed":
        newest = newest_rent(workflow)
        changed = newest is not None and newest.digest != workflow.digest
        expired = newest is not None and not changed and not missing
        code = "confirmation_expired" if expired else "digest_mismatch" if changed and not missing else leads
        raise _not_agreed(deps, caller, workflow, code, missing)
    raise Refusal(leads, CATALOGUE[leads].meaning, next_call=_find_call(workflow.workflow_id))


def _not_agreed(deps: Deps, caller: Caller, workflow: Workflow, code: str, missing: Sequence[str]) -> Refusal:
    names = ", ".join(missing) or "the fields as they stand"
    relayed = whose_yes(deps, caller, workflow, workflow.rent_marks) is Whose.RELAYED
    return Refusal(
        code,
        f"nothing was sent: no valid yes to {names}",
        missing=missing,
        next_step="show the user what propose_fields answers, ask, then confirm_fields with its digest",
        ask_user="Do you agree to the proposal as it stands?" if relayed else None,
        next_call=call("propose_fields", workflow_id=workflow.workflow_id),
    )


async def _explained(run: Run, workflow: Workflow, refusal: WorkflowError) -> WorkflowError:
    """The same refusal with what exists and where to go on."""
    if refusal.code == ASKS_TO_KEEP:
        return await _keep_asked(run, workflow, refusal)
    if refusal.code == "unsettled_order":
        return Refusal(
            refusal.code, refusal.message, next_call=call("wait_until_ready", workflow_id=await _unsettled_home(run))
        )
    if refusal.code in {"digest_mismatch", "confirmation_expired", "not_confirmed"}:
        return _not_agreed(run.deps, run.caller, workflow, refusal.code, refusal.missing)
    if refusal.code != "confirmation_spent":
        return refusal
    orders = await run.deps.store.orders(workflow_id=workflow.workflow_id)
    exist = ", ".join(f"order {o.order_id} {o.state} (machine {o.instance_id})" for o in orders)
    tool = "wait_until_ready" if any(order.live for order in orders) else "propose_fields"
    return Refusal(
        refusal.code,
        f"{refusal.message}; there are: {exist}",
        next_call=call(tool, workflow_id=workflow.workflow_id),
    )


async def _keep_asked(run: Run, workflow: Workflow, refusal: WorkflowError) -> Refusal:
    """Keep the question about machines that the yes to rent did not name, and say how to answer it.

    Amid a fleet it is about the yes that what is planned hangs on, whatever the draft showed since.
    """
    deps, nonce = run.deps, run.deps.new_id(9)
    orders = [o for o in await deps.store.orders(workflow_id=workflow.workflow_id) if o.plan_id == run.plan_id]
    planned = [order for order in orders if order.state is OrderState.PLANNED]
    message = refusal.message
    if planned:
        rented = sum(order.live for order in orders)
        message = f"{message}; {rented} machines of this fleet run, and {len(planned)} wait for the answer"
        workflow = await deps.store.change_workflow(workflow.workflow_id, lambda now: as_agreed(now, planned[0]))
    active = await all_active(deps, run.opened.account.id, run.instances)
    found: dict[str, Any] = (refusal.next_call or {}).get("arguments", {})
    new = [item for item in active if item.instance.id in found["acknowledge_instances"]]
    question = Question(
        about="keep",
        digest=workflow.digest,
        text=keep_question(in_words(new), len(active), len(planned) or workflow.value("count")),
        answer=str(new[0].instance.id),
        form="machine",
        code="",
        asked_at=deps.clock.now(),
        again=call("create_instances", workflow_id=workflow.workflow_id, plan_id=run.plan_id),
        account_id=run.opened.account.id,
        instance_ids=tuple(item.instance.id for item in new),
    )
    kept = await deps.store.change_workflow(
        workflow.workflow_id, lambda current: current.asking(named(deps, current, question, nonce))
    )
    asked = kept.asked("keep", workflow.digest)
    if asked is None:
        raise AssertionError
    return refusal_that_asks(deps, run.caller, kept, asked, (refusal.code, message))


async def _unsettled_home(run: Run) -> str:
    unsettled = await run.deps.store.orders(account_id=run.opened.account.id, states=tuple(UNSETTLED))
    return unsettled[0].workflow_id if unsettled else run.workflow_id


def _plan_unknown(workflow_id: str, plan_id: str) -> Refusal:
    return Refusal(
        "plan_unknown", f"got {plan_id[:40]!r}, which is no plan of this workflow", next_call=_find_call(workflow_id)
    )


def _find_call(workflow_id: str) -> dict[str, Any]:
    return call("find_offers", workflow_id=workflow_id)
