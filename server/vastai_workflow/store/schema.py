"""The ledger's tables, and the one transaction that makes them."""

import secrets
import sqlite3
from typing import Final

from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.ledger import OrderState

VERSION: Final = 1
"""Kept in `PRAGMA user_version`; an older program refuses a newer ledger."""

_STATES: Final = ", ".join(f"'{state}'" for state in OrderState)

_STATEMENTS: Final = (
    "CREATE TABLE store (store_id TEXT NOT NULL)",
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
)


def make_or_check(connection: sqlite3.Connection) -> str:
    """Makes the tables where there are none; the store's id. LocalError `store_unavailable` for other tables."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        store_id = _store_id(connection)
        connection.execute("COMMIT")
    except BaseException:  # also a cancellation: what was begun is taken back, and the error goes on
        connection.rollback()
        raise
    return store_id


def _store_id(connection: sqlite3.Connection) -> str:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables == 0:
        for statement in _STATEMENTS:
            connection.execute(statement)
        connection.execute("INSERT INTO store VALUES (?)", (secrets.token_hex(8),))
        connection.execute(f"PRAGMA user_version = {VERSION}")
    elif version != VERSION:
        raise _unfit(version)
    (store_id,) = connection.execute("SELECT store_id FROM store").fetchone()
    return store_id


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
