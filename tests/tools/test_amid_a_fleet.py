"""What happens amid a fleet that takes more calls than one: looks, changes, machines from elsewhere, ends."""

from typing import Any

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, follow, planned, states, stranger
from vastai_workflow.steps.approving import answer

FLEETS = ["best_effort", "all_or_nothing"]


async def half_made(s: Stack, fleet: str) -> dict[str, Any]:
    """Ten of twenty are rented; answers the arguments of the create that goes on."""
    create = await planned(s, count=20, fleet=fleet)
    made = await s.call("create_instances", **create)
    assert states(made) == ["rented"] * 10 + ["planned"] * 10
    return create


@pytest.mark.requirement("FLEET-11")
@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("action", [None, "status", "offers", "billing"])
async def test_a_look_amid_a_fleet_drops_nothing_of_it(action: str | None, fleet: str) -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, fleet)
        await s.call("propose_fields", workflow_id=create["workflow_id"], **({"action": action} if action else {}))
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented"] * 20
        assert len(s.running()) == 20


@pytest.mark.requirement("FLEET-11")
async def test_a_price_that_rose_amid_a_fleet_binds_it_to_the_ceiling_of_its_own_yes() -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, "best_effort")
        left = [order.ask_id for order in await s.deps.store.orders() if order.state == "planned"]
        for ask in s.world.market.free_asks():
            if ask.id not in left:
                ask.machine.price *= 3
        s.world.market.asks[left[0]].machine.price *= 3
        before = (await s.deps.store.orders())[-1].ceiling_per_hour
        await s.call("propose_fields", workflow_id=create["workflow_id"])
        workflow = await s.deps.store.workflow(create["workflow_id"])
        assert workflow is not None
        assert float(workflow.value("max_price_per_hour")) > float(before)
        made = await s.call("create_instances", **create)
        assert states(made).count("rented") == len(s.running()) == 19
        assert all(order.price_per_hour <= before for order in await s.deps.store.orders() if order.live)


@pytest.mark.requirement("FLEET-11")
async def test_a_changed_field_amid_a_fleet_ends_what_is_planned_and_is_named() -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, "best_effort")
        await s.call("propose_fields", workflow_id=create["workflow_id"], image="other/image:1")
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented"] * 10 + ["dropped"] * 10
        assert "no yes yet to: image" in made["notes"]
        assert len(s.running()) == 10


@pytest.mark.requirement("FLEET-11")
async def test_a_new_yes_to_other_fields_gives_what_was_planned_by_the_older_one_nothing() -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, "best_effort")
        changed = await s.call("propose_fields", workflow_id=create["workflow_id"], image="other/image:1")
        await s.call("confirm_fields", workflow_id=create["workflow_id"], digest=changed["digest"])
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented"] * 10 + ["dropped"] * 10
        assert any(note.endswith(f"needed one to {changed['digest']}") for note in made["notes"])


@pytest.mark.requirement("FLEET-11")
@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("looks", [True, False])
async def test_a_machine_from_elsewhere_amid_a_fleet_is_asked_about_and_nothing_is_ended(
    fleet: str,
    looks: bool,  # noqa: FBT001 # a parameter
) -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, fleet)
        other = stranger(s)
        if looks:
            await s.call("propose_fields", workflow_id=create["workflow_id"])
        refused = await s.refusal("create_instances", **create)
        assert refused["code"] == "unacknowledged_instances"
        assert "10 machines of this fleet run, and 10 wait for the answer" in refused["message"]
        assert f"{other} 'mine'" in refused["ask_user"]
        assert "11 run already, this makes 21" in refused["ask_user"]
        assert len(s.running()) == 11
        found = await follow(s, await follow(s, refused))
        assert found["next_call"] == {"tool": "create_instances", "arguments": create}
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented"] * 20
        assert len(s.running()) == 21
        assert s.creates_sent() == 20


@pytest.mark.requirement("FLEET-11")
async def test_find_offers_amid_a_fleet_leads_to_the_create_that_goes_on_with_it() -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, "best_effort")
        await s.call("propose_fields", workflow_id=create["workflow_id"])
        found = await s.call("find_offers", workflow_id=create["workflow_id"])
        assert found["next_call"] == {"tool": "create_instances", "arguments": create}
        assert found["notes"] == ["10 machines agreed to are still to be sent: create_instances goes on with them"]
        await s.call("propose_fields", workflow_id=create["workflow_id"], image="other/image:1")
        found = await s.call("find_offers", workflow_id=create["workflow_id"])
        assert found["next_call"]["tool"] == "propose_fields"


@pytest.mark.requirement("FLEET-11")
async def test_any_number_of_plans_leaves_the_one_that_a_fleet_is_of() -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, "best_effort")
        for _ in range(33):
            s.clock.advance(7)
            await s.call("find_offers", workflow_id=create["workflow_id"])
        workflow = await s.deps.store.workflow(create["workflow_id"])
        assert workflow is not None
        assert len(workflow.plans) == 33
        assert states(await s.call("create_instances", **create)) == ["rented"] * 20


@pytest.mark.requirement("FLEET-8")
@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("seconds", [0, 1800])
async def test_after_one_machine_of_a_half_made_fleet_was_ended_the_others_stay(fleet: str, seconds: int) -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, fleet)
        ended = await s.call("destroy_instances", instance_ids=s.running()[:1])
        why = "(machines of it were destroyed on request)"
        assert ended["notes"] == [f"10 more of this fleet were planned and will not be rented {why}; 9 of it run on"]
        s.clock.advance(seconds)
        for _ in range(3):
            waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
            assert not any("all or nothing" in note for note in waited["notes"])
            s.clock.advance(10)
            s.world.settle()
        made = await s.call("create_instances", **create)
        assert states(made) == ["released"] + ["rented"] * 9 + ["dropped"] * 10
        assert len(s.running()) == 9


