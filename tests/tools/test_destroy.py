"""The end of machines: gone, still there, or unknown; never more than was seen."""

from typing import Any

import pytest

from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import arm, planned, stranger
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.simulator.app import simulator_of
from vastai_workflow.simulator.faults import Schedule
from vastai_workflow.simulator.switches import Switches


@pytest.mark.requirement("ONCE-6")
@pytest.mark.parametrize("era", ERAS)
async def test_gone_is_seen_and_told_with_its_cost(era: Era) -> None:
    async with stack(era=era) as s:
        _, [machine] = await s.ready()
        s.clock.advance(3600)
        ended = await s.call("destroy_instances", instance_ids=[machine])
        [row] = ended["instances"]
        truth = s.world.past[0].meter.total()
        assert (row["final_state"], row["state"]) == ("gone", "gone")
        assert row["cost_usd"] == pytest.approx(float(truth), rel=0.05)
        assert s.prober.forgotten == [machine]
        [order] = await s.deps.store.orders()
        assert (order.state, order.final_state) == (OrderState.RELEASED, "gone")


@pytest.mark.requirement("ONCE-6")
@pytest.mark.parametrize("switches", [Switches(unknown_instance="404"), Switches(unknown_instance="null")])
async def test_gone_is_seen_in_each_form_of_nothing(switches: Switches) -> None:
    async with stack(switches=switches) as s:
        _, machines = await s.ready()
        ended = await s.call("destroy_instances", instance_ids=machines)
        assert ended["instances"][0]["final_state"] == "gone"


@pytest.mark.requirement("ONCE-6")
async def test_a_200_without_effect_is_still_there() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "destroy_ignored", times=0)
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert (row["final_state"], row["state"]) == ("still there", "running")
        assert row["reason"] == "call destroy_instances again"
        assert s.running() == [machine]


@pytest.mark.requirement("ONCE-6")
async def test_a_200_without_effect_is_sent_again_while_there_is_time() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "destroy_ignored", times=2)
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert row["final_state"] == "gone"


@pytest.mark.requirement("ONCE-6")
@pytest.mark.parametrize("operation", ["*", "destroy", "show", "list"])
async def test_with_the_api_down_the_end_is_unknown(operation: str) -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "http_error", operation=operation, times=0, status=503)
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert row["final_state"] == "unknown"
        assert "provider_down" in row["reason"]
        assert [order.state for order in await s.deps.store.orders()] == [OrderState.RENTED]


@pytest.mark.requirement("INPUT-6")
async def test_with_a_key_that_stopped_working_the_end_is_unknown() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        next(iter(s.world.account.keys.values())).revoked = True
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert row["final_state"] == "unknown"
        assert "key_rejected" in row["reason"]
        assert s.running() == [machine]


@pytest.mark.requirement("INPUT-6")
@pytest.mark.parametrize("operation", ["list", "destroy", "show"])
async def test_a_key_that_is_revoked_on_the_way_proves_no_end(operation: str) -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "key_revoked", operation=operation)
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert row["final_state"] == "unknown"
        assert "key_rejected" in row["reason"]


@pytest.mark.requirement("INPUT-6")
async def test_an_id_that_does_not_exist_is_not_called_destroyed() -> None:
    async with stack() as s:
        [row] = (await s.call("destroy_instances", instance_ids=[4711]))["instances"]
        assert row["final_state"] == "unknown"
        assert "nothing was sent" in row["reason"]
        assert s.world.requests["destroy"] == 0


@pytest.mark.requirement("INPUT-6")
async def test_a_key_that_may_not_destroy_is_told_its_scope() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        reader = s.world.add_key(s.world.account, {"user_read", "instance_read", "misc"})
        s.environment["VAST_API_KEY"] = reader.secret
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert row["final_state"] == "unknown"
        assert "instance_write" in row["reason"]


