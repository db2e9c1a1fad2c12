"""Tools of the dialog: propose_fields, confirm_fields."""

from typing import TYPE_CHECKING, Annotated

from mcp.types import CallToolResult
from pydantic import Field

from vastai_workflow.tools import results
from vastai_workflow.tools.on_first_use import on_first_use
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
    from vastai_workflow.steps import accounts, dialog, purposes
    from vastai_workflow.tools import render

if TYPE_CHECKING:
    from vastai_workflow.domain.errors import WorkflowError
    from vastai_workflow.domain.workflow import Confirmation, Purpose, Workflow

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
    proposal = await dialog.propose(await deps_of(ctx), caller_of(ctx), workflow_id, action, given)
    return _proposed(proposal)


async def confirm_fields(
    ctx: Ctx,
    workflow_id: WorkflowId,
    digest: Annotated[str | None, Field(description="of what the user saw and agreed to")] = None,
    fields: Annotated[list[str] | None, Field(description="only these; default all")] = None,
    purpose: Annotated[str | None, Field(description="rent (default) | start | attach | recycle | end")] = None,
    instance_ids: OptionalIds = None,
    acknowledge_instances: Annotated[list[Id] | None, Field(description="running ones the user keeps")] = None,
) -> Annotated[CallToolResult, results.Confirmed]:
    """Record the user's yes. Only after the user said yes to this very proposal; a yes lasts 30 minutes."""
    deps, caller = await deps_of(ctx), caller_of(ctx)
    chosen = _purpose(purpose)
    if chosen is not record.Purpose.RENT:
        workflow, confirmation = await purposes.confirm_purpose(
            deps, caller, workflow_id, chosen, digest, instance_ids or ()
        )
        return _agreed(workflow, confirmation)
    proposal = await dialog.confirm(
        deps, caller, workflow_id, digest=digest, names=fields, acknowledge=acknowledge_instances or ()
    )
    if proposal.look is not None or proposal.problem is not None:
        return _confirmed(proposal, _questions(proposal))
    return _confirmed(proposal, [])


def _purpose(given: str | None) -> "Purpose":
    allowed = record.Purpose
    built = (allowed.RENT, allowed.START, allowed.ATTACH, allowed.RECYCLE, allowed.END)
    if given is None:
        return allowed.RENT
    if given not in built:
        raise agreed.refuse("purpose", given, " | ".join(built))
    return allowed(given)


def _proposed(proposal: "dialog.Proposal") -> CallToolResult:
    workflow, look = proposal.workflow, proposal.look
    questions = _questions(proposal)
    after = _after(proposal)
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
    return answer(head + stop + _ask(questions) + in_words(after), result)


def _confirmed(proposal: "dialog.Proposal", questions: list[str]) -> CallToolResult:
    workflow, confirmation, look = proposal.workflow, proposal.confirmation, proposal.look
    after = next_call("find_offers", workflow_id=workflow.workflow_id) if confirmation is not None else _after(proposal)
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
    else:
        head = f"Agreed for 30 minutes: {wording.what(workflow)}, {_ceiling_words(confirmation)}."
    return answer(head + _ask(questions) + in_words(after), result)


def _agreed(workflow: "Workflow", confirmation: "Confirmation") -> CallToolResult:
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
        next_call=None,
    )
    ids = ", ".join(map(str, confirmation.instance_ids))
    what = confirmation.detail if confirmation.purpose is record.Purpose.END else confirmation.purpose
    return answer(f"Agreed for 30 minutes: {what} {ids}. Repeat the refused call now.", result)


def _questions(proposal: "dialog.Proposal") -> list[str]:
    """One question where that is enough; the problem first where something stands in the way."""
    workflow, look, problem = proposal.workflow, proposal.look, proposal.problem
    source = workflow.value("api_key_source")
    if problem is not None:
        return [] if problem.next_call is not None else [_problem_words(problem)]
    if look is None:
        return [f"May the API key be read from {source}? Prices come after."]
    if workflow.action != "create":
        return []
    needed = [name for name in agreed.still_needed(workflow.values) if name not in {"max_price_per_hour", "label"}]
    if needed:  # first what only the user can say; the price comes with it
        return [agreed.FIELDS[name].ask.capitalize() for name in needed]
    questions: list[str] = []
    if look.outlook is not None and "label" in workflow.fields and "max_price_per_hour" in workflow.fields:
        words = [f"{a.instance.id} {a.label!r} at {a.burn}{render.whose_words(a)}" for a in look.active]
        questions.append(wording.rent_question(workflow, look.outlook, look.chosen, look.account, words))
    return questions


def _after(proposal: "dialog.Proposal") -> results.NextCall | None:
    workflow = proposal.workflow
    known = {"workflow_id": workflow.workflow_id}
    source_known = proposal.look is not None or workflow.value("api_key_source") == accounts.ENVIRONMENT_KEY
    if not source_known and proposal.problem is None:
        return next_call("confirm_fields", **known, digest=workflow.digest, fields=["api_key_source"])
    if proposal.problem is not None and proposal.problem.next_call is not None:
        return results.NextCall(**proposal.problem.next_call)
    if proposal.problem is not None and proposal.problem.code in _PASSING:
        return next_call("propose_fields", **known)
    if proposal.problem is not None or proposal.look is None:
        return None  # only the user can go on from here
    if workflow.action == "offers":
        return next_call("find_offers", **known)
    if workflow.action != "create":
        return next_call(_AFTER[workflow.action])
    if set(agreed.still_needed(workflow.values)) - {"max_price_per_hour"}:
        return None
    return next_call("confirm_fields", **known, digest=workflow.digest)


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
