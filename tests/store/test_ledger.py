import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.values import SteppedClock, a_workflow, an_order
from vastai_workflow.domain.errors import LocalError, Refusal
from vastai_workflow.domain.ledger import TRANSITIONS, IllegalMoveError, OrderFacts, OrderState
from vastai_workflow.store.database import Database
from vastai_workflow.store.sqlite import OrderEvent, SqliteStore


async def attempt(store: SqliteStore, order_id: str, to: OrderState) -> bool:
    try:
        moved = await store.move_order(order_id, to)
    except IllegalMoveError:
        return False
    assert moved.state is to
    return True


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["o1", "o2"]), st.sampled_from(list(OrderState))), max_size=20))
async def test_no_order_ever_leaves_the_table_of_legal_moves(moves: list[tuple[str, OrderState]]) -> None:
    store = SqliteStore(":memory:", clock=SteppedClock())
    await store.add_workflow(a_workflow())
    await store.add_orders([an_order("o1"), an_order("o2")])
    states = {"o1": OrderState.PLANNED, "o2": OrderState.PLANNED}
    history = {"o1": [OrderState.PLANNED], "o2": [OrderState.PLANNED]}
    for order_id, to in moves:
        legal = to in TRANSITIONS[states[order_id]]
        assert await attempt(store, order_id, to) is legal
        if legal:
            states[order_id] = to
            history[order_id].append(to)
    assert {order.order_id: order.state for order in await store.orders()} == states
    for order_id, passed in history.items():
        events = await store.events(order_id)
        assert [event.state for event in events] == passed
        assert [event.was for event in events] == [None, *passed[:-1]]
    await store.aclose()


async def test_a_move_keeps_its_facts_and_the_time_of_the_stores_clock(store: SqliteStore, clock: SteppedClock) -> None:
    await store.add_orders([an_order()])
    clock.time = 1_010.0
    sent = await store.move_order("o1", OrderState.SENT, OrderFacts(sent_at=1_010.0))
    clock.time = 1_020.0
    rented = await store.move_order("o1", OrderState.RENTED, OrderFacts(instance_id=99))
    clock.time = 1_030.0
    noted = await store.note_order("o1", OrderFacts(warnings=("dearer than planned",)))
    assert (sent.sent_at, rented.sent_at, rented.instance_id) == (1_010.0, 1_010.0, 99)
    assert noted == rented.model_copy(update={"warnings": ("dearer than planned",)})
    assert await store.orders() == (noted,)
    assert await store.events("o1") == (
        OrderEvent("o1", None, OrderState.PLANNED, 1_000.0, OrderFacts()),
        OrderEvent("o1", OrderState.PLANNED, OrderState.SENT, 1_010.0, OrderFacts(sent_at=1_010.0)),
        OrderEvent("o1", OrderState.SENT, OrderState.RENTED, 1_020.0, OrderFacts(instance_id=99)),
        OrderEvent("o1", OrderState.RENTED, OrderState.RENTED, 1_030.0, OrderFacts(warnings=("dearer than planned",))),
    )


async def test_an_illegal_move_leaves_no_trace(store: SqliteStore) -> None:
    await store.add_orders([an_order()])
    with pytest.raises(IllegalMoveError, match="o1 is planned"):
        await store.move_order("o1", OrderState.RENTED, OrderFacts(instance_id=99))
    assert await store.orders() == (an_order(),)
    assert len(await store.events()) == 1


@pytest.mark.parametrize("how", ["move", "note"])
async def test_an_order_that_the_ledger_does_not_hold_is_refused(store: SqliteStore, how: str) -> None:
    with pytest.raises(Refusal, match="got order 'o404'") as refused:
        await (store.move_order("o404", OrderState.SENT) if how == "move" else store.note_order("o404", OrderFacts()))
    assert refused.value.code == "invalid_argument"


async def test_orders_are_added_all_or_none(store: SqliteStore) -> None:
    await store.add_orders([an_order("o1")])
    with pytest.raises(LocalError):
        await store.add_orders([an_order("o2"), an_order("o1")])
    assert [order.order_id for order in await store.orders()] == ["o1"]
    assert len(await store.events()) == 1


async def test_an_order_without_its_workflow_is_refused(store: SqliteStore) -> None:
    with pytest.raises(LocalError, match="FOREIGN KEY"):
        await store.add_orders([an_order(workflow_id="w404")])


async def test_orders_are_found_by_every_condition_that_is_given_oldest_first(store: SqliteStore) -> None:
    await store.add_workflow(a_workflow("w2"))
    await store.add_orders([an_order("o1"), an_order("o2", account_id=8), an_order("o3", workflow_id="w2")])
    for order_id, instance_id in (("o1", 101), ("o3", 103)):
        await store.move_order(order_id, OrderState.SENT)
        await store.move_order(order_id, OrderState.RENTED, OrderFacts(instance_id=instance_id))

    async def found(**conditions: object) -> list[str]:
        return [order.order_id for order in await store.orders(**conditions)]  # pyright: ignore[reportArgumentType]  # each case names its own

    assert await found() == ["o1", "o2", "o3"]
    assert await found(workflow_id="w1") == ["o1", "o2"]
    assert await found(account_id=7) == ["o1", "o3"]
    assert await found(instance_ids=[103, 101, 5]) == ["o1", "o3"]
    assert await found(states=[OrderState.PLANNED, OrderState.UNKNOWN]) == ["o2"]
    assert await found(account_id=7, workflow_id="w2", states=(OrderState.RENTED,)) == ["o3"]
    assert await found(instance_ids=[]) == await found(states=[]) == []


@pytest.mark.parametrize(
    "statement",
    ["UPDATE order_events SET at = 0", "DELETE FROM order_events", "DELETE FROM orders", "DELETE FROM workflows"],
)
async def test_the_ledger_refuses_to_forget(file_store: SqliteStore, folder_database: Database, statement: str) -> None:
    await file_store.add_orders([an_order()])
    with pytest.raises(LocalError, match=r"never|FOREIGN KEY"), folder_database.writing() as connection:
        connection.execute(statement)
    with folder_database.reading() as connection:
        assert connection.execute("SELECT count(*), min(at) FROM order_events").fetchone() == (1, 1_000.0)


async def test_a_state_that_no_table_has_can_not_be_written(file_store: SqliteStore, folder_database: Database) -> None:
    await file_store.add_orders([an_order()])
    with pytest.raises(LocalError) as refused, folder_database.writing() as connection:
        connection.execute("UPDATE orders SET state = 'lost'")
    assert isinstance(refused.value.__cause__, sqlite3.IntegrityError)
