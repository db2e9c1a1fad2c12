"""A ledger that was copied, restored or carried elsewhere, as the store sees it."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from hypothesis import HealthCheck, given, settings

from tests.store.test_workflows import WORKFLOWS
from tests.store.values import SteppedClock, a_database, a_workflow, an_order
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.ledger import OrderFacts, OrderState
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.store.database import TIDE
from vastai_workflow.store.folder import LEDGER
from vastai_workflow.store.home import MOVED, Machine, home_of
from vastai_workflow.store.sqlite import OrderEvent, SqliteStore

HERE = Machine("here", "boot 1")

VERSION_1 = (
    "CREATE TABLE store (store_id TEXT NOT NULL)",
    """CREATE TABLE workflows (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, created_at REAL NOT NULL,
        body TEXT NOT NULL)""",
    "CREATE INDEX workflows_of_owner ON workflows (owner)",
    """CREATE TABLE orders (
        seq INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE,
        workflow_id TEXT NOT NULL REFERENCES workflows (id), account_id INTEGER NOT NULL, instance_id INTEGER,
        state TEXT NOT NULL CHECK (state IN ('planned', 'sent', 'unknown', 'rented', 'refused', 'not_rented', 'dropped',
        'released')), created_at REAL NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX orders_of_workflow ON orders (workflow_id)",
    """CREATE TABLE order_events (
        seq INTEGER PRIMARY KEY, order_id TEXT NOT NULL REFERENCES orders (order_id),
        from_state TEXT, to_state TEXT NOT NULL, at REAL NOT NULL, facts TEXT NOT NULL)""",
    "CREATE INDEX events_of_order ON order_events (order_id)",
    "CREATE TABLE windows (instance_id INTEGER PRIMARY KEY, body TEXT NOT NULL)",
    """CREATE TRIGGER events_stay BEFORE DELETE ON order_events
        BEGIN SELECT RAISE(ABORT, 'order events are never deleted'); END""",
    """CREATE TRIGGER events_keep BEFORE UPDATE ON order_events
        BEGIN SELECT RAISE(ABORT, 'order events are never changed'); END""",
)
"""The tables as the first version made them."""


def on(machine: Machine, folder: Path) -> SqliteStore:
    return SqliteStore(folder, clock=SteppedClock(now=5_000.0), machine=machine)


async def ids(folder: Path, machine: Machine = HERE) -> tuple[str, ...]:
    """What a process that opens the ledger finds; it closes it again."""
    store = on(machine, folder)
    found = store.store_ids
    await store.aclose()
    return found


async def a_ledger(folder: Path) -> tuple[str, ...]:
    """One with an order in its first event, closed; its ids."""
    store = on(HERE, folder)
    await store.add_workflow(a_workflow())
    await store.add_orders([an_order()])
    found = store.store_ids
    await store.aclose()
    return found


def copied(folder: Path) -> Path:
    elsewhere = folder.with_name(f"copy of {folder.name}")
    shutil.copytree(folder, elsewhere)
    return elsewhere


def renamed(folder: Path) -> Path:
    return folder.rename(folder.with_name("renamed"))


async def one_more_order(folder: Path) -> None:
    store = on(HERE, folder)
    await store.add_orders([an_order("o2")])
    await store.aclose()


@pytest.mark.requirement("ONCE-10")
@pytest.mark.parametrize("machine", [HERE, Machine("here", "boot 2"), Machine("container 2", "boot 1")])
async def test_a_ledger_stays_itself_over_restarts_of_process_machine_and_container(
    folder: Path, machine: Machine
) -> None:
    before = await a_ledger(folder)
    assert await ids(folder, machine) == before
    assert await ids(folder, machine) == before


@pytest.mark.requirement("ONCE-10")
async def test_a_ledger_follows_a_machine_that_is_renamed_and_restarted_later(folder: Path) -> None:
    before = await a_ledger(folder)
    for machine in (Machine("renamed", "boot 1"), Machine("renamed", "boot 2"), Machine("again", "boot 2")):
        assert await ids(folder, machine) == before


@pytest.mark.requirement("ONCE-10")
async def test_a_folder_under_a_new_name_holds_the_same_ledger(folder: Path) -> None:
    before = await a_ledger(folder)
    assert await ids(renamed(folder)) == before


@pytest.mark.requirement("ONCE-10")
async def test_a_copy_takes_an_id_of_its_own_and_knows_the_older_one_and_the_original_stays_as_it_was(
    folder: Path,
) -> None:
    (first,) = await a_ledger(folder)
    elsewhere = copied(folder)
    kept = await ids(elsewhere)
    assert kept[0] == first
    assert len(set(kept)) == 2
    assert await ids(elsewhere) == kept
    assert await ids(folder) == (first,)
    copy_of_the_copy = await ids(copied(elsewhere))
    assert copy_of_the_copy[:2] == kept
    assert len(set(copy_of_the_copy)) == 3


