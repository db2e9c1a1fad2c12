"""What settling found is told, whatever fails between finding and telling it; and whose a machine is to end."""

from dataclasses import replace

import pytest

from tests.stack import Stack, stack, text_of
from tests.steps.test_settling import after_a_crash
from tests.tools.acts import arm, follow, planned, states
from vastai_workflow.cli.settle import settle_all
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.app import simulator_of
from vastai_workflow.simulator.renting import rent


def lists_fail(s: Stack, nth: int = 1) -> None:
    arm(s, "http_error", operation="list", nth=nth, times=0, status=503, body="text")


def all_is_well(s: Stack) -> None:
    """No fault strikes any more."""
    simulator_of(s.app).schedule.clear()
    s.clock.advance(60)


async def told(s: Stack) -> str:
    """What the next two answers with room for notes say."""
    seen = [await s.call("instance_status"), await s.call("preflight")]
    return "\n".join(note for answer in seen for note in answer["notes"])


@pytest.mark.requirement("SETTLE-1")
@pytest.mark.parametrize("tool", ["preflight", "instance_status", "wait_until_ready"])
async def test_a_call_that_fails_takes_no_note_with_it(tool: str) -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.clock.advance(700)
        s.world.life.end(s.world.instances[machine])
        s.clock.advance(60)
        async with after_a_crash(s) as again:
            await again.call("propose_fields")
            lists_fail(again)
            waits = {"workflow_id": workflow_id, "timeout_s": 0} if tool == "wait_until_ready" else {}
            assert (await again.client.call_tool(tool, waits)).is_error
            all_is_well(again)
            assert "ended elsewhere" in await told(again)


@pytest.mark.requirement("SETTLE-2")
async def test_a_release_is_told_though_the_wait_that_did_it_failed_at_its_next_look() -> None:
    async with stack() as s:
        arm(s, "double_effect", operation="create")
        arm(s, "hidden", operation="create", seconds=2.0)
        asked = await planned(s)
        await s.call("create_instances", **asked)
        s.clock.advance(5)
        assert len(s.running()) == 2
        lists_fail(s, nth=3)  # after the first look and what it ended
        failed = await s.client.call_tool("wait_until_ready", {"workflow_id": asked["workflow_id"], "timeout_s": 60})
        assert failed.is_error, text_of(failed)
        assert len(s.running()) == 1
        all_is_well(s)
        assert "made a second machine" in await told(s)


@pytest.mark.requirement("SETTLE-3")
async def test_a_destroy_that_did_not_work_is_told_though_the_first_call_has_no_room_for_it() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "destroy_ignored", operation="destroy", times=30)
        await s.call("destroy_instances", instance_ids=[machine])
        all_is_well(s)
        s.clock.advance(200)
        async with after_a_crash(s) as again:
            await again.call("propose_fields")
            assert "was to be destroyed and is still there" in await told(again)


@pytest.mark.requirement("SETTLE-4")
async def test_settle_is_1_while_a_short_fleet_is_still_to_be_released() -> None:
    async with stack() as s:
        arm(s, "drop_request", operation="create", nth=2)
        await s.call("create_instances", **await planned(s, count=2, fleet="all_or_nothing"))
        s.clock.advance(200)
        arm(s, "destroy_ignored", operation="destroy", times=60)
        assert await settle_all(s.deps) == 1
        all_is_well(s)
        assert await settle_all(s.deps) == 0
        assert s.running() == []


@pytest.mark.requirement("SETTLE-2")
async def test_a_machine_whose_mark_was_hidden_for_a_while_is_not_ended_when_it_is_back() -> None:
    async with stack() as s:
        asked = await planned(s)
        made = await s.call("create_instances", **asked)
        machine = made["orders"][0]["instance_id"]
        order = (await s.deps.store.orders())[0]
        assert order.rented_price_per_hour is None or order.instance_id == machine
        async with after_a_crash(s) as again:
            mark = s.world.instances[machine].env.pop(ORDER_VARIABLE)
            s.clock.advance(200)
            await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
            s.clock.advance(3600)
            s.world.instances[machine].env[ORDER_VARIABLE] = mark
            await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
            assert s.running() == [machine]


