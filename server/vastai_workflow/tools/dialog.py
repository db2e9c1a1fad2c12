"""Tools of the dialog: propose_fields, confirm_fields."""

from typing import TYPE_CHECKING, Annotated, Any

from mcp.types import CallToolResult
from pydantic import Field

from vastai_workflow.tools import asking, results
from vastai_workflow.tools.on_first_use import on_first_use
from vastai_workflow.tools.results import NextCall
from vastai_workflow.tools.surface import (
    Ctx,
    Id,
    OptionalIds,
    OptionalWorkflowId,
    Tool,
    WorkflowId,
    answer,
    caller_of,
    deps_of,
    in_words,
    next_call,
)

with on_first_use():
    from vastai_workflow.domain import fields as agreed
    from vastai_workflow.domain import question as wording
    from vastai_workflow.domain import workflow as record
    from vastai_workflow.steps import asking as answers
    from vastai_workflow.steps import confirming, dialog
    from vastai_workflow.tools import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vastai_workflow.domain.errors import WorkflowError
    from vastai_workflow.domain.workflow import Confirmation, Workflow
    from vastai_workflow.steps.confirming import Told
    from vastai_workflow.steps.deps import Caller, Deps

_PASSING = frozenset({"provider_down", "unreachable", "rate_limited", "incomplete_list", "unreadable_answer"})
"""Problems that the same call may find gone."""

_AFTER = {
    "offers": "find_offers",
    "status": "instance_status",
    "ssh": "instance_status",
    "destroy": "instance_status",
    "billing": "billing_report",
}

Whole = Annotated[int | None, Field(strict=True)]


async def propose_fields(  # noqa: PLR0913, PLR0917 # flat arguments, one a field: nested models make schemas that some hosts read badly
    ctx: Ctx,
    workflow_id: OptionalWorkflowId = None,
    action: Annotated[
        str | None, Field(description="offers | create (default) | status | ssh | destroy | billing")
    ] = None,
    api_key_source: Annotated[
        str | None, Field(description="env:VAST_API_KEY (default) | file:PATH | cli | keyring; never the key")
    ] = None,
    gpu_name: Annotated[str | None, Field(description="exact name (RTX 4090), or any")] = None,
    num_gpus: Annotated[Whole, Field(description="GPUs per machine (1)")] = None,
    min_vram_gb: Annotated[Whole, Field(description="GB per GPU")] = None,
    regions: Annotated[list[str] | None, Field(description="country codes")] = None,
    max_price_per_hour: Annotated[float | None, Field(description="ceiling, $/h per machine, disk included")] = None,
    min_reliability: Annotated[float | None, Field(description="0 to 1")] = None,
    min_cuda: Annotated[float | None, Field(description="such as 12.4")] = None,
    min_inet_down_mbps: Annotated[Whole, Field(description="Mb/s")] = None,
    verified: Annotated[bool | None, Field(strict=True, description="verified machines only (true)")] = None,
    image: Annotated[str | None, Field(description="pytorch/pytorch:latest")] = None,
    disk_gb: Annotated[Whole, Field(description="64")] = None,
    count: Annotated[Whole, Field(description="machines, 1 to 64 (1)")] = None,
    fleet: Annotated[str | None, Field(description="all_or_nothing | best_effort; needed if count > 1")] = None,
    objective: Annotated[str | None, Field(description="price (default) | performance | reliability")] = None,
    policy: Annotated[str | None, Field(description="cheapest (default) | second_cheapest")] = None,
    ssh_key: Annotated[str | None, Field(description="public key or its path; default: the user's usual one")] = None,
    label: Annotated[str | None, Field(description="do not ask; default: account name")] = None,
    env: Annotated[dict[str, str] | None, Field(description="variables; values are kept secret")] = None,
    onstart: Annotated[str | None, Field(description="script at container start")] = None,
    ports: Annotated[list[str] | None, Field(description="such as 8080 or 53:53/udp")] = None,
    interruptible: Annotated[
        bool | None, Field(strict=True, description="cheaper, may be stopped by a higher bid; needs bid_per_hour")
    ] = None,
    bid_per_hour: Annotated[float | None, Field(description="$/h per machine, disk extra")] = None,
    template_hash: Annotated[str | None, Field(description="hash id of a Vast.ai template that has SSH")] = None,
) -> Annotated[CallToolResult, results.Proposal]:
    """Start or change a workflow. Every field has a default: call it bare first, ask the user its question."""
    given = {name: value for name, value in locals().items() if name in agreed.FIELDS and value is not None}
    deps, caller = await deps_of(ctx), caller_of(ctx)
    return _proposed(deps, caller, await dialog.propose(deps, caller, workflow_id, action, given))


