"""Choosing: the query, what does not fit, the ranking, the policy, the ceiling and the outlook."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.values import MICRO, THOROUGH, agreed_values, an_offer
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.market import Offer, OfferQuery
from vastai_workflow.domain.money import ZERO, Rate, Usd
from vastai_workflow.domain.plan import PLAN_LIFE_S, choose, default_ceiling, mismatches, outlook, query, rank

WANTED = OfferQuery(disk_gb=64, gpu_name="RTX 4090", num_gpus=1)


def ids(offers: tuple[Offer, ...]) -> list[int]:
    return [offer.ask_id for offer in offers]


def test_the_query_of_the_defaults() -> None:
    assert query(agreed_values()) == OfferQuery(disk_gb=64, gpu_name="RTX 4090", num_gpus=1, verified=True)


def test_the_query_of_every_filter() -> None:
    values = agreed_values(
        gpu_name="any",
        num_gpus=2,
        verified=False,
        min_vram_gb=24,
        regions=["SE", "DE"],
        min_reliability=0.98,
        min_cuda=12.1,
        min_inet_down_mbps=500,
        disk_gb=100,
        ports=["8080", "53/udp"],
        interruptible=True,
    )
    assert query(values) == OfferQuery(
        disk_gb=100,
        gpu_name=None,
        num_gpus=2,
        verified=False,
        min_vram_mb=22800,
        regions=("DE", "SE"),
        min_reliability=Decimal("0.98"),
        min_cuda=Decimal("12.1"),
        min_inet_down_mbps=500,
        min_direct_ports=3,
        interruptible=True,
    )


@pytest.mark.parametrize(("gb", "card_mb"), [(24, 24564), (24, 23028), (48, 46068), (80, 81559), (16, 15360)])
def test_a_card_of_the_nominal_size_is_big_enough(gb: int, card_mb: int) -> None:
    wanted = query(agreed_values(gpu_name="any", min_vram_gb=gb))
    assert mismatches(an_offer(gpu_ram_mb=card_mb), wanted) == ()
    assert mismatches(an_offer(gpu_ram_mb=card_mb // 2), wanted) != ()


@pytest.mark.parametrize(
    ("offer", "wanted", "why"),
    [
        ({"rentable": False}, {}, "got a rented offer, allowed a free one"),
        ({"rented": True}, {}, "got a rented offer, allowed a free one"),
        ({"gpu_name": "A100"}, {}, "got GPU A100, allowed RTX 4090"),
        ({"gpu_name": "RTX 4090 D"}, {}, "got GPU RTX 4090 D, allowed RTX 4090"),
        ({"num_gpus": 2}, {}, "got 2 GPUs, allowed 1"),
        ({"verified": False}, {}, "got an unverified machine, allowed verified ones"),
        ({"disk_space_gb": Decimal("63.9")}, {}, "got room for 63.9 GB, allowed 64 GB or more"),
        ({"country": "US"}, {"regions": ("DE", "SE")}, "got US, allowed DE, SE"),
        ({"country": ""}, {"regions": ("SE",)}, "got no region, allowed SE"),
        ({"gpu_ram_mb": 22799}, {"min_vram_mb": 22800}, "got GPU memory (MB) 22799, allowed 22800 or more"),
        (
            {"reliability": Decimal("0.97")},
            {"min_reliability": Decimal("0.98")},
            "got reliability 0.97, allowed 0.98 or more",
        ),
        ({"reliability": None}, {"min_reliability": Decimal("0.98")}, "got reliability None, allowed 0.98 or more"),
        ({"cuda": Decimal("12.0")}, {"min_cuda": Decimal("12.1")}, "got CUDA 12.0, allowed 12.1 or more"),
        ({"cuda": None}, {"min_cuda": Decimal("12.1")}, "got CUDA None, allowed 12.1 or more"),
        (
            {"inet_down_mbps": Decimal(99)},
            {"min_inet_down_mbps": 100},
            "got download (Mb/s) 99, allowed 100 or more",
        ),
        ({"direct_ports": 2}, {"min_direct_ports": 3}, "got direct ports 2, allowed 3 or more"),
        ({"price": ZERO}, {}, "got $0.00/h, allowed a price above nothing"),
        ({"price": Rate.of(-1)}, {}, "got $-1.00/h, allowed a price above nothing"),
    ],
)
def test_what_does_not_fit_says_what_it_got_and_what_is_allowed(
    offer: dict[str, Any], wanted: dict[str, Any], why: str
) -> None:
    filtered = replace(WANTED, **wanted)
    assert mismatches(replace(an_offer(), **offer), filtered) == (why,)


@pytest.mark.parametrize(
    ("offer", "wanted"),
    [
        ({}, {}),
        ({"gpu_name": "rtx 4090"}, {}),
        ({"gpu_name": "A100"}, {"gpu_name": None}),
        ({"num_gpus": 8}, {"num_gpus": None}),
        ({"verified": False}, {"verified": False}),
        ({"disk_space_gb": Decimal(64)}, {}),
        ({"country": "SE"}, {"regions": ("DE", "SE")}),
        ({"gpu_ram_mb": 22800}, {"min_vram_mb": 22800}),
        ({"reliability": Decimal("0.98")}, {"min_reliability": Decimal("0.98")}),
        ({"reliability": None, "cuda": None, "inet_down_mbps": None}, {}),
        ({"cuda": Decimal("12.1")}, {"min_cuda": Decimal("12.1")}),
        ({"inet_down_mbps": Decimal(100)}, {"min_inet_down_mbps": 100}),
        ({"direct_ports": 3}, {"min_direct_ports": 3}),
    ],
)
def test_what_fits_fits_at_the_boundary(offer: dict[str, Any], wanted: dict[str, Any]) -> None:
    filtered = replace(WANTED, **wanted)
    assert mismatches(an_offer(**offer), filtered) == ()


def test_the_ceiling_is_allowed_and_a_millionth_more_is_not() -> None:
    offer = an_offer(price="0.4")
    assert mismatches(offer, WANTED, Rate.of("0.4")) == ()
    assert len(mismatches(offer, WANTED, Rate(Decimal("0.4") - MICRO))) == 1
    assert mismatches(an_offer(price="0.61"), WANTED, Rate.of("0.6")) == ("got $0.61/h, allowed $0.60/h",)


def test_a_plans_prices_are_good_for_ten_minutes() -> None:
    assert PLAN_LIFE_S == 10 * 60


def test_every_mismatch_is_told() -> None:
    assert len(mismatches(an_offer(gpu_name="A100", verified=False, rented=True), WANTED)) == 3


@pytest.mark.parametrize(
    ("objective", "order"),
    [("price", [1, 2, 3, 4]), ("performance", [4, 3, 1, 2]), ("reliability", [2, 3, 1, 4])],
)
def test_the_objective_ranks_and_ties_go_to_the_cheaper(objective: str, order: list[int]) -> None:
    offers = [
        an_offer(4, price="0.9", dlperf=Decimal(99), reliability=None),
        an_offer(2, price="0.4", dlperf=None, reliability=Decimal("0.999")),
        an_offer(3, price="0.5", dlperf=Decimal(50), reliability=Decimal("0.99")),
        an_offer(1, price="0.4", dlperf=None, reliability=Decimal("0.9")),
    ]
    assert ids(rank(offers, objective)) == order


ONE = an_offer(1, 101, "0.30")
SAME_MACHINE = an_offer(2, 101, "0.31")
TWO = an_offer(3, 102, "0.32")
THREE = an_offer(4, 103, "0.40")
RANKED = (ONE, SAME_MACHINE, TWO, THREE)


@pytest.mark.parametrize(
    ("count", "policy", "taken"),
    [
        (1, "cheapest", [1]),
        (2, "cheapest", [1, 3]),
        (3, "cheapest", [1, 3, 4]),
        (1, "second_cheapest", [3]),
        (2, "second_cheapest", [3, 4]),
    ],
)
def test_the_chosen_are_of_distinct_machines(count: int, policy: str, taken: list[int]) -> None:
    assert ids(choose(RANKED, count, policy)) == taken


@pytest.mark.parametrize(
    ("ranked", "count", "policy", "code", "says"),
    [
        ((), 1, "cheapest", "no_offers", "no offer fits"),
        ((), 1, "second_cheapest", "no_offers", "no offer fits"),
        (RANKED, 4, "cheapest", "no_offers", "got 3 fitting machines, needed 4"),
        (RANKED, 3, "second_cheapest", "no_offers", "got 2 fitting machines, needed 3"),
        ((ONE,), 1, "second_cheapest", "single_match", "one offer fits"),
        ((ONE, SAME_MACHINE), 1, "second_cheapest", "single_match", "one offer fits"),
        ((ONE,), 2, "second_cheapest", "single_match", "one offer fits"),
    ],
)
def test_too_few_are_refused(ranked: tuple[Offer, ...], count: int, policy: str, code: str, says: str) -> None:
    with pytest.raises(Refusal) as refused:
        choose(ranked, count, policy)
    assert refused.value.code == code
    assert says in refused.value.message


def test_a_single_match_asks_the_user() -> None:
    with pytest.raises(Refusal) as refused:
        choose((ONE,), 1, "second_cheapest")
    question = "Only one offer fits, at $0.30/h. Take it (policy cheapest), or loosen the filter?"
    assert refused.value.ask_user == question


OFFERS = st.lists(
    st.builds(
        an_offer,
        ask_id=st.integers(1, 10_000),
        machine_id=st.integers(1, 6),
        price=st.decimals("0.01", 2, places=4).map(str),
        gpu_name=st.sampled_from(["RTX 4090", "A100"]),
        verified=st.booleans(),
        disk_space_gb=st.integers(32, 128).map(Decimal),
        reliability=st.none() | st.decimals(0, 1, places=3),
        dlperf=st.none() | st.integers(1, 100).map(Decimal),
    ),
    max_size=12,
    unique_by=lambda offer: offer.ask_id,
)


@THOROUGH
@given(
    offers=OFFERS,
    count=st.integers(1, 4),
    policy=st.sampled_from(["cheapest", "second_cheapest"]),
    objective=st.sampled_from(["price", "performance", "reliability"]),
)
def test_the_chosen_are_distinct_fit_and_lead_the_ranking(
    offers: list[Offer], count: int, policy: str, objective: str
) -> None:
    ranked = rank([offer for offer in offers if not mismatches(offer, WANTED)], objective)
    machines = list(dict.fromkeys(offer.machine_id for offer in ranked))
    skipped = 1 if policy == "second_cheapest" else 0
    if len(machines) < count + skipped:
        with pytest.raises(Refusal):
            choose(ranked, count, policy)
        return
    chosen = choose(ranked, count, policy)
    assert [offer.machine_id for offer in chosen] == machines[skipped : skipped + count]
    assert not any(mismatches(offer, WANTED) for offer in chosen)
    best = {machine: next(o for o in ranked if o.machine_id == machine) for machine in machines}
    assert all(best[offer.machine_id] is offer for offer in chosen)
    assert rank(reversed(offers), objective) == rank(offers, objective)


@pytest.mark.parametrize(
    ("prices", "cap", "ceiling"),
    [
        (["0.40"], None, "0.50"),
        (["0.30", "0.40"], None, "0.50"),
        (["0.401"], None, "0.51"),
        (["0.352"], None, "0.44"),
        (["0.3520001"], None, "0.45"),
        (["0.40"], "0.50", "0.50"),
        (["0.40"], "0.45", "0.45"),
        (["0.40"], "0.30", "0.30"),
        (["0.40"], "9", "0.50"),
    ],
)
def test_the_default_ceiling(prices: list[str], cap: str | None, ceiling: str) -> None:
    chosen = [an_offer(number, number, price) for number, price in enumerate(prices)]
    assert default_ceiling(chosen, None if cap is None else Rate.of(cap)) == Rate.of(ceiling)


@THOROUGH
@given(
    prices=st.lists(st.decimals("0.001", 100, places=6), min_size=1, max_size=5),
    cap=st.none() | st.decimals("0.01", 100, places=2),
)
def test_the_default_ceiling_is_a_whole_cent_above_a_quarter_more_and_under_the_cap(
    prices: list[Decimal], cap: Decimal | None
) -> None:
    limit = None if cap is None else Rate(cap)
    ceiling = default_ceiling([an_offer(price=str(price)) for price in prices], limit).per_hour
    exact = max(prices) * Decimal("1.25")
    assert ceiling == ceiling.quantize(Decimal("0.01"))
    assert ceiling == cap or exact <= ceiling < exact + Decimal("0.01")
    assert cap is None or ceiling <= cap


def test_the_outlook_is_of_all_machines_and_counts_what_runs_already() -> None:
    found = outlook([ONE, TWO], Usd.of(10), Rate.of("0.38"))
    assert (found.price, found.total, found.runway_h) == (Rate.of("0.32"), Rate.of("0.62"), Decimal(10))


def test_without_a_balance_there_is_no_runway() -> None:
    assert outlook([ONE], None, ZERO).runway_h is None
    assert outlook([ONE], Usd.of(-3), ZERO).runway_h == 0
