from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.vast.fakes import Bench, offer_row, sent_json
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.market import OfferQuery
from vastai_workflow.domain.money import Rate
from vastai_workflow.vast.offers import MAX_PAGES, PAGE, search_body

QUERY = OfferQuery(disk_gb=64, gpu_name="RTX 4090", num_gpus=1)


def found(*rows: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"offers": list(rows)})


def a_market_of(rows: list[dict[str, Any]]) -> Any:
    """Answers as the provider does: by price, from a price on, 64 at most."""

    def search(request: httpx.Request) -> httpx.Response:
        least = float(sent_json(request).get("dph_total", {}).get("gte", 0))
        fitting = sorted((row for row in rows if row["dph_total"] >= least), key=lambda row: row["dph_total"])
        return found(*fitting[:PAGE])

    return search


async def test_offers_come_by_price(bench: Bench) -> None:
    bench.always("POST", "/bundles/", found(offer_row(1, 0.5), offer_row(2, 0.3), offer_row(3, 0.4)))
    assert [one.ask_id for one in await bench.market.offers(QUERY)] == [2, 3, 1]


async def test_every_search_asks_for_free_and_rentable_machines_with_this_disk_in_the_price(bench: Bench) -> None:
    bench.always("POST", "/bundles/", found())
    await bench.market.offers(OfferQuery(disk_gb=64, verified=False, interruptible=True))
    body = sent_json(bench.requests[0])
    assert body["rentable"] == {"eq": True}
    assert body["rented"] == {"eq": False}
    assert body["allocated_storage"] == 64
    assert body["type"] == "bid"
    assert "verified" not in body


def test_each_wish_stands_in_the_query() -> None:
    body = search_body(
        OfferQuery(
            disk_gb=64,
            gpu_name="RTX 4090",
            num_gpus=2,
            min_vram_mb=20000,
            regions=("US", "SE"),
            max_price=Rate.of("0.5"),
            min_reliability=Decimal("0.98"),
            min_cuda=Decimal("12.1"),
            min_inet_down_mbps=500,
            min_direct_ports=3,
            ask_ids=(5, 6),
        )
    )
    assert body == {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "gpu_name": {"eq": "RTX 4090"},
        "num_gpus": {"eq": 2},
        "gpu_ram": {"gte": 20000},
        "geolocation": {"in": ["US", "SE"]},
        "dph_total": {"lte": 0.5},
        "reliability": {"gte": 0.98},
        "cuda_max_good": {"gte": 12.1},
        "inet_down": {"gte": 500},
        "direct_port_count": {"gte": 3},
        "ask_contract_id": {"in": [5, 6]},
        "disk_space": {"gte": 64.0},
        "order": [["dph_total", "asc"]],
        "type": "on-demand",
        "limit": 64,
        "allocated_storage": 64.0,
    }


@pytest.mark.parametrize(
    "lie",
    [
        {"gpu_name": "A100 SXM4"},
        {"num_gpus": 2},
        {"gpu_ram": 12000},
        {"geolocation": "China, CN"},
        {"geolocation": "somewhere"},
        {"dph_total": 0.51},
        {"reliability": 0.9},
        {"reliability": None},
        {"cuda_max_good": 11.0},
        {"cuda_max_good": None},
        {"inet_down": 10},
        {"disk_space": 63.9},
        {"disk_space": None},
        {"verification": "unverified"},
        {"verification": None},
        {"rentable": False},
        {"rented": True},
        {"direct_port_count": 1},
        {"ask_contract_id": 99},
        {"dph_total": None},
        {"machine_id": None},
    ],
    ids=repr,
)
async def test_an_offer_that_was_not_asked_for_is_left_out(bench: Bench, lie: dict[str, Any]) -> None:
    bench.always("POST", "/bundles/", found(offer_row(1) | lie, offer_row(2)))
    query = OfferQuery(
        disk_gb=64,
        gpu_name="RTX 4090",
        num_gpus=1,
        min_vram_mb=20000,
        regions=("SE",),
        max_price=Rate.of("0.5"),
        min_reliability=Decimal("0.98"),
        min_cuda=Decimal("12.1"),
        min_inet_down_mbps=500,
        min_direct_ports=3,
        ask_ids=(1, 2),
    )
    assert [one.ask_id for one in await bench.market.offers(query)] == [2]


async def test_more_than_a_page_is_read_by_price(bench: Bench) -> None:
    rows = [offer_row(ask, 0.3 + ask // 3 / 100) for ask in range(1, 151)]
    bench.route("POST", "/bundles/", a_market_of(rows))
    offers = await bench.market.offers(QUERY)
    assert [one.ask_id for one in offers] == list(range(1, 151))
    assert len(bench.requests) == 3


async def test_paging_stops_where_nothing_new_comes(bench: Bench) -> None:
    bench.route("POST", "/bundles/", a_market_of([offer_row(ask, 0.3) for ask in range(1, 200)]))
    assert len(await bench.market.offers(QUERY)) == PAGE
    assert len(bench.requests) == 2


async def test_paging_is_bounded(bench: Bench) -> None:
    bench.route("POST", "/bundles/", a_market_of([offer_row(ask, ask / 1000) for ask in range(1, 1000)]))
    offers = await bench.market.offers(QUERY)
    assert len(bench.requests) == MAX_PAGES
    assert offers[-1].price < Rate.of(1)


async def test_an_offer_that_is_on_two_pages_is_one_offer(bench: Bench) -> None:
    rows = [offer_row(ask, 0.3 + ask / 100) for ask in range(PAGE)]
    bench.script("POST", "/bundles/", found(*rows), found(rows[-1], offer_row(900, 2)))
    ids = [one.ask_id for one in await bench.market.offers(QUERY)]
    assert len(ids) == len(set(ids))
    assert 900 in ids


async def test_an_interruptible_search_is_held_to_the_bid(bench: Bench) -> None:
    bench.always(
        "POST", "/bundles/", found(offer_row(1, min_bid=0.3), offer_row(2, min_bid=0.1), offer_row(3, min_bid=None))
    )
    query = OfferQuery(disk_gb=64, interruptible=True, max_price=Rate.of("0.2"))
    offers = await bench.market.offers(query)
    assert [(one.ask_id, one.price) for one in offers] == [(2, Rate.of("0.1"))]
    assert sent_json(bench.requests[0])["min_bid"] == {"lte": Decimal("0.2")}


async def test_an_answer_without_offers_is_not_an_empty_market(bench: Bench) -> None:
    bench.always("POST", "/bundles/", httpx.Response(200, json={"success": True}))
    with pytest.raises(ProviderError) as caught:
        await bench.market.offers(QUERY)
    assert caught.value.code == "unreadable_answer"


async def test_rows_that_are_no_offers_are_not_an_empty_market(bench: Bench) -> None:
    bench.always("POST", "/bundles/", found({"offer": 1}, {"offer": 2}))
    with pytest.raises(ProviderError) as caught:
        await bench.market.offers(QUERY)
    assert caught.value.code == "unreadable_answer"