@pytest.mark.requirement("ONCE-10")
async def test_the_same_file_on_a_second_machine_is_a_copy(folder: Path) -> None:
    before = await a_ledger(folder)
    assert len(await ids(folder, Machine("there", "boot 9"))) == len(before) + 1


def a_ledger_of_version_1(folder: Path) -> sqlite3.Connection:
    """One with a planned order, as the first version left it."""
    folder.mkdir(parents=True, mode=0o700)
    raw = sqlite3.connect(folder / LEDGER)
    for statement in VERSION_1:
        raw.execute(statement)
    raw.execute("INSERT INTO store VALUES ('0123456789abcdef')")
    raw.execute(
        "INSERT INTO workflows (id, owner, created_at, body) VALUES ('w1', 'ada', 1.0, ?)",
        (json.dumps({**a_workflow().model_dump(mode="json"), "asked_active": [9], "questions": [{"purpose": "end"}]}),),
    )
    raw.execute(
        "INSERT INTO orders (order_id, workflow_id, account_id, state, created_at, body)"
        " VALUES ('o1', 'w1', 7, 'planned', 2.0, ?)",
        (an_order().model_dump_json(),),
    )
    raw.execute("PRAGMA user_version = 1")
    raw.commit()
    return raw


def over_the_file(backup: bytes, ledger: Path) -> None:
    ledger.write_bytes(backup)


def in_its_place(backup: bytes, ledger: Path) -> None:
    ledger.with_suffix(".new").write_bytes(backup)
    ledger.with_suffix(".new").replace(ledger)


def removed_and_written(backup: bytes, ledger: Path) -> None:
    ledger.unlink()
    ledger.write_bytes(backup)


@pytest.mark.requirement("ONCE-10")
@pytest.mark.parametrize("restore", [over_the_file, in_its_place, removed_and_written])
async def test_a_restored_older_ledger_is_noticed_however_it_was_put_back(
    folder: Path, restore: Callable[[bytes, Path], None]
) -> None:
    before = await a_ledger(folder)
    backup = (folder / LEDGER).read_bytes()
    await one_more_order(folder)
    restore(backup, folder / LEDGER)
    kept = await ids(folder)
    assert kept[:-1] == before
    assert await ids(folder) == kept


@pytest.mark.requirement("ONCE-10")
async def test_what_was_planned_is_dropped_on_record_in_a_copy_and_all_else_stays(folder: Path) -> None:
    store = on(HERE, folder)
    await store.add_workflow(a_workflow())
    await store.add_orders([an_order("o1"), an_order("o2"), an_order("o3"), an_order("o4")])
    await store.move_order("o2", OrderState.SENT, OrderFacts(sent_at=3.0))
    await store.move_order("o3", OrderState.SENT, OrderFacts(sent_at=3.0))
    await store.move_order("o3", OrderState.RENTED, OrderFacts(instance_id=103))
    before, told = await store.orders(), await store.events()
    await store.aclose()

    copy = on(HERE, copied(folder))
    reason = OrderFacts(reason=MOVED)
    assert await copy.orders() == (
        before[0].moved(OrderState.DROPPED, reason),
        *before[1:3],
        before[3].moved(OrderState.DROPPED, reason),
    )
    assert await copy.events() == (
        *told,
        OrderEvent("o1", OrderState.PLANNED, OrderState.DROPPED, 5_000.0, reason),
        OrderEvent("o4", OrderState.PLANNED, OrderState.DROPPED, 5_000.0, reason),
    )
    assert await copy.orders(states=[OrderState.PLANNED]) == ()
    assert await store.orders() == before
    await copy.aclose()
    await store.aclose()


@pytest.mark.requirement("ONCE-10")
async def test_a_copy_holds_no_fleet_together_since_the_original_may_have_the_rest(folder: Path) -> None:
    store = on(HERE, folder)
    await store.add_workflow(a_workflow())
    await store.add_orders([an_order(fleet="all_or_nothing", state=OrderState.RENTED, instance_id=1)])
    await store.aclose()
    copy = on(HERE, copied(folder))
    [order] = await copy.orders()
    assert order == an_order(fleet=None, state=OrderState.RENTED, instance_id=1)
    await copy.aclose()


@pytest.mark.requirement("ONCE-10")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workflow=WORKFLOWS)
async def test_a_copy_takes_no_yes_with_it_and_changes_nothing_else_of_a_workflow(
    tmp_path: Path, workflow: Workflow
) -> None:
    folder, elsewhere = tmp_path / "state", tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(elsewhere, ignore_errors=True)
    store = on(HERE, folder)
    await store.add_workflow(workflow)
    await store.aclose()
    shutil.copytree(folder, elsewhere)
    copy = on(HERE, elsewhere)
    ended = [item.model_copy(update={"expires_at": min(item.expires_at, 5_000.0)}) for item in workflow.confirmations]
    found = await copy.workflow(workflow.workflow_id)
    assert found is not None
    assert found == workflow.with_(confirmations=tuple(ended))
    assert not any(item.open_at(5_000.0) for item in found.confirmations)
    await copy.aclose()


