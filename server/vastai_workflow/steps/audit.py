"""Puts on record who asked for the end of a machine, and what was refused; never in the way of either."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.audit import THIS_SERVER, AuditEvent, Kind
from vastai_workflow.domain.errors import WorkflowError
from vastai_workflow.domain.ledger import Order
from vastai_workflow.steps.deps import Caller, Deps

_log: Final = logging.getLogger("vastai-workflow")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who ends machines, and in which workflow, where the ledger has no order of a machine."""

    owner: str
    by: str
    workflow_id: str | None = None


def on_request(caller: Caller, workflow_id: str | None) -> Sender:
    """A client's call."""
    return Sender(caller.owner, caller.called, workflow_id)


def by_itself(order: Order) -> Sender:
    """This server takes back what came of an order and was not agreed."""
    return Sender(order.owner, THIS_SERVER, order.workflow_id)


def end_event(
    deps: Deps, kind: Kind, sender: Sender, instance_id: int, orders: Sequence[Order], what: str
) -> AuditEvent:
    """That an end was asked for, or what was seen of it."""
    return AuditEvent(
        at=deps.clock.now(),
        kind=kind,
        owner=sender.owner,
        by=sender.by,
        workflow_id=orders[-1].workflow_id if orders else sender.workflow_id,
        order_id=orders[-1].order_id if orders else "",
        instance_ids=(instance_id,),
        what=what,
    )


async def record(deps: Deps, events: Iterable[AuditEvent]) -> None:
    """Add to the trail. A ledger that fails just then stops nothing: what ends a machine, or says no, goes on."""
    kept = tuple(events)
    if not kept:
        return
    try:
        await deps.store.record(kept)
    except WorkflowError as error:
        _log.warning("not on the audit trail: %s (%s)", ", ".join(event.kind for event in kept), error.message)
