"""The rest of a fleet by the same yes, and fleets for which there are fewer offers than machines agreed to."""

from decimal import Decimal
from typing import Any

import pytest

from tests.stack import Stack, stack, text_of
from tests.tools.acts import arm, planned, states

CHOICE = "Ask the user: keep it, or release it with destroy_instances?"


async def short_by_one(s: Stack) -> str:
    """Three were agreed to, two run, and one place is free again; answers the workflow."""
    create = await planned(s, count=3, fleet="best_effort", max_price_per_hour=100)
    arm(s, "refuse", operation="create", nth=3, code="insufficient_credit")
    made = await s.call("create_instances", **create)
    assert states(made) == ["rented", "rented", "refused"]
    assert CHOICE in made["notes"][0]
    return create["workflow_id"]


async def text(s: Stack, tool: str, **arguments: Any) -> str:
    """What a model that sees only text reads."""
    return text_of(await s.client.call_tool(tool, arguments))


def scarce(s: Stack, left: int) -> None:
    """Only so many offers are within reach from now on."""
    cheap = sorted((ask for ask in s.world.market.free_asks()), key=lambda ask: ask.machine.price)
    fitting = [ask for ask in cheap if ask.machine.model.name == "RTX 4090" and ask.num_gpus == 1]
    kept = {ask.machine.id for ask in fitting[:left]}
    for machine in {ask.machine.id: ask.machine for ask in fitting}.values():
        if machine.id not in kept:
            machine.price *= 100


@pytest.mark.requirement("FLEET-9")
async def test_a_plan_for_the_rest_of_a_fleet_has_and_prices_only_the_places_that_are_left() -> None:
    async with stack() as s:
        workflow_id = await short_by_one(s)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        [chosen] = plan["chosen"]
        assert plan["total_per_hour"] == next(o["price_per_hour"] for o in plan["offers"] if o["offer_id"] == chosen)
        assert plan["notes"] == ["2 of the 3 machines agreed to are rented or ordered; this is for the 1 left"]
        assert plan["next_call"]["tool"] == "create_instances"
        assert plan["notes"][0] in await text(s, "find_offers", workflow_id=workflow_id)


@pytest.mark.requirement("FLEET-9")
async def test_once_the_rest_came_the_whole_fleet_is_told_and_nobody_is_asked_to_release_it() -> None:
    async with stack() as s:
        workflow_id = await short_by_one(s)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        together = sum((order.price_per_hour for order in await s.deps.store.orders() if order.live), Decimal(0))
        assert states(made) == ["rented"]
        assert made["notes"] == [f"3 of 3 machines rented, ${together:.4f}/h while all run"]
        assert len(s.running()) == 3


@pytest.mark.requirement("FLEET-9")
async def test_after_the_user_ended_one_of_a_whole_fleet_nobody_is_asked_about_the_others() -> None:
    async with stack() as s:
        workflow_id = await short_by_one(s)
        await s.call("destroy_instances", instance_ids=s.running()[:1])
        plan = await s.call("find_offers", workflow_id=workflow_id)
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert made["notes"][0].startswith("2 of 3 machines rented")
        assert made["notes"][0].endswith("1 came and ended")


@pytest.mark.requirement("FLEET-9")
async def test_a_machine_that_comes_late_into_a_place_of_the_yes_is_kept() -> None:
    async with stack() as s:
        create = await planned(s, count=3, fleet="best_effort", max_price_per_hour=100)
        arm(s, "refuse", operation="create", nth=3, code="insufficient_credit")
        await s.call("create_instances", **create)
        plan = await s.call("find_offers", workflow_id=create["workflow_id"])
        arm(s, "late_effect", operation="create", seconds=150.0)
        again = {"workflow_id": create["workflow_id"], "plan_id": plan["plan_id"]}
        assert states(await s.call("create_instances", **again)) == ["unknown"]
        s.clock.advance(61)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        assert waited["notes"][0].startswith("2 of 3 machines rented")
        s.clock.advance(60)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        assert len(s.running()) == len(waited["instances"]) == 3
        assert any("showed up after it was given up" in note for note in waited["notes"])


@pytest.mark.requirement("FLEET-9")
@pytest.mark.parametrize("fleet", ["best_effort", "all_or_nothing"])
async def test_a_plan_beside_a_yes_without_a_place_leads_to_a_new_question(fleet: str) -> None:
    async with stack() as s:
        workflow_id, _ = await s.ready(count=2, fleet=fleet)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        assert len(plan["chosen"]) == 2
        assert plan["next_call"]["tool"] == "propose_fields"


@pytest.mark.requirement("FLEET-10")
async def test_best_effort_goes_on_with_the_offers_that_there_are_and_says_how_many() -> None:
    async with stack() as s:
        workflow_id = await s.agreed(count=3, fleet="best_effort")
        scarce(s, 2)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        assert len(plan["chosen"]) == 2
        assert plan["notes"] == ["only 2 of 3 machines fit now; best effort takes them"]
        assert plan["next_call"]["tool"] == "create_instances"
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert states(made) == ["rented", "rented"]
        assert made["notes"][0].startswith(
            f"2 of 3 machines rented, ${plan['total_per_hour']:g}/h while all run; 1 did not"
        )


@pytest.mark.requirement("FLEET-10")
async def test_the_question_for_a_best_effort_fleet_says_how_many_fit_now_and_their_price() -> None:
    async with stack() as s:
        scarce(s, 2)
        proposal = await s.call("propose_fields", count=3, fleet="best_effort", max_price_per_hour=1)
        [question] = proposal["questions"]
        assert "Only 2 of 3 fit now" in question
        assert f"${proposal['outlook']['total_per_hour']:g}/h in all" in question


@pytest.mark.requirement("FLEET-10")
@pytest.mark.parametrize("fleet", ["all_or_nothing", None])
async def test_without_best_effort_too_few_offers_are_told_with_counts_price_and_the_choice(fleet: str | None) -> None:
    async with stack() as s:
        scarce(s, 2)
        fields = {"count": 3, "max_price_per_hour": 1} | ({} if fleet is None else {"fleet": fleet})
        proposal = await s.call("propose_fields", **fields)
        [question] = proposal["questions"]
        assert question.startswith("Only 2 of 3 machines fit now, at $")
        assert question.endswith("in all. Rent as many as there are (fleet best_effort), or loosen the filter?")


@pytest.mark.requirement("FLEET-10")
async def test_all_or_nothing_refuses_a_plan_for_fewer_with_both_counts() -> None:
    async with stack() as s:
        workflow_id = await s.agreed(count=3, fleet="all_or_nothing")
        scarce(s, 2)
        refusal = await s.refusal("find_offers", workflow_id=workflow_id)
        assert refusal["code"] == "no_offers"
        assert "got 2 fitting machines, needed 3" in refusal["message"]
        assert "Only 2 of 3 machines fit now" in refusal["ask_user"]


@pytest.mark.requirement("FLEET-10")
async def test_the_users_own_choice_may_be_fewer_than_agreed_in_a_best_effort_fleet_alone() -> None:
    async with stack() as s:
        workflow_id = await s.agreed(count=3, fleet="best_effort")
        plan = await s.call("find_offers", workflow_id=workflow_id)
        own = await s.call("find_offers", workflow_id=workflow_id, offer_ids=plan["chosen"][:2])
        assert own["chosen"] == plan["chosen"][:2]
        strict = await s.agreed(count=3, fleet="all_or_nothing")
        refusal = await s.refusal("find_offers", workflow_id=strict, offer_ids=plan["chosen"][:2])
        assert "offer_ids: got 2, allowed 3 of distinct machines" in refusal["message"]
