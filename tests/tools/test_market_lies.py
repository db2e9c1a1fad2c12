"""A market that lies: never rented, or reported and released."""

from decimal import Decimal
from typing import Any

import pytest

from tests.stack import stack
from tests.tools.acts import arm, planned

DELIVERIES: list[tuple[str, dict[str, Any], str]] = [
    ("other_gpu", {"gpu": "RTX 3090"}, "got RTX 3090, agreed RTX 4090"),
    ("smaller_disk", {"factor": 0.5}, "got 32"),
    ("dearer", {"factor": 2.0}, "agreed at most"),
]

OFFERS: list[tuple[str, dict[str, Any]]] = [
    ("odd_offer", {"field": "gpu_name", "value": "A100 SXM4"}),
    ("odd_offer", {"field": "verification", "value": "unverified"}),
    ("odd_offer", {"field": "disk_space", "value": 20}),
    ("odd_offer", {"field": "rentable", "value": False}),
    ("odd_offer", {"field": "num_gpus", "value": 4}),
    ("filters_ignored", {}),
]


@pytest.mark.requirement("INPUT-9")
@pytest.mark.parametrize(("fault", "settings"), OFFERS, ids=str)
async def test_an_offer_outside_the_filter_is_never_rented(fault: str, settings: dict[str, Any]) -> None:
    async with stack() as s:
        arm(s, fault, times=0, **settings)
        _, machines = await s.rented()
        for one in machines:
            machine = s.world.instances[one].machine
            assert (machine.model.name, machine.verification) == ("RTX 4090", "verified")
            assert machine.disk_gb >= 64
            assert len(s.world.instances[one].gpu_ids) == 1


@pytest.mark.requirement("INPUT-9")
@pytest.mark.parametrize(("fault", "settings", "why"), DELIVERIES, ids=str)
async def test_a_machine_that_is_not_what_was_agreed_is_released_and_reported(
    fault: str, settings: dict[str, Any], why: str
) -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, fault, **settings)
        made = await s.call("create_instances", **create)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        notes = [*made["notes"], *waited["notes"]]
        assert any(why in note and "released: gone" in note for note in notes)
        assert waited["instances"][0]["readiness"] == "gone"
        assert waited["next_call"]["tool"] == "propose_fields"
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("INPUT-9")
async def test_fewer_cards_than_agreed_are_released() -> None:
    async with stack(offers=60) as s:
        create = await planned(s, num_gpus=2, gpu_name="any")
        arm(s, "fewer_gpus")
        await s.call("create_instances", **create)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        assert any("got 1 GPUs, agreed 2" in note for note in waited["notes"])


@pytest.mark.requirement("INPUT-9")
async def test_a_price_above_the_plan_and_under_the_ceiling_is_kept_and_reported() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "dearer", factor=1.1)
        await s.call("create_instances", **create)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=120)
        [machine] = waited["instances"]
        assert machine["readiness"] == "gpu_ok"
        assert any("planned" in warning for warning in machine["warnings"])


@pytest.mark.parametrize(("rise", "told"), [("0.010", True), ("0.0001", False), ("-0.010", False)])
@pytest.mark.requirement("INPUT-9")
async def test_traffic_that_became_much_dearer_after_the_yes_is_told(*, rise: str, told: bool) -> None:
    async with stack() as s:
        for machine in s.world.market.machines:
            machine.traffic_cost = Decimal("0.015")
        create = await planned(s)
        for machine in s.world.market.machines:
            machine.traffic_cost += Decimal(rise)
        again = await s.call("propose_fields", workflow_id=create["workflow_id"])
        assert again["missing"] == []
        made = await s.call("create_instances", **create)
        said = "traffic cost $0.015/GB when the user was asked, and up to $0.025/GB now"
        assert any(said in note for note in made["notes"]) is told
        assert any("traffic" in note for note in made["notes"]) is told


@pytest.mark.requirement("INPUT-9")
async def test_an_unfit_machine_whose_end_is_not_seen_is_never_called_released() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "other_gpu")
        arm(s, "destroy_ignored", times=0)
        await s.call("create_instances", **create)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        assert any("its release is not seen yet (still there)" in note for note in waited["notes"])
        assert [order.live for order in await s.deps.store.orders()] == [True]
