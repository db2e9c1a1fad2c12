"""The dialog: propose fields, look at the market with them, and take the user's yes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vastai_workflow.domain import fields
from vastai_workflow.domain.asking import ceiling_answer, source_answer
from vastai_workflow.domain.balance import Balance
from vastai_workflow.domain.errors import LocalError, ProviderError, Refusal, WorkflowError, call
from vastai_workflow.domain.gate import Facts, unconfirmed, under_caps
from vastai_workflow.domain.label import FALLBACK, label_for
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.money import Rate, total
from vastai_workflow.domain.plan import default_ceiling, traffic
from vastai_workflow.domain.question import key_question, rent_question
from vastai_workflow.domain.workflow import (
    KEPT,
    ChosenKey,
    Confirmation,
    FieldState,
    Purpose,
    Question,
    Shown,
    Workflow,
)
from vastai_workflow.steps.accounts import KEY_FIELD, known_sources, last_source, readable
from vastai_workflow.steps.asking import named
from vastai_workflow.steps.deps import Caller, Deps, owned
from vastai_workflow.steps.fleet_view import committed, in_words
from vastai_workflow.steps.outlook import Look, look_around, look_at_offers

_NO_DIALOG: Final = frozenset({"status", "ssh", "destroy", "billing"})


@dataclass(frozen=True, slots=True)
class Proposal:
    """A workflow as it stands, and what was seen of the market (None: no key was at hand, `problem` says why).

    `question`: what the user has to answer next.
    """

    workflow: Workflow
    look: Look | None
    problem: WorkflowError | None = None
    question: Question | None = None
    confirmation: Confirmation | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Fields that need a yes, or a value first."""
        needed = fields.still_needed(self.workflow.values)
        return tuple(dict.fromkeys((*needed, *unconfirmed(self.workflow))))


async def propose(
    deps: Deps, caller: Caller, workflow_id: str | None, action: str | None, given: Mapping[str, Any]
) -> Proposal:
    """Start a workflow, or change one; then look at the market with its fields."""
    if action is not None and action not in fields.ACTIONS:
        raise fields.refuse("action", action, " | ".join(fields.ACTIONS))
    parsed = {name: fields.parse(name, value) for name, value in given.items()}
    _check_cap(deps, parsed.get("max_price_per_hour"))
    if KEY_FIELD in parsed:
        parsed[KEY_FIELD] = deps.markets.resolve(parsed[KEY_FIELD])
    known = await known_sources(deps, caller)
    if workflow_id is None:
        workflow = _fresh(deps, caller, action or "create", await last_source(deps, caller))
        await deps.store.add_workflow(workflow)
    else:
        workflow = await owned(deps, caller, workflow_id)
    chosen_key = await _chosen_key(deps, workflow, parsed)
    drafted = _with_values(workflow, parsed, chosen_key)
    if action is not None:
        drafted = drafted.with_(action=action)
    return await _looked(deps, workflow.workflow_id, drafted, known)


async def look_once_more(deps: Deps, caller: Caller, workflow: Workflow) -> Proposal:
    """The same fields with a fresh look at the market: after a yes to a key source."""
    return await _looked(deps, workflow.workflow_id, workflow, await known_sources(deps, caller))


async def _looked(deps: Deps, workflow_id: str, drafted: Workflow, known: frozenset[str]) -> Proposal:
    """Look at the market if the key may be read, complete the draft with what was seen, and keep it."""
    look: Look | None = None
    problem: WorkflowError | None = None
    if readable(drafted, known):
        try:
            market = await deps.markets.open(drafted.value(KEY_FIELD))
            if drafted.action in _NO_DIALOG:
                look = await look_around(deps, market)
            else:
                look = await look_at_offers(deps, market, drafted.values, _bound(deps, drafted))
            problem = await _unsettled(deps, drafted, look) or look.shortage or _closed(deps, drafted, look)
        except (LocalError, ProviderError) as error:
            problem = error
    completed = _completed(deps, drafted, look)
    question = None if problem is not None else _question(completed, look)
    nonce = deps.new_id(9)
    kept = await deps.store.change_workflow(
        workflow_id, lambda current: _merged(deps, current, completed, question, nonce)
    )
    return Proposal(kept, look, problem, kept.asked(question.about, question.digest) if question is not None else None)


