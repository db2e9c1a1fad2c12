"""Search and create: filters, prices, refusals, keys and frequency."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.simulator.bench import Bench, ids
from vastai_workflow.simulator.switches import Switches

FILTERS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({"num_gpus": {"eq": "2"}}, lambda row: row["num_gpus"] == 2),
    ({"gpu_name": {"in": ["RTX 4090", "H100 SXM"]}}, lambda row: row["gpu_name"] in {"RTX 4090", "H100 SXM"}),
    ({"gpu_name": {"notin": ["RTX 4090"]}}, lambda row: row["gpu_name"] != "RTX 4090"),
    ({"gpu_ram": {"gte": 24000.0}}, lambda row: row["gpu_ram"] >= 24000),
    ({"gpu_ram_GB": {"gt": 24.4, "lt": 24.57}}, lambda row: 24400 < row["gpu_ram"] < 24570),
    ({"reliability": {"gt": "0.98"}}, lambda row: row["reliability"] > 0.98),
    ({"cuda_max_good": {"gte": "12.8"}}, lambda row: row["cuda_max_good"] >= 12.8),
    ({"driver_version": {"gte": 550054015}}, lambda row: row["driver_vers"] >= 550054015),
    ({"geolocation": {"in": ["US", "SE"]}}, lambda row: row["geolocation"][-2:] in {"US", "SE"}),
    ({"verified": {"eq": True}}, lambda row: row["verification"] == "verified"),
    ({"verified": {"eq": "false"}}, lambda row: row["verification"] != "verified"),
    ({"datacenter": {"eq": True}}, lambda row: row["hosting_type"] == 1),
    ({"duration": {"gte": 86400.0 * 60}}, lambda row: row["duration"] >= 86400 * 60),
    ({"rentable": {"eq": False}}, lambda row: not row["rentable"]),
    ({"gpu_name": {"neq": "RTX 4090"}, "num_gpus": {"lte": 1}}, lambda row: row["gpu_name"] != "RTX 4090"),
]


@pytest.mark.parametrize(("query", "holds"), FILTERS)
async def test_filters_hold(query: dict[str, Any], holds: Callable[[dict[str, Any]], bool]) -> None:
    bench = Bench(offers=64)
    found = (await bench.send("POST", "/api/v0/bundles/", query)).json()["offers"]
    every = (await bench.send("POST", "/api/v0/bundles/", {})).json()["offers"]

    assert 0 < len(found) < len(every)
    assert all(holds(row) for row in found)


async def test_all_three_searches_find_the_same() -> None:
    bench = Bench()
    query = {"num_gpus": {"eq": 1}}
    posted = await bench.send("POST", "/api/v0/bundles", query)
    got = await bench.send("GET", "/api/v0/bundles/", query={"q": '{"num_gpus": {"eq": 1}}'})
    put = await bench.send("PUT", "/api/v0/search/asks/", {"select_cols": ["*"], "q": query})

    assert posted.json() == got.json() == put.json()


async def test_a_search_gives_64_rows_at_most() -> None:
    bench = Bench(offers=100)
    reply = await bench.send("POST", "/api/v0/bundles/", {"limit": 1000})

    assert len(reply.json()["offers"]) == 64


async def test_order_and_limit_hold() -> None:
    bench = Bench()
    prices = [row["dph_total"] for row in await bench.offers(order=[["dph_total", "desc"]], limit=4)]

    assert len(prices) == 4
    assert prices == sorted(prices, reverse=True)


async def test_one_offer_is_found_by_its_ask_contract_id() -> None:
    bench = Bench()
    offer = (await bench.offers())[2]

    assert ids(await bench.offers(ask_contract_id={"eq": offer["id"]})) == [offer["id"]]


async def test_the_reply_is_plain_json_and_paths_need_no_slash() -> None:
    reply = await Bench().send("POST", "/api/v0/bundles", {})

    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("seed", range(1, 20))
async def test_a_small_market_has_several_verified_single_4090_at_different_prices(seed: int) -> None:
    bench = Bench(offers=12, seed=seed)
    offers = await bench.offers()

    assert len(offers) >= 5
    assert len({row["machine_id"] for row in offers}) == len(offers)
    assert len({row["dph_base"] for row in offers}) == len(offers)


async def test_a_machine_with_several_cards_has_several_offers_that_change_ids() -> None:
    bench = Bench(offers=60)
    pair = next(ask for ask in bench.world.market.free_asks() if ask.num_gpus == 2)
    others = [ask.id for ask in bench.world.market.asks.values() if ask.machine is pair.machine and ask is not pair]
    await bench.rent(pair.id)

    assert len(others) > 1
    assert not set(others) & set(bench.world.market.asks)
    assert (await bench.order(others[0])).json()["error"] == "no_such_ask"


async def test_the_order_is_kept_as_it_was_given() -> None:
    bench = Bench()
    reply = await bench.order()
    instance = bench.alive[0]

    assert reply.json() | {"ask_id": 0} == {
        "success": True,
        "new_contract": instance.id,
        "instance_api_key": instance.api_key.secret,
        "ask_id": 0,
    }
    assert (instance.image, instance.label, instance.onstart) == ("pytorch/pytorch:latest", "lab", "echo hi")
    assert instance.env == {"FOO": "bar", "-p 8080:8080": "1"}
    assert instance.disk_gb == 40


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"image": None}, "image must be"),
        ({"image": "x" * 1025}, "image must be"),
        ({"env": "-e A=B"}, "env must be a dict"),
        ({"env": {"A" * 257: "1"}}, "env is too long"),
        ({"env": {"A": "1" * 32_768}}, "env is too long"),
        ({"env": {f"-p {port}:{port}": "1" for port in range(65)}}, "more than 64 ports"),
        ({"label": "x" * 257}, "label is too long"),
        ({"disk": 0}, "disk must be"),
        ({"disk": 1_000_000}, "is more than"),
        ({"runtype": "telnet"}, "unknown runtype telnet"),
        ({"onstart": "x" * 4097}, "longer than 4096"),
        ({"price": 0}, "invalid price"),
        ({"price": 129}, "invalid price"),
        ({"template_hash_id": "nonsense"}, "no template"),
    ],
)
async def test_a_bad_order_is_refused(order: dict[str, Any], words: str) -> None:
    bench = Bench()
    reply = await bench.order(**order)

    assert reply.status_code == 400
    assert reply.json()["success"] is False
    assert words in reply.json()["msg"]
    assert bench.alive == []


async def test_a_body_that_is_no_json_is_refused() -> None:
    bench = Bench()

    assert (await bench.send("PUT", "/api/v0/asks/1/", [1])).json()["msg"] == "Invalid json body"


async def test_without_credit_nothing_is_rented() -> None:
    bench = Bench(credit="0")

    assert (await bench.order()).json()["error"] == "insufficient_credit"


async def test_a_template_gives_what_the_order_does_not() -> None:
    bench = Bench()
    made = {"name": "t", "image": "from/template:1", "env": "-e A=1 -e FOO=0 -p 9000:9000", "onstart": "template"}
    template = (await bench.send("POST", "/api/v0/template/", made)).json()["template"]
    instance = await bench.rent(image=None, onstart=None, template_hash_id=template["hash_id"])
    bench.advance(3)
    row = await bench.row(instance)

    assert (instance.image, instance.onstart) == ("from/template:1", "template")
    assert instance.env == {"A": "1", "FOO": "bar", "-p 9000:9000": "1", "-p 8080:8080": "1"}
    assert row is not None
    assert row["template_hash_id"] == template["hash_id"]


async def test_an_order_may_begin_stopped() -> None:
    bench = Bench()
    instance = await bench.rent(target_state="stopped")
    bench.advance(100)

    assert (instance.actual, instance.holds_cards) == ("exited", False)


async def test_a_volume_is_attached_and_shown_in_the_list_alone() -> None:
    bench = Bench()
    wanted = {"mount_path": "/data", "create_new": True, "volume_id": 77, "size": 20, "name": "data"}
    instance = await bench.rent(volume_info=wanted)
    bench.advance(3)
    row = await bench.row(instance)

    assert row is not None
    assert "volume_info" not in row
    assert (await bench.page())["instances"][0]["volume_info"][0]["label"] == "data"


async def test_bulk_rents_each_offer_once() -> None:
    bench = Bench()
    offers = ids(await bench.offers())[:2]
    body = {"image": "x", "ids": [*offers, 1]}
    reply = (await bench.send("POST", "/api/v0/asks/bulk/", body)).json()

    assert reply["new_contracts"] == [one.id for one in bench.alive]
    assert [one["success"] for one in reply["results"]] == [True, True, False]


async def test_launch_rents_the_first_that_can_be_rented() -> None:
    bench = Bench()
    query = {"gpu_name": {"eq": "RTX 4090"}, "order": [["dph_total", "asc"]], "limit": 3}
    reply = (await bench.send("PUT", "/api/v0/launch_instance/", {"image": "x", "disk": 10, "q": query})).json()
    none = await bench.send("PUT", "/api/v0/launch_instance/", {"image": "x", "q": {"gpu_name": {"eq": "TPU"}}})

    assert [reply["new_contract"]] == [one.id for one in bench.alive]
    assert none.status_code == 404


# -- keys and frequency


async def test_a_key_works_in_the_header_and_in_the_query() -> None:
    bench = Bench()
    by_query = await bench.send("GET", "/api/v0/users/current", key="", query={"api_key": bench.world.api_key})

    assert by_query.json()["username"] == "tester"
    assert (await bench.send("GET", "/api/v0/users/current")).json()["email"] == "tester@example.com"


async def test_no_key_and_bad_keys_are_refused() -> None:
    bench = Bench()
    none = await bench.send("GET", "/api/v0/users/current", key="")
    unknown = await bench.send("GET", "/api/v0/users/current", key="wrong")
    spare = bench.world.add_key(bench.world.account)
    spare.revoked = True
    revoked = await bench.send("GET", "/api/v0/users/current", key=spare.secret)

    assert (none.status_code, none.json()["msg"]) == (403, "This action requires login.")
    assert (unknown.status_code, unknown.json()["msg"]) == (404, "Invalid user key")
    assert revoked.json() == unknown.json()


async def test_a_key_without_the_scope_is_refused() -> None:
    bench = Bench()
    reader = bench.world.add_key(bench.world.account, {"misc", "user_read", "instance_read"})

    assert (await bench.send("GET", "/api/v1/instances/", key=reader.secret)).status_code == 200
    refused = await bench.send("PUT", "/api/v0/asks/1/", {}, key=reader.secret)
    assert (refused.status_code, refused.json()["success"]) == (403, False)


async def test_names_of_cards_need_no_key() -> None:
    reply = await Bench().send("GET", "/api/v0/gpu_names/unique/", key="")

    assert "RTX 4090" in reply.json()["gpu_names"]


async def test_each_endpoint_has_its_interval() -> None:
    bench = Bench(switches=Switches())
    statuses: list[int] = []
    for pause in (0.0, 0.5, 0.6, 1.0):
        bench.advance(pause)
        statuses.append((await bench.send("GET", "/api/v1/instances/")).status_code)

    assert statuses == [200, 429, 200, 200]
    assert (await bench.send("GET", "/api/v0/users/current")).status_code == 200


async def test_a_create_too_soon_costs_a_longer_wait() -> None:
    bench = Bench(switches=Switches())
    statuses = [(await bench.order()).status_code]
    for pause in (1.0, 5.0, 8.0):
        bench.advance(pause)
        statuses.append((await bench.order()).status_code)

    assert statuses == [200, 429, 429, 429]
    bench.advance(12)
    assert (await bench.order()).status_code == 200


async def test_searches_are_ten_a_minute() -> None:
    bench = Bench(switches=Switches())
    statuses = [(await bench.send("POST", "/api/v0/bundles/", {})).status_code for _ in range(11)]
    bench.advance(60)

    assert statuses == [200] * 10 + [429]
    assert (await bench.send("POST", "/api/v0/bundles/", {})).status_code == 200


# -- checks from outside


async def test_the_state_tells_what_is_true_and_counts_requests() -> None:
    bench = Bench()
    instance = await bench.rent()
    await bench.order(1)
    state = (await bench.send("GET", "/__sim__/state", key="")).json()

    assert state["requests"] == {"create": 2}
    assert [one["id"] for one in state["instances"]] == [instance.id]
    assert state["instances"][0]["env"] == instance.env
    assert state["instances"][0]["label"] == "lab"
    assert state["instances"][0]["price_per_hour"] > 0


async def test_the_clock_is_moved_from_outside() -> None:
    bench = Bench()
    before = bench.clock.now()
    reply = await bench.send("POST", "/__sim__/advance", {"seconds": 60}, key="")

    assert reply.json() == {"now": before + 60}
    assert bench.clock.now() == before + 60