async def confirm_fields(  # noqa: PLR0913 # as above
    ctx: Ctx,
    workflow_id: WorkflowId,
    digest: Annotated[str | None, Field(description="of what the user saw and agreed to")] = None,
    fields: Annotated[list[str] | None, Field(description="only these; default all")] = None,
    purpose: Annotated[
        str | None, Field(description="rent (default) | start | attach | detach | recycle | end")
    ] = None,
    instance_ids: OptionalIds = None,
    acknowledge_instances: Annotated[list[Id] | None, Field(description="running ones the user keeps")] = None,
    *,
    asked: asking.MeantAsked,
    reply: asking.Replied,
) -> Annotated[CallToolResult, results.Confirmed]:
    """Record the user's yes, to this very proposal; it lasts 30 minutes. Asks the user itself if the client can."""
    del digest, fields, purpose, instance_ids, acknowledge_instances  # `asked` was made of them
    deps, caller, told = await deps_of(ctx), caller_of(ctx), asked.told
    if asked.way is confirming.Way.RELAYED:
        return await _confirmed(deps, caller, told, await confirming.relayed(deps, caller, told))
    if asked.way is confirming.Way.ON_RECORD:
        return await _confirmed(deps, caller, told, await confirming.on_record(deps, caller, told))
    question, said = asked.way, asking.reply_of(reply)
    if said.action == "unfit":
        raise answers.unfit_answer(workflow_id, question, "the form came back as something else than one typed value")
    if said.action != "accept":
        no = said.action == "decline"
        by = caller.asked if no else caller.unanswered
        workflow = await answers.note_no(deps, workflow_id, question, by, said=no)
        raise answers.no_yes(deps, workflow, question, f"the user was asked: {said.action}")
    workflow = await confirming.agree(deps, workflow_id, question, said.value, caller.asked)
    if question.about == "key":
        return await _confirmed(deps, caller, told, await dialog.look_once_more(deps, caller, workflow))
    given = workflow.confirmation(told.purpose, question.digest)
    return await _confirmed(deps, caller, told, dialog.Proposal(workflow, None, confirmation=given), question.again)


def _proposed(deps: "Deps", caller: "Caller", proposal: "dialog.Proposal") -> CallToolResult:
    workflow, look = proposal.workflow, proposal.look
    questions = _questions(deps, caller, proposal)
    after = _after(deps, caller, proposal)
    result = results.Proposal(
        workflow_id=workflow.workflow_id,
        digest=workflow.digest,
        fields=render.field_rows(workflow),
        missing=list(proposal.missing),
        questions=questions,
        active=render.active_rows(look.active) if look is not None else [],
        outlook=render.outlook_row(look.outlook) if look is not None else None,
        problem=None if proposal.problem is None else proposal.problem.code,
        next_call=after,
    )
    head = f"Workflow {workflow.workflow_id}, digest {workflow.digest}. This call rented nothing."
    stop = f"\n{proposal.problem.sentence}" if proposal.problem is not None and not questions else ""
    itself = " confirm_fields asks the user itself." if proposal.question is not None and not questions else ""
    return answer(head + itself + stop + _ask(questions) + in_words(after), result)


