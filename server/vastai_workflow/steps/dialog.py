"""The dialog: propose fields, look at the market with them, and take the user's yes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vastai_workflow.domain import fields
from vastai_workflow.domain.errors import LocalError, ProviderError, Refusal, WorkflowError, call
from vastai_workflow.domain.gate import unconfirmed
from vastai_workflow.domain.label import FALLBACK, label_for
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.money import Rate
from vastai_workflow.domain.plan import default_ceiling
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.domain.workflow import (
    CONFIRMATION_LIFE_S,
    ChosenKey,
    Confirmation,
    FieldState,
    Purpose,
    Shown,
    Workflow,
)
from vastai_workflow.steps.accounts import ENVIRONMENT_KEY, known_sources, last_source
from vastai_workflow.steps.deps import Caller, Deps, owned, require_relayed
from vastai_workflow.steps.outlook import Look, look_around, look_at_offers

_KEY_FIELD: Final = "api_key_source"
_NO_DIALOG: Final = frozenset({"status", "ssh", "destroy", "billing"})
_HISTORY: Final = 32


@dataclass(frozen=True, slots=True)
class Proposal:
    """A workflow as it stands, and what was seen of the market (None: no key was at hand, `problem` says why)."""

    workflow: Workflow
    look: Look | None
    problem: WorkflowError | None = None
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
    if _KEY_FIELD in parsed:
        parsed[_KEY_FIELD] = deps.markets.resolve(parsed[_KEY_FIELD])
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


async def confirm(
    deps: Deps,
    caller: Caller,
    workflow_id: str,
    *,
    digest: str | None,
    names: Sequence[str] | None,
    acknowledge: Sequence[int],
) -> Proposal:
    """The user's yes to the fields (all, or some), relayed with the digest that was shown."""
    workflow = await owned(deps, caller, workflow_id)
    require_relayed(deps)
    _check_digest(workflow, digest)
    if names is not None and (odd := [name for name in names if name not in workflow.fields]):
        raise fields.refuse("fields", odd[0], ", ".join(workflow.fields))
    known = await known_sources(deps, caller)
    if not _readable(workflow, known):
        return await _confirm_key_source(deps, workflow, caller, names, known)
    if names is None and not workflow.price_shown:
        raise _price_not_shown(workflow)

    def agreed(current: Workflow) -> Workflow:
        _check_digest(current, digest)
        return _agreed(deps, current, caller, names, acknowledge)

    changed = await deps.store.change_workflow(workflow_id, agreed)
    return Proposal(changed, None, confirmation=changed.confirmation(Purpose.RENT, changed.digest))


def _agreed(
    deps: Deps, workflow: Workflow, caller: Caller, names: Sequence[str] | None, acknowledge: Sequence[int]
) -> Workflow:
    now = deps.clock.now()
    states = {
        name: _confirmed(state, caller) if names is None or name in names else state
        for name, state in workflow.fields.items()
    }
    workflow = workflow.with_(fields=states)
    current = workflow.confirmation(Purpose.RENT, workflow.digest)
    _check_acknowledged(workflow, acknowledge)
    if acknowledge and current is not None and current.open_at(now):
        known = tuple(sorted({*current.acknowledged, *acknowledge}))
        amended = current.model_copy(update={"acknowledged": known})
        return workflow.with_(confirmations=(*_without(workflow, current), amended))
    if current is not None and current.at >= workflow.shown_at:
        return _told_again(workflow, current, now)
    values = workflow.values
    if unconfirmed(workflow) or fields.still_needed(values) or workflow.account_id is None:
        return workflow
    if not workflow.price_shown:
        raise _price_not_shown(workflow)
    confirmation = Confirmation(
        confirmation_id=f"c_{deps.new_id(9)}",
        purpose=Purpose.RENT,
        digest=workflow.digest,
        account_id=workflow.account_id,
        by=caller.relayed,
        at=now,
        expires_at=now + CONFIRMATION_LIFE_S,
        ceiling_per_hour=values["max_price_per_hour"],
        places=values["count"],
        acknowledged=tuple(sorted({*workflow.shown_active, *acknowledge})),
        values=values,
        ssh_key=workflow.ssh_key,
    )
    return workflow.with_(confirmations=(*workflow.confirmations, confirmation)[-_HISTORY:])


