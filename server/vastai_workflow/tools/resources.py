"""Resources about a workflow: the calls of the provider's API that it led to, as redacted curl lines."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.types import CallToolResult, InputRequiredResult

from vastai_workflow.domain.errors import WorkflowError
from vastai_workflow.tools.on_first_use import on_first_use
from vastai_workflow.tools.surface import App, Ctx, caller_of, deps_of

with on_first_use():
    from vastai_workflow.steps import deps as steps

if TYPE_CHECKING:
    from vastai_workflow.steps.ports import ApiCall

CALLS_URI: Final = "vast://workflow/{workflow_id}/calls"
CALLS_TYPE: Final = "text/plain"


async def workflow_calls(workflow_id: str, ctx: Ctx) -> str:
    """The Vast.ai API calls of a workflow of yours, as curl lines without secrets, oldest first."""
    try:
        await steps.owned(await deps_of(ctx), caller_of(ctx), workflow_id)
    except WorkflowError as error:
        kind = ResourceNotFoundError if error.code == "workflow_unknown" else ResourceError
        raise kind(error.sentence) from error
    calls = ctx.request_context.lifespan_context.calls.of(workflow_id)
    head = (
        f"# Workflow {workflow_id}: {len(calls)} calls of this server process, oldest first.\n"
        "# To read, not to send again: a create that is sent again rents again.\n"
        "# $VAST_API_KEY stands for the key, *** for what is secret.\n"
    )
    return head + "".join(f"\n# {_time(call.at)} UTC, {call.answer}\n{call.curl}\n" for call in calls)


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


async def keep_calls(
    app: App,
    arguments: Mapping[str, Any],
    result: CallToolResult | InputRequiredResult | None,
    made: "Sequence[ApiCall]",
) -> None:
    """Keep what a tool call sent with the workflow it names, or that answered, or whose machines it names."""
    told: dict[str, Any] = (result.structured_content or {}) if isinstance(result, CallToolResult) else {}
    named = arguments.get("workflow_id") or told.get("workflow_id")
    if isinstance(named, str):
        app.calls.keep([named], made)
        return
    machines: list[int] = [*(arguments.get("instance_ids") or ()), *_one(arguments.get("instance_id"))]
    try:
        orders = await (await app.deps()).store.orders(instance_ids=machines) if machines else ()
    except WorkflowError:
        return  # the ledger failed meanwhile: the call's own result counts
    app.calls.keep({order.workflow_id for order in orders}, made)


def _one(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value,)
