"""Workflows and the ledger in SQLite, the default store."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from anyio import lowlevel, to_thread
from pydantic import TypeAdapter

from vastai_workflow.domain.audit import AuditEvent, noticed
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.steps.ports import Clock, Window
from vastai_workflow.store import trail
from vastai_workflow.store.database import BUSY_S, Database
from vastai_workflow.store.home import Machine
from vastai_workflow.store.locks import locks_in, locks_of_this_store, one_renter
from vastai_workflow.store.reading import parsed

_Result = TypeVar("_Result")

_NO_FACTS: Final = OrderFacts()
_WINDOW: Final = TypeAdapter(Window)

_ORDERS: Final = """SELECT order_id, body FROM orders
    WHERE (:workflow_id IS NULL OR workflow_id = :workflow_id)
    AND (:account_id IS NULL OR account_id = :account_id)
    AND (:instance_ids IS NULL OR instance_id IN (SELECT value FROM json_each(:instance_ids)))
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    ORDER BY seq"""


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One line of the ledger: a move (`was` None: the order was written), or facts noted in a state. Unix seconds."""

    order_id: str
    was: OrderState | None
    state: OrderState
    at: float
    facts: OrderFacts


class SqliteStore:
    """`steps.ports.Store` in a state folder, or `:memory:` for as long as this object lives.

    Every call is one transaction. With a folder it runs in a thread and is not cut short by a cancellation: it is
    done in full or not begun. All calls raise LocalError `store_unavailable`.
    """

    def __init__(
        self,
        folder: Path | Literal[":memory:"],
        *,
        clock: Clock,
        machine: Machine | None = None,
        busy_s: float = BUSY_S,
    ) -> None:
        """Touches no file before the first use.

        `machine`: this one if None. `busy_s`: how long to wait for other processes, in seconds.
        """
        place = folder if isinstance(folder, Path) else None
        self._clock = clock
        self._database = Database(place, now=clock.now, machine=machine, busy_s=busy_s)
        self._take_lock = locks_of_this_store() if place is None else locks_in(place)

    @property
    def store_id(self) -> str:
        """Random, the newest of `store_ids`; half of the marker of new orders."""
        return self.store_ids[-1]

    @property
    def store_ids(self) -> tuple[str, ...]:
        """All ids that this ledger ever had, newest last: machines of its orders may carry any of them."""
        return self._database.store_ids

    async def aclose(self) -> None:
        """Close the file; the next use opens it again. A store in memory is lost."""
        await self._call(self._database.close)

    async def add_workflow(self, workflow: Workflow) -> None:
        """Keep a new workflow."""

        def add(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO workflows (id, owner, created_at, body) VALUES (?, ?, ?, ?)",
                (workflow.workflow_id, workflow.owner, workflow.created_at, workflow.model_dump_json()),
            )
            trail.append(connection, noticed(None, workflow, self._clock.now()))

        await self._write(add)

    async def workflow(self, workflow_id: str) -> Workflow | None:
        """A workflow by its id."""
        return await self._read(lambda connection: _workflow(connection, workflow_id))

    async def workflows(self, owner: str) -> tuple[Workflow, ...]:
        """An owner's workflows, the newest first."""

        def read(connection: sqlite3.Connection) -> tuple[Workflow, ...]:
            rows = connection.execute("SELECT id, body FROM workflows WHERE owner = ? ORDER BY seq DESC", (owner,))
            return tuple(parsed(Workflow.model_validate_json, body, f"workflow {name}") for name, body in rows)

        return await self._read(read)

    async def change_workflow(self, workflow_id: str, change: Callable[[Workflow], Workflow]) -> Workflow:
        """Read, change and write in one transaction; Refusal `workflow_unknown`, or whatever `change` raises.

        A yes that the change gives or spends is on the audit trail with it.
        """

        def replace(connection: sqlite3.Connection) -> Workflow:
            found = _workflow(connection, workflow_id)
            if found is None:
                raise Refusal("workflow_unknown", "there is no workflow with this id")
            body = change(found).model_dump_json()
            # read back before it is kept: what can't be read again must not replace what can
            changed = parsed(Workflow.model_validate_json, body, f"workflow {workflow_id}")
            connection.execute(
                "UPDATE workflows SET owner = ?, body = ? WHERE id = ?", (changed.owner, body, workflow_id)
            )
            trail.append(connection, noticed(found, changed, self._clock.now()))
            return changed

        return await self._write(replace)

    async def add_orders(self, orders: Sequence[Order]) -> None:
        """Write new orders, all or none. Their workflow has to be in the store."""

        def add(connection: sqlite3.Connection) -> None:
            for order in orders:
                connection.execute(
                    "INSERT INTO orders (order_id, workflow_id, account_id, instance_id, state, created_at, body)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        order.order_id,
                        order.workflow_id,
                        order.account_id,
                        order.instance_id,
                        order.state,
                        order.created_at,
                        order.model_dump_json(),
                    ),
                )
                self._log(connection, order, None, _NO_FACTS)

        await self._write(add)

    async def move_order(self, order_id: str, to: OrderState, facts: OrderFacts | None = None) -> Order:
        """One legal move, on disk before this returns; IllegalMoveError, or Refusal `invalid_argument`: no order."""
        return await self._change_order(order_id, lambda order: order.moved(to, facts), facts)

    async def note_order(self, order_id: str, facts: OrderFacts) -> Order:
        """New facts on an order in its state; Refusal `invalid_argument`: no such order."""
        return await self._change_order(order_id, lambda order: order.noted(facts), facts)

    async def orders(
        self,
        *,
        workflow_id: str | None = None,
        account_id: int | None = None,
        instance_ids: Sequence[int] | None = None,
        states: Sequence[OrderState] | None = None,
    ) -> tuple[Order, ...]:
        """Orders that fit every given condition, oldest first; an empty sequence fits none."""
        wanted = {
            "workflow_id": workflow_id,
            "account_id": account_id,
            "instance_ids": None if instance_ids is None else json.dumps(list(instance_ids)),
            "states": None if states is None else json.dumps(list(states)),
        }

        def read(connection: sqlite3.Connection) -> tuple[Order, ...]:
            rows = connection.execute(_ORDERS, wanted)
            return tuple(parsed(Order.model_validate_json, body, f"order {name}") for name, body in rows)

        return await self._read(read)

    async def events(self, order_id: str | None = None) -> tuple[OrderEvent, ...]:
        """What happened to an order, or to all of them, oldest first."""

        def read(connection: sqlite3.Connection) -> tuple[OrderEvent, ...]:
            rows = connection.execute(
                "SELECT order_id, from_state, to_state, at, facts FROM order_events"
                " WHERE :order_id IS NULL OR order_id = :order_id ORDER BY seq",
                {"order_id": order_id},
            )
            return tuple(_event(*row) for row in rows)

        return await self._read(read)

    async def window(self, instance_id: int) -> Window:
        """The readiness window of an instance; a fresh one where none is kept."""
        return await self._read(lambda connection: _window(connection, instance_id))

    async def change_window(self, instance_id: int, change: Callable[[Window], Window]) -> Window:
        """Read, change and write in one transaction: several calls look at one machine at a time."""

        def replace(connection: sqlite3.Connection) -> Window:
            changed = change(_window(connection, instance_id))
            connection.execute(
                "INSERT OR REPLACE INTO windows (instance_id, body) VALUES (?, ?)",
                (instance_id, _WINDOW.dump_json(changed).decode()),
            )
            return changed

        return await self._write(replace)

    async def record(self, events: Sequence[AuditEvent]) -> None:
        """Add to the audit trail."""
        await self._write(lambda connection: trail.append(connection, events))

    async def trail(self, workflow_id: str | None = None) -> tuple[AuditEvent, ...]:
        """The audit trail with the orders' events in it, oldest first."""
        return await self._read(lambda connection: trail.read(connection, workflow_id))

    def account_lock(self, account_id: int, *, wait_s: float = 10.0) -> AbstractAsyncContextManager[None]:
        """One renter per account over all processes on this store; Refusal `account_busy` after `wait_s` seconds."""
        return one_renter(self._take_lock, account_id, clock=self._clock, wait_s=wait_s)

    async def _change_order(self, order_id: str, change: Callable[[Order], Order], facts: OrderFacts | None) -> Order:
        def replace(connection: sqlite3.Connection) -> Order:
            row = connection.execute("SELECT body FROM orders WHERE order_id = ?", (order_id,)).fetchone()
            if row is None:
                raise Refusal("invalid_argument", f"got order {order_id[:40]!r}, allowed one that the ledger holds")
            before = parsed(Order.model_validate_json, row[0], f"order {order_id}")
            after = change(before)
            connection.execute(
                "UPDATE orders SET state = ?, instance_id = ?, body = ? WHERE order_id = ?",
                (after.state, after.instance_id, after.model_dump_json(), order_id),
            )
            self._log(connection, after, before.state, facts or _NO_FACTS)
            return after

        return await self._write(replace)

    def _log(self, connection: sqlite3.Connection, order: Order, was: OrderState | None, facts: OrderFacts) -> None:
        connection.execute(
            "INSERT INTO order_events (order_id, from_state, to_state, at, facts) VALUES (?, ?, ?, ?, ?)",
            (order.order_id, was, order.state, self._clock.now(), facts.model_dump_json(exclude_none=True)),
        )

    async def _read(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        def call() -> _Result:
            with self._database.reading() as connection:
                return work(connection)

        return await self._call(call)

    async def _write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        def call() -> _Result:
            with self._database.writing() as connection:
                return work(connection)

        return await self._call(call)

    async def _call(self, call: Callable[[], _Result]) -> _Result:
        if self._database.in_memory:
            await lowlevel.checkpoint()  # other tasks run between two calls, as they do with a file
            return call()
        return await to_thread.run_sync(call)


def _workflow(connection: sqlite3.Connection, workflow_id: str) -> Workflow | None:
    row = connection.execute("SELECT body FROM workflows WHERE id = ?", (workflow_id,)).fetchone()
    return parsed(Workflow.model_validate_json, row[0], f"workflow {workflow_id}") if row else None


def _window(connection: sqlite3.Connection, instance_id: int) -> Window:
    row = connection.execute("SELECT body FROM windows WHERE instance_id = ?", (instance_id,)).fetchone()
    return parsed(_WINDOW.validate_json, row[0], f"window {instance_id}") if row else Window(instance_id)


def _event(order_id: str, was: str | None, state: str, at: float, facts: str) -> OrderEvent:
    return OrderEvent(
        order_id=order_id,
        was=None if was is None else OrderState(was),
        state=OrderState(state),
        at=at,
        facts=parsed(OrderFacts.model_validate_json, facts, f"history of order {order_id}"),
    )
