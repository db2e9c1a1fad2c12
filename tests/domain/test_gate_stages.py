"""The gate's first table: every stage and event, what is refused, and where a workflow stands."""

from typing import Any

import pytest

from tests.domain.values import DIGEST, NOW, a_plan, a_workflow, a_yes, an_order
from vastai_workflow.domain.errors import CATALOGUE
from vastai_workflow.domain.gate import STAGES, Event, Stage, stage_of, unconfirmed
from vastai_workflow.domain.ledger import Order, OrderState
from vastai_workflow.domain.workflow import Purpose, Workflow

PAIRS = [(stage, event) for stage in Stage for event in Event]

REFUSED = {
    (Stage.PROPOSED, Event.CREATE): "not_confirmed",
    (Stage.CONFIRMED, Event.CREATE): "plan_unknown",
}
"""Everything that a stage refuses; every other pair leads somewhere."""

RENTING = {Stage.ORDERING, Stage.LIVE, Stage.OVER}


@pytest.mark.parametrize(("stage", "event"), PAIRS, ids=lambda value: value.name.lower())
def test_every_stage_refuses_what_it_must_and_nothing_else(stage: Stage, event: Event) -> None:
    leads = STAGES[stage][event]
    if (stage, event) in REFUSED:
        assert leads == REFUSED[stage, event]
        assert leads in CATALOGUE
    else:
        assert isinstance(leads, Stage)


def test_the_table_is_complete_and_has_nothing_besides() -> None:
    assert set(STAGES) == set(Stage)
    assert all(set(row) == set(Event) for row in STAGES.values())


def test_no_event_but_a_create_leads_to_an_order() -> None:
    into = {(s, e) for s, e in PAIRS if STAGES[s][e] is Stage.ORDERING and s is not Stage.ORDERING}
    assert into == {(s, Event.CREATE) for s in (Stage.PLANNED, Stage.LIVE, Stage.OVER)}


@pytest.mark.parametrize("stage", [s for s in Stage if s not in RENTING])
def test_proposing_again_and_time_take_a_yes_back(stage: Stage) -> None:
    assert STAGES[stage][Event.PROPOSE] is Stage.PROPOSED
    assert STAGES[stage][Event.EXPIRE] is Stage.PROPOSED


@pytest.mark.parametrize("event", [Event.PROPOSE, Event.CONFIRM, Event.FIND_OFFERS, Event.EXPIRE])
def test_a_live_machine_is_forgotten_by_no_event_but_its_end(event: Event) -> None:
    assert STAGES[Stage.LIVE][event] is Stage.LIVE


OPEN = a_workflow(confirmations=(a_yes(),))
PLANNED = OPEN.with_(plans=(a_plan(),))


def order(state: OrderState) -> Order:
    return an_order(state=state)


@pytest.mark.parametrize(
    ("workflow", "orders", "stage"),
    [
        (a_workflow(status="proposed"), [], Stage.PROPOSED),
        (a_workflow(), [], Stage.PROPOSED),
        (OPEN, [], Stage.CONFIRMED),
        (PLANNED, [], Stage.PLANNED),
        (PLANNED, [order(OrderState.PLANNED)], Stage.ORDERING),
        (PLANNED, [order(OrderState.SENT)], Stage.ORDERING),
        (PLANNED, [order(OrderState.UNKNOWN)], Stage.ORDERING),
        (PLANNED, [order(OrderState.RENTED), order(OrderState.UNKNOWN)], Stage.ORDERING),
        (PLANNED, [order(OrderState.RENTED)], Stage.LIVE),
        (PLANNED, [order(OrderState.RELEASED), order(OrderState.RENTED)], Stage.LIVE),
        (PLANNED, [order(OrderState.RELEASED)], Stage.OVER),
        (PLANNED, [order(OrderState.REFUSED), order(OrderState.DROPPED)], Stage.PLANNED),
        (PLANNED, [order(OrderState.NOT_RENTED)], Stage.PLANNED),
        (a_workflow(), [order(OrderState.NOT_RENTED)], Stage.OVER),
    ],
)
def test_where_a_workflow_stands(workflow: Workflow, orders: list[Order], stage: Stage) -> None:
    assert stage_of(workflow, orders, NOW) is stage


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": NOW},
        {"at": NOW + 1, "expires_at": NOW + 1801},
        {"spent_at": NOW - 1},
        {"digest": "another"},
        {"purpose": Purpose.START},
    ],
    ids=["expired", "from the future", "spent", "of other fields", "of another purpose"],
)
def test_a_yes_that_does_not_count_leaves_it_proposed(changes: dict[str, Any]) -> None:
    assert stage_of(PLANNED.with_(confirmations=(a_yes(**changes),)), [], NOW) is Stage.PROPOSED


def test_one_field_without_a_yes_leaves_it_proposed() -> None:
    states = {**PLANNED.fields, "image": PLANNED.fields["image"].model_copy(update={"status": "proposed"})}
    changed = PLANNED.with_(fields=states)
    assert unconfirmed(changed) == ("image",)
    assert unconfirmed(PLANNED) == ()
    assert stage_of(changed, [], NOW) is Stage.PROPOSED


def test_a_plan_counts_until_its_prices_are_old() -> None:
    assert stage_of(OPEN.with_(plans=(a_plan(expires_at=NOW),)), [], NOW) is Stage.CONFIRMED
    assert stage_of(OPEN.with_(plans=(a_plan(expires_at=NOW + 0.001),)), [], NOW) is Stage.PLANNED
    assert stage_of(OPEN.with_(plans=(a_plan(digest=DIGEST[::-1]),)), [], NOW) is Stage.CONFIRMED
