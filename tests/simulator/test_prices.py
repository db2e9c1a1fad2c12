"""What things cost: the price shown, the meter, the credit, charges and invoices."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulator.bench import BOOTED_S, Bench, without_limits
from vastai_workflow.simulator.instances import Fate, Instance

HOUR_S = 3600.0


def charged(instance: Instance, kind: str) -> Decimal:
    """$ charged so far for one kind."""
    return sum((line.amount(float("inf")) for line in instance.meter.lines if line.kind == kind), Decimal(0))


async def charges(bench: Bench, **query: str) -> dict[str, Any]:
    """The charges of two days around now."""
    span = {"gte": bench.clock.now() - 172_800, "lte": bench.clock.now() + 172_800}
    texts = {"select_filters": json.dumps({"day": span}), **query}
    return (await bench.send("GET", "/api/v0/charges/", query=texts)).json()


@pytest.mark.parametrize("gigabytes", [0.0, 5.0, 64.0])
async def test_the_allocated_disk_is_in_the_price(gigabytes: float) -> None:
    for row in await Bench().offers(allocated_storage=gigabytes):
        disk = row["storage_cost"] * gigabytes / 720
        assert row["storage_total_cost"] == pytest.approx(disk)
        assert row["dph_total"] == pytest.approx(row["dph_base"] + disk)


async def test_without_an_allocation_the_price_is_for_8_gb() -> None:
    bench = Bench()
    row = (await bench.send("POST", "/api/v0/bundles/", {})).json()["offers"][0]

    assert row["storage_total_cost"] == pytest.approx(row["storage_cost"] * 8 / 720)


async def test_a_bid_search_shows_the_lowest_bid_and_a_reserved_one_a_discount() -> None:
    bench = Bench()
    fixed, bid, reserved = [(await bench.offers(type=kind))[0] for kind in ("ondemand", "bid", "reserved")]

    assert bid["dph_base"] == fixed["min_bid"] < fixed["dph_base"]
    assert bid["is_bid"] is True
    assert reserved["dph_base"] == pytest.approx(fixed["dph_base"] * 0.8)


async def test_the_contract_keeps_the_price_of_its_offer() -> None:
    bench = Bench()
    offer = (await bench.offers())[0]
    instance = await bench.rent(offer["id"])
    instance.machine.price *= 2
    bench.advance(3)
    row = await bench.row(instance)

    assert row is not None
    assert row["dph_base"] == offer["dph_base"]
    assert row["dph_total"] == pytest.approx(offer["dph_total"])


async def test_cards_cost_only_while_running_and_the_disk_from_the_start() -> None:
    bench = Bench()
    instance = await bench.rent()
    bench.advance(10)
    assert charged(instance, "gpu") == 0
    assert charged(instance, "disk") == pytest.approx(instance.disk_rate * 10 / 3600)
    bench.advance(BOOTED_S)
    assert instance.running_since is not None
    ran = bench.clock.now() - instance.running_since

    assert float(charged(instance, "gpu")) == pytest.approx(float(instance.dph_base) * ran / 3600)


async def test_a_stopped_instance_costs_its_disk_and_an_offline_one_nothing() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    bench.advance(10)
    gpu, disk = charged(instance, "gpu"), charged(instance, "disk")
    bench.advance(HOUR_S)
    assert charged(instance, "gpu") == gpu
    assert charged(instance, "disk") == pytest.approx(disk + instance.disk_rate)

    other = await bench.running()
    bench.world.fate(other.id, Fate("offline"))
    bench.advance(1)
    total = other.meter.total()
    bench.advance(HOUR_S)
    assert other.meter.total() == total


async def test_a_destroyed_instance_costs_nothing_more() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.destroy(instance)
    total = instance.meter.total()
    bench.advance(HOUR_S)

    assert instance.meter.total() == total


async def test_traffic_costs_by_the_gigabyte() -> None:
    bench = Bench()
    instance = await bench.running()
    instance.machine.traffic_cost = Decimal("0.01")
    before = bench.world.account.credit
    bench.world.traffic(instance.id, down_gb=Decimal(3), up_gb=Decimal(2))

    assert (charged(instance, "bwd"), charged(instance, "bwu")) == (Decimal("0.03"), Decimal("0.02"))
    assert bench.world.account.credit == before - Decimal("0.05")


async def test_an_interruptible_instance_costs_its_bid() -> None:
    bench = Bench()
    instance = await bench.running(price=1.25)

    assert instance.gpu_rate == Decimal("1.25")
    row = await bench.row(instance)
    assert row is not None
    assert row["is_bid"] is True


async def test_prepaid_money_is_used_first() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.send("PUT", f"/api/v0/instances/prepay/{instance.id}/", {"amount": 5.0})
    credit = bench.world.account.credit
    bench.advance(HOUR_S)

    assert bench.world.account.credit == credit
    assert instance.prepaid < 5
    refused = await bench.send("PUT", f"/api/v0/instances/prepay/{instance.id}/", {"amount": 500.0})
    assert refused.status_code == 411


async def test_charges_lag_behind() -> None:
    bench = Bench(switches=without_limits(charges_lag_s=HOUR_S))
    instance = await bench.running()
    bench.advance(HOUR_S / 2)
    assert (await charges(bench))["results"] == []
    bench.advance(HOUR_S)
    row = (await charges(bench))["results"][0]

    assert row["source"] == f"instance-{instance.id}"
    assert row["metadata"] == {"label": "lab"}
    assert {item["type"] for item in row["items"]} == {"gpu", "disk"}
    assert row["amount"] == pytest.approx(sum(item["amount"] for item in row["items"]))
    assert 0 < row["amount"] < float(instance.meter.total())


async def test_charges_of_ended_instances_stay() -> None:
    bench = Bench(switches=without_limits(charges_lag_s=0.0))
    instance = await bench.running()
    await bench.destroy(instance)
    bench.advance(HOUR_S)

    assert instance.gone
    assert (await charges(bench))["results"][0]["amount"] == pytest.approx(float(instance.meter.total()))


async def test_charges_come_in_pages() -> None:
    bench = Bench(switches=without_limits(charges_lag_s=0.0))
    for _ in range(3):
        await bench.running()
    first = await charges(bench, limit="2")
    second = await charges(bench, limit="2", after_token=first["next_token"])
    newest = await charges(bench, latest_first="true")

    assert (first["count"], first["total"], second["count"], second["next_token"]) == (2, 3, 1, None)
    assert newest["results"] == [*first["results"], *second["results"]][::-1]


async def test_charges_without_a_range_are_refused() -> None:
    reply = await Bench().send("GET", "/api/v0/charges/")

    assert reply.status_code == 400
    assert reply.json()["msg"].startswith("Must provide both 'day' gte and lte filters")


async def test_invoices_show_payments_as_negative_amounts() -> None:
    bench = Bench()
    bench.world.pay_in(bench.world.account, Decimal(10), "bitpay")
    span = {"gte": bench.clock.now() - 10, "lte": bench.clock.now() + 10}
    wanted = json.dumps({"when": span, "service": {"in": ["bitpay"]}})
    every = (await bench.send("GET", "/api/v1/invoices/", query={"select_filters": json.dumps({"when": span})})).json()
    some = (await bench.send("GET", "/api/v1/invoices/", query={"select_filters": wanted})).json()
    none = await bench.send("GET", "/api/v1/invoices/")

    assert [row["amount"] for row in every["results"]] == [-25.0, -10.0]
    assert [row["metadata"]["service"] for row in some["results"]] == ["bitpay"]
    assert (none.status_code, none.json()["error"]) == (200, "Invalid date range")


async def test_the_old_invoices_tell_the_credit() -> None:
    bench = Bench(switches=without_limits(charges_lag_s=0.0))
    instance = await bench.running()
    reply = (await bench.send("GET", "/api/v0/users/me/invoices", query={"owner": "me"})).json()

    assert reply["current"]["credit"] == float(bench.world.account.credit)
    assert reply["current"]["charges"] == pytest.approx(float(instance.meter.total()))


STEPS = st.lists(
    st.tuples(st.sampled_from(["stop", "start", "destroy", "rent", "crash"]), st.floats(0, 7200)), max_size=8
)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
async def test_what_the_credit_loses_is_what_the_meters_show(steps: list[tuple[str, float]]) -> None:
    bench = Bench(offers=40, credit="30")  # enough for every rent
    await bench.rent()
    for step, seconds in steps:
        bench.advance(seconds)
        instance = bench.alive[-1] if bench.alive else None
        if step == "rent":
            await bench.order()
        elif instance is not None and step == "destroy":
            await bench.destroy(instance)
        elif instance is not None and step == "crash":
            bench.world.fate(instance.id, Fate("crash"))
        elif instance is not None:
            await bench.set(instance, state="running" if step == "start" else "stopped")
    spent = sum((one.meter.total() for one in bench.world.everything(bench.world.account)), Decimal(0))

    assert float(Decimal(30) - bench.world.account.credit) == pytest.approx(float(spent), abs=1e-12)
    held = [one for one in bench.alive if one.actual == "running"]
    assert all(one.holds_cards for one in held)


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.floats(0.1, 500), min_size=1, max_size=12))
async def test_looking_often_changes_nothing(cuts: list[float]) -> None:
    once, often = Bench(offers=12), Bench(offers=12)
    first, second = await once.rent(), await often.rent()
    for cut in cuts:
        often.advance(cut)
    once.clock.advance(often.clock.now() - once.clock.now())
    once.world.settle()

    assert (first.actual, first.status_msg) == (second.actual, second.status_msg)
    assert float(first.meter.total()) == pytest.approx(float(second.meter.total()), abs=1e-9)
