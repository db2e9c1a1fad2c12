"""The audit trail in the store: noticed with the change it tells of, one sequence with the orders, only added to."""

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from tests.store.test_home import HERE, a_ledger_of_version_1, on
from tests.store.values import SteppedClock, a_workflow, an_order
from vastai_workflow.domain.audit import AuditEvent, Kind
from vastai_workflow.domain.errors import LocalError, Refusal
from vastai_workflow.domain.ledger import OrderFacts, OrderState
from vastai_workflow.domain.workflow import Confirmation, FieldState, No, Purpose, Workflow
from vastai_workflow.store.database import Database
from vastai_workflow.store.folder import LEDGER
from vastai_workflow.store.schema import VERSION
from vastai_workflow.store.sqlite import SqliteStore

VERSION_2 = "ALTER TABLE store ADD COLUMN home TEXT NOT NULL DEFAULT ''"


def a_yes(**changes: object) -> Confirmation:
    yes = Confirmation(
        confirmation_id="c1",
        purpose=Purpose.RENT,
        digest="d" * 16,
        account_id=7,
        by="relayed by tests",
        at=1.0,
        expires_at=1801.0,
        ceiling_per_hour=Decimal("0.53"),
        values={"gpu_name": "RTX 4090", "num_gpus": 1, "image": "pytorch/pytorch:latest", "disk_gb": 64},
    )
    return yes.model_copy(update=changes)


def an_end() -> Confirmation:
    return a_yes(confirmation_id="c2", purpose=Purpose.END, instance_ids=(5,), detail="destroy", ceiling_per_hour=None)


def an_event(**changes: object) -> AuditEvent:
    return AuditEvent(at=1.0, kind=Kind.REFUSED, owner="ada", by="called by tests").model_copy(update=changes)


async def told(store: SqliteStore, workflow_id: str | None = None) -> list[str]:
    return [event.code or event.kind for event in await store.trail(workflow_id)]


@pytest.mark.requirement("AUDIT-1")
async def test_a_yes_is_on_the_trail_with_the_change_that_gave_widened_or_spent_it(
    store: SqliteStore, clock: SteppedClock
) -> None:
    clock.time = 1_010.0
    await store.change_workflow("w1", lambda w: w.with_(confirmations=(a_yes(), an_end())))
    wider = a_yes(acknowledged=(8, 9))
    spent = an_end().model_copy(update={"spent_at": 1_020.0})
    await store.change_workflow("w1", lambda w: w.with_(confirmations=(wider, spent)))
    await store.change_workflow("w1", lambda w: w.with_(confirmations=(spent, wider), digest="other"))
    rent, end, kept, used = await store.trail()
    assert rent == AuditEvent(
        at=1_010.0,
        kind=Kind.CONFIRMED,
        owner="ada",
        by="relayed by tests",
        workflow_id="w1",
        purpose="rent",
        digest="d" * 16,
        confirmation_id="c1",
        what="1 machine of 1x RTX 4090, pytorch/pytorch:latest, 64 GB, at most $0.53/h each",
    )
    assert (end.purpose, end.instance_ids, end.what) == ("end", (5,), "destroy")
    assert (kept.kind, kept.confirmation_id, kept.instance_ids) == (Kind.ACKNOWLEDGED, "c1", (8, 9))
    assert (used.kind, used.confirmation_id, used.instance_ids) == (Kind.USED, "c2", (5,))


@pytest.mark.requirement("AUDIT-1")
async def test_a_yes_to_a_key_source_alone_is_on_the_trail_with_its_place_and_by_whom(store: SqliteStore) -> None:
    source = FieldState(value="file:/home/ada/key", status="confirmed", by="relayed by tests")
    gpu = FieldState(value="RTX 4090")
    await store.change_workflow("w1", lambda w: w.with_(fields={"api_key_source": source, "gpu_name": gpu}))
    await store.change_workflow("w1", lambda w: w.with_(digest="seen"))
    [event] = await store.trail()
    assert (event.purpose, event.by, event.what) == ("fields", "relayed by tests", "api_key_source=file:/home/ada/key")


@pytest.mark.requirement("AUDIT-1")
async def test_each_no_is_on_the_trail_once_with_who_said_it(store: SqliteStore) -> None:
    rent = No(by="ada", about=Purpose.RENT, digest="d" * 16, marks=("d" * 16,), instance_ids=(), code="a", said=True)
    source = {"about": "key", "digest": "e" * 16, "marks": ("key file:/home/ada/key",), "code": "b", "said": False}
    for no in (rent, rent, rent.model_copy(update=source), None):
        await store.change_workflow("w1", lambda w, no=no: w.with_(last_no=no or w.last_no, digest="seen"))
    first, second = await store.trail()
    assert (first.kind, first.by, first.digest, first.what) == (Kind.DECLINED, "ada", "d" * 16, "")
    assert (second.kind, second.purpose, second.digest) == (Kind.DECLINED, "key", "e" * 16)
    assert second.what == "key file:/home/ada/key, no answer"


