"""The audit trail in SQLite: events of its own, read together with the orders' in the order in which they were written.

An order's moves are not written twice. Each audit event keeps how many order events stood before it, so that both
tables are one sequence, whatever the clock did.
"""

import sqlite3
from collections.abc import Iterable, Mapping

from vastai_workflow.domain.audit import AuditEvent, Kind, of_order
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState
from vastai_workflow.store.reading import parsed


def append(connection: sqlite3.Connection, events: Iterable[AuditEvent]) -> None:
    """Add events. Call it inside a transaction."""
    connection.executemany(
        "INSERT INTO audit_events (order_events, workflow_id, body)"
        " SELECT coalesce(max(seq), 0), ?, ? FROM order_events",
        [(event.workflow_id, event.model_dump_json(exclude_defaults=True)) for event in events],
    )


def read(connection: sqlite3.Connection, workflow_id: str | None) -> tuple[AuditEvent, ...]:
    """All events, or a workflow's, oldest first."""
    wanted = {"workflow_id": workflow_id}
    rows = connection.execute(
        "SELECT order_events, seq, body FROM audit_events"
        " WHERE :workflow_id IS NULL OR workflow_id = :workflow_id ORDER BY seq",
        wanted,
    )
    lines = [
        ((place, seq), parsed(AuditEvent.model_validate_json, body, f"audit event {seq}")) for place, seq, body in rows
    ]
    yeses = {event.confirmation_id: event for _, event in lines if event.kind is Kind.CONFIRMED}
    moves = connection.execute(
        "SELECT seq, order_id, from_state, to_state, at, facts FROM order_events"
        " WHERE :workflow_id IS NULL OR order_id IN (SELECT order_id FROM orders WHERE workflow_id = :workflow_id)"
        " ORDER BY seq",
        wanted,
    ).fetchall()
    orders = _orders(connection, workflow_id)  # after their events: others may write between two statements
    for seq, order_id, was, state, at, facts in moves:
        order = orders[order_id]
        event = of_order(
            order,
            None if was is None else OrderState(was),
            OrderState(state),
            parsed(OrderFacts.model_validate_json, facts, f"history of order {order_id}"),
            at=at,
            yes=yeses.get(order.confirmation_id),
        )
        lines.append(((seq, 0), event))
    return tuple(_with_yes(event, orders, yeses) for _, event in sorted(lines, key=lambda line: line[0]))


def _with_yes(event: AuditEvent, orders: Mapping[str, Order], yeses: Mapping[str, AuditEvent]) -> AuditEvent:
    """The end of a machine of ours with the digest of the yes that it was rented by."""
    order = orders.get(event.order_id)
    yes = None if order is None or event.digest else yeses.get(order.confirmation_id)
    return event if yes is None else event.model_copy(update={"digest": yes.digest})


def _orders(connection: sqlite3.Connection, workflow_id: str | None) -> dict[str, Order]:
    rows = connection.execute(
        "SELECT order_id, body FROM orders WHERE :workflow_id IS NULL OR workflow_id = :workflow_id",
        {"workflow_id": workflow_id},
    )
    return {name: parsed(Order.model_validate_json, body, f"order {name}") for name, body in rows}