@pytest.mark.requirement("FLEET-8")
@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("waits", [True, False])
async def test_what_the_user_gave_up_of_a_fleet_needs_a_new_yes(fleet: str, waits: bool) -> None:  # noqa: FBT001 # a parameter
    async with stack(offers=200) as s:
        create = await half_made(s, fleet)
        await s.call("destroy_instances", instance_ids=s.running())
        if waits:
            await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=5)
        plan = await s.call("find_offers", workflow_id=create["workflow_id"])
        assert plan["next_call"]["tool"] == "propose_fields"
        assert plan["notes"] == []
        refused = await s.refusal("create_instances", workflow_id=create["workflow_id"], plan_id=plan["plan_id"])
        assert refused["code"] == "confirmation_spent"
        assert s.running() == []


@pytest.mark.requirement("FLEET-9")
async def test_a_plan_for_the_rest_of_a_fleet_tells_those_that_ended_apart() -> None:
    async with stack(offers=200) as s:
        create = await planned(s, count=3, fleet="best_effort", max_price_per_hour=100)
        arm(s, "refuse", operation="create", nth=3, code="insufficient_credit")
        await s.call("create_instances", **create)
        await s.call("destroy_instances", instance_ids=s.running()[:1])
        plan = await s.call("find_offers", workflow_id=create["workflow_id"])
        told = "1 of the 3 machines agreed to are rented or ordered, 1 came and ended; this is for the 1 left"
        assert plan["notes"] == [told]


@pytest.mark.requirement("FLEET-7")
@pytest.mark.parametrize("fleet", FLEETS)
async def test_a_place_whose_search_has_to_wait_keeps_no_other_one_waiting(fleet: str) -> None:
    async with stack(offers=400) as s:
        create = await planned(s, count=64, fleet=fleet, max_price_per_hour=100)
        arm(s, "sold_out", operation="create", nth=1)
        made = await s.call("create_instances", **create)
        assert states(made).count("rented") >= 8
        assert made["next_call"] == {"tool": "create_instances", "arguments": create}
        calls = 1
        while made["next_call"]["tool"] == "create_instances":
            made = await s.call("create_instances", **create)
            calls += 1
        assert states(made).count("rented") == len(s.running()) == 64
        assert calls <= 8


@pytest.mark.requirement("FLEET-10")
async def test_the_users_own_choice_of_fewer_is_not_called_all_that_fits() -> None:
    async with stack() as s:
        workflow_id = await s.agreed(count=3, fleet="best_effort")
        whole = await s.call("find_offers", workflow_id=workflow_id)
        chosen = await s.call("find_offers", workflow_id=workflow_id, offer_ids=whole["chosen"][:1])
        assert chosen["notes"] == []


@pytest.mark.requirement("FLEET-9")
async def test_of_two_plans_of_one_yes_the_second_tells_only_what_it_takes() -> None:
    async with stack() as s:
        workflow_id = await s.agreed(count=2, fleet="best_effort")
        both = await s.call("find_offers", workflow_id=workflow_id)
        one = await s.call("find_offers", workflow_id=workflow_id, offer_ids=both["chosen"][:1])
        await s.call("create_instances", workflow_id=workflow_id, plan_id=one["plan_id"])
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=both["plan_id"])
        assert states(made) == ["rented"]
        assert [order.ask_id for order in await s.deps.store.orders()] == both["chosen"]
        assert not any("taking" in note for note in made["notes"])


async def _ends_what_is_planned(s: Stack, create: dict[str, Any]) -> None:
    """The ten that run stay, and the next create sends none of the others."""
    found = await s.call("find_offers", workflow_id=create["workflow_id"])
    assert found["next_call"]["tool"] == "propose_fields"
    made = await s.call("create_instances", **create)
    assert states(made) == ["rented"] * 10 + ["dropped"] * 10
    assert len(s.running()) == 10


@pytest.mark.requirement("FLEET-11")
async def test_a_no_amid_a_fleet_ends_what_is_planned() -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, "best_effort")
        await s.call("propose_fields", workflow_id=create["workflow_id"])
        workflow = await s.deps.store.workflow(create["workflow_id"])
        assert workflow is not None
        await answer(s.deps, workflow, workflow.questions[-1], "no", "you, on the terminal")
        await _ends_what_is_planned(s, create)


@pytest.mark.requirement("FLEET-11")
async def test_a_yes_that_expired_amid_a_fleet_ends_what_is_planned() -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, "best_effort")
        s.clock.advance(1800)
        await _ends_what_is_planned(s, create)


@pytest.mark.requirement("FLEET-11")
async def test_a_no_to_a_machine_from_elsewhere_amid_a_fleet_ends_nothing_and_rents_nothing() -> None:
    async with stack(offers=200) as s:
        create = await half_made(s, "all_or_nothing")
        other = stranger(s)
        await s.refusal("create_instances", **create)
        workflow = await s.deps.store.workflow(create["workflow_id"])
        assert workflow is not None
        await answer(s.deps, workflow, workflow.questions[-1], "no", "you, on the terminal")
        refused = await s.refusal("create_instances", **create)
        assert refused["code"] == "unacknowledged_instances"
        assert len(s.running()) == 11
        s.world.instances.pop(other)
        s.clock.advance(10)
        assert states(await s.call("create_instances", **create)) == ["rented"] * 20
