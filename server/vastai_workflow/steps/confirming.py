"""The yes: a person's own to the question that was put, or relayed by the agent with the digest that was shown."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vastai_workflow.domain import fields
from vastai_workflow.domain.errors import Refusal, call
from vastai_workflow.domain.gate import unconfirmed
from vastai_workflow.domain.ledger import places_taken
from vastai_workflow.domain.workflow import (
    CONFIRMATION_LIFE_S,
    Confirmation,
    Purpose,
    Question,
    Workflow,
    keep_mark,
    key_mark,
)
from vastai_workflow.steps.accounts import KEY_FIELD, key_refused, known_sources, readable
from vastai_workflow.steps.asking import (
    Whose,
    check_answer,
    person_needed,
    require_relayed,
    seen_with_noes,
    stale,
    whose_yes,
)
from vastai_workflow.steps.changes import check_digest
from vastai_workflow.steps.deps import Caller, Deps, owned
from vastai_workflow.steps.dialog import Proposal, look_once_more
from vastai_workflow.steps.purposes import not_asked, yes_to


class Way(StrEnum):
    """How a yes comes, where nobody has to be asked."""

    RELAYED = "the agent reports it"
    ON_RECORD = "it is there already"


@dataclass(frozen=True, slots=True)
class Told:
    """What `confirm_fields` was called with; `names`: only these fields, None for all."""

    workflow_id: str
    digest: str | None = None
    names: tuple[str, ...] | None = None
    purpose: Purpose = Purpose.RENT
    instance_ids: tuple[int, ...] = ()
    acknowledge: tuple[int, ...] = ()


async def to_ask(deps: Deps, caller: Caller, told: Told) -> Question | Way:
    """The question that the person has to answer first, or how the yes comes without one.

    Changes nothing, since a call may come in rounds. Refusals: `person_needed` where this client can't ask,
    `confirmation_expired` for a question that is too old, `digest_mismatch` for another one than that of the call.
    """
    workflow = await owned(deps, caller, told.workflow_id)
    if told.purpose is not Purpose.RENT:
        workflow = await seen_with_noes(deps, workflow)
    known = await known_sources(deps, caller)
    question = _meant(workflow, told, known)
    answered = workflow.rent_marks if question is None else workflow.answers(question)
    whose = whose_yes(deps, caller, workflow, answered)
    if whose is Whose.RELAYED:
        return Way.RELAYED
    if told.purpose is Purpose.RENT:
        _check_meant(deps, caller, workflow, told, question)
    if _given(deps, workflow, told, question, known):
        return Way.ON_RECORD
    if question is None:
        raise _nothing_to_ask(workflow, told)
    if not question.open_at(deps.clock.now()):
        raise stale(workflow, question)
    if whose is Whose.ELSEWHERE:
        raise person_needed(deps, workflow, question)
    return question


def _meant(workflow: Workflow, told: Told, known: Collection[str]) -> Question | None:
    """The question of this workflow that the call is about."""
    if told.purpose is not Purpose.RENT:
        fitting = [
            item
            for item in workflow.questions
            if item.about == told.purpose
            and told.digest in {None, item.digest}
            and (not told.instance_ids or sorted(told.instance_ids) == sorted(item.instance_ids))
        ]
        return fitting[-1] if fitting else None
    if not readable(workflow, known):
        return workflow.asked("key", workflow.digest)
    keep = workflow.asked("keep", workflow.digest)
    return keep if told.acknowledge and keep is not None else workflow.asked(Purpose.RENT, workflow.digest)


def _given(deps: Deps, workflow: Workflow, told: Told, question: Question | None, known: Collection[str]) -> bool:
    """Whether the yes is there already: such a call is answered by what is on record."""
    now = deps.clock.now()
    if told.purpose is not Purpose.RENT:
        given = workflow.confirmation(told.purpose, told.digest or "")
        return question is None and given is not None and given.open_at(now)
    if _only_the_key(told):
        return readable(workflow, known)
    rent = workflow.confirmation(Purpose.RENT, workflow.digest)
    if rent is None or not rent.open_at(now) or rent.at < workflow.shown_at:
        return False
    return set(told.acknowledge) <= set(rent.acknowledged)


def _only_the_key(told: Told) -> bool:
    return told.names is not None and set(told.names) == {KEY_FIELD}


def _check_meant(deps: Deps, caller: Caller, workflow: Workflow, told: Told, question: Question | None) -> None:
    """Refuse a call that means something else than the question that would be put."""
    if told.digest is not None:
        check_digest(deps, caller, workflow, told.digest)
    if question is not None and question.about == "key":
        if not _only_the_key(told):
            raise key_refused(deps, caller, workflow)
    elif told.names is not None and not _only_the_key(told):
        allowed = "none: the user is asked about all of them"
        raise fields.refuse("fields", ", ".join(told.names), allowed)


def _nothing_to_ask(workflow: Workflow, told: Told) -> Refusal:
    if told.purpose is not Purpose.RENT:
        return not_asked(told.purpose, told.digest, told.instance_ids)
    if needed := fields.still_needed(workflow.values):
        again = call("propose_fields", workflow_id=workflow.workflow_id)
        return Refusal("not_confirmed", f"needed first: {', '.join(needed)}", missing=needed, next_call=again)
    return _price_not_shown(workflow)


async def agree(deps: Deps, workflow_id: str, question: Question, typed: str, by: str) -> Workflow:
    """A person's own yes to a question, by the value that they typed.

    Refusals: `wrong_answer` for another value, `confirmation_expired` for a question that is too old,
    `digest_mismatch` for one that was replaced. A second yes to one asking gives nothing more than the first.
    """
    check_answer(workflow_id, question, typed)

    def agreed(current: Workflow) -> Workflow:
        waiting = current.question(question.code)
        if waiting is None:
            return _agreed_before(deps, current, question)
        if not waiting.open_at(deps.clock.now()):
            raise stale(current, waiting)
        return _with_yes(deps, current.answered(waiting.code), waiting, by)

    return await deps.store.change_workflow(workflow_id, agreed)


def _with_yes(deps: Deps, workflow: Workflow, question: Question, by: str) -> Workflow:
    match question.about:
        case "key":
            return _confirmed(workflow, {KEY_FIELD}, by)
        case "keep":
            return _kept(deps, workflow, question.instance_ids, by)
        case Purpose.RENT:
            whole = _confirmed(workflow, workflow.fields, by)
            return whole.agreed(_yes_to_rent(deps, whole, by, ()))
        case _:
            return workflow.agreed(yes_to(deps, question, by))


def _agreed_before(deps: Deps, workflow: Workflow, question: Question) -> Workflow:
    """Harmless where the answer before was a yes that still counts; else there is nothing that this one answers."""
    now = deps.clock.now()
    key, rent = workflow.fields[KEY_FIELD], workflow.confirmation(Purpose.RENT, question.digest)
    if question.about == "key":
        there = (key.status, key.value) == ("confirmed", question.detail)
    elif question.about == "keep":
        there = rent is not None and set(question.instance_ids) <= set(rent.acknowledged)
    else:
        given = workflow.confirmation(question.about, question.digest)
        there = given is not None and given.open_at(now) and given.at >= question.asked_at
    if there:
        return workflow
    raise Refusal(
        "digest_mismatch",
        "the question was answered or replaced meanwhile: nothing was confirmed",
        next_step="look at what stands now, and ask again if the user still wants it",
        next_call=call("propose_fields", workflow_id=workflow.workflow_id),
    )


async def on_record(deps: Deps, caller: Caller, told: Told) -> Proposal:
    """The workflow with the yes that is there; after a yes to its key source, with a look at the market."""
    workflow = await owned(deps, caller, told.workflow_id)
    if _only_the_key(told):
        return await look_once_more(deps, caller, workflow)
    digest = workflow.digest if told.purpose is Purpose.RENT else told.digest or ""
    return Proposal(workflow, None, confirmation=workflow.confirmation(told.purpose, digest))


async def used_up(deps: Deps, given: Confirmation) -> bool:
    """Whether a yes to rent has no place left."""
    orders = await deps.store.orders(account_id=given.account_id)
    return places_taken(orders, given.confirmation_id) >= given.places


async def relayed(deps: Deps, caller: Caller, told: Told) -> Proposal:
    """The user's yes as the agent reports it, with the digest that was shown."""
    workflow = await owned(deps, caller, told.workflow_id)
    if told.purpose is not Purpose.RENT:
        return await _relayed_purpose(deps, caller, told, await seen_with_noes(deps, workflow))
    check_digest(deps, caller, workflow, told.digest)
    if told.names is not None and (odd := [name for name in told.names if name not in workflow.fields]):
        raise fields.refuse("fields", odd[0], ", ".join(workflow.fields))
    if not readable(workflow, await known_sources(deps, caller)):
        return await _relayed_key_source(deps, caller, workflow, told)
    if told.names is None and not workflow.price_shown:
        raise _price_not_shown(workflow)

    def agreed(current: Workflow) -> Workflow:
        require_relayed(deps, caller, current, (*current.rent_marks, *map(keep_mark, told.acknowledge)))
        check_digest(deps, caller, current, told.digest)
        return _told(deps, current, caller, told)

    changed = await deps.store.change_workflow(told.workflow_id, agreed)
    return Proposal(changed, None, confirmation=changed.confirmation(Purpose.RENT, changed.digest))