@pytest.mark.requirement("ONCE-6")
async def test_a_machine_that_is_not_listed_yet_is_not_called_gone() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "hidden", seconds=55.0)
        made = await s.call("create_instances", **create)
        machine = made["orders"][0]["instance_id"]
        arm(s, "destroy_ignored", times=0)
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert row["final_state"] == "unknown"
        assert s.running() == [machine]


@pytest.mark.requirement("ONCE-6")
async def test_a_machine_that_a_list_forgets_is_not_called_gone() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "destroy_ignored", times=0)
        arm(s, "empty_list", nth=2, times=0)
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert (row["final_state"], row["state"]) == ("still there", "running")


@pytest.mark.requirement("ONCE-6")
async def test_a_machine_whose_page_is_gone_and_that_is_listed_is_not_called_gone() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "destroy_ignored", times=0)
        arm(s, "refuse", operation="show", code="no_such_instance", status=404, times=0)
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert (row["final_state"], row["state"]) == ("still there", "running")


@pytest.mark.requirement("ONCE-6")
async def test_a_second_destroy_of_a_gone_machine_says_gone_already() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        await s.call("destroy_instances", instance_ids=[machine])
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert (row["final_state"], row["reason"]) == ("gone", "it was gone already")


@pytest.mark.requirement("ONCE-6")
async def test_a_machine_that_is_listed_for_long_after_its_end_is_still_there() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "lingering", seconds=300.0)
        [row] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert (row["final_state"], row["state"]) == ("still there", "ending")
        s.clock.advance(300)
        [later] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert later["final_state"] == "gone"


@pytest.mark.requirement("ONCE-8")
async def test_an_end_of_many_is_bounded_and_gone_on_with() -> None:
    async with stack() as s:
        _, machines = await s.ready(count=9, fleet="best_effort")
        arm(s, "delay", operation="destroy", seconds=5.0, times=0)
        began = s.clock.now()
        first = await s.call("destroy_instances", instance_ids=machines)
        assert s.clock.now() - began < 60
        ends = {row["instance_id"]: row for row in first["instances"]}
        assert {row["final_state"] for row in ends.values()} == {"gone", "still there"}
        left = [i for i in machines if ends[i]["final_state"] != "gone"]
        assert ends[left[-1]]["reason"].endswith("out of time in this call: call again")
        await s.call("destroy_instances", instance_ids=machines)
        rest = await s.call("destroy_instances", instance_ids=machines)
        assert {row["final_state"] for row in rest["instances"]} == {"gone"}


@pytest.mark.requirement("ONCE-9")
async def test_a_machine_is_ended_with_the_key_that_rented_it_after_a_restart() -> None:
    async with stack() as s:
        s.environment["OTHER"] = s.world.api_key
        del s.environment["VAST_API_KEY"]
        proposal = await s.call("propose_fields", api_key_source="env:OTHER")
        known = {"workflow_id": proposal["workflow_id"]}
        priced = await s.call("confirm_fields", **known, digest=proposal["digest"], fields=["api_key_source"])
        await s.call("confirm_fields", **known, digest=priced["digest"])
        plan = await s.call("find_offers", **known)
        made = await s.call("create_instances", **known, plan_id=plan["plan_id"])
        s.clock.advance(100)
        s.environment["VAST_API_KEY"] = "x" * 64
        ended = await s.call("destroy_instances", instance_ids=[made["orders"][0]["instance_id"]])
        assert ended["instances"][0]["final_state"] == "gone"


async def test_ours_and_anothers_in_one_call_wait_for_the_yes_to_the_other() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        other = stranger(s)
        refusal = await s.refusal("destroy_instances", instance_ids=[machine, other])
        assert refusal["next_call"]["arguments"]["instance_ids"] == [other]
        await s.call(refusal["next_call"]["tool"], **refusal["next_call"]["arguments"])
        ended = await s.call("destroy_instances", instance_ids=[machine, other])
        assert [row["final_state"] for row in ended["instances"]] == ["gone", "gone"]