async def _confirmed(
    deps: "Deps",
    caller: "Caller",
    told: "Told",
    proposal: "dialog.Proposal",
    again: "Mapping[str, Any] | None" = None,
) -> CallToolResult:
    if told.purpose is not record.Purpose.RENT and proposal.confirmation is not None:
        return _agreed(proposal.workflow, proposal.confirmation)
    workflow, confirmation, look = proposal.workflow, proposal.confirmation, proposal.look
    looked = look is not None or proposal.problem is not None
    questions = _questions(deps, caller, proposal) if looked else []
    after = _after(deps, caller, proposal)
    used = confirmation is not None and await confirming.used_up(deps, confirmation)
    if used:
        after = next_call("wait_until_ready", workflow_id=workflow.workflow_id)
    elif confirmation is not None:
        after = next_call("find_offers", workflow_id=workflow.workflow_id) if again is None else NextCall(**again)
    result = results.Confirmed(
        workflow_id=workflow.workflow_id,
        confirmed=[name for name, state in workflow.fields.items() if state.status == "confirmed"],
        missing=list(proposal.missing),
        digest=workflow.digest,
        questions=questions,
        active=render.active_rows(look.active) if look is not None else [],
        outlook=render.outlook_row(look.outlook) if look is not None else None,
        problem=None if proposal.problem is None else proposal.problem.code,
        confirmation=render.confirmation_row(confirmation),
        next_call=after,
    )
    if confirmation is None:
        head = f"Noted. Still without a yes: {', '.join(proposal.missing)} (digest {workflow.digest})."
    elif used:
        head = f"Agreed before, and used up: {wording.what(workflow)}. One more machine is a new question."
    else:
        head = f"Agreed for 30 minutes: {wording.what(workflow)}, {_ceiling_words(confirmation)}."
    return answer(head + _ask(questions) + in_words(after), result)


def _agreed(workflow: "Workflow", confirmation: "Confirmation") -> CallToolResult:
    after = NextCall(**confirmation.again) if confirmation.again else None
    result = results.Confirmed(
        workflow_id=workflow.workflow_id,
        confirmed=[],
        missing=[],
        digest=confirmation.digest,
        questions=[],
        active=[],
        outlook=None,
        problem=None,
        confirmation=render.confirmation_row(confirmation),
        next_call=after,
    )
    where = ", ".join(map(str, confirmation.instance_ids)) or "the account's key"
    what = confirmation.detail if confirmation.purpose is record.Purpose.END else confirmation.purpose
    return answer(f"Agreed for 30 minutes, for one call: {what} {where}.{in_words(after)}", result)


def _questions(deps: "Deps", caller: "Caller", proposal: "dialog.Proposal") -> list[str]:
    """One question where that is enough, none where the client will ask it; the problem first where there is one."""
    workflow, problem = proposal.workflow, proposal.problem
    if problem is not None:
        return [] if problem.next_call is not None else [_problem_words(problem)]
    if proposal.question is not None:
        text = answers.asked_of(deps, caller, workflow, proposal.question)
        return [] if text is None else [text]
    if workflow.action != "create":
        return []
    needed = [name for name in agreed.still_needed(workflow.values) if name not in {"max_price_per_hour", "label"}]
    return [
        agreed.FIELDS[name].ask.capitalize() for name in needed
    ]  # what only the user can say; the price comes with it


def _after(deps: "Deps", caller: "Caller", proposal: "dialog.Proposal") -> NextCall | None:
    workflow, problem = proposal.workflow, proposal.problem
    known = {"workflow_id": workflow.workflow_id}
    if problem is not None:
        if problem.next_call is not None:
            return NextCall(**problem.next_call)
        passing = problem.code in _PASSING
        return next_call("propose_fields", **known) if passing else None  # else only the user can go on from here
    if proposal.question is not None:
        return NextCall(**answers.next_of(deps, caller, workflow, proposal.question))
    if workflow.action == "offers":
        return next_call("find_offers", **known)
    if workflow.action != "create":
        return next_call(_AFTER[workflow.action])
    if proposal.look is None and not agreed.still_needed(workflow.values):
        return next_call("confirm_fields", **known, digest=workflow.digest)
    return None


def _problem_words(problem: "WorkflowError") -> str:
    """What stands in the way, in words for the user."""
    if problem.ask_user is not None:
        return problem.ask_user
    if problem.code in {"key_missing", "key_rejected"}:
        return (
            f"{problem.message}. Where else is your API key: file:PATH, cli (the official client's) or keyring? "
            "A variable that is set now counts after this server is started again."
        )
    return problem.sentence


def _ask(questions: list[str]) -> str:
    return "".join(f"\nAsk the user: {question}" for question in questions)


def _ceiling_words(confirmation: "Confirmation") -> str:
    row = render.confirmation_row(confirmation)
    return "" if row is None or row.ceiling_per_hour is None else f"at most ${row.ceiling_per_hour:g}/h each"


TOOLS: tuple[Tool, ...] = (
    Tool(propose_fields, "Propose what to rent", destructive=False),
    Tool(confirm_fields, "Record the user's yes", destructive=False),
)
