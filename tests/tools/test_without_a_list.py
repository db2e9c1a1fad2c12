"""Ends and stops of our own machines while no complete list can be read: their own pages prove whose they are."""

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, last_order, stranger, unclear
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.simulator.app import simulator_of
from vastai_workflow.simulator.faults import Schedule


def paging_breaks(s: Stack, fault: str) -> None:
    arm(s, fault, times=0)


def paging_works(s: Stack) -> None:
    simulator_of(s.app).schedule = Schedule()


@pytest.mark.requirement("ONCE-14")
@pytest.mark.parametrize("fault", ["truncated_list", "bad_token", "looping_token"])
async def test_while_lists_stay_incomplete_our_machine_is_ended_on_the_proof_of_its_own_page(fault: str) -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        other = stranger(s)
        paging_breaks(s, fault)
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        s.world.settle()
        assert s.running() == [other]
        assert (end["final_state"], end["state"]) == ("unknown", "gone")
        assert "its own page shows it no more" in end["reason"]
        assert "once a complete list shows it no more either" in end["reason"]
        assert end["cost_usd"] > 0
        order = await last_order(s)
        assert (order.state, order.final_state) == (OrderState.RENTED, "unknown")

        paging_works(s)
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert end["final_state"] == "gone"
        order = await last_order(s)
        assert order.state is OrderState.RELEASED
        assert order.cost_usd is not None
        assert order.cost_usd > 0


@pytest.mark.requirement("ONCE-14")
async def test_without_a_list_a_destroy_without_effect_is_still_there_by_its_own_page() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        paging_breaks(s, "bad_token")
        arm(s, "destroy_ignored", times=0)
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert (end["final_state"], end["state"]) == ("still there", "running")
        assert s.running() == [machine]


@pytest.mark.requirement("ONCE-14")
async def test_without_a_list_the_machine_of_an_unknown_order_is_ours_by_its_own_page() -> None:
    async with stack() as s:
        machine = await unclear(s)
        paging_breaks(s, "bad_token")
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        s.world.settle()
        assert s.running() == []
        assert end["state"] == "gone"
        paging_works(s)
        s.clock.advance(120)
        await s.call("destroy_instances", instance_ids=[machine])
        order = await last_order(s)
        assert (order.state, order.instance_id) == (OrderState.RELEASED, machine)


@pytest.mark.requirement("ONCE-14")
async def test_without_a_list_nothing_is_sent_to_a_machine_whose_page_does_not_show_our_mark() -> None:
    async with stack() as s:
        await s.ready()
        other = stranger(s)
        paging_breaks(s, "bad_token")
        ends = (await s.call("destroy_instances", instance_ids=[other, 4711]))["instances"]
        assert [end["final_state"] for end in ends] == ["unknown", "unknown"]
        assert all("nothing was sent" in end["reason"] and "request_rejected" in end["reason"] for end in ends)
        assert (await s.refusal("stop_instances", instance_ids=[other]))["code"] == "request_rejected"
        assert (s.world.requests["destroy"], s.world.requests["stop"]) == (0, 0)


@pytest.mark.requirement("ONCE-14")
@pytest.mark.parametrize("fault", ["truncated_list", "bad_token"])
async def test_while_lists_stay_incomplete_our_machine_is_stopped_and_seen_stopped_by_its_own_page(fault: str) -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        paging_breaks(s, fault)
        [row] = (await s.call("stop_instances", instance_ids=[machine]))["instances"]
        assert (row["state"], row["reason"]) == ("stopped", None)
        assert s.world.instances[machine].actual == "exited"


@pytest.mark.requirement("ONCE-14")
async def test_without_a_list_nothing_is_started() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        paging_breaks(s, "bad_token")
        assert (await s.refusal("start_instances", instance_ids=[machine]))["code"] == "request_rejected"
        assert s.world.requests["start"] == 0
