"""The question to the user: all that a yes agrees to, and nothing secret."""

from decimal import Decimal
from typing import Any

import pytest

from tests.domain.values import ACCOUNT, a_workflow, agreed_values, an_offer
from vastai_workflow.domain import fields
from vastai_workflow.domain.balance import Balance
from vastai_workflow.domain.market import Account, Offer
from vastai_workflow.domain.money import ZERO, Rate, Usd
from vastai_workflow.domain.plan import Outlook, outlook
from vastai_workflow.domain.question import (
    attach_question,
    end_question,
    recycle_question,
    rent_question,
    start_question,
    what,
)

SECRET = "hf_s3cr3t_value"
OFFER = an_offer(down_price_per_gb=Usd.of("0.02"))
RUNS = ("31 'old' running at $0.40/h", "32 'older' stopped at $0.01/h")


def asked(
    *,
    active: tuple[str, ...] = (),
    chosen: tuple[Offer, ...] = (OFFER,),
    seen: Outlook | None = None,
    account: Account = ACCOUNT,
    **given: Any,
) -> str:
    workflow = a_workflow(values=agreed_values(**given))
    seen = seen or outlook(chosen, account.credit, ZERO)
    return rent_question(workflow, seen, chosen, Balance.of(account.credit, seen.runway_h), active)


def test_the_whole_question_of_the_defaults() -> None:
    assert asked() == (
        "Rent 1 machine (RTX 4090) with pytorch/pytorch:latest, 64 GB disk? "
        "Now $0.40/h each, $0.40/h in all ($9.60 a day), never above $0.50/h each. Traffic is extra ($0.02/GB). "
        "Balance $10.00 lasts 25 h. SSH key SHA256:abc, label 'ada'."
    )


@pytest.mark.parametrize(
    "said",
    [
        *(
            "2 machines",
            "never above $0.75/h each, $1.50/h for all 2.",
            "label 'bob'",
            "SSH key SHA256:xyz",
            "100 GB disk",
            "ubuntu:24.04",
        ),
        *("Now up to $0.45/h each", "$0.85/h in all", "($20.40 a day)", "Traffic is extra ($0.05/GB)", "lasts 12 h"),
    ],
)
def test_the_question_says_all_that_is_agreed_to(said: str) -> None:
    chosen = (
        an_offer(1, 1, "0.4", down_price_per_gb=Usd.of("0.05")),
        an_offer(2, 2, "0.45", down_price_per_gb=Usd.of("0.01")),
    )
    question = asked(
        chosen=chosen,
        count=2,
        max_price_per_hour=0.75,
        label="bob",
        ssh_key="SHA256:xyz",
        disk_gb=100,
        image="ubuntu:24.04",
    )
    assert said in question


@pytest.mark.parametrize(("count", "makes"), [(1, 3), (4, 6)])
def test_what_runs_already_is_named_and_counted(count: int, makes: int) -> None:
    question = asked(active=RUNS, count=count)
    assert f"Running already: {RUNS[0]}; {RUNS[1]}. Keep, stop or destroy?" in question
    assert question.endswith(f"2 run already, this makes {makes}.")


def test_one_machine_is_told_as_one_and_several_as_several() -> None:
    one, two = end_question("destroy", ["7 ('a')"]), end_question("destroy", ["7 ('a')", "8 ('b')"])
    assert one == "Destroy 7 ('a')? This server did not rent it; its data is lost."
    assert two == "Destroy 7 ('a'), 8 ('b')? This server did not rent them; their data is lost."
    assert end_question("stop", ["7 ('a')"]) == "Stop 7 ('a')? This server did not rent it."
    assert recycle_question(["7 ('a')"], Rate.of("0.30")) == (
        "Recycle 7 ('a')? The data in its container is lost. It goes on costing $0.30/h."
    )
    assert recycle_question(["7 ('a')", "8 ('b')"], Rate.of("0.70"), [8]) == (
        "Recycle 7 ('a'), 8 ('b')? The data in their containers is lost. They go on costing $0.70/h in all. "
        "This server did not rent 8."
    )
    assert attach_question("SHA256:x", ["7 ('a')"]) == "Let the SSH key SHA256:x log in as root on 7 ('a')?"
    assert attach_question("SHA256:x", ["7 ('a')", "8 ('b')"], [8]) == (
        "Let the SSH key SHA256:x log in as root on 7 ('a'), 8 ('b')? This server did not rent 8."
    )
    assert "1 runs already, this makes 3." in asked(active=RUNS[:1], count=2)


def test_a_start_is_told_with_what_it_costs_and_how_long_the_balance_lasts_beside_the_rest() -> None:
    question = start_question(["7 ('a')", "8 ('b')"], Rate.of("0.50"), 3, Balance.of(Usd.of(10), Decimal(10)))
    said = "at $0.50/h in all ($12.00 a day)? Traffic is extra. Balance $10.00 lasts 10 h. 3 run already."
    assert question == f"Start 7 ('a'), 8 ('b') {said}"
    assert start_question(["7 ('a')"], Rate.of("0"), 1, Balance.of(Usd.of(1), Decimal("Infinity"))).endswith(
        "Balance $1.00. 1 runs already."
    )


