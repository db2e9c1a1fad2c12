from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.store.values import SteppedClock, a_database, a_workflow, an_order
from vastai_workflow.domain.balance import Balance
from vastai_workflow.domain.errors import LocalError, Refusal
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState
from vastai_workflow.domain.workflow import (
    ChosenKey,
    Confirmation,
    FieldState,
    Plan,
    PlannedOffer,
    Purpose,
    Question,
    Shown,
    Workflow,
)
from vastai_workflow.steps.ports import Store, Window
from vastai_workflow.store.sqlite import SqliteStore

IDS = st.integers(0, 2**63 - 1)
MONEY = st.decimals(min_value=0, max_value=10**6, places=6)
TIMES = st.floats(0, 1e12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BY_HINT: dict[Any, st.SearchStrategy[Any]] = {
    Any: JSON,
    int: IDS,
    int | None: st.none() | IDS,
    float: TIMES,
    float | None: st.none() | TIMES,
    Decimal: MONEY,
    Decimal | None: st.none() | MONEY,
    Mapping[str, Any]: st.dictionaries(st.text(), JSON, max_size=3),
    tuple[int, ...]: st.lists(IDS, max_size=3).map(tuple),
}


def every_field(model: type[Any], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a model with every field set, also those that have a default."""
    hints = get_type_hints(model)
    names = model.model_fields if issubclass(model, BaseModel) else model.__dataclass_fields__
    return st.builds(
        model, **{name: given.get(name, BY_HINT.get(hints[name], st.from_type(hints[name]))) for name in names}
    )


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=2).map(tuple)


WORKFLOWS: st.SearchStrategy[Workflow] = every_field(
    Workflow,
    fields=st.dictionaries(st.text(), every_field(FieldState), max_size=3),
    ssh_key=st.none() | every_field(ChosenKey),
    confirmations=some(every_field(Confirmation)),
    shown=some(every_field(Shown)),
    plans=some(every_field(Plan, chosen=some(every_field(PlannedOffer)))),
    questions=some(every_field(Question, balance=st.none() | every_field(Balance))),
)
ORDERS: st.SearchStrategy[Order] = every_field(Order, workflow_id=st.just("w1"))
FACTS: st.SearchStrategy[OrderFacts] = every_field(OrderFacts)
WINDOWS: st.SearchStrategy[Window] = every_field(Window)


@settings(max_examples=25, deadline=None)
@given(workflow=WORKFLOWS, order=ORDERS, facts=FACTS, window=WINDOWS)
async def test_what_comes_out_is_what_went_in(
    workflow: Workflow, order: Order, facts: OrderFacts, window: Window
) -> None:
    store = SqliteStore(":memory:", clock=SteppedClock())
    await store.add_workflow(workflow)
    if workflow.workflow_id != "w1":
        await store.add_workflow(a_workflow("w1"))
    await store.add_orders([order])
    await store.change_window(window.instance_id, lambda _: window)
    assert await store.workflow(workflow.workflow_id) == workflow
    assert await store.orders() == (order,)
    assert await store.window(window.instance_id) == window
    assert await store.note_order(order.order_id, facts) == order.noted(facts)
    assert await store.orders() == (order.noted(facts),)
    assert (await store.events())[-1].facts == facts
    await store.aclose()


async def test_the_store_fits_the_port_of_the_steps(store: Store) -> None:
    assert len(store.store_id) == 16
    assert await store.workflow("w1") == a_workflow()


async def test_an_unknown_workflow_is_none_and_cannot_be_changed(store: SqliteStore) -> None:
    assert await store.workflow("nobody's") is None
    with pytest.raises(Refusal) as refused:
        await store.change_workflow("nobody's", lambda workflow: workflow)
    assert refused.value.code == "workflow_unknown"


async def test_an_owner_sees_only_their_own_workflows_the_newest_first(store: SqliteStore) -> None:
    await store.add_workflow(a_workflow("w2", owner="bob"))
    await store.add_workflow(a_workflow("w3"))
    assert [workflow.workflow_id for workflow in await store.workflows("ada")] == ["w3", "w1"]
    assert [workflow.workflow_id for workflow in await store.workflows("bob")] == ["w2"]


async def test_a_change_that_raises_changes_nothing(store: SqliteStore) -> None:
    def refuse(workflow: Workflow) -> Workflow:
        raise Refusal("digest_mismatch", f"got {workflow.digest!r}")

    with pytest.raises(Refusal, match="got ''"):
        await store.change_workflow("w1", refuse)
    assert await store.workflow("w1") == a_workflow()
    assert (await store.change_workflow("w1", lambda workflow: workflow.with_(digest="d"))).digest == "d"


async def test_a_change_that_could_not_be_read_again_is_refused_without_its_values(store: SqliteStore) -> None:
    with (
        pytest.warns(UserWarning, match="serialized value may not be as expected"),
        pytest.raises(LocalError, match="at secrets") as refused,
    ):
        await store.change_workflow("w1", lambda workflow: workflow.with_(secrets=["hf_sesame"]))
    assert "sesame" not in repr(refused.value) + refused.value.sentence
    assert refused.value.__cause__ is None
    assert await store.workflow("w1") == a_workflow()


async def test_the_same_workflow_is_not_added_twice(store: SqliteStore) -> None:
    with pytest.raises(LocalError) as refused:
        await store.add_workflow(a_workflow(owner="mallory"))
    assert refused.value.code == "store_unavailable"
    assert await store.workflow("w1") == a_workflow()


async def test_a_window_is_fresh_until_it_is_kept_and_then_the_last_one_counts(store: SqliteStore) -> None:
    assert await store.window(5) == Window(5)
    await store.change_window(5, lambda window: replace(window, tried_s=window.tried_s + 1.0, seen_running=True))
    changed = await store.change_window(5, lambda window: replace(window, tried_s=window.tried_s + 1.5))
    assert changed == await store.window(5) == Window(5, tried_s=2.5, seen_running=True)


async def test_secrets_stand_in_the_body_of_their_workflow_and_nowhere_else(folder: Path) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    await store.add_workflow(a_workflow(secrets={"HF_TOKEN": "hf_sesame"}))
    await store.add_orders([an_order()])
    await store.change_workflow("w1", lambda workflow: workflow.with_(digest="d"))
    await store.move_order("o1", OrderState.SENT, OrderFacts(sent_at=3.0))
    await store.change_window(1, lambda window: window)
    await store.aclose()
    database = a_database(folder)
    with database.reading() as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        # table names come from SQLite itself
        rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}  # noqa: S608
    database.close()
    holding = [(table, row) for table, found in rows.items() for row in found if "hf_sesame" in repr(row)]
    assert [table for table, _ in holding] == ["workflows"]
    assert [column for column in holding[0][1] if "hf_sesame" in str(column)] == [holding[0][1][-1]]


async def test_a_purpose_is_kept_as_its_word(folder: Path) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    asked = Question(
        about=Purpose.END, digest="d", text="?", answer="1", form="machine", code="c", asked_at=1.0, again={}
    )
    await store.add_workflow(a_workflow(questions=(asked,)))
    await store.aclose()
    database = a_database(folder)
    with database.reading() as connection:
        (body,) = connection.execute("SELECT body FROM workflows").fetchone()
    database.close()
    assert '"about":"end"' in body