HALVES: dict[str, tuple[list[tuple[str, dict[str, Any]]], list[str]]] = {
    "ignored": (
        [("destroy_ignored", {"nth": 2}), ("destroy_ignored", {"nth": 5, "times": 0})],
        ["gone", "still there", "gone", "gone"],
    ),
    "500 after effect": (
        [("http_error_after_effect", {"operation": "destroy", "nth": 2, "status": 500})],
        ["gone", "gone", "gone", "gone"],
    ),
    "ignored, then 503, and 500 after effect": (
        [
            ("destroy_ignored", {"nth": 2}),
            ("http_error_after_effect", {"operation": "destroy", "nth": 3, "status": 500}),
            ("http_error", {"operation": "destroy", "nth": 6, "times": 0, "status": 503}),
        ],
        ["gone", "unknown", "gone", "gone"],
    ),
    "refused": (
        [
            ("refuse", {"operation": "destroy", "code": "missing_scope", "nth": 1}),
            ("refuse", {"operation": "destroy", "code": "never_heard_of", "status": 400, "nth": 3}),
            ("refuse", {"operation": "destroy", "code": "never_heard_of", "status": 400, "nth": 5, "times": 0}),
        ],
        ["unknown", "gone", "unknown", "gone"],
    ),
    "the list is down": ([("http_error", {"operation": "list", "nth": 2, "times": 0})], ["unknown"] * 4),
    "the list is incomplete": ([("bad_token", {"nth": 2, "times": 0})], ["unknown"] * 4),
    "one's own page is down": (
        [("http_error", {"operation": "show", "nth": 2, "times": 200, "status": 500})],
        ["gone", "unknown", "unknown", "unknown"],
    ),
    "one lingers": (
        [("lingering", {"nth": 3, "seconds": 300.0})],
        ["gone", "gone", "still there", "gone"],
    ),
    "the key is revoked midway": ([("key_revoked", {"operation": "destroy", "nth": 2})], ["unknown"] * 4),
}
"""What fails of an end of four, and what is told of each."""

AT_ONCE = Switches(loading_s=6.0, destroy_linger_s=0.0)
"""Nothing lingers, so that the calls of an end can be counted."""


async def in_the_ledger(s: Stack) -> list[tuple[OrderState, str | None]]:
    return [(order.state, order.final_state) for order in await s.deps.store.orders()]


@pytest.mark.requirement("ONCE-6")
@pytest.mark.requirement("ONCE-8")
@pytest.mark.parametrize("half", HALVES)
async def test_of_an_end_of_four_that_half_fails_each_is_told_as_it_is_and_a_second_call_finishes(half: str) -> None:
    faults, told = HALVES[half]
    async with stack(switches=AT_ONCE) as s:
        _, machines = await s.ready(count=4, fleet="best_effort")
        for name, settings in faults:
            arm(s, name, **settings)
        first = (await s.call("destroy_instances", instance_ids=machines))["instances"]
        s.world.settle()
        assert [row["instance_id"] for row in first] == machines
        assert [row["final_state"] for row in first] == told
        assert all(row["reason"] for row in first if row["final_state"] != "gone")
        assert not {row["instance_id"] for row in first if row["final_state"] == "gone"} & set(s.running())
        assert {row["instance_id"] for row in first if row["final_state"] == "still there"} <= set(s.running())
        kept = {"gone": OrderState.RELEASED, "still there": OrderState.RENTED, "unknown": OrderState.RENTED}
        assert await in_the_ledger(s) == [(kept[final], final) for final in told]

        simulator_of(s.app).schedule = Schedule()
        next(iter(s.world.account.keys.values())).revoked = False
        s.clock.advance(300)
        second = (await s.call("destroy_instances", instance_ids=machines))["instances"]
        assert [row["final_state"] for row in second] == ["gone"] * 4
        assert await in_the_ledger(s) == [(OrderState.RELEASED, "gone")] * 4
        s.clock.advance(5)
        s.world.settle()
        assert s.running() == []