def _told_again(workflow: Workflow, given: Confirmation, now: float) -> Workflow:
    """One answer to one question gives its places once, however often it is told."""
    if given.open_at(now):
        return workflow
    raise Refusal(
        "confirmation_expired",
        "the yes to this proposal is older than 30 minutes",
        next_call=call("propose_fields", workflow_id=workflow.workflow_id),
    )


def _check_acknowledged(workflow: Workflow, acknowledge: Sequence[int]) -> None:
    named = {*workflow.shown_active, *workflow.asked_active}
    if odd := [i for i in acknowledge if i not in named]:
        allowed = f"machines that the user was asked about: {', '.join(map(str, sorted(named))) or 'none'}"
        raise fields.refuse("acknowledge_instances", odd[0], allowed)


def _price_not_shown(workflow: Workflow) -> Refusal:
    return Refusal(
        "price_not_shown",
        "no price was shown to the user yet",
        next_call=call("propose_fields", workflow_id=workflow.workflow_id, action="create"),
    )


def _without(workflow: Workflow, confirmation: Confirmation) -> tuple[Confirmation, ...]:
    kept = confirmation.confirmation_id
    return tuple(item for item in workflow.confirmations if item.confirmation_id != kept)


def _check_digest(workflow: Workflow, digest: str | None) -> None:
    if digest == workflow.digest and digest:
        return
    got = "no digest" if digest is None else f"the digest {clean(digest, 40)!r}"
    seen = next((shown for shown in workflow.shown if shown.digest == digest), None)
    news = _all_of(workflow) if seen is None else _changes(seen, workflow)
    raise Refusal(
        "digest_mismatch",
        f"got {got}, but what stands now is {workflow.digest}: {news}",
        next_step="show the user what stands now, then confirm its digest",
        ask_user=f"The proposal is now: {news}. Do you agree?",
        next_call=call("confirm_fields", workflow_id=workflow.workflow_id, digest=workflow.digest),
    )


def _all_of(workflow: Workflow) -> str:
    return ", ".join(f"{name}={fields.shown(name, state.value)}" for name, state in workflow.fields.items())


def _changes(seen: Shown, workflow: Workflow) -> str:
    """What is other than in a proposal that was shown before."""
    values = workflow.values
    names = [name for name in fields.FIELDS if seen.values.get(name) != values.get(name)]
    changes = [f"{name}: {_words(name, seen.values)} is now {_words(name, values)}" for name in names]
    if seen.active != workflow.shown_active:
        now = ", ".join(map(str, workflow.shown_active)) or "none"
        changes.append(f"running machines: {', '.join(map(str, seen.active)) or 'none'} is now {now}")
    return ", ".join(changes) or "it is another account"


def _words(name: str, values: Mapping[str, Any]) -> Any:
    value = values.get(name)
    return "nothing" if value is None else fields.shown(name, value)


async def _confirm_key_source(
    deps: Deps, workflow: Workflow, caller: Caller, names: Sequence[str] | None, known: frozenset[str]
) -> Proposal:
    if names is None or list(names) != [_KEY_FIELD]:
        raise Refusal(
            "key_source_not_confirmed",
            f"the key in {workflow.value(_KEY_FIELD)} is read only after a yes to it, and prices come after",
            ask_user=f"May the API key be read from {workflow.value(_KEY_FIELD)}?",
            next_call=_confirm_source_call(workflow),
        )
    states = dict(workflow.fields)
    states[_KEY_FIELD] = _confirmed(states[_KEY_FIELD], caller)
    confirmed = workflow.with_(fields=states)
    source: str = confirmed.value(_KEY_FIELD)
    return await _looked(deps, workflow.workflow_id, confirmed, known | {source})