def _question(workflow: Workflow, look: Look | None) -> Question | None:
    """What the user has to answer next: may the key be read, or the whole plan. None while fields are missing."""
    if look is None:
        return _key_question(workflow)
    if workflow.action != "create" or look.outlook is None or fields.still_needed(workflow.values):
        return None
    ceiling = Rate.of(workflow.value("max_price_per_hour"))
    balance = Balance.of(look.account.credit, look.outlook.runway_h)
    return Question(
        about=Purpose.RENT,
        digest=workflow.digest,
        text=rent_question(workflow, look.outlook, look.chosen, balance, in_words(look.active)),
        answer=ceiling_answer(ceiling),
        form="ceiling",
        code="",
        asked_at=workflow.shown_at,
        again=call("find_offers", workflow_id=workflow.workflow_id),
        account_id=look.account.id,
        ceiling_per_hour=ceiling.per_hour,
        balance=balance,
    )


def _key_question(workflow: Workflow) -> Question:
    source = str(workflow.value(KEY_FIELD))
    return Question(
        about="key",
        digest=workflow.digest,
        text=key_question(source),
        answer=source_answer(source),
        form="key",
        code="",
        asked_at=workflow.shown_at,
        again=call("propose_fields", workflow_id=workflow.workflow_id),
        detail=source,
    )


async def _unsettled(deps: Deps, workflow: Workflow, look: Look) -> Refusal | None:
    """What has to be settled before this account rents anything more; a server that may only read rents nothing."""
    if workflow.action != "create" or deps.caps.read_only:
        return None
    unknown = await deps.store.orders(account_id=look.account.id, states=(OrderState.UNKNOWN,))
    order = next(iter((*unknown, *look.owed)), None)
    if order is None:
        return None
    why = "may have rented" if order.state is OrderState.UNKNOWN else "made more than was agreed"
    after = call("wait_until_ready", workflow_id=order.workflow_id)
    return Refusal("unsettled_order", f"an earlier order, {order.order_id}, {why}", next_call=after)


def _closed(deps: Deps, workflow: Workflow, look: Look) -> Refusal | None:
    """Why no yes would help here: nobody is asked in vain. Of a fleet that may stay smaller one machine has to fit."""
    if workflow.action != "create":
        return None
    if deps.caps.read_only:
        return Refusal("read_only", "this server may only read: the operator set it so")
    prices = sorted(offer.price for offer in look.chosen)
    if not prices:
        return None
    least = prices if workflow.values.get("fleet") == fields.FLEETS[0] else prices[:1]
    facts = Facts(
        purpose=Purpose.RENT,
        now=deps.clock.now(),
        caps=deps.caps,
        account_id=look.account.id,
        digest=workflow.digest,
        confirmation=None,
        price=least[-1],
        burning=committed(look.active) + total(least[:-1]),
        running=len(look.active) + len(least) - 1,
    )
    return under_caps(facts)


def _merged(deps: Deps, current: Workflow, completed: Workflow, question: Question | None, nonce: str) -> Workflow:
    """The new draft over what other calls wrote meanwhile: yeses, noes and plans are never taken back.

    The dialog's own question takes the place of the one before; those about machines that exist stay.
    """
    others = tuple(item for item in current.questions if item.about not in {"key", "keep", Purpose.RENT})
    kept = completed.with_(
        confirmations=current.confirmations,
        plans=current.plans,
        declined=current.declined,
        unanswered=current.unanswered,
        last_no=current.last_no,
        questions=others,
    )
    return kept if question is None else kept.asking(named(deps, current, question, nonce))


