"""What comes of orders that were given up, and of machines that a list shows again."""

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, planned, states
from vastai_workflow.domain.ledger import OrderFacts, OrderState, marker
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.renting import rent
from vastai_workflow.steps.ending import ELSEWHERE


def comes_late(s: Stack, order_id: str, gpu_name: str) -> int:
    """A machine as agreed, with an order's mark; answers its id."""
    env = {ORDER_VARIABLE: marker(s.deps.store.store_id, order_id)}
    alike = [ask for ask in s.world.market.free_asks() if ask.num_gpus == 1 and ask.machine.model.name == gpu_name]
    ask = min(alike, key=lambda one: one.machine.base_price(1))
    return rent(s.world, s.world.account, ask.id, {"image": "some/image", "disk": 64, "env": env}).id


@pytest.mark.requirement("SETTLE-2")
async def test_of_two_late_machines_for_one_place_the_one_that_was_ordered_last_is_released() -> None:
    async with stack() as s:
        arm(s, "drop_request", operation="create")
        asked = await planned(s)
        await s.call("create_instances", **asked)
        s.clock.advance(125)
        await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        [first] = await s.deps.store.orders()
        assert first.state is OrderState.NOT_RENTED
        second = first.model_copy(update={"order_id": "o_second", "created_at": first.created_at + 1})
        await s.deps.store.add_orders([second])
        last = comes_late(s, "o_second", first.gpu_name)
        kept = comes_late(s, first.order_id, first.gpu_name)
        s.clock.advance(10)
        await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        by_id = {order.order_id: order for order in await s.deps.store.orders()}
        assert by_id["o_second"].state is OrderState.RELEASED
        assert by_id["o_second"].instance_id == last
        await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)  # what went takes no place
        assert s.running() == [kept]


@pytest.mark.requirement("SETTLE-2")
async def test_a_machine_that_ended_elsewhere_and_is_listed_again_is_named_and_not_ended() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        [order] = await s.deps.store.orders()
        gone = OrderFacts(final_state="gone", reason=ELSEWHERE, ended_at=s.clock.now())
        await s.deps.store.move_order(order.order_id, OrderState.RELEASED, gone)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        asked = f"machine {machine} was gone, and is listed again. Ask the user: keep it or destroy it?"
        assert asked in waited["notes"]
        assert s.running() == [machine]
        assert s.world.requests["destroy"] == 0


@pytest.mark.requirement("SETTLE-2")
async def test_an_order_that_was_planned_in_the_future_is_dropped_and_never_sent() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="best_effort")
        arm(s, "drop_reply", operation="create")
        assert states(await s.call("create_instances", **create)) == ["unknown", "planned"]
        left = (await s.deps.store.orders())[1]
        ahead = left.model_copy(update={"order_id": "o_ahead", "created_at": s.clock.now() + 3600})
        await s.deps.store.add_orders([ahead])
        s.clock.advance(10)
        await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        by_id = {order.order_id: order for order in await s.deps.store.orders()}
        assert (by_id["o_ahead"].state, by_id[left.order_id].state) == (OrderState.DROPPED, OrderState.PLANNED)