def _told(deps: Deps, workflow: Workflow, caller: Caller, told: Told) -> Workflow:
    now = deps.clock.now()
    workflow = _confirmed(workflow, workflow.fields if told.names is None else told.names, caller.relayed)
    current = workflow.confirmation(Purpose.RENT, workflow.digest)
    _check_acknowledged(workflow, told.acknowledge)
    if told.acknowledge and current is not None and current.open_at(now):
        return _kept(deps, workflow, told.acknowledge, caller.relayed)
    if current is not None and current.at >= workflow.shown_at:
        return _told_again(workflow, current, now)
    if unconfirmed(workflow) or fields.still_needed(workflow.values) or workflow.account_id is None:
        return workflow
    if not workflow.price_shown:
        raise _price_not_shown(workflow)
    question = workflow.asked(Purpose.RENT, workflow.digest)
    asked_at = workflow.shown_at if question is None else question.asked_at
    if not asked_at <= now < asked_at + CONFIRMATION_LIFE_S:
        raise _expired(workflow, "question")
    if question is not None:
        workflow = workflow.answered(question.code)
    return workflow.agreed(_yes_to_rent(deps, workflow, caller.relayed, told.acknowledge))


def _confirmed(workflow: Workflow, names: Collection[str], by: str) -> Workflow:
    states = {
        name: state.model_copy(update={"status": "confirmed", "by": by}) if name in names else state
        for name, state in workflow.fields.items()
    }
    return workflow.with_(fields=states)


