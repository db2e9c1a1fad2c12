"""Start, stop, restart: what was seen afterwards is what is told."""

import re

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, follow, stranger


async def start(s: Stack, *machines: int) -> list[dict[str, object]]:
    """Start with a yes."""
    await follow(s, await s.refusal("start_instances", instance_ids=list(machines)))
    return (await s.call("start_instances", instance_ids=list(machines)))["instances"]


@pytest.mark.requirement("POWER-1")
async def test_a_stopped_machine_is_seen_stopped_and_its_disk_is_said_to_cost() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        stopped = await s.call("stop_instances", instance_ids=[machine])
        assert stopped["instances"][0]["state"] == "stopped"
        status = await s.call("instance_status", instance_ids=[machine])
        assert any("disk goes on costing" in warning for warning in status["instances"][0]["warnings"])


@pytest.mark.requirement("POWER-1")
async def test_a_stop_without_effect_is_not_called_stopped() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "stop_ignored", times=0)
        stopped = await s.call("stop_instances", instance_ids=[machine])
        assert stopped["instances"][0]["state"] == "running"


@pytest.mark.requirement("POWER-2")
async def test_a_start_whose_gpu_is_taken_is_cancelled_and_reported() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        arm(s, "resources_unavailable", seconds=0)
        [row] = await start(s, machine)
        assert "queued start was cancelled" in str(row["reason"])
        assert s.world.instances[machine].intended == "stopped"
        assert not s.world.instances[machine].queued


@pytest.mark.requirement("POWER-2")
async def test_a_queued_start_that_can_not_be_cancelled_is_told_as_such() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        arm(s, "resources_unavailable", seconds=0)
        arm(s, "refuse", operation="stop", code="invalid_args")
        [row] = await start(s, machine)
        assert "is queued; cancelling it failed" in str(row["reason"])


@pytest.mark.requirement("POWER-2")
async def test_a_start_with_a_lost_reply_is_sent_once_and_looked_at() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        arm(s, "drop_reply", operation="start")
        [row] = await start(s, machine)
        assert "unknown_effect" in str(row["reason"])
        assert s.world.requests["start"] == 1


@pytest.mark.requirement("ASK-2")
async def test_the_question_of_a_start_counts_what_else_costs_into_how_long_the_balance_lasts() -> None:
    async with stack() as s:
        other = stranger(s)
        _, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        refusal = await s.refusal("start_instances", instance_ids=[machine])
        shown = await s.call("preflight")
        prices = {row["instance_id"]: row["price_per_hour"] for row in shown["active"]}
        said = re.search(r"at \$([\d.]+)/h in all .* lasts (\d+) h\. 1 runs already\.", refusal["ask_user"])
        assert said is not None
        assert int(said[2]) == round(shown["credit"] / (prices[other] + float(said[1])))


@pytest.mark.requirement("POWER-2")
@pytest.mark.parametrize("late_s", [100.0, 3600.0])
async def test_a_start_that_works_long_after_it_got_no_answer_is_shown_as_running_and_billed(late_s: float) -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        arm(s, "late_effect", operation="start", seconds=late_s)
        [row] = await start(s, machine)
        assert "it may still start, and cost money then" in str(row["reason"])
        stopped = (await s.call("preflight"))["burn_per_hour"]
        before = (await s.call("instance_status"))["instances"][0]["cost_usd"]
        s.clock.advance(late_s + 60)
        s.world.settle()
        assert s.world.instances[machine].actual == "running"
        seen = await s.call("preflight")
        assert (seen["active"][0]["status"], seen["burn_per_hour"] > 10 * stopped) == ("running", True)
        [shown] = (await s.call("instance_status"))["instances"]
        assert (shown["state"], shown["price_per_hour"]) == ("running", seen["burn_per_hour"])
        s.clock.advance(3600)
        [later] = (await s.call("instance_status"))["instances"]
        assert later["cost_usd"] - before > 0.9 * shown["price_per_hour"]


async def test_a_machine_that_runs_is_not_started_again() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        answer = await s.call("start_instances", instance_ids=[machine])
        assert answer["instances"][0]["reason"] == "it was running already"
        assert s.world.requests["start"] == 0


async def test_a_started_machine_becomes_ready_again() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        await start(s, machine)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=120)
        assert waited["instances"][0]["readiness"] == "gpu_ok"


@pytest.mark.requirement("POWER-3")
async def test_recycle_loses_the_container_and_its_pinned_host_key() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        before = s.world.instances[machine].container
        await follow(s, await s.refusal("restart_instances", instance_ids=[machine], mode="recycle"))
        await s.call("restart_instances", instance_ids=[machine], mode="recycle")
        assert s.world.instances[machine].container == before + 1
        assert s.prober.forgotten == [machine]
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=120)
        assert waited["instances"][0]["readiness"] == "gpu_ok"


@pytest.mark.requirement("POWER-1")
async def test_one_machine_that_refuses_hides_no_other() -> None:
    async with stack() as s:
        _, [one, other] = await s.ready(count=2, fleet="best_effort")
        arm(s, "refuse", operation="stop", code="invalid_args")
        first, second = (await s.call("stop_instances", instance_ids=[one, other]))["instances"]
        assert "request_rejected" in first["reason"]
        assert (second["state"], second["reason"]) == ("stopped", None)


async def test_an_id_that_nobody_knows_is_refused_before_anything_is_sent() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        for tool, extra in (("start_instances", {}), ("stop_instances", {}), ("restart_instances", {"mode": "reboot"})):
            refusal = await s.refusal(tool, instance_ids=[machine, 4711], **extra)
            assert refusal["code"] == "not_yours"
        assert s.world.requests["stop"] == 0


async def test_a_machine_that_vanished_after_the_request_is_unknown() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "empty_list", nth=2, times=0)
        stopped = await s.call("stop_instances", instance_ids=[machine])
        assert (stopped["instances"][0]["state"], stopped["instances"][0]["reason"]) == ("unknown", "not in the list")


async def test_an_id_named_twice_is_meant_once() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        stopped = await s.call("stop_instances", instance_ids=[machine, machine])
        assert len(stopped["instances"]) == 1
