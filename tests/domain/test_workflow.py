"""A workflow and its yeses: which counts, what is found, and what is never printed."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.domain.values import DIGEST, NOW, a_plan, a_workflow, a_yes
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S, Confirmation, FieldState, Purpose, Workflow

SECRET = "hf_s3cr3t_value"


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"at": NOW}, True),
        ({"at": NOW + 0.001}, False),
        ({"expires_at": NOW}, False),
        ({"expires_at": NOW + 0.001}, True),
        ({"spent_at": NOW - 1}, False),
        ({"spent_at": 0.0}, False),
    ],
)
def test_a_yes_counts_until_it_expires_or_is_spent(changes: dict[str, Any], counts: bool) -> None:  # noqa: FBT001 # a table
    assert a_yes(**changes).open_at(NOW) is counts


def test_a_yes_lasts_half_an_hour() -> None:
    assert CONFIRMATION_LIFE_S == 30 * 60


def test_a_yes_gives_one_place_where_nothing_else_is_said() -> None:
    bare = Confirmation(
        confirmation_id="c", purpose=Purpose.RENT, digest="d", account_id=7, by="me", at=NOW, expires_at=NOW + 1
    )
    assert bare.places == 1
    assert bare.ceiling_per_hour is None


def test_the_newest_yes_of_a_purpose_and_a_digest_is_found() -> None:
    old, new = a_yes(confirmation_id="old"), a_yes(confirmation_id="new", spent_at=NOW)
    start, other = a_yes(Purpose.START), a_yes(confirmation_id="other", digest="other")
    workflow = a_workflow(confirmations=(old, new, start, other))
    assert workflow.confirmation(Purpose.RENT, DIGEST) == new
    assert workflow.confirmation(Purpose.START, DIGEST) == start
    assert workflow.confirmation(Purpose.RENT, "other") == other
    assert workflow.confirmation(Purpose.END, DIGEST) is None
    assert a_workflow().confirmation(Purpose.RENT, DIGEST) is None


def test_a_plan_is_found_by_its_id() -> None:
    workflow = a_workflow(plans=(a_plan(plan_id="p1"), a_plan(plan_id="p2")))
    found = workflow.plan("p2")
    assert found is not None
    assert found.plan_id == "p2"
    assert workflow.plan("p3") is None


def test_values_are_read_by_name() -> None:
    workflow = a_workflow(values={"count": 2})
    assert workflow.values == {"count": 2}
    assert workflow.value("count") == 2
    with pytest.raises(KeyError):
        workflow.value("image")


def test_a_change_is_a_copy() -> None:
    workflow = a_workflow()
    assert workflow.with_(digest="other").digest == "other"
    assert workflow.digest == DIGEST


def test_it_survives_json_with_all_that_hangs_on_it() -> None:
    workflow = a_workflow(confirmations=(a_yes(acknowledged=(31,)),), plans=(a_plan(),), secrets={"A": SECRET})
    assert Workflow.model_validate_json(workflow.model_dump_json()) == workflow


def test_a_secret_is_in_no_representation_and_no_error() -> None:
    assert SECRET not in repr(a_workflow(secrets={"A": SECRET}))
    with pytest.raises(ValidationError) as refused:
        Workflow.model_validate({"workflow_id": "w", "owner": "o", "created_at": 0, "secrets": SECRET, "more": SECRET})
    assert SECRET not in str(refused.value)


def test_a_field_has_no_other_status_than_proposed_and_confirmed() -> None:
    with pytest.raises(ValidationError):
        FieldState.model_validate({"value": 1, "status": "agreed"})