@pytest.mark.requirement("ONCE-10")
async def test_a_copy_that_can_not_drop_what_is_planned_is_not_opened_and_not_half_changed(folder: Path) -> None:
    await a_ledger(folder)
    elsewhere = copied(folder)
    raw = sqlite3.connect(elsewhere / LEDGER)
    raw.execute("CREATE TRIGGER stuck BEFORE UPDATE ON orders BEGIN SELECT RAISE(ABORT, 'stuck'); END")
    for _ in range(2):
        with pytest.raises(LocalError, match="stuck"):
            await ids(elsewhere)
    assert raw.execute("SELECT count(*) FROM store").fetchone() == (1,)
    assert raw.execute("SELECT count(*) FROM order_events").fetchone() == (1,)
    raw.execute("DROP TRIGGER stuck")
    raw.close()
    assert len(await ids(elsewhere)) == 2


@pytest.mark.requirement("ONCE-10")
async def test_many_that_open_a_copy_at_once_take_one_new_id(folder: Path) -> None:
    await a_ledger(folder)
    elsewhere = copied(folder)
    databases = [a_database(elsewhere) for _ in range(8)]
    found: list[tuple[str, ...]] = []

    async with anyio.create_task_group() as tasks:
        for database in databases:
            tasks.start_soon(to_thread.run_sync, lambda database=database: found.append(database.store_ids))
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(found[0]) == 2
    for database in databases:
        database.close()


@pytest.mark.requirement("ONCE-10")
async def test_a_ledger_in_use_marks_with_the_id_that_another_process_took(folder: Path) -> None:
    await a_ledger(folder)
    working = on(HERE, folder)
    assert len(working.store_ids) == 1
    after = await ids(folder, Machine("there", "boot 9"))
    assert working.store_ids == after
    assert working.store_id == after[-1]
    await working.aclose()


@pytest.mark.requirement("ONCE-10")
async def test_a_count_of_events_that_can_not_be_read_counts_as_a_copy_once(folder: Path) -> None:
    before = await a_ledger(folder)
    (folder / TIDE).write_bytes(b"what is this? certainly no number")
    kept = await ids(folder)
    assert len(kept) == len(before) + 1
    assert await ids(folder) == kept


@pytest.mark.requirement("ONCE-10")
async def test_a_count_of_events_that_is_gone_or_can_not_be_written_stops_nobody(folder: Path) -> None:
    before = await a_ledger(folder)
    (folder / TIDE).unlink()
    assert await ids(folder) == before
    (folder / TIDE).unlink()
    (folder / TIDE).mkdir()
    await one_more_order(folder)
    store = on(HERE, folder)
    assert [order.order_id for order in await store.orders()] == ["o1", "o2"]
    await store.aclose()


@pytest.mark.requirement("ONCE-10")
async def test_a_ledger_of_the_first_version_is_kept_with_its_id_and_orders(folder: Path) -> None:
    raw = a_ledger_of_version_1(folder)
    store = on(HERE, folder)
    assert store.store_ids == ("0123456789abcdef",)
    assert await store.orders() == (an_order(),)
    assert await store.workflow("w1") == a_workflow()
    await store.aclose()
    new = folder.with_name("new")
    await a_ledger(new)
    shape = "SELECT name, replace(replace(sql, char(10), ''), ' ', '') FROM sqlite_master ORDER BY name"
    made_now = sqlite3.connect(new / LEDGER)
    assert raw.execute(shape).fetchall() == made_now.execute(shape).fetchall()
    assert raw.execute("PRAGMA user_version").fetchone() == made_now.execute("PRAGMA user_version").fetchone()
    raw.close()
    made_now.close()
    assert len(await ids(copied(folder))) == 2  # from now on it knows its home


@pytest.mark.requirement("ONCE-10")
def test_a_home_is_one_machine_one_place_and_one_file() -> None:
    here = home_of(HERE, Path("/state/ledger.db"), (1, 2)).split()
    assert len(here) == 2
    assert here == home_of(HERE, Path("/state/ledger.db"), (1, 2)).split()
    others = [
        home_of(Machine("there", "boot 9"), Path("/state/ledger.db"), (1, 2)),
        home_of(HERE, Path("/state/ledger.db"), (1, 3)),
        home_of(HERE, Path("/usb/ledger.db"), (8, 2)),
    ]
    assert [set(here) & set(other.split()) for other in others] == [set()] * 3
    assert home_of(Machine("here", ""), Path("/state/ledger.db"), (1, 2)).split() == here[:1]


@pytest.mark.requirement("ONCE-10")
def test_this_machine_has_a_name_that_stays() -> None:
    assert Machine.this().name
    assert Machine.this() == Machine.this()
