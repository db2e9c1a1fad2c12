"""Machines that waiting does not make ready: each failure with its own question and next call."""

from typing import Any

import pytest

from tests.stack import Stack, stack, text_of
from tests.tools.acts import arm, planned
from vastai_workflow.domain.caps import Caps
from vastai_workflow.steps.ports import ProbeReport
from vastai_workflow.store.sqlite import SqliteStore


async def waited(s: Stack, workflow_id: str) -> tuple[dict[str, Any], str]:
    """A wait's answer, as values and as text."""
    result = await s.client.call_tool("wait_until_ready", {"workflow_id": workflow_id, "timeout_s": 120})
    assert result.structured_content is not None
    return result.structured_content, text_of(result)


@pytest.mark.requirement("READY-11")
async def test_a_stopped_machine_is_offered_a_start_and_its_call_goes_through_a_yes() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        s.clock.advance(30)
        answer, text = await waited(s, workflow_id)
        question = f"Ask the user about {machine}: start again (its GPU costs money then), or destroy?"
        assert answer["notes"] == [question]
        assert question in text
        assert answer["next_call"] == {"tool": "start_instances", "arguments": {"instance_ids": [machine]}}
        assert (await s.refusal(**_as_call(answer)))["code"] == "purpose_not_confirmed"


@pytest.mark.requirement("READY-11")
async def test_a_machine_that_no_list_shows_is_looked_for_again_and_no_log_of_it_is_read() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.world.life.end(s.world.instances[machine])
        s.clock.advance(20)
        for wait in ({"workflow_id": workflow_id}, {"instance_ids": [machine]}, {"instance_ids": [999]}):
            answer = await s.call("wait_until_ready", timeout_s=5, **wait)
            assert answer["notes"][0].endswith("look again, or was it ended elsewhere, or is it another account's?")
            assert answer["next_call"] == {"tool": "preflight", "arguments": {}}
        assert (await s.call("preflight"))["active"] == []


@pytest.mark.requirement("READY-11")
async def test_a_machine_that_was_outbid_is_offered_a_start() -> None:
    async with stack() as s:
        create = await planned(s, interruptible=True, bid_per_hour=0.25)
        arm(s, "outbid", after_s=5.0)
        await s.call("create_instances", **create)
        answer, _ = await waited(s, create["workflow_id"])
        [machine] = s.running()
        assert answer["instances"][0]["state"] == "outbid"
        assert f"Ask the user about {machine}: start again (its GPU costs money then), or destroy?" in answer["notes"]
        assert (await s.refusal(**_as_call(answer)))["code"] == "purpose_not_confirmed"


def _as_call(answer: dict[str, Any]) -> dict[str, Any]:
    return {"tool": answer["next_call"]["tool"], **answer["next_call"]["arguments"]}


@pytest.mark.requirement("READY-11")
async def test_a_changed_host_key_warns_of_the_login_and_leads_to_a_recycle_with_its_yes() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        s.prober.reports = [ProbeReport("ssh_ok", "h", 22, reason="host_key_changed", detail="not what it was")]
        answer, _ = await waited(s, workflow_id)
        assert answer["notes"][0].startswith(f"Ask the user about {machine}: don't log in; recycle")
        assert (await s.refusal(**_as_call(answer)))["code"] == "purpose_not_confirmed"


@pytest.mark.requirement("READY-11")
async def test_another_gpu_than_agreed_is_for_the_user_to_decide_and_no_call_is_named() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        s.prober.reports = [ProbeReport("ssh_ok", "h", 22, reason="wrong_gpu", detail="not what it was")]
        answer, _ = await waited(s, workflow_id)
        [note] = answer["notes"]
        assert note.startswith(f"Ask the user about {machine}: its GPUs are not those agreed to: destroy and try")
        assert answer["next_call"] is None


