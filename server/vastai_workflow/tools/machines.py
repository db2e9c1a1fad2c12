"""Tools for machines that exist: status, SSH keys, start, stop, restart, destroy."""

from collections.abc import Sequence
from typing import Annotated, Literal

from mcp.types import CallToolResult
from pydantic import Field

from vastai_workflow.tools import results
from vastai_workflow.tools.app import pages
from vastai_workflow.tools.on_first_use import on_first_use
from vastai_workflow.tools.surface import (
    Ctx,
    Ids,
    OptionalIds,
    OptionalWorkflowId,
    Tool,
    answer,
    caller_of,
    deps_of,
    in_words,
    next_call,
)

with on_first_use():
    from vastai_workflow.steps import destroy, keys, power, removed_keys, status
    from vastai_workflow.tools import render


async def instance_status(
    ctx: Ctx, instance_ids: OptionalIds = None, workflow_id: OptionalWorkflowId = None
) -> Annotated[CallToolResult, results.Instances]:
    """State, cost so far and login of some machines, or of all that the key sees."""
    deps = await deps_of(ctx)
    seen = await status.instance_status(deps, caller_of(ctx), tuple(instance_ids or ()), workflow_id)
    after = None
    if seen.unsettled and not deps.caps.read_only:  # else later looks settle it
        after = next_call("wait_until_ready", workflow_id=seen.unsettled[0].workflow_id)
    notes = [*seen.notes, *(render.unsettled_words(order, deps.moment()) for order in seen.unsettled)]
    result = results.Instances(
        instances=[render.instance_row(report) for report in seen.reports],
        settled=not seen.unsettled,
        notes=notes,
        next_call=after,
    )
    lines = [render.instance_words(report) + render.agreed_words(report) for report in seen.reports] or [
        "No machine runs." if workflow_id is None else "No machine of this workflow; without workflow_id all are shown."
    ]
    if seen.unsettled:
        lines.append(render.UNSETTLED_WORDS)
    return answer("\n".join(lines) + render.note_lines(notes) + in_words(after), result)


async def attach_ssh_key(
    ctx: Ctx,
    instance_ids: Ids,
    public_key: Annotated[str | None, Field(description="text or path; default: the agreed key")] = None,
    workflow_id: OptionalWorkflowId = None,
) -> Annotated[CallToolResult, results.Attached]:
    """Let an SSH public key log in. Another key than the agreed one needs a yes of its own."""
    done = await keys.attach_ssh_key(await deps_of(ctx), caller_of(ctx), instance_ids, public_key, workflow_id)
    rows = [
        results.KeyRow(instance_id=d.instance_id, fingerprint=d.fingerprint, added=d.added, reason=d.reason)
        for d in done
    ]
    lines = [f"{row.instance_id}: {row.fingerprint} {_attached_words(row)}" for row in rows]
    left = [row.instance_id for row in rows if row.reason is not None]
    if left:
        lines.append(
            f"Call attach_ssh_key again for {', '.join(map(str, left))}; another key than the agreed one asks."
        )
    return answer("\n".join(lines), results.Attached(keys=rows))


def _attached_words(row: results.KeyRow) -> str:
    if row.reason is not None:
        return f"not known to be there: {row.reason}"
    return "attached" if row.added else "was there already"


async def remove_ssh_key(
    ctx: Ctx,
    instance_ids: OptionalIds = None,
    public_key: Annotated[
        str | None, Field(description="text, path or SHA256 fingerprint; default: the agreed key")
    ] = None,
    workflow_id: OptionalWorkflowId = None,
) -> Annotated[CallToolResult, results.RemovedResult]:
    """Take an SSH key from machines, or without ids from the account: that, and another key, needs a yes of its own."""
    ids = tuple(instance_ids or ())
    done = await removed_keys.remove_ssh_key(await deps_of(ctx), caller_of(ctx), ids, public_key, workflow_id)
    rows = [
        results.RemovedRow(instance_id=p.instance_id, fingerprint=p.fingerprint, state=p.fate.value, reason=p.reason)
        for p in done.places
    ]
    lines = [
        f"{row.instance_id or 'account'}: {row.fingerprint} {row.state}{f' ({row.reason})' if row.reason else ''}"
        for row in rows
    ]
    lines += [f"Still on {', '.join(map(str, done.still_on))}: ask the user, from there too?"] if done.still_on else []
    lines += [f"Maybe on {', '.join(map(str, done.maybe_on))}: not known."] if done.maybe_on else []
    result = results.RemovedResult(keys=rows, still_on=list(done.still_on), maybe_on=list(done.maybe_on))
    return answer("\n".join(lines), result)