@pytest.mark.requirement("PURPOSE-4")
async def test_of_two_machines_of_a_request_without_an_answer_the_one_that_the_user_keeps_stays() -> None:
    async with stack() as s:
        arm(s, "double_effect", operation="create")
        arm(s, "drop_reply", operation="create")
        arm(s, "hidden", operation="create", seconds=5.0)
        asked = await planned(s)
        await s.call("create_instances", **asked)
        await s.call("preflight")  # the look of a first use: it shows neither
        s.clock.advance(20)
        kept, other = s.running()
        ended = await s.call("destroy_instances", instance_ids=[other])
        assert [item["final_state"] for item in ended["instances"]] == ["gone"]
        await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert s.running() == [kept]
        [order] = await s.deps.store.orders()
        assert (order.state, order.instance_id) == (OrderState.RENTED, kept)


@pytest.mark.requirement("SETTLE-2")
async def test_a_second_machine_that_somebody_stopped_is_the_users_to_end() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        twin = rent(
            s.world,
            s.world.account,
            s.world.market.free_asks()[0].id,
            {"image": "x", "disk": 64, "env": s.world.instances[machine].env},
        )
        s.clock.advance(30)
        s.world.settle()
        s.world.life.stop(twin)
        s.clock.advance(30)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any(f"second machine {twin.id}" in n and "keep it or destroy it?" in n for n in waited["notes"])
        assert s.running() == [machine, twin.id]


@pytest.mark.requirement("ONCE-2")
async def test_an_answer_that_names_another_orders_machine_proves_nothing() -> None:
    async with stack() as s:
        asked = await planned(s, count=2, fleet="best_effort")
        first = min(s.world.instances, default=31001001)
        arm(s, "other_id", operation="create", nth=2, id=first)
        made = await s.call("create_instances", **asked)
        assert states(made)[0] == "rented"
        assert states(made)[1] == "unknown"
        s.clock.advance(10)
        waited = await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert waited["settled"]
        assert sorted(order.instance_id or 0 for order in await s.deps.store.orders()) == s.running()


@pytest.mark.requirement("ONCE-2")
async def test_after_too_many_requests_the_list_is_read_after_the_pause() -> None:
    async with stack() as s:
        asked = await planned(s)
        arm(s, "http_error_after_effect", operation="create", status=429)
        arm(s, "hidden", operation="create", seconds=6.0)
        made = await s.call("create_instances", **asked)
        assert states(made) == ["rented"]
        assert len(s.running()) == 1
        assert s.creates_sent() == 1


@pytest.mark.requirement("PURPOSE-1")
async def test_a_start_that_waits_in_a_queue_is_cancelled_though_the_clock_was_set_back() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        instance = s.world.instances[machine]
        for gpu in instance.gpu_ids:
            instance.machine.holders[gpu] = "somebody else"
        await follow(s, await s.refusal("start_instances", instance_ids=[machine]))
        arm(s, "drop_reply", operation="start")
        await s.call("start_instances", instance_ids=[machine])
        window = await s.deps.store.window(machine)
        assert window.started_at > 0
        s.clock.advance(30)
        await s.deps.store.change_window(machine, lambda kept: replace(kept, started_at=s.clock.now() + 3600))
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any("waited for its GPU and was cancelled" in note for note in waited["notes"])
        assert not instance.queued


@pytest.mark.requirement("SETTLE-2")
@pytest.mark.parametrize(("later", "said"), [(40.0, "is not listed"), (200.0, "is gone")], ids=str)
async def test_that_an_order_has_another_machine_than_its_answer_named_is_told(later: float, said: str) -> None:
    async with stack() as s:
        arm(s, "double_effect", operation="create")
        arm(s, "hidden", operation="create", seconds=30.0)
        asked = await planned(s)
        made = await s.call("create_instances", **asked)
        named = made["orders"][0]["instance_id"]
        s.world.life.end(s.world.instances[named])
        s.clock.advance(later)
        s.world.settle()
        [other] = s.running()
        waited = await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert any(f"machine {named}" in n and said in n and str(other) in n for n in waited["notes"])
        [order] = await s.deps.store.orders()
        assert order.instance_id == other
