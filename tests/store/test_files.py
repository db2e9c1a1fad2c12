import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from filelock import FileLock

from tests.store.values import SteppedClock, a_database, a_workflow, an_order
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.ledger import IllegalMoveError, OrderState
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.store.database import TIDE, Database
from vastai_workflow.store.folder import LEDGER
from vastai_workflow.store.schema import VERSION
from vastai_workflow.store.sqlite import SqliteStore


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"


def exists(path: Path) -> bool:
    return path.exists()


def modes(folder: Path) -> dict[str, str]:
    return {path.name: mode(path) for path in folder.iterdir()}


def made(folder: Path, *names: str, mode: int = 0o700) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    folder.chmod(mode)


def code_of(error: pytest.ExceptionInfo[LocalError]) -> str:
    assert "Next: " in error.value.sentence
    return error.value.code


async def test_nothing_is_touched_before_the_first_use(folder: Path) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    store.account_lock(7)
    assert not exists(folder)
    assert store.store_id
    assert LEDGER in modes(folder)
    await store.aclose()


async def test_the_folder_and_every_file_are_closed_to_others(folder: Path, loose_umask: None) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    await store.add_workflow(a_workflow())
    async with store.account_lock(7):
        found = modes(folder)
    assert mode(folder) == "0700"
    assert set(found) == {LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", "opening.lock", "account-7.lock", TIDE}
    assert set(found.values()) == {"0600"}
    await store.aclose()


async def test_a_loose_folder_of_ours_is_closed(folder: Path, loose_umask: None) -> None:
    made(folder, LEDGER, mode=0o777)
    assert (mode(folder), mode(folder / LEDGER)) == ("0777", "0666")
    store = SqliteStore(folder, clock=SteppedClock())
    await store.add_workflow(a_workflow())
    assert (mode(folder), mode(folder / LEDGER)) == ("0700", "0600")
    await store.aclose()


async def test_a_shared_folder_with_other_things_is_refused_and_left_alone(folder: Path) -> None:
    made(folder, "thesis.txt", mode=0o755)
    with pytest.raises(LocalError, match="got mode 0755, allowed 0700") as refused:
        await SqliteStore(folder, clock=SteppedClock()).workflow("w1")
    assert code_of(refused) == "store_unavailable"
    assert list(modes(folder)) == ["thesis.txt"]
    assert mode(folder) == "0755"


async def test_a_commit_waits_for_the_disk(file_store: SqliteStore, folder_database: Database) -> None:
    with folder_database.reading() as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "fullfsync", "busy_timeout", "user_version")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "fullfsync": 1,
        "busy_timeout": 5000,
        "user_version": VERSION,
    }


async def test_a_second_store_on_the_folder_is_the_same_store(folder: Path) -> None:
    first, second = (SqliteStore(folder, clock=SteppedClock()) for _ in range(2))
    await first.add_workflow(a_workflow())
    assert second.store_id == first.store_id
    await first.aclose()
    assert await second.workflow("w1") == await first.workflow("w1") == a_workflow()
    assert SqliteStore(":memory:", clock=SteppedClock()).store_id != first.store_id
    await first.aclose()
    await second.aclose()


async def test_many_that_open_a_new_store_at_once_make_one_store(folder: Path) -> None:
    databases = [a_database(folder) for _ in range(8)]
    ids: list[str] = []

    def opened(database: Database) -> None:
        ids.extend(database.store_ids)

    async with anyio.create_task_group() as tasks:
        for database in databases:
            tasks.start_soon(to_thread.run_sync, opened, database)
    assert len(ids) == 8
    assert len(set(ids)) == 1
    for database in databases:
        database.close()


async def test_one_process_at_a_time_opens_the_store(folder: Path) -> None:
    made(folder)
    store = SqliteStore(folder, clock=SteppedClock(), busy_s=0)
    with FileLock(folder / "opening.lock"):
        with pytest.raises(LocalError, match="been opening the ledger") as refused:
            await store.workflow("w1")
        assert code_of(refused) == "store_unavailable"
        assert LEDGER not in modes(folder)
    assert await store.workflow("w1") is None
    await store.aclose()


async def test_no_change_of_two_stores_is_lost(folder: Path) -> None:
    stores = [SqliteStore(folder, clock=SteppedClock()) for _ in range(2)]
    await stores[0].add_workflow(a_workflow())

    async def change(store: SqliteStore, number: int) -> None:
        await store.change_workflow("w1", lambda found: found.with_(shown_active=(*found.shown_active, number)))

    await asyncio.gather(*(change(stores[number % 2], number) for number in range(30)))
    kept = await stores[0].workflow("w1")
    assert kept is not None
    assert sorted(kept.shown_active) == list(range(30))
    for store in stores:
        await store.aclose()


