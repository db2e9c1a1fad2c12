"""Money: exact sums, rounding, and how it prints."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.values import THOROUGH
from vastai_workflow.domain.money import ZERO, Rate, Usd, exact, total

AMOUNTS = st.decimals(-100_000, 100_000, places=9)
RATES = st.decimals(0, 128, places=9)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.1, "0.1"),
        (1e-07, "0.0000001"),
        ("0.30", "0.30"),
        (3, "3"),
        (Decimal("0.123456789"), "0.123456789"),
        (-2, "-2"),
    ],
)
def test_a_number_is_what_a_person_reads(value: Any, number: str) -> None:
    assert exact(value) == Decimal(number)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "-inf", "NaN", "sNaN", Decimal("Infinity"), "abc", "", "1,5", "$1"]
)
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    for read in (exact, Usd.of, Rate.of):
        with pytest.raises(ValueError, match="allowed a finite amount"):
            read(value)


@THOROUGH
@given(amounts=st.lists(AMOUNTS, max_size=20))
def test_sums_are_exact(amounts: list[Decimal]) -> None:
    together = Usd.of(0)
    for amount in amounts:
        together += Usd(amount)
    assert Fraction(together.amount) == sum(map(Fraction, amounts))
    assert Fraction(total([Rate(amount) for amount in amounts]).per_hour) == sum(map(Fraction, amounts))


@THOROUGH
@given(one=AMOUNTS, other=AMOUNTS)
def test_what_is_added_can_be_taken_away_without_a_trace(one: Decimal, other: Decimal) -> None:
    assert Rate(one) + Rate(other) - Rate(other) == Rate(one)
    assert (Rate(one) < Rate(other)) is (one < other)
    assert (Usd(one) < Usd(other)) is (one < other)


def test_tenths_do_not_drift() -> None:
    assert total([Rate.of(0.1)] * 3) == Rate.of("0.3")
    assert total([Rate.of(0.1)] * 1000) == Rate.of(100)
    assert total([]) == ZERO
    assert Rate.of("0.1") * 3 == Rate.of("0.3")


@THOROUGH
@given(rate=RATES)
def test_the_next_cent_is_less_than_a_cent_away_and_stays(rate: Decimal) -> None:
    up = Rate(rate).up_to_the_cent()
    assert Decimal(0) <= up.per_hour - rate < Decimal("0.01")
    assert up.per_hour == up.per_hour.quantize(Decimal("0.01"))
    assert up.up_to_the_cent() == up


@pytest.mark.parametrize(
    ("rate", "up"), [("0.4", "0.40"), ("0.4000001", "0.41"), ("0.409999", "0.41"), ("0", "0.00"), ("0.01", "0.01")]
)
def test_up_to_the_cent(rate: str, up: str) -> None:
    assert str(Rate.of(rate).up_to_the_cent().per_hour) == up


@THOROUGH
@given(rate=RATES, hours=st.integers(0, 10_000))
def test_whole_hours_cost_exactly_that_many_times_the_rate(rate: Decimal, hours: int) -> None:
    assert Rate(rate).over(hours * 3600).amount == rate * hours


@pytest.mark.parametrize(
    ("rate", "seconds", "amount"), [("3.6", 1, "0.001"), ("0.36", 0.5, "0.00005"), ("1", 0, "0"), ("1", -5, "0")]
)
def test_seconds_are_billed_and_time_never_pays_back(rate: str, seconds: float, amount: str) -> None:
    assert Rate.of(rate).over(seconds) == Usd.of(amount)


@pytest.mark.parametrize(
    ("amount", "rate", "hours"), [("10", "0.4", "25"), ("0", "0.4", "0"), ("-3", "0.4", "0"), ("10", "0", "Infinity")]
)
def test_how_long_a_balance_lasts(amount: str, rate: str, hours: str) -> None:
    assert Usd.of(amount) / Rate.of(rate) == Decimal(hours)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0.00"),
        ("1", "$1.00"),
        ("1234.5", "$1234.50"),
        ("0.005", "$0.01"),
        ("0.0049", "$0.00"),
        ("-1.5", "-$1.50"),
        ("-0.001", "$0.00"),
    ],
)
def test_how_an_amount_prints(amount: str, text: str) -> None:
    assert str(Usd.of(amount)) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        ("0", "$0.00/h"),
        ("0.4", "$0.40/h"),
        ("0.40", "$0.40/h"),
        ("0.4025", "$0.4025/h"),
        ("0.40251", "$0.4025/h"),
        ("0.40255", "$0.4026/h"),
        ("0.40001", "$0.40/h"),
        ("12", "$12.00/h"),
    ],
)
def test_how_a_rate_prints(rate: str, text: str) -> None:
    assert str(Rate.of(rate)) == text


@pytest.mark.parametrize(("value", "number"), [("0.123456", 0.1235), ("0.00005", 0.0001), ("2", 2.0), ("-1.5", -1.5)])
def test_json_gets_four_decimals(value: str, number: float) -> None:
    assert Usd.of(value).number() == number
    assert Rate.of(value).number() == number


def test_dollars_and_dollars_per_hour_do_not_mix() -> None:
    dollars: Any = Usd.of(1)
    with pytest.raises(TypeError):
        assert dollars < Rate.of(1)
    assert dollars != Rate.of(1)
