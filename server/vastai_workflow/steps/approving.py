"""A person answers a question away from their client: found by its code, and answered by the value that it names."""

from typing import Final

from vastai_workflow.domain.asking import fits
from vastai_workflow.domain.audit import answer_not_taken
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.workflow import Question, Workflow
from vastai_workflow.steps.asking import note_no, stale
from vastai_workflow.steps.audit import record
from vastai_workflow.steps.confirming import agree
from vastai_workflow.steps.deps import Deps

_NO: Final = frozenset({"n", "no"})
_ANEW: Final = "if you still want it, tell your agent to ask you again: it names a new code"
"""What a person can do about a question that can't be answered any more; the refusal's own words are for an agent."""


async def waiting(deps: Deps, owner: str) -> tuple[tuple[Workflow, Question], ...]:
    """The owner's questions that can be answered now, the newest first."""
    now = deps.clock.now()
    found = [
        (workflow, question)
        for workflow in await deps.store.workflows(owner)
        for question in workflow.questions
        if question.open_at(now)
    ]
    return tuple(sorted(found, key=lambda pair: pair[1].asked_at, reverse=True))


async def by_code(deps: Deps, owner: str, code: str, by: str) -> tuple[Workflow, Question]:
    """The question of a code. Refusals: `no_such_question`, `confirmation_expired`."""
    plain = code.strip().lower().replace("-", "")
    for workflow in await deps.store.workflows(owner):
        question = workflow.question(plain)
        if question is None:
            continue
        if not question.open_at(deps.clock.now()):
            raise await _noted(deps, stale(workflow, question), by, workflow, question)
        return workflow, question
    unknown = f"got {code[:20]!r}, which is the code of no question that waits for an answer"
    refusal = Refusal("no_such_question", unknown)
    await record(deps, [answer_not_taken(refusal, owner=owner, by=by, at=deps.clock.now())])
    raise refusal


async def answer(deps: Deps, workflow: Workflow, question: Question, typed: str | None, by: str) -> bool:
    """Whether the person agreed: by the named value; None, or `no` where that is not the value itself, is a no.

    Another value, and an empty one, is neither: Refusal `wrong_answer`. What is refused is on the audit trail, without
    what was typed.
    """
    if typed is not None and (not is_no(typed) or fits(question, typed)):
        try:
            await agree(deps, workflow.workflow_id, question, typed, by)
        except Refusal as refusal:
            raise await _noted(deps, refusal, by, workflow, question) from None
        return True
    await note_no(deps, workflow.workflow_id, question, by, said=True)
    return False


def is_no(typed: str) -> bool:
    """Whether it is a word that declines."""
    return typed.strip().lower() in _NO


async def _noted(deps: Deps, refusal: Refusal, by: str, workflow: Workflow, question: Question) -> Refusal:
    """The same refusal, now on record, and with a next step for the person who reads it."""
    event = answer_not_taken(
        refusal,
        owner=workflow.owner,
        by=by,
        at=deps.clock.now(),
        workflow_id=workflow.workflow_id,
        question=question,
    )
    await record(deps, [event])
    return refusal if refusal.code == "wrong_answer" else Refusal(refusal.code, refusal.message, next_step=_ANEW)
