"""Fleets: with `all_or_nothing`, what came is released when the rest can't come any more."""

from collections.abc import Mapping, Sequence
from typing import Any

from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.destroy import NOT_AS_AGREED, end_order
from vastai_workflow.steps.ports import Market


async def release_short_fleets(deps: Deps, market: Market, account_id: int) -> tuple[str, ...]:
    """Release the machines of every fleet that stays short of what was agreed. Call it with the lock held."""
    plans: dict[tuple[str, str], list[Order]] = {}
    for order in await deps.store.orders(account_id=account_id):
        plans.setdefault((order.workflow_id, order.plan_id), []).append(order)
    notes: list[str] = []
    for (workflow_id, plan_id), orders in plans.items():
        if not any(order.live for order in orders) or all(_came(order) for order in orders):
            continue
        workflow = await deps.store.workflow(workflow_id)
        if workflow is not None and _is_short(workflow, plan_id, orders):
            notes += [await _release(deps, market, order) for order in orders if order.live]
    return tuple(notes)


def _is_short(workflow: Workflow, plan_id: str, orders: Sequence[Order]) -> bool:
    plan = workflow.plan(plan_id)
    if plan is None or _values(workflow, plan.digest).get("fleet") != "all_or_nothing":
        return False
    pending = any(order.state in UNSETTLED or order.state is OrderState.PLANNED for order in orders)
    return not pending and sum(map(_came, orders)) < len(plan.chosen)


def _values(workflow: Workflow, digest: str) -> Mapping[str, Any]:
    """The fields as they were agreed for a plan, which later proposals may have changed."""
    found = [shown.values for shown in workflow.shown if shown.digest == digest]
    return found[-1] if found else {}


def _came(order: Order) -> bool:
    """Whether the user got this machine; they may have ended it since."""
    unfit = (order.reason or "").startswith(NOT_AS_AGREED)
    return order.live or (order.state is OrderState.RELEASED and not unfit)


async def _release(deps: Deps, market: Market, order: Order) -> str:
    end = await end_order(deps, market, order, reason="all or nothing: the others did not come")
    return f"machine {order.instance_id} released (all or nothing): {end.final_state}"
