"""The order loop: one order after another through the gate, written down before it is sent, judged by its answer."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, cast

import anyio
from pydantic import SecretStr

from vastai_workflow.domain import plan as choosing
from vastai_workflow.domain.errors import LocalError, ProviderError, Refusal, WorkflowError
from vastai_workflow.domain.fields import fingerprint
from vastai_workflow.domain.gate import Facts, first_refusal, unconfirmed
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderFacts, OrderState, marker, places_taken
from vastai_workflow.domain.market import (
    CreateOutcome,
    CreateRequest,
    MaybeRented,
    NotRented,
    Offer,
    Rented,
    RentedWithError,
)
from vastai_workflow.domain.money import Rate, total
from vastai_workflow.domain.workflow import Confirmation, Purpose, Workflow
from vastai_workflow.steps.deps import owned
from vastai_workflow.steps.fleet_view import all_active, committed
from vastai_workflow.steps.fleets import drop_planned, unwanted
from vastai_workflow.steps.held import digest_for, missing_for, yes_of
from vastai_workflow.steps.listing import list_instances
from vastai_workflow.steps.run import Run, stand_in
from vastai_workflow.steps.settle import settle

_RATE_LIMIT_WAIT_S: Final = 12.0
"""The published penalty for creating too fast, where the answer names no time."""


_LOOKS: Final = 3
_GONE: Final = "no_such_ask"
_PACE: Final = "rate_limited"


_ITS_OFFER: Final = frozenset({"no_such_ask", "no_offers", "price_above_ceiling"})
"""Refusals that concern one offer alone: another may take its place."""

ASKS_TO_KEEP: Final = "unacknowledged_instances"
"""The refusal that asks whether machines that came from elsewhere may stay."""


async def place_all(run: Run) -> None:
    """Send this plan's planned orders, oldest first, until done, out of time, or stopped by an answer."""
    while run.stopped_by is None and (order := await _next_planned(run, without=run.later)) is not None:
        own = await _own(run)
        if (why := unwanted(own)) is not None:
            await drop_planned(run.deps, own, why)
            return
        if run.deps.clock.now() >= run.deadline:
            return
        await _tell(run)
        refusal = await gate_of(run, order)
        if refusal is not None and refusal.code in _ITS_OFFER:
            await _instead(run, order, refusal)
            continue
        if refusal is not None and refusal.code == ASKS_TO_KEEP:  # what is planned waits for the user's answer
            run.stopped_by = refusal
            return
        agreed = await _agreement(run, order)
        if refusal is not None or isinstance(agreed, Refusal):
            await _drop_rest(run, refusal or cast("Refusal", agreed))
            return
        await _place(run, order, _request(run, order, *agreed))
    run.stopped_by = run.stopped_by or run.waits_for


async def _own(run: Run) -> list[Order]:
    """This plan's orders."""
    return [o for o in await run.deps.store.orders(workflow_id=run.workflow_id) if o.plan_id == run.plan_id]


async def _tell(run: Run) -> None:
    """How far it is, before the next order: a listener that fails then hides nothing that was rented."""
    orders = await _own(run)
    left = sum(order.state is OrderState.PLANNED for order in orders)
    rented, wanted = sum(order.live for order in orders), sum(order.holds_place for order in orders)
    await run.progress(len(orders) - left, len(orders), f"{rented} of {wanted} machines rented")


