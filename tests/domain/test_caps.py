"""The operator's caps: read exactly, or not at all."""

import pytest

from vastai_workflow.domain.caps import (
    MAX_INSTANCES,
    MAX_PRICE_PER_HOUR,
    MAX_TOTAL_PER_HOUR,
    READ_ONLY,
    Caps,
    caps_from,
)
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.money import Rate


def test_nothing_set_is_no_limit() -> None:
    assert caps_from({}) == Caps()
    assert caps_from({"PATH": "x", "VASTAI_WORKFLOW_STATE": "y"}) == Caps(None, None, None, read_only=False)


def test_every_cap_is_read() -> None:
    environment = {MAX_PRICE_PER_HOUR: "0.50", MAX_TOTAL_PER_HOUR: " 2 ", MAX_INSTANCES: "4", READ_ONLY: "1"}
    assert caps_from(environment) == Caps(Rate.of("0.5"), Rate.of(2), 4, read_only=True)


@pytest.mark.parametrize("name", [MAX_PRICE_PER_HOUR, MAX_TOTAL_PER_HOUR])
@pytest.mark.parametrize(
    "value", ["", " ", "-1", "+1", "$1", "1,5", "1e3", "NaN", "inf", "0x1", "1.", ".5", "1_0", "\u0661"]
)
def test_a_price_that_cannot_be_read_stops_the_server(name: str, value: str) -> None:
    with pytest.raises(Refusal, match=f"{name}: got .*, allowed dollars per hour"):
        caps_from({name: value})


@pytest.mark.parametrize("value", ["", "-1", "1.0", "many", "1e3", "\u0661", "9" * 10])
def test_a_number_that_cannot_be_read_stops_the_server(value: str) -> None:
    with pytest.raises(Refusal, match="allowed a whole number"):
        caps_from({MAX_INSTANCES: value})


@pytest.mark.parametrize(
    ("value", "read_only"),
    [
        ("1", True),
        ("TRUE", True),
        ("yes", True),
        (" on ", True),
        ("0", False),
        ("false", False),
        ("No", False),
        ("off", False),
    ],
)
def test_the_switch_is_read(value: str, read_only: bool) -> None:  # noqa: FBT001 # a table
    assert caps_from({READ_ONLY: value}).read_only is read_only


@pytest.mark.parametrize("value", ["", "2", "maybe", "readonly"])
def test_a_switch_that_cannot_be_read_stops_the_server(value: str) -> None:
    with pytest.raises(Refusal, match="allowed one of 1, true, yes"):
        caps_from({READ_ONLY: value})


def test_a_cap_with_a_misspelt_name_stops_the_server() -> None:
    with pytest.raises(Refusal, match="VASTAI_WORKFLOW_MAX_PRICE") as refused:
        caps_from({"VASTAI_WORKFLOW_MAX_PRICE": "1"})
    assert MAX_PRICE_PER_HOUR in refused.value.message


def test_a_cap_of_nothing_is_a_cap() -> None:
    assert caps_from({MAX_INSTANCES: "0", MAX_PRICE_PER_HOUR: "0"}) == Caps(Rate.of(0), None, 0)