@pytest.mark.requirement("AUDIT-1")
async def test_a_workflow_that_comes_with_a_yes_brings_it_onto_the_trail(store: SqliteStore) -> None:
    await store.add_workflow(a_workflow("w2", confirmations=(a_yes(),)))
    assert [(event.kind, event.workflow_id) for event in await store.trail()] == [(Kind.CONFIRMED, "w2")]


@pytest.mark.requirement("AUDIT-1")
async def test_a_change_that_raises_puts_no_yes_on_the_trail(store: SqliteStore) -> None:
    def late(_: Workflow) -> Workflow:
        raise Refusal("digest_mismatch", "the market moved")

    with pytest.raises(Refusal):
        await store.change_workflow("w1", late)
    assert await store.trail() == ()


@pytest.mark.requirement("AUDIT-1")
async def test_orders_stand_on_the_trail_with_their_yes_in_the_order_of_writing_whatever_the_clock_does(
    store: SqliteStore, clock: SteppedClock
) -> None:
    await store.change_workflow("w1", lambda w: w.with_(confirmations=(a_yes(),)))
    clock.time = 500.0
    await store.add_orders([an_order(confirmation_id="c1", agreed_by="relayed by tests, 1970-01-01 00:00 UTC")])
    await store.record([an_event(code="not_confirmed", workflow_id="w1")])
    clock.time = 400.0
    await store.move_order("o1", OrderState.SENT, OrderFacts(sent_at=400.0))
    await store.record([an_event(code="read_only"), an_event(code="plan_unknown", workflow_id="w2")])
    await store.move_order("o1", OrderState.RENTED, OrderFacts(instance_id=99))
    await store.move_order("o1", OrderState.RELEASED, OrderFacts(reason="destroyed on request", cost_usd=Decimal(2)))
    assert await told(store) == [
        *("confirmed", "planned", "not_confirmed", "planned -> sent", "read_only", "plan_unknown"),
        *("sent -> rented", "rented -> released"),
    ]
    assert await told(store, "w1") == [
        *("confirmed", "planned", "not_confirmed", "planned -> sent", "sent -> rented", "rented -> released"),
    ]
    assert await told(store, "w404") == []
    planned, *_, rented, released = [event for event in await store.trail("w1") if event.kind is Kind.ORDER]
    assert planned.what == "offer 11, 1x RTX 4090, 64 GB, $0.42/h, at most $0.53/h"
    assert (planned.digest, planned.by, planned.at, planned.instance_ids) == ("d" * 16, "relayed by tests", 500.0, ())
    assert rented.instance_ids == released.instance_ids == (99,)
    assert released.what == "it cost $2.00, destroyed on request"


@pytest.mark.requirement("AUDIT-2")
@pytest.mark.parametrize("statement", ["UPDATE audit_events SET body = '{}'", "DELETE FROM audit_events"])
async def test_the_trail_is_only_added_to(file_store: SqliteStore, folder_database: Database, statement: str) -> None:
    await file_store.record([an_event()])
    with pytest.raises(LocalError, match="audit events are never"), folder_database.writing() as connection:
        connection.execute(statement)
    assert await file_store.trail() == (an_event(),)


@pytest.mark.requirement("AUDIT-2")
@pytest.mark.parametrize("version", [1, 2])
async def test_a_ledger_of_an_older_version_gets_a_trail_with_the_orders_it_had(folder: Path, version: int) -> None:
    raw = a_ledger_of_version_1(folder)
    raw.execute("INSERT INTO order_events VALUES (1, 'o1', NULL, 'planned', 2.0, '{}')")
    if version > 1:
        raw.execute(VERSION_2)
        raw.execute("PRAGMA user_version = 2")
    raw.commit()
    store = on(HERE, folder)
    await store.record([an_event(workflow_id="w1")])
    assert [(event.kind, event.order_id, event.digest) for event in await store.trail("w1")] == [
        (Kind.ORDER, "o1", ""),
        (Kind.REFUSED, "", ""),
    ]
    await store.aclose()
    assert raw.execute("PRAGMA user_version").fetchone() == (VERSION,)
    with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
        raw.execute("DELETE FROM audit_events")
    raw.close()


@pytest.mark.requirement("AUDIT-2")
async def test_a_ledger_that_was_copied_says_so_on_its_trail(folder: Path) -> None:
    store = on(HERE, folder)
    await store.add_workflow(a_workflow(confirmations=(a_yes(),)))
    await store.add_orders([an_order()])
    await store.aclose()
    (folder / "copy").write_bytes((folder / LEDGER).read_bytes())
    (folder / "copy").replace(folder / LEDGER)
    store = on(HERE, folder)
    assert await told(store) == ["confirmed", "planned", "planned -> dropped", "moved"]
    await store.aclose()


@pytest.mark.requirement("AUDIT-2")
async def test_an_event_that_can_not_be_read_is_named_without_its_values(
    file_store: SqliteStore, folder_database: Database
) -> None:
    with folder_database.writing() as connection:
        connection.execute('INSERT INTO audit_events (order_events, body) VALUES (0, \'{"secret": "sesame"}\')')
    with pytest.raises(LocalError, match="audit event 1 can't be read") as refused:
        await file_store.trail()
    assert "sesame" not in repr(refused.value)
