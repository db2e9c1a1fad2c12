"""The ledger: the table of legal moves, what an order keeps, and the mark in a machine's environment."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.domain.values import NOW, THOROUGH, an_order
from vastai_workflow.domain.ledger import (
    CLOCK_SKEW_S,
    CREATE_TIMEOUT_S,
    GIVES_PLACE_BACK,
    TRANSITIONS,
    UNSETTLED,
    VISIBILITY_S,
    IllegalMoveError,
    Order,
    OrderFacts,
    OrderState,
    marker,
    order_of_marker,
)

LEGAL = {
    ("planned", "sent"),
    ("planned", "dropped"),
    ("sent", "rented"),
    ("sent", "refused"),
    ("sent", "unknown"),
    ("unknown", "rented"),
    ("unknown", "not_rented"),
    ("dropped", "rented"),
    ("refused", "rented"),
    ("not_rented", "rented"),
    ("rented", "released"),
}
EVERY = [(start, to) for start in OrderState for to in OrderState]


def test_the_table_of_moves() -> None:
    assert {(str(start), str(to)) for start, moves in TRANSITIONS.items() for to in moves} == LEGAL
    assert set(TRANSITIONS) == set(OrderState)


@pytest.mark.parametrize(("start", "to"), [pair for pair in EVERY if pair in LEGAL])
def test_a_legal_move_is_made_on_a_copy(start: OrderState, to: OrderState) -> None:
    order = an_order(state=start)
    assert order.moved(to).state is to
    assert order.state is start


@pytest.mark.parametrize(("start", "to"), [pair for pair in EVERY if pair not in LEGAL])
def test_any_other_move_is_an_error(start: OrderState, to: OrderState) -> None:
    with pytest.raises(IllegalMoveError, match=f"order o1 is {start}, it can't become {to}"):
        an_order(state=start).moved(to)


@pytest.mark.parametrize("state", list(OrderState))
def test_who_holds_a_place_is_live_or_unsettled(state: OrderState) -> None:
    order = an_order(state=state)
    assert order.holds_place is (state in {"planned", "sent", "unknown", "rented", "released"})
    assert order.live is (state == "rented")
    assert (state in UNSETTLED) is (state in {"sent", "unknown"})


def test_a_place_given_back_is_held_again_where_a_list_shows_the_machine() -> None:
    for state in GIVES_PLACE_BACK:
        assert not an_order(state=state).holds_place
        assert an_order(state=state).moved(OrderState.RENTED).holds_place


def test_a_move_writes_what_was_learned_and_nothing_else() -> None:
    order = an_order(state=OrderState.SENT, reason="before", warnings=("w",))
    moved = order.moved(OrderState.RENTED, OrderFacts(instance_id=31, rented_price_per_hour=Decimal("0.41")))
    assert moved == an_order(
        state=OrderState.RENTED,
        reason=None,  # why it was not sure whether it rented is history
        warnings=("w",),
        instance_id=31,
        rented_price_per_hour=Decimal("0.41"),
    )
    assert order.noted(OrderFacts(reason="after")).reason == "after"
    assert order.noted(OrderFacts(reason="after")).state is OrderState.SENT
    assert order.noted(OrderFacts(warnings=())).warnings == ()


def test_facts_that_were_not_set_are_not_given() -> None:
    assert OrderFacts().given() == {}
    assert OrderFacts(sent_at=0.0).given() == {"sent_at": 0.0}
    assert set(OrderFacts.model_fields) < set(Order.model_fields)


@pytest.mark.parametrize(("rented", "price"), [(None, "0.4"), ("0.41", "0.41"), ("0", "0")])
def test_the_price_is_the_rented_one_where_it_is_known(rented: str | None, price: str) -> None:
    order = an_order(rented_price_per_hour=None if rented is None else Decimal(rented))
    assert order.price.per_hour == Decimal(price)


@pytest.mark.parametrize(
    ("sent_at", "start_date", "fits"),
    [
        (NOW, None, False),
        (NOW, NOW, True),
        (NOW, NOW - CLOCK_SKEW_S, True),
        (NOW, NOW - CLOCK_SKEW_S - 0.1, False),
        (NOW, NOW + CREATE_TIMEOUT_S + CLOCK_SKEW_S, True),
        (NOW, NOW + CREATE_TIMEOUT_S + CLOCK_SKEW_S + 0.1, False),
        (NOW + 1000, NOW, False),
        (None, NOW, True),
        (None, NOW - CLOCK_SKEW_S - 0.1, False),
    ],
)
def test_only_a_machine_of_the_orders_time_can_be_its_machine(
    sent_at: float | None, start_date: float | None, *, fits: bool
) -> None:
    assert an_order(created_at=NOW, sent_at=sent_at).can_have_made(start_date) is fits


def test_how_long_a_new_machine_may_stay_unseen() -> None:
    assert (CREATE_TIMEOUT_S, VISIBILITY_S, CLOCK_SKEW_S) == (60, 60, 120)


def test_an_order_is_frozen_strict_and_survives_json() -> None:
    order = an_order(state=OrderState.UNKNOWN, sent_at=NOW, warnings=("a", "b"))
    assert Order.model_validate_json(order.model_dump_json()) == order
    with pytest.raises(ValidationError):
        Order.model_validate({**order.model_dump(), "surprise": 1})
    with pytest.raises(ValidationError):
        setattr(order, "state", OrderState.RENTED)  # noqa: B010 # a type checker refuses the plain assignment


IDS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789_-", min_size=1, max_size=40)


@THOROUGH
@given(store_id=IDS, order_id=IDS, other=IDS)
def test_a_mark_leads_back_to_its_order_in_its_store_alone(store_id: str, order_id: str, other: str) -> None:
    mark = marker(store_id, order_id)
    assert order_of_marker(mark, (store_id,)) == order_id
    assert order_of_marker(mark, (other,)) == (order_id if other == store_id else None)


@pytest.mark.parametrize("mark", [None, "", ".", "s", "s.", ".o", "S.o", "ss.o", " s.o", "other.o", "so"])
def test_a_foreign_mark_is_nobodys(mark: Any) -> None:
    assert order_of_marker(mark, ("s",)) is None
