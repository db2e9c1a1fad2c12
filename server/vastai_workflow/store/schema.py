"""The ledger's tables, and the one transaction that makes them."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.ledger import OrderState

VERSION: Final = 6
"""Kept in `PRAGMA user_version`; an older program refuses a newer ledger."""

_STATES: Final = ", ".join(f"'{state}'" for state in OrderState)

_AUDIT: Final = (
    # order_events: how many of them were written before this one; an order's moves stand only there
    """CREATE TABLE audit_events (
        seq INTEGER PRIMARY KEY, order_events INTEGER NOT NULL, workflow_id TEXT, body TEXT NOT NULL)""",
    "CREATE INDEX audit_of_workflow ON audit_events (workflow_id)",
    """CREATE TRIGGER audit_stays BEFORE DELETE ON audit_events
        BEGIN SELECT RAISE(ABORT, 'audit events are never deleted'); END""",
    """CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit_events
        BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END""",
)

_STATEMENTS: Final = (
    # a row for each id that the ledger ever had, newest last, with where it lived then
    "CREATE TABLE store (store_id TEXT NOT NULL, home TEXT NOT NULL DEFAULT '')",
    """CREATE TABLE workflows (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, created_at REAL NOT NULL,
        body TEXT NOT NULL)""",
    "CREATE INDEX workflows_of_owner ON workflows (owner)",
    f"""CREATE TABLE orders (
        seq INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE,
        workflow_id TEXT NOT NULL REFERENCES workflows (id), account_id INTEGER NOT NULL, instance_id INTEGER,
        state TEXT NOT NULL CHECK (state IN ({_STATES})), created_at REAL NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX orders_of_workflow ON orders (workflow_id)",
    """CREATE TABLE order_events (
        seq INTEGER PRIMARY KEY, order_id TEXT NOT NULL REFERENCES orders (order_id),
        from_state TEXT, to_state TEXT NOT NULL, at REAL NOT NULL, facts TEXT NOT NULL)""",
    "CREATE INDEX events_of_order ON order_events (order_id)",
    "CREATE TABLE windows (instance_id INTEGER PRIMARY KEY, body TEXT NOT NULL)",
    # an order can't be deleted either: its events refer to it
    """CREATE TRIGGER events_stay BEFORE DELETE ON order_events
        BEGIN SELECT RAISE(ABORT, 'order events are never deleted'); END""",
    """CREATE TRIGGER events_keep BEFORE UPDATE ON order_events
        BEGIN SELECT RAISE(ABORT, 'order events are never changed'); END""",
    *_AUDIT,
)


_MIGRATIONS: Final[Mapping[int, tuple[str, ...]]] = {
    1: ("ALTER TABLE store ADD COLUMN home TEXT NOT NULL DEFAULT ''",),
    2: _AUDIT,
    3: ("UPDATE workflows SET body = json_remove(json_set(body, '$.questions', json('[]')), '$.asked_active')",),
    4: (),  # orders and workflows hold more than an older program reads
    5: (),  # so do workflows
}
"""What makes the next version of each older one."""


def make_or_check(connection: sqlite3.Connection) -> None:
    """Makes the tables where there are none, and newer ones of older. LocalError `store_unavailable` for others.

    Call it inside a transaction.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables == 0:
        for statement in _STATEMENTS:
            connection.execute(statement)
    elif version in _MIGRATIONS:
        for older in range(version, VERSION):
            for statement in _MIGRATIONS[older]:
                connection.execute(statement)
    elif version != VERSION:
        raise _unfit(version)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _unfit(version: int) -> LocalError:
    if version > VERSION:
        return LocalError(
            "store_unavailable",
            f"the ledger was written by a newer version: got schema {version}, allowed {VERSION}",
            next_step="upgrade vastai-workflow, or set VASTAI_WORKFLOW_STATE to another folder",
        )
    return LocalError(
        "store_unavailable",
        f"the ledger's file is not a ledger: got schema {version}, allowed {VERSION}",
        next_step="set VASTAI_WORKFLOW_STATE to another folder",
    )