async def test_of_two_stores_that_send_one_order_only_one_does(folder: Path) -> None:
    stores = [SqliteStore(folder, clock=SteppedClock()) for _ in range(2)]
    await stores[0].add_workflow(a_workflow())
    await stores[0].add_orders([an_order()])
    moves = (store.move_order("o1", OrderState.SENT) for store in stores for _ in range(3))
    results = await asyncio.gather(*moves, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["IllegalMoveError"] * 5 + ["Order"]
    assert [event.state for event in await stores[1].events()] == [OrderState.PLANNED, OrderState.SENT]
    assert any(isinstance(result, IllegalMoveError) for result in results)
    for store in stores:
        await store.aclose()


class SlowChange:
    """A change that stands still in the middle of its transaction until it is told to go on."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, workflow: Workflow) -> Workflow:
        self.started.set()
        assert self.go_on.wait(20)
        return workflow.with_(digest="after")


@pytest.mark.parametrize("native", [False, True], ids=["anyio", "asyncio"])
async def test_a_call_that_is_cancelled_midway_is_done_in_full(folder: Path, native: bool) -> None:  # noqa: FBT001  # a parameter of the test
    store = SqliteStore(folder, clock=SteppedClock())
    await store.add_workflow(a_workflow())
    slow = SlowChange()
    scope = anyio.CancelScope()

    async def call() -> None:
        with scope:
            await store.change_workflow("w1", slow)

    task = asyncio.create_task(call())
    assert await to_thread.run_sync(slow.started.wait, 20)
    if native:
        task.cancel()
    else:
        scope.cancel()
    await asyncio.sleep(0)
    slow.go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    kept = await store.workflow("w1")
    assert kept is not None
    assert kept.digest == "after"
    await store.aclose()


async def test_a_newer_ledger_is_refused_and_left_alone(folder: Path) -> None:
    database = a_database(folder)
    with database.writing() as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    with pytest.raises(LocalError, match=f"newer version: got schema {VERSION + 1}, allowed {VERSION}") as refused:
        await SqliteStore(folder, clock=SteppedClock()).workflow("w1")
    assert code_of(refused) == "store_unavailable"
    assert "upgrade" in refused.value.sentence


async def test_another_programs_database_is_refused_and_left_alone(folder: Path) -> None:
    made(folder)
    other = sqlite3.connect(folder / LEDGER)
    other.execute("CREATE TABLE songs (title TEXT)")
    other.close()
    with pytest.raises(LocalError, match="not a ledger"):
        await SqliteStore(folder, clock=SteppedClock()).workflow("w1")
    other = sqlite3.connect(folder / LEDGER)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]
    other.close()


async def test_a_file_that_is_no_database_is_kept_and_refused(folder: Path) -> None:
    made(folder)
    (folder / LEDGER).write_bytes(b"not a database" * 100)
    with pytest.raises(LocalError, match="no database") as refused:
        await SqliteStore(folder, clock=SteppedClock()).workflow("w1")
    assert code_of(refused) == "store_unavailable"
    assert (folder / LEDGER).read_bytes() == b"not a database" * 100


async def test_a_damaged_record_is_named_without_its_values(folder: Path) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    await store.add_workflow(a_workflow())
    database = a_database(folder)
    with database.writing() as connection:
        connection.execute("""UPDATE workflows SET body = '{"workflow_id": "w1", "secrets": {"A": 5137}}'""")
    database.close()
    with pytest.raises(LocalError, match="workflow w1 can't be read") as refused:
        await store.workflow("w1")
    assert "5137" not in repr(refused.value)
    await store.aclose()


async def test_a_full_disk_is_said_and_nothing_half_written_stays(folder: Path) -> None:
    database = a_database(folder)
    with database.writing() as connection:
        connection.execute("PRAGMA max_page_count = 20")
    many = [(number, "x" * 4000) for number in range(100)]
    with pytest.raises(LocalError, match="disk is full") as refused, database.writing() as connection:
        connection.executemany("INSERT INTO windows VALUES (?, ?)", many)
    assert code_of(refused) == "store_unavailable"
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM windows").fetchone() == (0,)
    with database.writing() as connection:
        connection.execute("INSERT INTO windows VALUES (1, '{}')")
    database.close()


async def test_a_ledger_that_can_not_be_written_is_said(folder: Path) -> None:
    database = a_database(folder)
    with database.reading() as connection:
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(LocalError, match="can't be written") as refused, database.writing() as connection:
        connection.execute("INSERT INTO windows VALUES (1, '{}')")
    assert code_of(refused) == "store_unavailable"
    database.close()


async def test_another_process_that_holds_the_ledger_is_said(folder: Path) -> None:
    holder, store = a_database(folder), SqliteStore(folder, clock=SteppedClock(), busy_s=0)
    await store.add_workflow(a_workflow())
    with holder.writing():
        with pytest.raises(LocalError, match="another process holds the ledger") as refused:
            await store.add_workflow(a_workflow("w2"))
        assert await store.workflow("w1") == a_workflow()
    assert code_of(refused) == "store_unavailable"
    await store.add_workflow(a_workflow("w2"))
    holder.close()
    await store.aclose()


def take_away(folder: Path, how: str) -> None:
    if how == "replaced":
        (folder / "copy").write_bytes((folder / LEDGER).read_bytes())
        (folder / "copy").replace(folder / LEDGER)
    elif how == "removed":
        (folder / LEDGER).unlink()
    else:
        folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("gone", ["removed", "replaced", "folder moved"])
async def test_nothing_is_written_to_a_file_that_was_taken_away(folder: Path, gone: str) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    await store.add_workflow(a_workflow())
    take_away(folder, gone)
    with pytest.raises(LocalError, match="removed or replaced") as refused:
        await store.add_workflow(a_workflow("w2"))
    assert code_of(refused) == "store_unavailable"
    await store.aclose()


@pytest.mark.parametrize("place", ["a file", "under a file", "a folder for a ledger"])
async def test_a_place_that_is_no_folder_is_said(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "odd" / LEDGER).mkdir(parents=True)
    folder = {"a file": tmp_path / "file", "under a file": tmp_path / "file" / "x"}.get(place, tmp_path / "odd")
    with pytest.raises(LocalError, match="can't be used") as refused:
        await SqliteStore(folder, clock=SteppedClock()).workflow("w1")
    assert code_of(refused) == "store_unavailable"


async def test_a_store_that_failed_to_open_opens_once_the_cause_is_gone(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    store = SqliteStore(tmp_path / "state", clock=SteppedClock())
    with pytest.raises(LocalError):
        await store.workflow("w1")
    (tmp_path / "state").unlink()
    assert await store.workflow("w1") is None
    await store.aclose()
