"""One SQLite connection: opened at first use, one transaction at a time, its errors translated.

Durability: a commit waits until the write-ahead log is on the disk (`synchronous = FULL`, and through the drive's own
cache on macOS), so that what was committed outlives the process, the kernel and the power. The limits are those of
SQLite: a disk that lies about flushing, and file systems on a network, whose locks it can't trust.
"""

import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vastai_workflow.domain.errors import LocalError
from vastai_workflow.store import schema
from vastai_workflow.store.folder import LEDGER, identity, private_file, private_folder, unusable
from vastai_workflow.store.home import Machine, Tide, events_in, home_of, ids_at_home, ids_in

BUSY_S: Final = 5.0
"""How long a statement waits for another process, in seconds. Transactions here take milliseconds."""

_PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",  # a commit is on disk before it returns, in WAL mode too
    "PRAGMA fullfsync = ON",  # macOS: through the drive's cache; nothing elsewhere
    "PRAGMA foreign_keys = ON",
)

TIDE: Final = "ledger.events"

_NEXT_STEPS: Final = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space, then call again"),
    sqlite3.SQLITE_BUSY: ("another process holds the ledger", "wait a minute, then call again"),
    sqlite3.SQLITE_LOCKED: ("another process holds the ledger", "wait a minute, then call again"),
    sqlite3.SQLITE_CORRUPT: (
        "the ledger's file is damaged",
        "keep the file, set VASTAI_WORKFLOW_STATE to another folder, and look for running machines with preflight",
    ),
    sqlite3.SQLITE_NOTADB: (
        "the ledger's file is no database",
        "keep the file, set VASTAI_WORKFLOW_STATE to another folder, and look for running machines with preflight",
    ),
    sqlite3.SQLITE_READONLY: ("the ledger can't be written", "give this user the right to write in the state folder"),
    sqlite3.SQLITE_CANTOPEN: ("the ledger can't be opened", "give this user the right to write in the state folder"),
    sqlite3.SQLITE_PERM: ("the ledger can't be opened", "give this user the right to write in the state folder"),
    sqlite3.SQLITE_IOERR: ("the disk failed under the ledger", "check the disk, then call again"),
}


class Database:
    """The ledger in a folder, or in memory (None). Threads take turns; nothing is opened before the first use."""

    def __init__(
        self, folder: Path | None, *, now: Callable[[], float], machine: Machine | None = None, busy_s: float = BUSY_S
    ) -> None:
        """`machine`: this one if None. `busy_s`: how long to wait for other processes, in seconds."""
        self._folder = folder
        self._now = now
        self._machine = machine
        self._busy_s = busy_s
        self._tide = None if folder is None else Tide(folder / TIDE)
        self._turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._store_ids: tuple[str, ...] = ()

    @property
    def in_memory(self) -> bool:
        """Whether calls are so short that they need no thread."""
        return self._folder is None

    @property
    def store_ids(self) -> tuple[str, ...]:
        """All that the ledger ever had, newest last; opens it where that was not done yet."""
        with self.reading():
            return self._store_ids

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """The connection, for one statement."""
        with self._turn, _translated():
            yield self._opened()

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """The connection inside a transaction, which is on disk when this block has ended, or has left no trace."""
        with self._turn, _translated():
            connection = self._opened()
            self._refuse_a_lost_file()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                events = events_in(connection)
                connection.execute("COMMIT")
            except BaseException:  # also a cancellation: what was begun is taken back, and the error goes on
                connection.rollback()
                raise
            if self._tide is not None:
                self._tide.reach(events)

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._turn, _translated():
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._folder is None:
                self._connection = self._connect(":memory:")
            else:
                self._connection = self._connect_to_file(self._folder)
        elif self._folder is not None:  # another process may have found it elsewhere
            self._store_ids = ids_in(self._connection)
        return self._connection

    def _connect_to_file(self, folder: Path) -> sqlite3.Connection:
        from filelock import FileLock, Timeout  # noqa: PLC0415  # a store in memory needs no locks on files

        private_folder(folder)
        try:
            # SQLite does not always wait when two processes turn on WAL at once: now and then one of them fails
            with FileLock(folder / "opening.lock", timeout=self._busy_s, mode=0o600):
                path = folder / LEDGER
                self._file = private_file(path)
                home = home_of(self._machine or Machine.this(), path, self._file)
                return self._connect(str(path), journal="wal", home=home)
        except Timeout as error:
            raise LocalError(
                "store_unavailable",
                f"another process has been opening the ledger for {self._busy_s:g} s",
                next_step="wait a minute, then call again",
            ) from error
        except OSError as error:
            raise unusable(folder, error) from error

    def _connect(self, path: str, *, journal: str = "memory", home: str = "") -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        try:
            _refuse_another_journal(connection, journal)
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            self._settle_in(connection, home)
        except BaseException:  # also a cancellation: what was begun is taken back, and the error goes on
            connection.close()
            raise
        return connection

    def _settle_in(self, connection: sqlite3.Connection, home: str) -> None:
        """Tables, ids, and what a copy has to leave behind, in one transaction."""
        reached = self._tide.reached() if self._tide is not None else 0  # first: others may write at any time
        connection.execute("BEGIN IMMEDIATE")
        try:
            schema.make_or_check(connection)
            ids = ids_at_home(connection, home, reached=reached, now=self._now())
            events = events_in(connection)
            connection.execute("COMMIT")
        except BaseException:  # the same
            connection.rollback()
            raise
        self._store_ids = ids
        if self._tide is not None and events != reached:
            self._tide.reach(events)

    def _refuse_a_lost_file(self) -> None:
        """SQLite goes on writing to a file that was deleted or replaced, and all of it would be lost."""
        if self._folder is None:
            return
        path = self._folder / LEDGER
        try:
            found = identity(path.stat())
        except FileNotFoundError:
            found = None
        except OSError as error:
            raise unusable(path, error) from error
        if found != self._file:
            raise LocalError(
                "store_unavailable",
                f"{path} was removed or replaced while it was in use",
                next_step="put the file back, or restart the server and look for running machines with preflight",
            )


def _refuse_another_journal(connection: sqlite3.Connection, allowed: str) -> None:
    (got,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if got != allowed:
        raise LocalError(
            "store_unavailable",
            f"the file system of the state folder can't hold the ledger: got journal mode {got}, allowed {allowed}",
            next_step="set VASTAI_WORKFLOW_STATE to a folder on a local disk",
        )


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code: int | None = getattr(error, "sqlite_errorcode", None)  # absent on errors of Python's own layer
        primary = None if code is None else code & 0xFF
        said, next_step = _NEXT_STEPS.get(primary or 0, ("the ledger refused", "report this as a fault"))
        raise LocalError("store_unavailable", f"{said} ({error})", next_step=next_step) from error