def _completed(deps: Deps, workflow: Workflow, look: Look | None) -> Workflow:
    states = dict(workflow.fields)
    if look is not None and states.get("label", FieldState(value=FALLBACK)).source != "given":
        states["label"] = _set(states.get("label"), label_for(look.account), "account")
    if look is not None and look.chosen:
        ceiling = states.get("max_price_per_hour")
        dearest = max(offer.price for offer in look.chosen)
        if ceiling is None or (ceiling.source == "plan" and dearest > Rate.of(ceiling.value)):
            value = f"{default_ceiling(look.chosen, deps.caps.max_price_per_hour).per_hour.normalize():f}"
            states["max_price_per_hour"] = _set(ceiling, value, "plan")
    account_id = look.account.id if look is not None else workflow.account_id
    shown_active = tuple(sorted(item.instance.id for item in look.active)) if look is not None else ()
    values = {name: state.value for name, state in states.items()}
    digest = fields.digest(values, account_id=account_id, workflow_id=workflow.workflow_id, active=shown_active)
    before = [shown for shown in workflow.shown if shown.digest != digest]
    return workflow.with_(
        fields=states,
        account_id=account_id,
        shown_active=shown_active,
        shown_traffic=traffic(look.chosen).amount if look is not None and look.chosen else None,
        shown_at=deps.clock.now(),
        price_shown=look is not None and bool(look.chosen) and workflow.action == "create",
        shown=(*before, Shown(digest=digest, values=values, active=shown_active))[-KEPT:],
        digest=digest,
    )


def _fresh(deps: Deps, caller: Caller, action: str, source: str | None) -> Workflow:
    states = {name: FieldState(value=value) for name, value in fields.defaults().items()}
    if source is not None:
        states[KEY_FIELD] = FieldState(value=source)
    return Workflow(
        workflow_id=f"wf_{deps.new_id(16)}",
        owner=caller.owner,
        created_at=deps.clock.now(),
        action=action,
        fields=states,
    )


async def _chosen_key(deps: Deps, workflow: Workflow, parsed: dict[str, Any]) -> ChosenKey:
    given = parsed.pop("ssh_key", None)
    if given is None and workflow.ssh_key is not None:
        return workflow.ssh_key
    key = await deps.keys.resolve(given)
    path = None if key.private_key_path is None else str(key.private_key_path)
    if given is not None:
        parsed["ssh_key"] = key.fingerprint
    return ChosenKey(public_key=key.public_key, fingerprint=key.fingerprint, private_key_path=path)


def _with_values(workflow: Workflow, parsed: Mapping[str, Any], key: ChosenKey) -> Workflow:
    """Given values put in; what changed is proposed again, and so is the ceiling if a price hung on it."""
    states = dict(workflow.fields)
    secrets = dict(workflow.secrets)
    repriced = False
    for name, value in parsed.items():
        before = states.get(name)
        kept = value
        if name == "env":
            secrets = dict(value)
            kept = {variable: fields.fingerprint(text, workflow.workflow_id) for variable, text in value.items()}
        states[name] = _set(before, kept, "given")
        repriced |= fields.FIELDS[name].prices and (before is None or before.value != kept)
    if "min_vram_gb" in parsed and states["gpu_name"].source == "default":
        states["gpu_name"] = _set(states["gpu_name"], fields.ANY_GPU, "default")
    if "ssh_key" not in parsed:
        states["ssh_key"] = _set(states.get("ssh_key"), key.fingerprint, "default")
    if repriced and "max_price_per_hour" not in parsed and "max_price_per_hour" in states:
        states = _ceiling_again(states)
    return workflow.with_(fields=states, ssh_key=key, secrets=secrets)


def _ceiling_again(states: Mapping[str, FieldState]) -> dict[str, FieldState]:
    ceiling = states["max_price_per_hour"]
    others = {name: state for name, state in states.items() if name != "max_price_per_hour"}
    if ceiling.source == "plan":
        return others
    return {**others, "max_price_per_hour": ceiling.model_copy(update={"status": "proposed"})}


def _set(before: FieldState | None, value: Any, source: str) -> FieldState:
    if before is not None and before.value == value:
        return before if before.source == source else before.model_copy(update={"source": source})
    return FieldState.model_validate({"value": value, "source": source})


def _check_cap(deps: Deps, ceiling: str | None) -> None:
    cap = deps.caps.max_price_per_hour
    if ceiling is not None and cap is not None and Rate.of(ceiling) > cap:
        raise fields.refuse("max_price_per_hour", float(ceiling), f"up to {cap} (the operator's cap)")


def _bound(deps: Deps, workflow: Workflow) -> Rate | None:
    """The ceiling that the user named, else the operator's; one of ours moves with the market until it is agreed."""
    state = workflow.fields.get("max_price_per_hour")
    return Rate.of(state.value) if state is not None and state.source == "given" else deps.caps.max_price_per_hour
