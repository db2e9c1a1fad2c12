"""Whose yes counts, and what is said where only a person's own does."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from vastai_workflow.domain.asking import FORMS, code_of, fits, unchanged
from vastai_workflow.domain.errors import Refusal, call
from vastai_workflow.domain.workflow import No, Purpose, Question, Workflow
from vastai_workflow.steps.deps import Caller, Deps


class Whose(StrEnum):
    """The way by which a yes has to come."""

    ASKED = "the client asks its user"
    ELSEWHERE = "only the person themselves, and this client can't ask them"
    RELAYED = "the agent reports it"


def whose_yes(deps: Deps, caller: Caller, workflow: Workflow, marks: Sequence[str]) -> Whose:
    """By the operator's policy; what was declined, or not answered yet, takes a person's own yes under every policy."""
    own = deps.approval == "human" or workflow.takes_only_their_own(marks)
    if caller.asks and (own or deps.approval == "auto"):
        return Whose.ASKED
    return Whose.ELSEWHERE if own else Whose.RELAYED


async def seen_with_noes(deps: Deps, workflow: Workflow) -> Workflow:
    """As `whose_yes` sees it where machines are asked about: a no to what is done to them holds in all workflows.

    So does a question that nobody answered. Never to be stored. A digest to rent is of one workflow, and so are the
    noes to its key source and its machines.
    """
    return workflow.with_marks_of(*await deps.store.workflows(workflow.owner))


def named(deps: Deps, before: Workflow, question: Question, nonce: str) -> Question:
    """With a code: the question that waits, where it says the same, with its code and age; else one with a new code.

    So a code stands for one text, for 30 minutes from when it was first shown.
    """
    waiting = before.asked(question.about, question.digest)
    if waiting is not None and unchanged(waiting, question) and waiting.open_at(deps.clock.now()):
        shown = {name: getattr(waiting, name) for name in ("text", "balance", "code", "asked_at")}
        return question.model_copy(update=shown)
    return question.model_copy(update={"code": code_of(nonce, question.about, question.digest)})


def asked_of(deps: Deps, caller: Caller, workflow: Workflow, question: Question) -> str | None:
    """What the agent has to put to the user; nothing where the client will ask them."""
    match whose_yes(deps, caller, workflow, workflow.answers(question)):
        case Whose.ASKED:
            return None
        case Whose.ELSEWHERE:
            return f"{question.text} {how_to_agree(deps, question)}"
        case Whose.RELAYED:
            return question.text


def how_to_agree(deps: Deps, question: Question) -> str:
    """What a person does whose client can't ask them, in one sentence."""
    command = deps.approve_with(question.code)
    return f"To agree, run `{command}` in a terminal of your own and type {FORMS[question.form]} there."


def refusal_that_asks(
    deps: Deps, caller: Caller, workflow: Workflow, question: Question, refusal: tuple[str, str]
) -> Refusal:
    """A refusal (code, message) that leads to the yes: asked by the client, on the terminal, or by the agent."""
    code, message = refusal
    whose = whose_yes(deps, caller, workflow, workflow.answers(question))
    step = {
        Whose.ASKED: "call next_call: it asks the user",
        Whose.ELSEWHERE: "when the user has done so, call next_call",
        Whose.RELAYED: "ask the user, then call next_call",
    }[whose]
    return Refusal(
        code,
        message,
        next_step=step,
        ask_user=asked_of(deps, caller, workflow, question),
        next_call=next_of(deps, caller, workflow, question),
    ).of(workflow.workflow_id, question.digest)


def next_of(deps: Deps, caller: Caller, workflow: Workflow, question: Question) -> dict[str, Any]:
    """The call that goes on: with the answer, or what the question is for where the person answers elsewhere."""
    if whose_yes(deps, caller, workflow, workflow.answers(question)) is Whose.ELSEWHERE:
        return dict(question.again)
    return _confirm_call(workflow, question)


def _confirm_call(workflow: Workflow, question: Question) -> dict[str, Any]:
    """The call that takes the answer to a question."""
    given: dict[str, Any] = {"workflow_id": workflow.workflow_id, "digest": question.digest}
    if question.about == "key":
        given["fields"] = ["api_key_source"]
    elif question.about == "keep":
        given["acknowledge_instances"] = list(question.instance_ids)
    elif question.about != "rent":
        given |= {"purpose": question.about.value, "instance_ids": list(question.instance_ids)}
    return call("confirm_fields", **given)


def require_relayed(deps: Deps, caller: Caller, workflow: Workflow, marks: Sequence[str]) -> None:
    """Refusal `person_needed` where a yes that the agent reports is none."""
    if whose_yes(deps, caller, workflow, marks) is Whose.RELAYED:
        return
    code = next((item for item in workflow.questions if set(item.marks) & set(marks)), None)
    raise person_needed(deps, workflow, code)


