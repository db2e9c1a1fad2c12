"""Tools that lead to a machine: preflight, find_offers, create_instances, wait_until_ready."""

from typing import TYPE_CHECKING, Annotated

from mcp.types import CallToolResult
from pydantic import Field

from vastai_workflow.tools import results
from vastai_workflow.tools.app import pages
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
    in_call,
    in_words,
    next_call,
)

with on_first_use():
    from vastai_workflow.domain import ledger
    from vastai_workflow.steps import choices, create, ending, offers, readiness
    from vastai_workflow.steps import preflight as checks
    from vastai_workflow.tools import render
    from vastai_workflow.tools.app import view

if TYPE_CHECKING:
    from vastai_workflow.steps.status import Report


async def preflight(
    ctx: Ctx, workflow_id: OptionalWorkflowId = None
) -> Annotated[CallToolResult, results.PreflightResult]:
    """Check the key, the balance and every machine that runs. propose_fields does this too."""
    deps = await deps_of(ctx)
    seen = await checks.preflight(deps, caller_of(ctx), workflow_id)
    open_orders = [
        render.unsettled_words(order, deps.moment())
        + ("" if deps.caps.read_only else f": {in_call('wait_until_ready', workflow_id=order.workflow_id)}")
        for order in seen.unsettled
    ]
    notes = [*seen.notes, *open_orders]
    result = results.PreflightResult(
        account=seen.name,
        credit=seen.account.credit.number(),
        active=render.active_rows(seen.active),
        burn_per_hour=seen.burn.number(),
        notes=notes,
    )
    text = (
        f"The key in {seen.source} works: account {seen.name!r}, balance {seen.account.credit}. "
        f"Running: {render.active_words(seen.active)}; {seen.burn} in all."
    )
    return answer(text + render.note_lines(notes), result)


async def find_offers(
    ctx: Ctx,
    workflow_id: WorkflowId,
    offer_ids: Annotated[list[Id] | None, Field(description="the user's own choice, as many as count")] = None,
    limit: Annotated[int, Field(strict=True, ge=1, le=64, description="rows shown")] = 3,
) -> Annotated[CallToolResult, results.Offers]:
    """Search and choose by the workflow's fields; the answer's plan_id is what create_instances rents."""
    deps = await deps_of(ctx)
    found = await offers.find_offers(deps, caller_of(ctx), workflow_id, offer_ids)
    chosen = [item.ask_id for item in found.plan.chosen]
    first = [offer for offer in found.offers if offer.ask_id in chosen]
    shown = [*first, *(offer for offer in found.offers if offer.ask_id not in chosen)][: max(limit, len(first))]
    if deps.caps.read_only:
        after = None
    elif found.running is not None:
        after = next_call("create_instances", workflow_id=workflow_id, plan_id=found.running[0])
    elif found.agreed:
        after = next_call("create_instances", workflow_id=workflow_id, plan_id=found.plan.plan_id)
    else:
        after = next_call("propose_fields", workflow_id=workflow_id, action="create")
    result = results.Offers(
        plan_id=found.plan.plan_id,
        offers=[render.offer_row(offer) for offer in shown],
        matches=len(found.offers),
        chosen=chosen,
        total_per_hour=found.total.number(),
        runway_hours=render.hours(found.runway_h),
        expires_at=found.plan.expires_at,
        notes=list(found.notes),
        next_call=after,
    )
    lines = "".join(f"\n{'* ' if offer.ask_id in chosen else '  '}{render.offer_words(offer)}" for offer in shown)
    head = (
        f"{len(found.offers)} offers fit; the plan (*) costs {found.total} in all{render.hours_words(found.runway_h)}."
    )
    return answer(head + lines + render.note_lines(found.notes) + in_words(after), result, view.for_page(ctx, found))