async def gate_for(run: Run, offer: Offer | None, order: Order | None) -> Refusal | None:
    """Evaluate the gate with what is true now."""
    deps = run.deps
    workflow = await owned(deps, run.caller, run.workflow_id)
    orders = await deps.store.orders(account_id=run.opened.account.id)
    confirmation = newest_rent(workflow) if order is None else yes_of(workflow, order)
    others = [item for item in orders if order is None or item.order_id != order.order_id]
    active = await all_active(deps, run.opened.account.id, run.instances)
    own = {item.instance_id for item in orders if item.workflow_id == workflow.workflow_id}
    acknowledged = set(confirmation.acknowledged) if confirmation is not None else set[int]()
    listed = {item.order.order_id for item in active if item.order is not None}
    unlisted = [o for o in others if o.live and o.order_id not in listed]
    values = workflow.values
    facts = Facts(
        purpose=Purpose.RENT,
        now=deps.clock.now(),
        caps=deps.caps,
        account_id=run.opened.account.id,
        digest=_plan_digest(workflow, run.plan_id) if order is None else digest_for(workflow, confirmation),
        confirmation=confirmation,
        missing=unconfirmed(workflow) if order is None else missing_for(workflow, confirmation),
        places_taken=0 if confirmation is None else places_taken(others, confirmation.confirmation_id),
        unsettled=tuple(item.order_id for item in others if item.state in UNSETTLED),
        unacknowledged=tuple(sorted({item.instance.id for item in active} - acknowledged - own)),
        misfits=() if offer is None else choosing.mismatches(offer, choosing.query(values)),
        price=None if offer is None else offer.price,
        burning=committed(active) + total([item.price for item in unlisted]),
        running=len(active) + len(unlisted),
    )
    return first_refusal(facts)


def newest_rent(workflow: Workflow) -> Confirmation | None:
    """The newest yes to rent, whatever its digest."""
    given = [item for item in workflow.confirmations if item.purpose is Purpose.RENT]
    return given[-1] if given else None


async def look_again(run: Run) -> None:
    """One complete list, held against the ledger; another one where ending machines took time meanwhile."""
    for _ in range(_LOOKS):
        listed = await list_instances(run.deps, run.opened.market)
        settled = await settle(run.deps, run.opened.market, run.opened.account.id, listed)
        run.instances = tuple(item for item in listed.instances if item.id not in settled.ended)
        run.notes.extend(note for note in settled.notes if note not in run.notes)
        if not settled.ended:
            return


def _plan_digest(workflow: Workflow, plan_id: str) -> str:
    """The digest of the plan if the workflow still stands at it; else nothing that any yes could match."""
    plan = workflow.plan(plan_id)
    return workflow.digest if plan is not None and plan.digest == workflow.digest else ""


async def _next_planned(run: Run, *, without: Collection[str] = ()) -> Order | None:
    planned = await run.deps.store.orders(workflow_id=run.workflow_id, states=(OrderState.PLANNED,))
    return next((o for o in planned if o.plan_id == run.plan_id and o.order_id not in without), None)


async def gate_of(run: Run, order: Order) -> Refusal | None:
    """The gate for a planned order, with its offer as this call saw it. All that is not of the offer goes first."""
    offer = None if _awaits_another(order, await _own(run)) else run.offer(order.ask_id)
    refusal = await gate_for(run, offer, order)
    if offer is None and refusal is not None and refusal.code == "price_above_ceiling":
        return Refusal("no_such_ask", f"offer {order.ask_id} is gone")
    return refusal


async def _instead(run: Run, order: Order, refusal: Refusal) -> None:
    """The offer of a planned order is gone or too dear by now: another one's turn, else this order alone is dropped."""
    offer = None
    if not _replaces_gone(order, await _own(run)):
        try:
            offer = await _candidate(run, order, again=False)
        except ProviderError as error:  # what is planned is gone on with by the next call
            if error.code == _PACE:
                run.put_off(order.order_id, error)
            else:
                run.stopped_by = error
            return
    await run.deps.store.move_order(order.order_id, OrderState.DROPPED, OrderFacts(reason=_GONE))
    await _in_turn(run, order, offer, refusal)


async def _drop_rest(run: Run, refusal: WorkflowError) -> None:
    run.stopped_by = refusal
    while (order := await _next_planned(run)) is not None:
        await run.deps.store.move_order(order.order_id, OrderState.DROPPED, OrderFacts(reason=refusal.message))


async def _place(run: Run, order: Order, request: CreateRequest) -> None:
    """The paid section: flushed as sent before the first byte leaves, finished in the ledger whoever hangs up."""
    deps = run.deps
    with anyio.CancelScope(shield=True):
        now = deps.moment()
        sent = OrderFacts(sent_at=now.unix, sent_steady=now.steady, sent_there=now.unix + run.opened.market.ahead_s)
        order = await deps.store.move_order(order.order_id, OrderState.SENT, sent)
        try:
            outcome = await run.opened.market.create(order.ask_id, request)
        except ProviderError as error:  # only before the first byte left
            await deps.store.move_order(order.order_id, OrderState.REFUSED, OrderFacts(reason=error.message))
            await _drop_rest(run, error)
            return
        await _judge(run, order, outcome)


