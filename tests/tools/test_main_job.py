"""The main job through the real client of the real server, in both protocol eras."""

import pytest

from tests.stack import ERAS, Era, stack


@pytest.mark.parametrize("era", ERAS)
async def test_a_yes_to_the_defaults_leads_to_a_machine_that_answers_and_back(era: Era) -> None:
    async with stack(era=era) as s:
        proposal = await s.call("propose_fields")
        workflow = {"workflow_id": proposal["workflow_id"]}
        await s.call("confirm_fields", **workflow, digest=proposal["digest"])
        plan = await s.call("find_offers", **workflow)
        made = await s.call("create_instances", **workflow, plan_id=plan["plan_id"])
        waited = await s.call("wait_until_ready", **workflow, timeout_s=120)
        assert [item["readiness"] for item in waited["instances"]] == ["gpu_ok"]
        machine = made["orders"][0]["instance_id"]
        assert s.running() == [machine]
        ended = await s.call("destroy_instances", instance_ids=[machine])
        assert ended["instances"][0]["final_state"] == "gone"
        assert s.running() == []
        assert s.creates_sent() == 1


async def test_the_same_plan_again_answers_the_recorded_orders_and_sends_nothing() -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        plan = await s.call("find_offers", workflow_id=workflow_id)
        first = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        again = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert [order["order_id"] for order in again["orders"]] == [order["order_id"] for order in first["orders"]]
        assert s.creates_sent() == 1
