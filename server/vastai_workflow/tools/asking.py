"""Asking the person through their client: the form, both protocol eras, and the signs of life while they think."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import anyio
from mcp.server.mcpserver import Elicit, ElicitationResult, Resolve
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from vastai_workflow.tools.on_first_use import on_first_use
from vastai_workflow.tools.surface import IN_ROUNDS, Ctx, caller_of, deps_of

with on_first_use():
    from vastai_workflow.domain import asking as wording
    from vastai_workflow.domain import fields as agreed
    from vastai_workflow.domain import workflow as record
    from vastai_workflow.steps import asking, confirming
    from vastai_workflow.tools import forms

if TYPE_CHECKING:
    from vastai_workflow.domain.workflow import Purpose, Question
    from vastai_workflow.steps.confirming import Told, Way
    from vastai_workflow.steps.deps import Deps

BEAT_S: Final = 10.0
"""How often a client of the old era hears that its user is being asked: it would give up the call."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call of confirm_fields means, and the question that the person has to answer, if any."""

    told: "Told"
    way: "Question | Way"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; `value` is what was typed."""

    action: Literal["accept", "decline", "cancel", "no answer", "unfit"]
    value: str = ""


async def meant(  # the tool's arguments, by name
    ctx: Ctx,
    workflow_id: str,
    digest: str | None,
    fields: list[str] | None,
    purpose: str | None,
    instance_ids: list[int] | None,
    acknowledge_instances: list[int] | None,
) -> Any:
    """An `Asked`: whom to ask what. Changes nothing, since it runs in each round of a call."""
    told = confirming.Told(
        workflow_id,
        digest,
        None if fields is None else tuple(fields),
        _purpose(purpose),
        tuple(instance_ids or ()),
        tuple(acknowledge_instances or ()),
    )
    return Asked(told, await confirming.to_ask(await deps_of(ctx), caller_of(ctx), told))


async def replied(ctx: Ctx, asked: Annotated[Any, Resolve(meant)]) -> Any:
    """The person's answer: a `Reply` in the old era, an `Elicit` in the new; None where nobody is asked."""
    question = asked.way
    if not isinstance(question, record.Question):
        return None
    deps = await deps_of(ctx)
    await asking.note_put(deps, asked.told.workflow_id, question)
    if ctx.protocol_version is not None and ctx.protocol_version >= IN_ROUNDS:
        return Elicit(wording.put(question), forms.FORMS[question.form])
    try:
        return await _asked_now(ctx, deps, question)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await asking.note_no(deps, asked.told.workflow_id, question, caller_of(ctx).unanswered, said=False)
        raise


MeantAsked = Annotated[Any, Resolve(meant)]
Replied = Annotated[ElicitationResult[BaseModel], Resolve(replied)]


def reply_of(outcome: Any) -> Reply:
    """The same for both eras."""
    data: Any = getattr(outcome, "data", None)  # only what was accepted has some
    if isinstance(data, Reply):
        return data
    return Reply("accept", data.value) if isinstance(data, forms.Form) else Reply(outcome.action)


async def _asked_now(ctx: Ctx, deps: "Deps", question: "Question") -> Reply:
    """Ask in the middle of the call, for as long as the question lives."""
    reply = Reply("no answer")
    async with anyio.create_task_group() as group:
        group.start_soon(_beat, ctx, deps, group.cancel_scope)
        reply = await _elicited(ctx, question)
        group.cancel_scope.cancel()
    return reply


async def _beat(ctx: Ctx, deps: "Deps", asking_now: anyio.CancelScope) -> None:
    beats = round(record.CONFIRMATION_LIFE_S / BEAT_S)
    for beat in range(1, beats + 1):
        await deps.pause(BEAT_S)
        await ctx.report_progress(beat, beats, "waiting for your user's answer")
    asking_now.cancel()


async def _elicited(ctx: Ctx, question: "Question") -> Reply:
    try:
        outcome = await ctx.elicit(wording.put(question), forms.FORMS[question.form])
    except MCPError:  # the client says that it can ask, and does not
        return Reply("cancel")
    except ValueError:
        return Reply("unfit")
    return reply_of(outcome)


def _purpose(given: str | None) -> "Purpose":
    allowed = record.Purpose
    built = (allowed.RENT, allowed.START, allowed.ATTACH, allowed.DETACH, allowed.RECYCLE, allowed.END)
    if given is None:
        return allowed.RENT
    if given not in built:
        raise agreed.refuse("purpose", given, " | ".join(built))
    return allowed(given)