async def _judge(run: Run, order: Order, outcome: CreateOutcome) -> None:
    outcome = await _unless_repeated(run, outcome)
    try:
        await _keep(run, order, outcome)
    except LocalError as error:
        run.notes.append(_not_on_record(order, outcome))
        run.stopped_by = error
        return
    match outcome:
        case Rented():
            return
        case RentedWithError(instance_id, code, message):
            run.notes.append(f"machine {instance_id} came with an error ({code}): {message}")
            await _drop_rest(run, ProviderError(code, message))
            await look_again(run)
        case MaybeRented(reason):
            run.stopped_by = Refusal("unsettled_order", f"order {order.order_id} may have rented: {reason}")
        case NotRented():
            await _after_refusal(run, order, outcome)


async def _unless_repeated(run: Run, outcome: CreateOutcome) -> CreateOutcome:
    """An answer that names another order's machine is that one's, sent again: what this request did is not known."""
    if not isinstance(outcome, Rented | RentedWithError):
        return outcome
    try:
        others = await run.deps.store.orders(instance_ids=(outcome.instance_id,))
    except LocalError:  # said where it is put on record
        return outcome
    if not any(other.live for other in others):
        return outcome
    return MaybeRented(f"its answer named machine {outcome.instance_id}, which another order rented")


async def _keep(run: Run, order: Order, outcome: CreateOutcome) -> None:
    """Put on record what a create's answer says."""
    match outcome:
        case Rented(instance_id):
            to, facts = OrderState.RENTED, OrderFacts(instance_id=instance_id)
        case RentedWithError(instance_id, code, message):
            to, facts = OrderState.RENTED, OrderFacts(instance_id=instance_id, reply_error=f"{code}: {message}")
        case MaybeRented(reason):
            to, facts = OrderState.UNKNOWN, OrderFacts(reason=reason)
        case NotRented(code):
            to, facts = OrderState.REFUSED, OrderFacts(reason=code)
    await run.deps.store.move_order(order.order_id, to, facts)


def _not_on_record(order: Order, outcome: CreateOutcome) -> str:
    """What the user has to know of an answer that the ledger does not have, and how to end what it may have made."""
    match outcome:
        case Rented(instance_id) | RentedWithError(instance_id):
            return (
                f"machine {instance_id} was rented by order {order.order_id} and costs money, though the ledger could "
                "not be written. wait_until_ready puts it on record once that works again; to end it before, destroy "
                f"it in the provider's console, or with: vastai destroy instance {instance_id}"
            )
        case MaybeRented(reason):
            return (
                f"order {order.order_id} may have rented a machine ({reason}), and the ledger could not be written. "
                "wait_until_ready settles it once that works again; to end it before, look for a machine that is new "
                "in the provider's console, and destroy it there"
            )
        case NotRented(code):
            return f"the create of order {order.order_id} was refused ({code}): it made no machine"


async def _after_refusal(run: Run, order: Order, outcome: NotRented) -> None:
    """Another try only after a complete list without this order; a gone offer is replaced once."""
    limited = outcome.code == _PACE
    wait = outcome.retry_after if outcome.retry_after is not None else _RATE_LIMIT_WAIT_S
    waits = limited and run.deps.clock.now() + wait < run.deadline
    if waits:
        await run.deps.clock.sleep(wait)  # before the list: what it does not show then was not rented
    await look_again(run)
    current = (await run.deps.store.orders(workflow_id=run.workflow_id)) or ()
    if any(item.order_id == order.order_id and item.state is not OrderState.REFUSED for item in current):
        return
    if limited:
        await _replace(run, order, order.ask_id)
        if not waits:
            run.stopped_by = ProviderError("rate_limited", f"the provider asks to wait {wait:g} s", retry_after=wait)
        return
    if outcome.code != _GONE:
        await _drop_rest(run, ProviderError(outcome.code, outcome.message))
        return
    offer = None
    if not _replaces_gone(order, current):
        try:
            offer = await _candidate(run, order, again=True)
        except ProviderError as error:
            if error.code == _PACE:  # it keeps its place
                run.put_off(await _replace(run, order, order.ask_id), error)
            else:
                run.stopped_by = error
            return
    await _in_turn(run, order, offer, ProviderError(outcome.code, outcome.message))