async def start_instances(
    ctx: Ctx, instance_ids: Ids, workflow_id: OptionalWorkflowId = None
) -> Annotated[CallToolResult, results.Changes]:
    """Start stopped machines (costs money): needs a yes of its own."""
    done = await power.start_instances(await deps_of(ctx), caller_of(ctx), instance_ids, workflow_id)
    return _changed(done)


async def stop_instances(
    ctx: Ctx, instance_ids: Ids, workflow_id: OptionalWorkflowId = None
) -> Annotated[CallToolResult, results.Changes]:
    """Stop machines. Their disks go on costing: prefer destroy_instances when the work is done."""
    done = await power.stop_instances(await deps_of(ctx), caller_of(ctx), instance_ids, workflow_id)
    return _changed(done)


async def restart_instances(
    ctx: Ctx,
    instance_ids: Ids,
    mode: Annotated[Literal["reboot", "recycle"], Field(description="recycle loses the container's data, needs a yes")],
    workflow_id: OptionalWorkflowId = None,
) -> Annotated[CallToolResult, results.Changes]:
    """Reboot the container, or recycle it: a new one from the image, on the same GPU."""
    done = await power.restart_instances(await deps_of(ctx), caller_of(ctx), instance_ids, mode, workflow_id)
    return _changed(done)


async def destroy_instances(
    ctx: Ctx, instance_ids: Ids, workflow_id: OptionalWorkflowId = None
) -> Annotated[CallToolResult, results.Changes]:
    """End machines for good and see that they are gone; data is lost. Machines not rented here need a yes."""
    ended = await destroy.destroy_instances(await deps_of(ctx), caller_of(ctx), instance_ids, workflow_id)
    ends = ended.ends
    rows = [
        results.ChangedRow(
            instance_id=end.instance_id,
            state=end.state,
            final_state=end.final_state,
            cost_usd=None if end.cost is None else end.cost.number(),
            reason=end.reason,
        )
        for end in ends
    ]
    lines = [
        f"{end.instance_id}: {end.final_state}"
        + ("" if end.cost is None else f", it cost about {render.cents(end.cost)}")
        + ("" if end.reason is None else f" ({end.reason})")
        for end in ends
    ]
    notes = list(ended.notes)
    return answer("\n".join(lines) + render.note_lines(notes), results.Changes(instances=rows, notes=notes))


def _changed(done: "Sequence[power.Changed]") -> CallToolResult:
    rows = [
        results.ChangedRow(
            instance_id=item.instance_id,
            state=item.state,
            final_state=None,
            cost_usd=None if item.cost is None else item.cost.number(),
            reason=item.reason,
        )
        for item in done
    ]
    lines = [
        f"{item.instance_id}: {item.state}"
        + ("" if item.cost is None else f", {render.cents(item.cost)} so far")
        + ("" if item.reason is None else f" ({item.reason})")
        for item in done
    ]
    return answer("\n".join(lines), results.Changes(instances=rows, notes=[]))


TOOLS: tuple[Tool, ...] = (
    Tool(instance_status, "Look at machines", read_only=True, idempotent=True, page=pages.FLEET),
    Tool(attach_ssh_key, "Attach an SSH key", idempotent=True),
    Tool(remove_ssh_key, "Take an SSH key away", destructive=True, idempotent=True),
    Tool(start_instances, "Start machines (costs money)"),
    Tool(stop_instances, "Stop machines", idempotent=True),
    Tool(restart_instances, "Reboot or recycle machines", destructive=True),
    Tool(destroy_instances, "Destroy machines", destructive=True, idempotent=True),
)