async def _looked(deps: Deps, workflow_id: str, drafted: Workflow, known: frozenset[str]) -> Proposal:
    """Look at the market if the key may be read, complete the draft with what was seen, and keep it."""
    look: Look | None = None
    problem: WorkflowError | None = None
    if _readable(drafted, known):
        try:
            market = await deps.markets.open(drafted.value(_KEY_FIELD))
            if drafted.action in _NO_DIALOG:
                look = await look_around(deps, market)
            else:
                look = await look_at_offers(deps, market, drafted.values, _bound(deps, drafted))
            problem = await _unsettled(deps, drafted, look) or look.shortage or _closed(deps, drafted)
        except (LocalError, ProviderError) as error:
            problem = error
    completed = _completed(deps, drafted, look)
    kept = await deps.store.change_workflow(workflow_id, lambda current: _merged(current, completed))
    return Proposal(kept, look, problem)


async def _unsettled(deps: Deps, workflow: Workflow, look: Look) -> Refusal | None:
    """What has to be settled before this account rents anything more."""
    if workflow.action != "create":
        return None
    unknown = await deps.store.orders(account_id=look.account.id, states=(OrderState.UNKNOWN,))
    order = next(iter((*unknown, *look.owed)), None)
    if order is None:
        return None
    why = "may have rented" if order.state is OrderState.UNKNOWN else "made more than was agreed"
    after = call("wait_until_ready", workflow_id=order.workflow_id)
    return Refusal("unsettled_order", f"an earlier order, {order.order_id}, {why}", next_call=after)


def _closed(deps: Deps, workflow: Workflow) -> Refusal | None:
    """Why no yes would help here: nobody is asked in vain."""
    if workflow.action == "create" and deps.caps.read_only:
        return Refusal("read_only", "this server may only read: the operator set it so")
    if workflow.action == "create" and deps.approval == "human":
        return Refusal("person_needed", "this server takes only a person's own yes, and this version can't ask for it")
    return None


def _merged(current: Workflow, completed: Workflow) -> Workflow:
    """The new draft over what other calls wrote meanwhile: yeses, plans and questions are never taken back."""
    return completed.with_(confirmations=current.confirmations, plans=current.plans, questions=current.questions)


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
        asked_active=(),
        shown_at=deps.clock.now(),
        price_shown=look is not None and bool(look.chosen) and workflow.action == "create",
        shown=(*before, Shown(digest=digest, values=values, active=shown_active))[-_HISTORY:],
        digest=digest,
    )


def _fresh(deps: Deps, caller: Caller, action: str, source: str | None) -> Workflow:
    states = {name: FieldState(value=value) for name, value in fields.defaults().items()}
    if source is not None:
        states[_KEY_FIELD] = FieldState(value=source)
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


def _confirmed(state: FieldState, caller: Caller) -> FieldState:
    return state.model_copy(update={"status": "confirmed", "by": caller.relayed})


def _check_cap(deps: Deps, ceiling: str | None) -> None:
    cap = deps.caps.max_price_per_hour
    if ceiling is not None and cap is not None and Rate.of(ceiling) > cap:
        raise fields.refuse("max_price_per_hour", float(ceiling), f"up to {cap} (the operator's cap)")


def _readable(workflow: Workflow, known: frozenset[str]) -> bool:
    """Whether the key may be read: the usual variable always, else after a yes to this very source."""
    state = workflow.fields[_KEY_FIELD]
    return state.value == ENVIRONMENT_KEY or state.status == "confirmed" or state.value in known


def _bound(deps: Deps, workflow: Workflow) -> Rate | None:
    """The ceiling that the user named, else the operator's; one of ours moves with the market until it is agreed."""
    state = workflow.fields.get("max_price_per_hour")
    return Rate.of(state.value) if state is not None and state.source == "given" else deps.caps.max_price_per_hour


def _confirm_source_call(workflow: Workflow) -> dict[str, Any]:
    return call("confirm_fields", workflow_id=workflow.workflow_id, digest=workflow.digest, fields=[_KEY_FIELD])
