"""Each open point of the provider's behaviour can be switched, and the switch is felt."""

from collections.abc import Awaitable, Callable
from dataclasses import fields
from decimal import Decimal
from typing import Any

import pytest

from tests.simulator.bench import PUBLIC_KEY, Bench, without_limits
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.switches import Switches

PACE = {"created_s", "loading_s", "stop_s", "start_s", "reboot_s", "logs_ready_s"}
"""How fast machines are: no open points."""
TOLD_ELSEWHERE = {"limits": "test_renting", "charges_lag_s": "test_prices"}
Check = Callable[[], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def shows(check: Check) -> Check:
    """Register the check of the switch that it is named after."""
    CHECKS[check.__name__] = check
    return check


@pytest.mark.parametrize("name", sorted({one.name for one in fields(Switches)} - PACE - set(TOLD_ELSEWHERE)))
async def test_the_switch_is_felt(name: str) -> None:
    await CHECKS[name]()


async def too_many(**switches: Any) -> Any:
    """The reply to a second list at once."""
    bench = Bench(switches=Switches(**switches))
    await bench.send("GET", "/api/v1/instances/")
    reply = await bench.send("GET", "/api/v1/instances/")
    assert reply.status_code == 429
    return reply


@shows
async def too_many_form() -> None:
    assert (await too_many()).text == "API requests too frequent endpoint threshold=1.0"
    assert (await too_many(too_many_form="text_colon")).text == "API requests too frequent: endpoint threshold=1.0"
    assert "too frequent" in (await too_many(too_many_form="detail")).json()["detail"]
    assert (await too_many(too_many_form="error")).json()["error"] == "rate_limit_exceeded"
    assert "too frequent" in (await too_many(too_many_form="message")).json()["message"]


@shows
async def retry_after() -> None:
    assert "Retry-After" not in (await too_many()).headers
    assert int((await too_many(retry_after="header")).headers["Retry-After"]) >= 1
    assert (await too_many(retry_after="body")).json()["retry_after"] == 1.0
    both = await too_many(retry_after="both", too_many_form="error")
    assert both.json()["retry_after"] == 1.0
    assert "Retry-After" in both.headers


@shows
async def unknown_key_status() -> None:
    bench = Bench(switches=without_limits(unknown_key_status=401))
    assert (await bench.send("GET", "/api/v0/users/current", key="wrong")).status_code == 401


@shows
async def missing_scope_status() -> None:
    bench = Bench(switches=without_limits(missing_scope_status=401))
    key = bench.world.add_key(bench.world.account, ())
    assert (await bench.send("GET", "/api/v0/users/current", key=key.secret)).status_code == 401


@shows
async def unknown_filters() -> None:
    query = {"nonsense": {"eq": 1}}
    assert len((await Bench().send("POST", "/api/v0/bundles/", query)).json()["offers"]) == 24
    refused = await Bench(switches=without_limits(unknown_filters="refused")).send("POST", "/api/v0/bundles/", query)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


@shows
async def search_defaults() -> None:
    every = (await Bench().send("POST", "/api/v0/bundles/", {})).json()["offers"]
    few = (await Bench(switches=without_limits(search_defaults=True)).send("POST", "/api/v0/bundles/", {})).json()
    assert len(few["offers"]) < len(every)
    assert all(row["verification"] == "verified" and row["rentable"] for row in few["offers"])


@shows
async def search_needs_key() -> None:
    assert (await Bench().send("POST", "/api/v0/bundles/", {}, key="")).status_code == 403
    bench = Bench(switches=without_limits(search_needs_key=False))
    assert (await bench.send("POST", "/api/v0/bundles/", {}, key="")).status_code == 200


@shows
async def id_filter_matches() -> None:
    for works in (False, True):
        bench = Bench(switches=without_limits(id_filter_matches=works))
        offer = (await bench.offers())[0]
        assert len(await bench.offers(id={"eq": offer["id"]})) == int(works)


@shows
async def gone_offer_status() -> None:
    assert (await Bench().order(1)).status_code == 410
    assert (await Bench().order(1, cancel_unavail=False)).status_code == 404
    reply = await Bench(switches=without_limits(gone_offer_status=400)).order(1)
    assert (reply.status_code, reply.json()["error"]) == (400, "no_such_ask")


@shows
async def double_rent() -> None:
    bench = Bench(switches=without_limits(double_rent="accepted"))
    first = await bench.rent()
    taken = next(ask for ask in bench.world.market.asks.values() if ask.machine is first.machine)
    second = await bench.rent(taken.id)
    bench.advance(3600)
    assert (first.actual, second.actual) == ("running", None)


@shows
async def low_bid() -> None:
    bench = Bench()
    reply = await bench.order(price=0.01, cancel_unavail=False)
    assert reply.status_code == 400
    assert [reply.json()["new_contract"]] == [one.id for one in bench.alive]
    assert bench.alive[0].intended == "stopped"
    assert (await Bench().order(price=0.01, cancel_unavail=True)).status_code == 410
    stopped = Bench(switches=without_limits(low_bid="stopped"))
    assert (await stopped.rent(price=0.01, cancel_unavail=False)).cur == "stopped"
    refused = Bench(switches=without_limits(low_bid="refused"))
    assert "new_contract" not in (await refused.order(price=0.01, cancel_unavail=False)).json()


@shows
async def oversized_disk() -> None:
    bench = Bench(switches=without_limits(oversized_disk="capped"))
    instance = await bench.rent(disk=1_000_000)
    assert float(instance.disk_gb) == instance.machine.disk_gb


@shows
async def visibility_delay_s() -> None:
    bench = Bench(switches=without_limits(visibility_delay_s=50.0))
    instance = await bench.rent()
    bench.advance(49)
    assert await bench.listed() == []
    assert (await bench.set(instance, label="x")).status_code == 200
    bench.advance(1)
    assert await bench.listed() == [instance.id]


@shows
async def stopped_status() -> None:
    bench = Bench(switches=without_limits(stopped_status="stopped"))
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    bench.advance(5)
    assert instance.actual == "stopped"


async def queued(**switches: Any) -> tuple[Bench, Instance]:
    """An instance whose start is queued, since its cards are gone."""
    bench = Bench(switches=without_limits(**switches))
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    bench.advance(5)
    bench.world.market.take(instance.machine, instance.gpu_ids, "other:1")
    assert (await bench.set(instance, state="running")).json()["success"] is False
    return bench, instance


@shows
async def queued_start() -> None:
    bench, instance = await queued()
    bench.world.market.release(instance.machine, "other:1")
    bench.advance(1)
    bench.advance(30)
    assert instance.actual == "running"


@shows
async def queue_fallback_s() -> None:
    bench, instance = await queued(queued_start="falls_back", queue_fallback_s=20.0)
    bench.advance(19)
    assert instance.intended == "running"
    bench.advance(2)
    assert (instance.intended, instance.queued) == ("stopped", False)


@shows
async def unknown_instance() -> None:
    bench = Bench(switches=without_limits(unknown_instance="404"))
    reply = await bench.send("GET", "/api/v0/instances/1/")
    assert (reply.status_code, reply.json()["error"]) == (404, "no_such_instance")


@shows
async def destroy_linger_s() -> None:
    bench = Bench(switches=without_limits(destroy_linger_s=0.0))
    instance = await bench.running()
    await bench.destroy(instance)
    assert await bench.row(instance) is None


@shows
async def proxy_port_plus_one() -> None:
    ports: list[int] = []
    for plus_one in (True, False):
        bench = Bench(switches=without_limits(proxy_port_plus_one=plus_one))
        row = await bench.row(await bench.running(runtype="jupyter_proxy ssh_proxy"))
        assert row is not None
        ports.append(row["ssh_port"])
    assert ports[0] + 1 == ports[1]


@shows
async def keys_delay_s() -> None:
    bench = Bench(switches=without_limits(keys_delay_s=100.0))
    instance = await bench.running()
    await bench.send("POST", f"/api/v0/instances/{instance.id}/ssh/", {"ssh_key": PUBLIC_KEY})
    bench.advance(99)
    assert bench.world.authorized_keys(instance.id) == []
    bench.advance(1)
    assert bench.world.authorized_keys(instance.id) == [PUBLIC_KEY]


@shows
async def account_keys_reach_running() -> None:
    bench = Bench(switches=without_limits(account_keys_reach_running=True))
    instance = await bench.running()
    await bench.send("POST", "/api/v0/ssh/", {"ssh_key": PUBLIC_KEY})
    assert bench.world.authorized_keys(instance.id) == [PUBLIC_KEY]


async def traffic_kinds(**switches: float) -> set[str]:
    """The kinds of charges of an hour."""
    bench = Bench(switches=without_limits(**switches))
    instance = await bench.running()
    instance.machine.traffic_cost = Decimal("0.01")
    bench.advance(3600)
    return {line.kind for line in instance.meter.lines}


@shows
async def traffic_down_gb_per_hour() -> None:
    assert "bwd" not in await traffic_kinds()
    assert "bwd" in await traffic_kinds(traffic_down_gb_per_hour=2.0)


@shows
async def traffic_up_gb_per_hour() -> None:
    assert "bwu" in await traffic_kinds(traffic_up_gb_per_hour=2.0)


@shows
async def delete_without_credit_s() -> None:
    bench = Bench(switches=without_limits(delete_without_credit_s=60.0), credit="0.02")
    bench.world.account.has_card = False
    instance = await bench.running()
    bench.advance(3600)
    assert instance.gone
