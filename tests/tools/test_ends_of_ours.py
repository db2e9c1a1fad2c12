"""The end of our own machines where an order got no clear answer: at once, and on record."""

import pytest

from tests.stack import stack
from tests.tools.acts import arm, last_order, looked_at_before, planned, states, stranger, unclear
from vastai_workflow.domain.ledger import OrderState, marker
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.app import simulator_of
from vastai_workflow.simulator.faults import Schedule


@pytest.mark.requirement("PURPOSE-4")
async def test_the_machine_of_an_unknown_order_is_ended_at_once_as_ours_and_on_record_with_its_cost() -> None:
    async with stack() as s:
        machine = await unclear(s)
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert end["final_state"] == "gone"
        assert end["cost_usd"] > 0
        assert s.running() == []
        order = await last_order(s)
        assert (order.state, order.instance_id) == (OrderState.RELEASED, machine)
        assert order.cost_usd is not None
        assert order.cost_usd > 0
        status = await s.call("instance_status", instance_ids=[machine])
        assert (status["settled"], status["instances"][0]["readiness"]) == (True, "gone")


@pytest.mark.requirement("PURPOSE-4")
async def test_the_machine_of_an_unknown_order_is_stopped_at_once_as_ours() -> None:
    async with stack() as s:
        machine = await unclear(s)
        [row] = (await s.call("stop_instances", instance_ids=[machine]))["instances"]
        assert row["state"] == "stopped"
        assert (await last_order(s)).instance_id == machine


@pytest.mark.requirement("PURPOSE-4")
async def test_a_machine_that_shows_up_after_its_order_was_given_up_is_ended_at_once_as_ours() -> None:
    async with stack() as s:
        await looked_at_before(s)
        arm(s, "late_effect", operation="create", seconds=150.0)
        create = await planned(s)
        await s.call("create_instances", **create)
        s.clock.advance(70)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        assert waited["settled"]
        s.clock.advance(25)
        s.world.settle()
        [machine] = s.running()
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert end["final_state"] == "gone"
        assert (await last_order(s)).state is OrderState.RELEASED


@pytest.mark.requirement("PURPOSE-4")
async def test_a_copy_of_a_mark_is_no_proof_that_a_machine_is_ours() -> None:
    async with stack() as s:
        arm(s, "drop_request", operation="create")
        await s.call("create_instances", **await planned(s))
        order = await last_order(s)
        s.clock.advance(3600)
        copy = stranger(s, env={ORDER_VARIABLE: marker(s.deps.store.store_id, order.order_id)})
        refusal = await s.refusal("destroy_instances", instance_ids=[copy])
        assert refusal["code"] == "purpose_not_confirmed"
        assert s.running() == [copy]


@pytest.mark.requirement("PURPOSE-4")
async def test_while_another_call_rents_an_unknown_orders_machine_is_asked_for_again_not_called_a_strangers() -> None:
    async with stack() as s:
        machine = await unclear(s)
        order = await last_order(s)
        async with s.deps.store.account_lock(order.account_id):
            assert (await s.refusal("destroy_instances", instance_ids=[machine]))["code"] == "account_busy"
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert end["final_state"] == "gone"


@pytest.mark.requirement("PURPOSE-4")
async def test_while_another_call_rents_what_is_plainly_ours_ends_and_the_rest_is_told_as_not_sent() -> None:
    async with stack() as s:
        await looked_at_before(s)
        arm(s, "drop_reply", operation="create", nth=2)
        made = await s.call("create_instances", **await planned(s, count=2, fleet="best_effort"))
        [known] = [order["instance_id"] for order in made["orders"] if order["state"] == "rented"]
        s.clock.advance(30)
        [other] = set(s.running()) - {known}
        order = await last_order(s)
        async with s.deps.store.account_lock(order.account_id):
            ends = (await s.call("destroy_instances", instance_ids=[other, known]))["instances"]
        assert {end["instance_id"]: end["final_state"] for end in ends} == {known: "gone", other: "unknown"}
        assert "nothing was sent" in next(end["reason"] for end in ends if end["instance_id"] == other)
        assert s.running() == [other]


@pytest.mark.requirement("PURPOSE-4")
async def test_a_machine_beyond_the_yes_that_an_end_was_asked_for_and_missed_is_released_by_the_next_wait() -> None:
    async with stack() as s:
        create = await planned(s, max_price_per_hour=2.0)
        arm(s, "late_effect", operation="create", seconds=150.0)
        assert states(await s.call("create_instances", **create)) == ["unknown"]
        s.clock.advance(61)
        await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        offers = (await s.call("find_offers", workflow_id=create["workflow_id"]))["offers"]
        another = [offers[1]["offer_id"]]
        plan = await s.call("find_offers", workflow_id=create["workflow_id"], offer_ids=another)
        again = await s.call("create_instances", **{**create, "plan_id": plan["plan_id"]})
        kept = again["orders"][0]["instance_id"]
        s.clock.advance(35)
        s.world.settle()
        [late] = set(s.running()) - {kept}
        arm(s, "destroy_ignored", times=0)
        [row] = (await s.call("destroy_instances", instance_ids=[late]))["instances"]
        assert row["final_state"] == "still there"
        simulator_of(s.app).schedule = Schedule()
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        assert any("came late, beyond the 1 agreed; released: gone" in note for note in waited["notes"])
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == [kept]