async def _candidate(run: Run, order: Order, *, again: bool) -> Offer | None:
    workflow = await owned(run.deps, run.caller, run.workflow_id)
    orders = await run.deps.store.orders(workflow_id=run.workflow_id)
    return await stand_in(run, order, workflow.values, {item.machine_id for item in orders}, again=again)


async def _in_turn(run: Run, order: Order, offer: Offer | None, why: WorkflowError) -> None:
    """Plan the candidate in the place of an order whose offer is gone; without one this order alone is lost."""
    gone = "was gone" if why.code == _GONE else f"does not fit any more ({why.message})"
    if offer is not None:
        run.notes.append(f"offer {order.ask_id} {gone}; trying {offer.ask_id} at {offer.price}")
        await _replace(run, order, offer.ask_id)
        return
    run.lost = (
        why
        if _replaces_gone(order, await _own(run))
        else Refusal("no_offers", f"offer {order.ask_id} {gone} and no other fits")
    )
    run.notes.append(f"offer {order.ask_id} {gone}, and no other takes its place")


async def _replace(run: Run, order: Order, ask_id: int) -> str:
    """Plan this offer in the place of an order; answers the new order's id."""
    offer = run.offer(ask_id)
    changes = {
        "order_id": f"o_{run.deps.new_id(9)}",
        "created_at": run.deps.clock.now(),
        "state": OrderState.PLANNED,
        "replaces": order.order_id,
        "sent_at": None,
        "sent_steady": None,
        "sent_there": None,
        "reason": None,
        "ask_id": ask_id,
    }
    if offer is not None:
        changes |= {"machine_id": offer.machine_id, "price_per_hour": offer.price.per_hour, "gpu_name": offer.gpu_name}
        changes |= {"gpu_ram_mb": offer.gpu_ram_mb}
    again = order.model_copy(update=changes)
    await run.deps.store.add_orders([again])
    return again.order_id


def _replaces_gone(order: Order, orders: Sequence[Order]) -> bool:
    """Whether this order already stands for an offer that was gone."""
    before = _before(order, orders)
    if before is None:
        return False
    return (before.reason == _GONE and before.ask_id != order.ask_id) or _replaces_gone(before, orders)


def _awaits_another(order: Order, orders: Sequence[Order]) -> bool:
    """Whether it keeps the place of a gone offer until the market can be looked at again."""
    before = _before(order, orders)
    return before is not None and before.reason == _GONE and before.ask_id == order.ask_id


def _before(order: Order, orders: Sequence[Order]) -> Order | None:
    return next((item for item in orders if item.order_id == order.replaces), None)


async def _agreement(run: Run, order: Order) -> tuple[Confirmation, Mapping[str, str]] | Refusal:
    """What the order's yes said, and the values of its variables, which the workflow keeps."""
    workflow = await owned(run.deps, run.caller, run.workflow_id)
    confirmation = yes_of(workflow, order)
    if confirmation is None:
        return Refusal("not_confirmed", "the yes of this order is not on record any more")
    marks = {name: fingerprint(text, workflow.workflow_id) for name, text in workflow.secrets.items()}
    if marks != confirmation.values.get("env", {}):
        return Refusal("digest_mismatch", "the variables (env) are others than those agreed to")
    return confirmation, workflow.secrets


def _request(run: Run, order: Order, confirmation: Confirmation, secrets: Mapping[str, str]) -> CreateRequest:
    """The body: exactly what the yes said, and the order id. A draft that changed meanwhile has no part in it."""
    values = confirmation.values
    return CreateRequest(
        image=values["image"],
        disk_gb=values["disk_gb"],
        label=values["label"],
        order_marker=marker(run.deps.store.store_id, order.order_id),
        env={name: SecretStr(text) for name, text in secrets.items()},
        ports=tuple(values.get("ports") or ()),
        onstart=values.get("onstart"),
        bid=Rate.of(values["bid_per_hour"]) if values.get("interruptible") else None,
        template_hash=values.get("template_hash"),
    )
