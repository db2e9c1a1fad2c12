"""Where the ledger's file lives, so that a copied or restored one is noticed, and what such a one leaves behind."""

import hashlib
import os
import secrets
import socket
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vastai_workflow.domain.audit import THIS_SERVER, AuditEvent, Kind
from vastai_workflow.store.trail import append

MOVED: Final = "the ledger was moved, copied or restored: what was planned before is not sent from here"
"""The reason on record of an order that was dropped for that."""

_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class Machine:
    """What tells this machine from others. `boot_id`: of the running kernel, which containers share; "" if unknown."""

    name: str
    boot_id: str

    @classmethod
    def this(cls) -> "Machine":
        """The one that this process runs on."""
        try:
            boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:  # no Linux
            boot_id = ""
        return cls(socket.gethostname(), boot_id)


def home_of(machine: Machine, path: Path, file: tuple[int, int]) -> str:
    """Two hashes of what a copy can't share; the ledger is at home where one of them is as it was.

    `file`: device and inode. The first hash, of machine's name, resolved path and inode, lasts over restarts of the
    machine; the second, of running kernel, device and inode, is the same for all containers on a volume, whose names
    and paths differ, and for a folder under a new name. A copy has another inode, or is on another machine. What it
    shares all the same (a file system gives an inode again, `cp` writes into the old file) is noticed by `Tide`. Not
    noticed: a virtual machine or file system that is set back or cloned as a whole, name included. A ledger that was
    carried to a new machine counts as a copy, which costs a new id and a new yes.
    """
    device, inode = file
    hashes = [_hash(machine.name, path.resolve(), inode)]
    if machine.boot_id:
        hashes.append(_hash(machine.boot_id, device, inode))
    return " ".join(hashes)


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


class Tide:
    """How many events the ledger in this folder ever had, beside it: one that has fewer is an older copy.

    Written after each commit and without a flush of its own, so it is never ahead of the ledger that it stands beside.
    """

    def __init__(self, path: Path) -> None:
        """Touches nothing yet."""
        self._path = path

    def reached(self) -> int | None:
        """The number of events; 0 before the first, None where it can't be read."""
        try:
            return int(self._path.read_bytes() or b"0")
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            return None

    def reach(self, events: int) -> None:
        """Keep the number. What was committed stays committed if that fails."""
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, f"{events:0{_DIGITS}d}".encode())  # always as long: nobody reads half of it
                os.ftruncate(descriptor, _DIGITS)
            finally:
                os.close(descriptor)


def events_in(connection: sqlite3.Connection) -> int:
    """How many events the ledger holds; they are never deleted."""
    (events,) = connection.execute("SELECT coalesce(max(seq), 0) FROM order_events").fetchone()
    return events


def ids_at_home(connection: sqlite3.Connection, home: str, *, reached: int | None, now: float) -> tuple[str, ...]:
    """The ledger's ids, newest last; a new one, and nothing left to send, where it finds itself elsewhere.

    `reached`: what `Tide` says. Call it inside a transaction, with the tables made.
    """
    newest = connection.execute("SELECT home FROM store ORDER BY rowid DESC LIMIT 1").fetchone()
    if newest is None:
        _take_id(connection, home)
        return ids_in(connection)
    (kept,) = newest
    older = reached is None or events_in(connection) < reached
    if kept and (older or not set(kept.split()) & set(home.split())):
        _take_id(connection, home)
        _leave_behind(connection, now)
    elif kept != home:  # the machine started anew, or a version that kept no home made this ledger
        connection.execute("UPDATE store SET home = ? WHERE rowid = (SELECT max(rowid) FROM store)", (home,))
    return ids_in(connection)


def ids_in(connection: sqlite3.Connection) -> tuple[str, ...]:
    """All ids that the ledger ever had, newest last."""
    return tuple(store_id for (store_id,) in connection.execute("SELECT store_id FROM store ORDER BY rowid"))


def _take_id(connection: sqlite3.Connection, home: str) -> None:
    connection.execute("INSERT INTO store (store_id, home) VALUES (?, ?)", (secrets.token_hex(8), home))


def _leave_behind(connection: sqlite3.Connection, now: float) -> None:
    """Drop what is planned, end every yes, and hold no fleet together: the original may go on with all of them."""
    values = {"why": MOVED, "now": now}
    connection.execute(
        "INSERT INTO order_events (order_id, from_state, to_state, at, facts)"
        " SELECT order_id, 'planned', 'dropped', :now, json_object('reason', :why) FROM orders"
        " WHERE state = 'planned' ORDER BY seq",
        values,
    )
    connection.execute(
        "UPDATE orders SET state = 'dropped', body = json_set(body, '$.state', 'dropped', '$.reason', :why)"
        " WHERE state = 'planned'",
        values,
    )
    connection.execute(
        "UPDATE orders SET body = json_set(body, '$.fleet', NULL) WHERE json_extract(body, '$.fleet') IS NOT NULL"
    )
    connection.execute(
        "UPDATE workflows SET body = json_set(body, '$.confirmations', (SELECT json_group_array(json("
        " CASE WHEN json_extract(value, '$.expires_at') > :now"
        " THEN json_set(value, '$.expires_at', :now) ELSE value END))"
        " FROM json_each(body, '$.confirmations')))"
        " WHERE json_array_length(body, '$.confirmations') > 0",
        values,
    )
    moved = AuditEvent(at=now, kind=Kind.MOVED, owner="", by=THIS_SERVER, what=f"{MOVED}; every yes has ended")
    append(connection, [moved])
