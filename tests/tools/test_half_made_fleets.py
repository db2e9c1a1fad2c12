"""Fleets that take more calls than one: what is still planned when something changes in between."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, planned, settled, states

FIRST_CALL = 10
"""Machines that one call rents at the provider's pace."""


async def begun(s: Stack, count: int, fleet: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A fleet of which a first call rented a part; the create's arguments and its answer."""
    create = await planned(s, count=count, fleet=fleet)
    made = await s.call("create_instances", **create)
    assert made["next_call"]["tool"] == "create_instances"
    assert states(made).count("rented") == FIRST_CALL
    return create, made


@pytest.mark.requirement("FLEET-6")
async def test_all_or_nothing_rents_no_more_once_an_unclear_order_is_seen_not_to_have_rented() -> None:
    async with stack() as s:
        create = await planned(s, count=20, fleet="all_or_nothing")
        arm(s, "http_error", operation="create", nth=2, status=503)
        assert states(await s.call("create_instances", **create)) == ["rented", "unknown"] + ["planned"] * 18
        waited = await settled(s, create["workflow_id"])
        assert any(note.startswith("18 more of a fleet will not be rented") for note in waited["notes"])
        assert any("released machine" in note and "all or nothing" in note for note in waited["notes"])
        assert waited["next_call"]["tool"] == "propose_fields"
        assert s.creates_sent() == 2
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("FLEET-6")
async def test_all_or_nothing_rents_no_more_once_a_machine_came_that_is_not_as_agreed() -> None:
    async with stack() as s:
        create = await planned(s, count=20, fleet="all_or_nothing")
        arm(s, "smaller_disk", nth=2, factor=0.5)
        made = await s.call("create_instances", **create)
        sent = s.creates_sent()
        assert sent <= FIRST_CALL
        assert states(made).count("dropped") == 20 - sent
        while made["next_call"]["tool"] == "wait_until_ready":
            made = await s.call("wait_until_ready", workflow_id=create["workflow_id"])
        assert s.creates_sent() == sent
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("FLEET-6")
async def test_a_create_that_goes_on_with_a_fleet_that_can_not_be_whole_sends_nothing_and_says_so() -> None:
    async with stack() as s:
        create = await planned(s, count=20, fleet="all_or_nothing")
        arm(s, "http_error", operation="create", nth=2, status=503)
        await s.call("create_instances", **create)
        s.clock.advance(200)
        await s.call("instance_status", workflow_id=create["workflow_id"])
        made = await s.call("create_instances", **create)
        assert s.creates_sent() == 2
        assert states(made) == ["released", "not_rented"] + ["dropped"] * 18
        assert "18 did not come (all or nothing: the others did not come)" in made["notes"][0]


def taken(s: Stack, ask_id: int) -> None:
    """Somebody else rents this offer."""
    ask = s.world.market.asks[ask_id]
    s.world.market.take(ask.machine, ask.gpu_ids, "other:first")


def dearer(s: Stack, ask_id: int) -> None:
    """Its price is above the ceiling from now on."""
    s.world.market.asks[ask_id].machine.price *= 3


async def next_planned(s: Stack) -> int:
    """The offer whose turn is next."""
    return next(order.ask_id for order in await s.deps.store.orders() if order.state == "planned")


@pytest.mark.requirement("FLEET-7")
@pytest.mark.parametrize("fleet", ["best_effort", "all_or_nothing"])
@pytest.mark.parametrize("change", [taken, dearer])
async def test_an_offer_that_is_gone_or_dear_by_the_next_call_gives_its_turn_to_another(
    change: Callable[[Stack, int], None], fleet: str
) -> None:
    async with stack() as s:
        create, _ = await begun(s, 14, fleet)
        ask_id = await next_planned(s)
        change(s, ask_id)
        made = await s.call("create_instances", **create)
        assert states(made).count("rented") == len(s.running()) == s.creates_sent() == 14
        assert states(made).count("dropped") == 1
        assert any(note.startswith(f"offer {ask_id} was gone; trying") for note in made["notes"]) is (change is taken)
        assert all(order.price_per_hour <= order.ceiling_per_hour for order in await s.deps.store.orders())


@pytest.mark.requirement("FLEET-7")
async def test_where_no_other_offer_fits_the_one_that_is_gone_is_dropped_alone() -> None:
    async with stack() as s:
        create, _ = await begun(s, 14, "best_effort")
        orders = {order.ask_id: order for order in await s.deps.store.orders()}
        for ask in s.world.market.free_asks():
            if ask.id not in orders:
                dearer(s, ask.id)
        taken(s, await next_planned(s))
        made = await s.call("create_instances", **create)
        assert states(made).count("rented") == len(s.running()) == s.creates_sent() == 13
        assert made["notes"][0].startswith("13 of 14 machines rented")


@pytest.mark.requirement("FLEET-7")
async def test_a_replacement_that_is_gone_too_is_dropped_alone() -> None:
    async with stack() as s:
        create = await planned(s, count=3, fleet="best_effort")
        arm(s, "refuse", operation="create", nth=1, code="no_such_ask", status=404)
        arm(s, "refuse", operation="create", nth=4, code="no_such_ask", status=404)
        made = await s.call("create_instances", **create)
        assert states(made) == ["refused", "rented", "rented", "refused"]
        assert s.creates_sent() == 4


@pytest.mark.requirement("FLEET-7")
async def test_in_a_large_market_a_sold_out_offer_is_replaced_right_after_the_search() -> None:
    async with stack(offers=400) as s:
        create = await planned(s)
        arm(s, "sold_out", operation="create")
        made = await s.call("create_instances", **create)
        assert states(made) == ["refused", "rented"]


@pytest.mark.requirement("FLEET-7")
@pytest.mark.parametrize("sold_out", [2, 5, 8])
async def test_in_a_large_market_several_offers_are_sold_out_and_each_is_replaced(sold_out: int) -> None:
    async with stack(offers=1000) as s:
        create = await planned(s, count=20, fleet="all_or_nothing")
        arm(s, "sold_out", operation="create", nth=2, times=sold_out)
        made: dict[str, Any] = {"next_call": {"tool": "create_instances"}}
        while made["next_call"]["tool"] == "create_instances":
            made = await s.call("create_instances", **create)
        assert len(s.running()) == 20
        assert states(made).count("rented") == 20
        assert states(made).count("refused") == sold_out


@pytest.mark.requirement("FLEET-7")
async def test_while_no_search_is_allowed_a_gone_offers_place_is_kept_and_the_next_call_fills_it() -> None:
    async with stack(offers=400) as s:
        workflow_id = await s.agreed()
        s.clock.advance(61)
        await s.call("find_offers", workflow_id=workflow_id)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        create = {"workflow_id": workflow_id, "plan_id": plan["plan_id"]}
        for ask_id in s.world.market.asks:
            if ask_id not in plan["chosen"]:
                dearer(s, ask_id)
        arm(s, "sold_out", operation="create")
        made = await s.call("create_instances", **create)
        assert states(made) == ["refused", "planned"]
        assert made["next_call"] == {"tool": "create_instances", "arguments": create}
        assert not any("nothing was sent" in note for note in made["notes"])
        again = await s.call("create_instances", **create)
        assert (states(again), again["next_call"]) == (states(made), made["next_call"])
        assert s.creates_sent() == 1
        cheap = next(ask for ask in s.world.market.free_asks() if ask.machine.model.name == "RTX 4090")
        cheap.machine.price /= 6
        s.clock.advance(60)
        made = await s.call("create_instances", **create)
        assert states(made) == ["refused", "dropped", "rented"]
        assert s.creates_sent() == 2


@pytest.mark.requirement("FLEET-7")
async def test_a_kept_place_is_not_sent_for_its_gone_offer_again_while_searches_still_show_it() -> None:
    async with stack(offers=400) as s:
        workflow_id = await s.agreed()
        s.clock.advance(61)
        await s.call("find_offers", workflow_id=workflow_id)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        create = {"workflow_id": workflow_id, "plan_id": plan["plan_id"]}
        prices = {machine.id: machine.price for machine in s.world.market.machines}
        for ask_id in s.world.market.asks:
            if ask_id not in plan["chosen"]:
                dearer(s, ask_id)
        arm(s, "refuse", operation="create", code="no_such_ask", status=404)
        assert states(await s.call("create_instances", **create)) == ["refused", "planned"]
        for machine in s.world.market.machines:
            machine.price = prices[machine.id]
        s.clock.advance(61)
        made = await s.call("create_instances", **create)
        assert states(made) == ["refused", "dropped", "rented"]
        rented = (await s.deps.store.orders())[-1]
        assert rented.ask_id not in plan["chosen"]


@pytest.mark.requirement("FLEET-7")
async def test_64_machines_are_proposed_found_and_begun_within_a_minute() -> None:
    async with stack(offers=1000) as s:
        began = s.clock.now()
        create = await planned(s, count=64, fleet="best_effort")
        made = await s.call("create_instances", **create)
        assert states(made).count("rented") >= FIRST_CALL - 1
        assert s.clock.now() - began < 60


@pytest.mark.requirement("FLEET-8")
@pytest.mark.parametrize("fleet", ["best_effort", "all_or_nothing"])
@pytest.mark.parametrize("waits", [True, False])
async def test_after_the_user_had_its_machines_destroyed_no_more_of_a_fleet_is_rented(fleet: str, waits: bool) -> None:  # noqa: FBT001 # a parameter
    async with stack() as s:
        create, made = await begun(s, 20, fleet)
        machines = [order["instance_id"] for order in made["orders"] if order["state"] == "rented"]
        ended = await s.call("destroy_instances", instance_ids=machines)
        why = "(machines of it were destroyed on request)"
        assert ended["notes"] == [f"10 more of this fleet were planned and will not be rented {why}"]
        if waits:
            waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=5)
            assert "10 more of a fleet will not be rented (machines of it were destroyed on request)" in waited["notes"]
            assert waited["next_call"] is None
        made = await s.call("create_instances", **create)
        assert states(made) == ["released"] * 10 + ["dropped"] * 10
        assert s.creates_sent() == FIRST_CALL
        assert s.running() == []
