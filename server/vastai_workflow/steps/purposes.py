"""A yes of its own for start, recycle, a new SSH key, and the end of machines that are not ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain import fields
from vastai_workflow.domain.errors import Refusal, call
from vastai_workflow.domain.gate import Facts, first_refusal
from vastai_workflow.domain.money import ZERO, Rate
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S, Confirmation, FieldState, Purpose, Question, Workflow
from vastai_workflow.steps.accounts import Opened
from vastai_workflow.steps.deps import Caller, Deps, owned, require_relayed

_HISTORY: Final = 32


@dataclass(frozen=True, slots=True)
class Intent:
    """What is to be done to which machines, in words for the user. `price` is the dearest machine's, in $/h.

    `detail` is part of the digest: the fingerprint of a key, or stop, reboot, destroy.
    """

    purpose: Purpose
    instance_ids: tuple[int, ...]
    question: str
    detail: str = ""
    price: Rate | None = None
    burning: Rate = ZERO
    running: int = 0


def digest_for(intent: Intent, account_id: int, ceiling: Rate | None) -> str:
    """What such a yes is bound to."""
    return fields.digest_of(
        {
            "purpose": intent.purpose,
            "instances": sorted(intent.instance_ids),
            "account": account_id,
            "detail": intent.detail,
            "ceiling": None if ceiling is None else f"{ceiling.per_hour.normalize():f}",
        }
    )


async def spend(deps: Deps, caller: Caller, opened: Opened, intent: Intent) -> Confirmation:
    """Spend the yes to this very intent, before anything is sent; without one, refuse and say how to ask."""
    home, confirmation = await _given(deps, caller, opened, intent)
    ceiling = _ceiling(intent, confirmation)
    facts = Facts(
        purpose=intent.purpose,
        now=deps.clock.now(),
        caps=deps.caps,
        account_id=opened.account.id,
        digest=digest_for(intent, opened.account.id, ceiling),
        confirmation=confirmation,
        price=intent.price,
        burning=intent.burning,
        running=intent.running,
    )
    refusal = first_refusal(facts)
    if refusal is not None or home is None or confirmation is None:
        if refusal is not None and refusal.code in {"read_only", "cap_exceeded"}:
            raise refusal
        raise await _ask(deps, caller, opened, intent, refusal)
    return await _spent(deps, home, confirmation)


async def confirm_purpose(
    deps: Deps, caller: Caller, workflow_id: str, purpose: Purpose, digest: str | None, instance_ids: Sequence[int]
) -> tuple[Workflow, Confirmation]:
    """The user's yes to the question that the refusal asked, relayed with its digest."""
    require_relayed(deps)
    await owned(deps, caller, workflow_id)
    now = deps.clock.now()
    made: list[Confirmation] = []

    def agreed(workflow: Workflow) -> Workflow:
        given = workflow.confirmation(purpose, digest or "")
        if given is not None and given.open_at(now):
            made.append(given)
            return workflow  # the same yes told twice
        asked = [q for q in workflow.questions if q.purpose is purpose and q.digest == digest and q.open_at(now)]
        question = asked[-1] if asked else None
        if question is None or (instance_ids and sorted(instance_ids) != sorted(question.instance_ids)):
            raise Refusal("digest_mismatch", f"got a yes to {purpose} {digest!r}, which was not asked here")
        confirmation = Confirmation(
            confirmation_id=f"c_{deps.new_id(9)}",
            purpose=purpose,
            digest=question.digest,
            account_id=question.account_id,
            by=caller.relayed,
            at=now,
            expires_at=now + CONFIRMATION_LIFE_S,
            ceiling_per_hour=question.ceiling_per_hour,
            instance_ids=question.instance_ids,
            detail=question.detail,
        )
        made.append(confirmation)
        left = tuple(item for item in workflow.questions if item not in asked)
        return workflow.with_(confirmations=(*workflow.confirmations, confirmation)[-_HISTORY:], questions=left)

    workflow = await deps.store.change_workflow(workflow_id, agreed)
    return workflow, made[-1]


async def _given(
    deps: Deps, caller: Caller, opened: Opened, intent: Intent
) -> tuple[Workflow | None, Confirmation | None]:
    """The newest yes of this purpose to exactly these machines, in the given workflow or any of the owner's."""
    homes = [opened.workflow] if opened.workflow is not None else await deps.store.workflows(caller.owner)
    found = [
        (workflow, item)
        for workflow in homes
        for item in workflow.confirmations
        if item.purpose is intent.purpose and set(item.instance_ids) == set(intent.instance_ids)
    ]
    return max(found, key=lambda pair: pair[1].at, default=(None, None))


def _ceiling(intent: Intent, confirmation: Confirmation | None) -> Rate | None:
    if confirmation is not None and confirmation.ceiling_per_hour is not None:
        return Rate(confirmation.ceiling_per_hour)
    return None if intent.price is None else intent.price.up_to_the_cent()


async def _ask(deps: Deps, caller: Caller, opened: Opened, intent: Intent, refusal: Refusal | None) -> Refusal:
    """Keep the question, so that a yes can be bound to it, and say how to give that yes."""
    home = opened.workflow or await _home(deps, caller, opened)
    ceiling = None if intent.price is None else intent.price.up_to_the_cent()
    question = Question(
        purpose=intent.purpose,
        digest=digest_for(intent, opened.account.id, ceiling),
        instance_ids=intent.instance_ids,
        account_id=opened.account.id,
        ceiling_per_hour=None if ceiling is None else ceiling.per_hour,
        detail=intent.detail,
        asked_at=deps.clock.now(),
    )
    await deps.store.change_workflow(
        home.workflow_id, lambda current: current.with_(questions=(*current.questions, question)[-_HISTORY:])
    )
    after = call(
        "confirm_fields",
        workflow_id=home.workflow_id,
        purpose=intent.purpose.value,
        instance_ids=list(intent.instance_ids),
        digest=question.digest,
    )
    code = "purpose_not_confirmed" if refusal is None else refusal.code
    message = f"this {intent.purpose} needs a yes of its own" if refusal is None else refusal.message
    return Refusal(
        code, message, next_step="ask the user, then call next_call", ask_user=intent.question, next_call=after
    )


async def _home(deps: Deps, caller: Caller, opened: Opened) -> Workflow:
    states = {name: FieldState(value=value) for name, value in fields.defaults().items()}
    states["api_key_source"] = FieldState(value=opened.source, status="confirmed")
    workflow = Workflow(
        workflow_id=f"wf_{deps.new_id(16)}",
        owner=caller.owner,
        created_at=deps.clock.now(),
        action="status",
        fields=states,
        account_id=opened.account.id,
    )
    await deps.store.add_workflow(workflow)
    return workflow


async def _spent(deps: Deps, home: Workflow, confirmation: Confirmation) -> Confirmation:
    now = deps.clock.now()

    def mark(workflow: Workflow) -> Workflow:
        current = next((c for c in workflow.confirmations if c.confirmation_id == confirmation.confirmation_id), None)
        if current is None or current.spent_at is not None:
            raise Refusal("confirmation_spent", f"this yes to {confirmation.purpose} was used already")
        used = current.model_copy(update={"spent_at": now})
        others = [c for c in workflow.confirmations if c.confirmation_id != used.confirmation_id]
        return workflow.with_(confirmations=(*others, used))

    await deps.store.change_workflow(home.workflow_id, mark)
    return confirmation