def person_needed(deps: Deps, workflow: Workflow, question: Question | None) -> Refusal:
    """Only a person's own yes counts, and this client can't ask for it: how they give it."""
    why = "approval human"
    marks = () if question is None else workflow.answers(question)
    if workflow.takes_only_their_own(marks):
        declined = not set(marks).isdisjoint(workflow.declined)
        why = f"since they {'did not agree when they were asked' if declined else 'were asked, and no answer came yet'}"
    return Refusal(
        "person_needed",
        f"got a yes reported by an agent, allowed only the user's own ({why})",
        next_step="when the user has done so, call next_call",
        ask_user=None if question is None else how_to_agree(deps, question),
        next_call=call("propose_fields", workflow_id=workflow.workflow_id) if question is None else question.again,
    )


def check_answer(workflow_id: str, question: Question, typed: str) -> None:
    """Refusal `wrong_answer` where the typed value is another than the one asked for."""
    if not fits(question, typed):
        what = f"got another value than {FORMS[question.form]} that the question shows"
        raise unfit_answer(workflow_id, question, what)


def unfit_answer(workflow_id: str, question: Question, what: str) -> Refusal:
    """An answer that is no yes and no no: it may be asked again."""
    return Refusal("wrong_answer", f"{what}; nothing was confirmed, nothing was spent").of(workflow_id, question.digest)


async def note_put(deps: Deps, workflow_id: str, question: Question) -> None:
    """Keep, before it goes, that a question goes to a person: no agent reports a yes to it until they have answered."""
    workflow = await deps.store.workflow(workflow_id)
    if workflow is None or not set(question.marks) <= set(workflow.unanswered):
        await deps.store.change_workflow(workflow_id, lambda current: current.put(question.marks))


async def note_no(deps: Deps, workflow_id: str, question: Question, by: str, *, said: bool) -> Workflow:
    """Keep that the person did not agree: from now on only their own yes counts, to a new asking of the question.

    `said`: they said no, which also ends earlier yeses: to rent, of this workflow; to machines, in whichever workflow.
    """
    now, nonce = deps.clock.now(), deps.new_id(9)
    no = No(
        by=by,
        about=question.about,
        digest=question.digest,
        marks=question.marks,
        instance_ids=question.instance_ids,
        code=code_of(nonce, question.about, question.digest),
        said=said,
        detail=question.detail,
    )

    def noted(current: Workflow) -> Workflow:
        declined = (*current.declined, *(mark for mark in question.marks if mark not in current.declined))
        current = current.with_(declined=declined, last_no=no)
        if (waiting := current.question(question.code)) is not None:
            again = waiting.model_copy(update={"code": no.code})
            current = current.answered(waiting.code).asking(again)
        return _without_yes(current, no, now) if said else current

    kept = await deps.store.change_workflow(workflow_id, noted)
    elsewhere = said and no.about != Purpose.RENT
    for other in await deps.store.workflows(kept.owner) if elsewhere else ():
        if other.workflow_id != workflow_id and _without_yes(other, no, now) != other:
            await deps.store.change_workflow(other.workflow_id, lambda current: _without_yes(current, no, now))
    return kept


def _without_yes(workflow: Workflow, no: No, now: float) -> Workflow:
    """With the earlier yeses ended that a no ends."""
    ended = [
        item.model_copy(update={"expires_at": now, "withdrawn_by": no.by})
        if item.open_at(now) and no.ends(item)
        else item
        for item in workflow.confirmations
    ]
    return workflow.with_(confirmations=tuple(ended))


def no_yes(deps: Deps, workflow: Workflow, question: Question, why: str) -> Refusal:
    """The person did not agree: what that means, and their other ways, if they did want it."""
    waiting = workflow.asked(question.about, question.digest)
    if waiting is not None and not waiting.open_at(deps.clock.now()):
        return Refusal(
            "declined",
            f"{why}: nothing was confirmed, nothing was spent",
            next_step="only if the user wishes it, call next_call: it puts the question anew",
            ask_user="There was no answer within 30 minutes. If you do want it: shall I ask again?",
            next_call=stale(workflow, waiting).next_call,
        ).of(workflow.workflow_id, question.digest)
    way = "" if waiting is None else f", or run `{deps.approve_with(waiting.code)}` in a terminal of your own"
    return Refusal(
        "declined",
        f"{why}: nothing was confirmed, nothing was spent",
        next_step="a change is another propose_fields; only if the user wishes it, confirm_fields asks once more",
        ask_user=f"You did not agree, or were not shown the question. If you do want it: shall I ask again{way}?",
    ).of(workflow.workflow_id, question.digest)


def stale(workflow: Workflow, question: Question) -> Refusal:
    """A question that was not answered in time: it is put anew by what put it first."""
    first = call("propose_fields", workflow_id=workflow.workflow_id)
    return Refusal(
        "confirmation_expired",
        "the question is older than 30 minutes",
        next_call=first if question.about in {"rent", "key"} else question.again,
    ).of(workflow.workflow_id, question.digest)