@pytest.mark.requirement("READY-11")
async def test_machines_that_failed_in_different_ways_have_a_question_each() -> None:
    async with stack() as s:
        workflow_id, machines = await s.ready(count=2, fleet="best_effort")
        await s.call("stop_instances", instance_ids=machines[:1])
        s.world.instances[machines[1]].actual = "offline"
        s.clock.advance(30)
        answer, _ = await waited(s, workflow_id)
        assert [note.partition(": ")[0] for note in answer["notes"]] == [f"Ask the user about {i}" for i in machines]
        assert "start again" in answer["notes"][0]
        assert "look at the logs" in answer["notes"][1]


@pytest.mark.requirement("READY-1")
async def test_progress_does_not_go_back_when_a_machine_that_was_ready_falls_silent() -> None:
    heard: list[float] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:  # the SDK's
        heard.append(progress)

    async with stack() as s:
        create = await planned(s, count=2, fleet="best_effort")
        await s.call("create_instances", **create)
        silent = ProbeReport("none", reason="refused", detail="nothing listens")
        ready = ProbeReport("gpu_ok", "h", 22, host_key_fingerprint="SHA256:host")
        s.prober.reports = [ready, *[silent] * 500]
        wait = {"workflow_id": create["workflow_id"], "timeout_s": 120}
        await s.client.call_tool("wait_until_ready", wait, progress_callback=listen)
        assert max(heard) == 1
        assert heard == sorted(heard)


@pytest.mark.requirement("GATE-13")
async def test_a_read_only_server_says_what_helps_a_login_without_naming_a_call_that_it_refuses() -> None:
    refused = ("wait_until_ready", "attach_ssh_key", "remove_ssh_key", "start_instances")
    async with stack() as s:
        workflow_id, [one, keyless, stopped] = await s.ready(count=3, fleet="best_effort")
        await s.call("remove_ssh_key", instance_ids=[keyless])
        await s.call("stop_instances", instance_ids=[stopped])
        await s.rented()
        store = s.deps.store
        assert isinstance(store, SqliteStore)
        async with stack(world=s.world, clock=s.clock, store=store, caps=Caps(read_only=True)) as reader:
            answers = [
                await reader.client.call_tool("instance_status", {}),
                await reader.client.call_tool("export_inventory", {"format": "ssh_config"}),
                await reader.client.call_tool("export_inventory", {"format": "ray", "instance_ids": [keyless]}),
                await reader.client.call_tool("export_inventory", {"format": "ray", "instance_ids": [stopped]}),
            ]
            assert [answer.is_error for answer in answers] == [False, False, True, True]
            told = "\n".join(map(text_of, answers))
            assert not [name for name in refused if name in told]
            assert told.count("needs a server that may write") >= 5
            assert (await reader.call("find_offers", workflow_id=await s.agreed()))["next_call"] is None
            left = await reader.call("export_inventory", format="ssh_config", workflow_id=workflow_id)
            assert left["included"] == [one]


@pytest.mark.requirement("GATE-13")
async def test_no_text_of_a_read_only_server_sends_anybody_to_a_call_that_it_refuses() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        arm(s, "drop_request", operation="create", nth=2)
        await s.call("create_instances", **create)
        [machine] = s.running()
        world, clock, store = s.world, s.clock, s.deps.store
        assert isinstance(store, SqliteStore)
        async with stack(world=world, clock=clock, store=store, caps=Caps(read_only=True)) as reader:
            early = await reader.client.call_tool("instance_status", {})
            assert early.structured_content is not None
            assert not early.structured_content["settled"]
            checked = await reader.client.call_tool("preflight", {})
            proposed = await reader.client.call_tool("propose_fields", {})
            clock.advance(200)
            late = await reader.client.call_tool("instance_status", {})
            told = "\n".join(map(text_of, (early, checked, proposed, late)))
            assert f"machine {machine} runs without its fleet: needs a server that may write" in told
            assert "wait_until_ready" not in told
            assert (await reader.call("propose_fields"))["problem"] == "read_only"