async def create_instances(
    ctx: Ctx, workflow_id: WorkflowId, plan_id: Annotated[str, Field(description="from find_offers")]
) -> Annotated[CallToolResult, results.CreatedResult]:
    """Rent the plan (costs money). Refused without a yes. The same plan_id again never rents twice."""
    made = await create.create_instances(await deps_of(ctx), caller_of(ctx), workflow_id, plan_id, ctx.report_progress)
    if any(order.state in ledger.UNSETTLED for order in made.orders):
        after = next_call("wait_until_ready", workflow_id=workflow_id)
    elif made.planned_left:
        after = next_call("create_instances", workflow_id=workflow_id, plan_id=plan_id)
    elif any(order.live for order in made.orders):
        after = next_call("wait_until_ready", workflow_id=workflow_id)
    else:
        after = _another_try(workflow_id, spent=any(order.holds_place for order in made.orders))
    whole = [] if made.fleet is None else [render.fleet_words(made.fleet)]
    notes = [*whole, *made.notes, *([made.stopped] if made.stopped else [])]
    result = results.CreatedResult(
        orders=[render.order_row(order) for order in made.orders], notes=notes, next_call=after
    )
    lines = "\n".join(render.order_words(order) for order in made.orders)
    return answer(lines + render.note_lines(notes) + in_words(after), result)


async def wait_until_ready(
    ctx: Ctx,
    workflow_id: OptionalWorkflowId = None,
    instance_ids: OptionalIds = None,
    timeout_s: Annotated[int, Field(strict=True, ge=0, le=300, description="s; call again to go on")] = 40,
) -> Annotated[CallToolResult, results.Instances]:
    """Wait until SSH answers with the agreed GPUs: attaches the key, settles unclear orders, says how to connect."""
    deps = await deps_of(ctx)
    waited = await readiness.wait_until_ready(
        deps,
        caller_of(ctx),
        workflow_id=workflow_id,
        instance_ids=tuple(instance_ids or ()),
        timeout_s=timeout_s,
        progress=ctx.report_progress,
    )
    again = {"workflow_id": workflow_id} if workflow_id is not None else {"instance_ids": instance_ids}
    failed = [report for report in waited.reports if report.failed and not report.gone]
    after = None
    if waited.planned is not None and waited.settled:  # before its yes expires, whatever else is waited for
        after = next_call("create_instances", workflow_id=waited.planned.workflow_id, plan_id=waited.planned.plan_id)
    elif not waited.over:
        after = next_call("wait_until_ready", **again)
    elif failed:
        step = choices.first_step(failed)
        after = None if step is None else results.NextCall(**step)
    elif workflow_id is not None and all(report.gone and not _asked_for(report) for report in waited.reports):
        after = _another_try(workflow_id, spent=bool(waited.reports))
    now = deps.moment()
    short = [] if waited.came_short is None else [render.fleet_words(waited.came_short)]
    unsettled = [render.unsettled_words(order, now) for order in waited.open_orders]
    notes = [*short, *waited.notes, *unsettled, *choices.questions(failed)]
    result = results.Instances(
        instances=[render.instance_row(report) for report in waited.reports],
        settled=waited.settled,
        notes=notes,
        next_call=after,
    )
    lines = [render.instance_words(report) for report in waited.reports] or [
        "No machine of this workflow is on record."
    ]
    if len(waited.reports) > 1:
        lines.insert(0, readiness.stages(waited.reports))
    if not waited.settled:
        lines.append(render.UNSETTLED_WORDS)
    return answer("\n".join(lines) + render.note_lines(notes) + in_words(after), result)


def _asked_for(report: "Report") -> bool:
    """Whether the user had it ended: nothing is to be tried again."""
    return report.order is not None and report.order.reason == ending.ON_REQUEST


def _another_try(workflow_id: str, *, spent: bool) -> results.NextCall:
    """Where nothing runs: the same yes while its place was given back, else a new proposal."""
    return next_call("propose_fields" if spent else "find_offers", workflow_id=workflow_id)


TOOLS: tuple[Tool, ...] = (
    Tool(preflight, "Check key, balance and running machines", read_only=True, idempotent=True),
    Tool(find_offers, "Find offers and make the plan", read_only=True, page=pages.OFFERS),
    Tool(create_instances, "Rent the plan (costs money)", idempotent=True),
    Tool(wait_until_ready, "Wait until the machines are ready", idempotent=True, page=pages.FLEET),
)