def _yes_to_rent(deps: Deps, workflow: Workflow, by: str, acknowledge: Sequence[int]) -> Confirmation:
    """Acknowledges the machines that the question showed, and those that the agent was told of."""
    now, values = deps.clock.now(), workflow.values
    if workflow.account_id is None:
        raise AssertionError
    return Confirmation(
        confirmation_id=f"c_{deps.new_id(9)}",
        purpose=Purpose.RENT,
        digest=workflow.digest,
        account_id=workflow.account_id,
        by=by,
        at=now,
        expires_at=now + CONFIRMATION_LIFE_S,
        ceiling_per_hour=values["max_price_per_hour"],
        places=values["count"],
        acknowledged=tuple(sorted({*workflow.shown_active, *acknowledge})),
        values=values,
        ssh_key=workflow.ssh_key,
        traffic_per_gb=workflow.shown_traffic,
    )


def _kept(deps: Deps, workflow: Workflow, instance_ids: Sequence[int], by: str) -> Workflow:
    """Amends the open yes to rent by machines that were found running since; there is no new yes."""
    rent = workflow.confirmation(Purpose.RENT, workflow.digest)
    if rent is None or not rent.open_at(deps.clock.now()):
        raise _expired(workflow)
    known = tuple(sorted({*rent.acknowledged, *instance_ids}))
    amended = rent.model_copy(update={"acknowledged": known, "kept_by": by})
    others = tuple(item for item in workflow.confirmations if item.confirmation_id != rent.confirmation_id)
    return workflow.with_(confirmations=(*others, amended))


def _told_again(workflow: Workflow, given: Confirmation, now: float) -> Workflow:
    """One answer to one question gives its places once, however often it is told."""
    if given.open_at(now):
        return workflow
    raise _expired(workflow)


def _expired(workflow: Workflow, what: str = "yes to this proposal") -> Refusal:
    return Refusal(
        "confirmation_expired",
        f"the {what} is older than 30 minutes",
        next_call=call("propose_fields", workflow_id=workflow.workflow_id),
    )


def _check_acknowledged(workflow: Workflow, acknowledge: Sequence[int]) -> None:
    asked = (i for item in workflow.questions if item.about == "keep" for i in item.instance_ids)
    named = {*workflow.shown_active, *asked}
    if odd := [i for i in acknowledge if i not in named]:
        allowed = f"machines that the user was asked about: {', '.join(map(str, sorted(named))) or 'none'}"
        raise fields.refuse("acknowledge_instances", odd[0], allowed)


def _price_not_shown(workflow: Workflow) -> Refusal:
    return Refusal(
        "price_not_shown",
        "no price was shown to the user yet",
        next_call=call("propose_fields", workflow_id=workflow.workflow_id, action="create"),
    )


async def _relayed_key_source(deps: Deps, caller: Caller, workflow: Workflow, told: Told) -> Proposal:
    """A yes to this field alone; then the first look at the market."""
    if not _only_the_key(told):
        raise key_refused(deps, caller, workflow)

    def agreed(current: Workflow) -> Workflow:
        require_relayed(deps, caller, current, (key_mark(current.value(KEY_FIELD)),))
        check_digest(deps, caller, current, told.digest)
        return _confirmed(current, {KEY_FIELD}, caller.relayed)

    return await look_once_more(deps, caller, await deps.store.change_workflow(workflow.workflow_id, agreed))


async def _relayed_purpose(deps: Deps, caller: Caller, told: Told, seen: Workflow) -> Proposal:
    """A yes of its own, to the question that the refusal asked. `seen`: with the marks of all the owner's workflows."""
    made: list[Confirmation] = []

    def agreed(current: Workflow) -> Workflow:
        given = current.confirmation(told.purpose, told.digest or "")
        if given is not None and given.open_at(deps.clock.now()):
            made.append(given)
            return current  # the same yes told twice
        question = None if told.digest is None else _meant(current, told, ())
        if question is None or not question.open_at(deps.clock.now()):
            raise not_asked(told.purpose, told.digest, told.instance_ids)
        require_relayed(deps, caller, current.with_marks_of(seen), question.marks)
        made.append(yes_to(deps, question, caller.relayed))
        return current.answered(question.code).agreed(made[-1])

    workflow = await deps.store.change_workflow(told.workflow_id, agreed)
    return Proposal(workflow, None, confirmation=made[-1])
