"""What a planned order hangs on: its own yes, while the user changed nothing since. A look at a market ends nothing."""

from collections.abc import Sequence

from vastai_workflow.domain.ledger import Order, OrderState
from vastai_workflow.domain.workflow import Confirmation, FieldState, Purpose, Workflow
from vastai_workflow.steps.fleets import unwanted


def yes_of(workflow: Workflow, order: Order) -> Confirmation | None:
    """The very yes that an order hangs on: a newer one gives it no place."""
    return next((item for item in workflow.confirmations if item.confirmation_id == order.confirmation_id), None)


def digest_for(workflow: Workflow, yes: Confirmation | None) -> str:
    """What a planned order's yes has to be to: itself, or the draft where the user made another one of it."""
    return workflow.digest if yes is None or _differ(workflow, yes) else yes.digest


def missing_for(workflow: Workflow, yes: Confirmation | None) -> tuple[str, ...]:
    """What the user changed since an order's yes, and did not agree to."""
    return (
        () if yes is None else tuple(name for name in _given(workflow) if workflow.fields[name].status != "confirmed")
    )


def running_plan(workflow: Workflow, orders: Sequence[Order], now: float) -> tuple[str, int] | None:
    """The plan of this workflow that a create goes on with, and how many machines of it are still to be sent."""
    planned = next((order for order in orders if order.state is OrderState.PLANNED), None)
    yes = None if planned is None else yes_of(workflow, planned)
    if planned is None or yes is None or not yes.open_at(now):
        return None
    of_plan = [order for order in orders if order.plan_id == planned.plan_id]
    if missing_for(workflow, yes) or digest_for(workflow, yes) != yes.digest or unwanted(of_plan) is not None:
        return None
    return planned.plan_id, sum(order.state is OrderState.PLANNED for order in of_plan)


def as_agreed(workflow: Workflow, order: Order) -> Workflow:
    """The draft as it stood at the yes that a planned order hangs on, so that a further question amends that one."""
    yes = yes_of(workflow, order)
    if yes is None:
        raise AssertionError
    states = {name: _state(workflow.fields.get(name), value, yes) for name, value in yes.values.items()}
    others = tuple(item for item in workflow.questions if item.about != Purpose.RENT)
    return workflow.with_(fields=states, digest=yes.digest, questions=others)


def _state(now: FieldState | None, value: object, yes: Confirmation) -> FieldState:
    if now is not None and now.value == value:
        return now.model_copy(update={"status": "confirmed", "by": now.by or yes.by})
    return FieldState(value=value, status="confirmed", source="plan", by=yes.by)


def _given(workflow: Workflow) -> tuple[str, ...]:
    return tuple(name for name, state in workflow.fields.items() if state.source == "given")


def _differ(workflow: Workflow, yes: Confirmation) -> tuple[str, ...]:
    """The fields that the user gave another value since: what follows the market is held by the yes's own ceiling."""
    return tuple(name for name in _given(workflow) if workflow.value(name) != yes.values.get(name))