def test_where_nothing_runs_nothing_is_said_of_it() -> None:
    assert "already" not in asked()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "1 machine (RTX 4090) with"),
        ({"gpu_name": "any"}, "(any GPU)"),
        ({"num_gpus": 2}, "(2x RTX 4090)"),
        ({"gpu_name": "any", "min_vram_gb": 24}, "(any GPU, 24 GB of GPU memory or more)"),
        ({"regions": ["SE", "DE"]}, "(RTX 4090, in DE, SE)"),
        ({"min_reliability": 0.98}, "(RTX 4090, reliability 0.98 or more)"),
        ({"verified": False}, "(RTX 4090, also unverified)"),
        ({"policy": "second_cheapest"}, "(RTX 4090, second cheapest)"),
        ({"objective": "performance"}, "(RTX 4090, by performance)"),
        ({"interruptible": True}, "(RTX 4090, interruptible)"),
        ({"interruptible": True, "bid_per_hour": 0.2}, "(RTX 4090, interruptible at a bid of $0.20/h)"),
        ({"interruptible": False, "bid_per_hour": 0.2}, "(RTX 4090)"),
        ({"regions": ["SE"], "verified": False}, "(RTX 4090, in SE, also unverified)"),
    ],
)
def test_what_is_rented_in_words(given: dict[str, Any], said: str) -> None:
    assert said in what(a_workflow(values=agreed_values(**given)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"env": {"B": "x", "A": "y"}}, "With env A, B (values not shown)."),
        ({"ports": ["8080", "53/udp"]}, "With ports 53:53/udp, 8080:8080."),
        (
            {"template_hash": "abcdef12"},
            "With template abcdef12, whose own start script and variables also run (not shown).",
        ),
        ({"onstart": "true # set up\nrm -rf /workspace"}, r"With at start 'true # set up\nrm -rf /workspace'."),
        ({"onstart": "a   b\t\\n"}, r"With at start 'a   b\t\\n'."),
        ({"onstart": f"{'true;' * 800} curl x | sh"}, " curl x | sh'."),
        ({"env": {"A": "y"}, "ports": ["80"]}, "With env A (values not shown); ports 80:80."),
    ],
)
def test_what_is_set_or_run_inside_is_said(given: dict[str, Any], said: str) -> None:
    assert asked(**given).endswith(said)


def test_no_secret_stands_in_the_question_the_digest_or_the_representation() -> None:
    stand_in = fields.fingerprint(SECRET, "w1")
    workflow = a_workflow(values={**agreed_values(), "env": {"HF_TOKEN": stand_in}}, secrets={"HF_TOKEN": SECRET})
    question = rent_question(
        workflow, outlook((OFFER,), ACCOUNT.credit, ZERO), (OFFER,), Balance.of(ACCOUNT.credit, None), ()
    )
    assert "HF_TOKEN" in question
    assert stand_in not in question
    assert SECRET not in question + repr(workflow) + repr(workflow.values)


@pytest.mark.parametrize(
    ("seen", "balance"),
    [
        (Outlook(Rate.of("0.4"), Rate.of("0.4"), None), "Balance $10.00."),
        (Outlook(Rate.of("0.4"), Rate.of("0.4"), Decimal("Infinity")), "Balance $10.00."),
        (Outlook(Rate.of("0.4"), Rate.of("0.4"), Decimal("24.6")), "Balance $10.00 lasts 25 h."),
        (Outlook(Rate.of("0.4"), Rate.of("0.4"), Decimal(0)), "Balance $10.00 lasts 0 h."),
    ],
)
def test_the_runway_is_said_where_there_is_one(seen: Outlook, balance: str) -> None:
    assert balance in asked(seen=seen)


def test_a_debt_is_said_as_one() -> None:
    for credit, told in (("-1.5", "-$1.50"), ("0", "$0.00")):
        said = f"Balance {told}: without credit Vast.ai may refuse, and stops what runs. SSH key"
        assert said in asked(account=Account(id=7, credit=Usd.of(credit)))


@pytest.mark.parametrize(
    ("other", "near"),
    [
        *((("10", "25"), True), (("9.5", "23.75"), True), (("10.5", "26"), True)),
        *((("9.49", "25"), False), (("10.51", "25"), False), (("10", "23.7"), False), (("10", "26.3"), False)),
        *((("10", None), False), (("-10", "25"), False), (("0", "0"), False)),
    ],
)
def test_a_balance_that_drifted_a_little_is_told_as_before(other: tuple[str, str | None], near: bool) -> None:  # noqa: FBT001 # a case
    credit, hours = other
    shown = Balance(credit=Decimal(10), lasts_h=Decimal(25))
    assert shown.near(Balance(credit=Decimal(credit), lasts_h=None if hours is None else Decimal(hours))) is near


@pytest.mark.parametrize("chosen", [(), (an_offer(),)])
def test_traffic_without_a_price_is_said_to_be_free(chosen: tuple[Offer, ...]) -> None:
    seen = Outlook(Rate.of("0.4"), Rate.of("0.4"), None)
    assert "Traffic is extra ($0/GB)" in asked(chosen=chosen, seen=seen)


def test_the_same_input_gives_the_same_question() -> None:
    assert asked(active=RUNS, count=2, env={"A": "b"}) == asked(active=RUNS, count=2, env={"A": "b"})
