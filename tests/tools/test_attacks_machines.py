"""Ways to lose, end, use or trust the wrong machine; and words of others that want to be more than words."""

import asyncio
from functools import partial
from typing import Any

import anyio
import pytest
from mcp.types import CallToolResult

from tests.stack import PUBLIC_KEY, Stack, stack, text_of
from tests.tools.acts import arm, follow, planned, states, stranger
from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.renting import rent
from vastai_workflow.steps.ports import ProbeReport

DEAD = ProbeReport("none", reason="refused", detail="nothing listens")


async def _wait(s: Stack, workflow_id: str, timeout_s: int = 0) -> dict[str, Any]:
    return await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=timeout_s)


def _later(s: Stack, seconds: float) -> None:
    s.clock.advance(seconds)
    s.world.settle()


async def _half_rented(s: Stack) -> dict[str, Any]:
    """A plan of two, of which one is rented and one is still to be sent."""
    create = await planned(s, count=2, fleet="best_effort")
    arm(s, "delay", seconds=45.0)
    assert states(await s.call("create_instances", **create)) == ["rented", "planned"]
    return create


@pytest.mark.requirement("ONCE-5")
async def test_a_row_that_lacks_our_mark_once_does_not_give_the_machine_up() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        mark = s.world.instances[machine].env.pop(ORDER_VARIABLE)
        s.clock.advance(65)
        waited = await _wait(s, workflow_id)
        assert any("shows no mark" in note for note in waited["notes"])
        s.world.instances[machine].env[ORDER_VARIABLE] = mark
        waited = await _wait(s, workflow_id, 120)
        assert waited["instances"][0]["readiness"] == "gpu_ok"
        assert [order.state for order in await s.deps.store.orders()] == [OrderState.RENTED]


@pytest.mark.requirement("ONCE-8")
async def test_a_machine_that_does_not_end_keeps_the_others_of_the_call_from_nothing() -> None:
    async with stack() as s:
        _, machines = await s.ready(count=3, fleet="best_effort")
        arm(s, "lingering", seconds=3000.0)
        ended = await s.call("destroy_instances", instance_ids=machines)
        assert [row["final_state"] for row in ended["instances"]] == ["still there", "gone", "gone"]


@pytest.mark.requirement("ONCE-8")
async def test_a_wait_points_to_the_create_of_what_is_still_planned() -> None:
    async with stack() as s:
        create = await _half_rented(s)
        waited = await _wait(s, create["workflow_id"], 120)
        assert waited["next_call"] == {"tool": "create_instances", "arguments": create}
        assert states(await follow(s, waited)) == ["rented", "rented"]


@pytest.mark.requirement("ONCE-5")
async def test_anothers_machine_that_a_reply_names_is_not_used_as_ours() -> None:
    async with stack() as s:
        other = stranger(s)
        create = await planned(s)
        arm(s, "hidden", seconds=50.0)
        arm(s, "other_id", id=other)
        await s.call("create_instances", **create)
        for _ in range(3):
            waited = await _wait(s, create["workflow_id"])
            assert not [row for row in waited["instances"] if row["ssh"] or row["state"] == "running"]
            [row] = (await s.call("instance_status", instance_ids=[other]))["instances"]
            assert (row["workflow_id"], row["agreed_by"]) == (None, None)
            await s.refusal("export_inventory", format="ssh_config", workflow_id=create["workflow_id"])
            s.clock.advance(15)
        await _wait(s, create["workflow_id"], 120)
        await _wait(s, create["workflow_id"], 120)
        assert other not in {target.instance_id for target in s.prober.targets}
        assert PUBLIC_KEY not in {key.public_key for key in s.world.instances[other].ssh_keys.values()}
        [order] = await s.deps.store.orders()
        assert (order.instance_id, order.state) == (next(i for i in s.running() if i != other), OrderState.RENTED)


@pytest.mark.requirement("PURPOSE-3")
async def test_our_own_machine_that_anothers_reply_names_stays_its_orders_and_ends_at_once() -> None:
    async with stack() as s:
        first, [machine] = await s.ready()
        create = await planned(s)
        arm(s, "hidden", seconds=50.0)
        arm(s, "other_id", id=machine)
        await s.call("create_instances", **create)
        [row] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        assert row["workflow_id"] == first
        ended = await s.call("destroy_instances", instance_ids=[machine])
        assert ended["instances"][0]["final_state"] == "gone"
        s.clock.advance(50)
        waited = await _wait(s, create["workflow_id"], 120)
        [row] = waited["instances"]
        assert (row["readiness"], [row["instance_id"]]) == ("gpu_ok", s.running())


@pytest.mark.requirement("GATE-6")
async def test_a_machine_that_no_list_shows_counts_though_its_reply_named_a_listed_one() -> None:
    async with stack(caps=Caps(max_instances=2)) as s:
        other = stranger(s)
        create = await planned(s)
        arm(s, "hidden", seconds=50.0)
        arm(s, "other_id", id=other)
        await s.call("create_instances", **create)
        refusal = await s.refusal("create_instances", **await planned(s))
        assert refusal["code"] == "cap_exceeded"
        assert len(s.running()) == 2


@pytest.mark.requirement("ONCE-5")
async def test_an_unlisted_machine_without_our_mark_is_not_destroyed() -> None:
    async with stack() as s:
        other = stranger(s)
        create = await planned(s)
        arm(s, "other_id", id=other)
        arm(s, "empty_list", nth=2, times=0)
        await s.call("create_instances", **create)
        ended = await s.call("destroy_instances", instance_ids=[other], workflow_id=create["workflow_id"])
        assert ended["instances"][0]["final_state"] == "unknown"
        _later(s, 10)
        assert other in s.running()
        assert s.world.requests["destroy"] == 0


@pytest.mark.requirement("ONCE-6")
async def test_a_second_machine_whose_end_has_no_effect_is_not_called_released() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "double_effect")
        arm(s, "destroy_ignored", times=0)
        made = await s.call("create_instances", **create)
        waited = await _wait(s, create["workflow_id"])
        told = [note for note in [*made["notes"], *waited["notes"]] if "second machine" in note]
        assert told
        assert all("its release is not seen yet (still there)" in note for note in told)
        assert len(s.running()) == 2


@pytest.mark.requirement("ONCE-6")
async def test_a_second_machine_whose_first_end_has_no_effect_is_ended_again() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "double_effect")
        arm(s, "destroy_ignored")
        made = await s.call("create_instances", **create)
        _later(s, 10)
        waited = await _wait(s, create["workflow_id"])
        assert any("second machine" in note and "released: gone" in note for note in waited["notes"])
        _later(s, 10)
        assert s.running() == [made["orders"][0]["instance_id"]]


@pytest.mark.requirement("ONCE-5")
@pytest.mark.parametrize("how", ["by this server", "elsewhere"])
async def test_a_machine_that_came_with_an_error_and_ran_is_not_ended_when_it_is_stopped(how: str) -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "error_with_contract")
        made = await s.call("create_instances", **create)
        machine = made["orders"][0]["instance_id"]
        _later(s, 600)
        assert s.world.instances[machine].actual == "running"
        if how == "by this server":
            await s.call("stop_instances", instance_ids=[machine])
        else:
            s.world.life.stop(s.world.instances[machine])
        _later(s, 60)
        await _wait(s, create["workflow_id"])
        assert s.running() == [machine]


@pytest.mark.requirement("ONCE-5")
async def test_a_machine_that_shows_up_after_its_place_was_used_again_is_released_and_told() -> None:
    async with stack() as s:
        create = await planned(s, max_price_per_hour=2.0)
        arm(s, "drop_request")
        assert states(await s.call("create_instances", **create)) == ["unknown"]
        [lost] = await s.deps.store.orders()
        s.clock.advance(125)
        await _wait(s, create["workflow_id"])
        plan = await s.call("find_offers", workflow_id=create["workflow_id"])
        await s.call("create_instances", **{**create, "plan_id": plan["plan_id"]})
        [kept] = s.running()
        body = {
            "image": "pytorch/pytorch:latest",
            "disk": 64,
            "label": "tester",
            "env": {ORDER_VARIABLE: f"{s.deps.store.store_id}.{lost.order_id}"},
        }
        late = rent(s.world, s.world.account, plan["offers"][1]["offer_id"], body)
        _later(s, 5)
        waited = await _wait(s, create["workflow_id"])
        assert any(str(late.id) in note and "beyond the 1 agreed; released: gone" in note for note in waited["notes"])
        _later(s, 10)
        assert s.running() == [kept]


@pytest.mark.requirement("ONCE-6")
async def test_two_ends_of_one_machine_at_once_both_see_it_gone() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        results: list[CallToolResult] = []

        async def end() -> None:
            results.append(await s.client.call_tool("destroy_instances", {"instance_ids": [machine]}))

        async with anyio.create_task_group() as group:
            group.start_soon(end)
            group.start_soon(end)
        assert [result.is_error for result in results] == [False, False]
        assert all(": gone" in text_of(result) for result in results)


@pytest.mark.requirement("ONCE-6")
async def test_an_end_elsewhere_that_two_calls_see_at_once_breaks_neither() -> None:
    for turns in range(8):  # however far the one is when the other begins
        async with stack() as s:
            workflow_id, [machine] = await s.ready()
            s.world.life.end(s.world.instances[machine])
            s.clock.advance(120)
            async with anyio.create_task_group() as group:
                group.start_soon(_wait, s, workflow_id)
                for _ in range(turns):
                    await asyncio.sleep(0)
                group.start_soon(partial(s.call, "destroy_instances", instance_ids=[machine]))
            assert [order.state for order in await s.deps.store.orders()] == [OrderState.RELEASED]


@pytest.mark.requirement("READY-3")
async def test_a_ready_machine_is_tried_again_after_a_minute() -> None:
    async with stack() as s:
        workflow_id, _ = await s.ready()
        await _wait(s, workflow_id)
        tried = len(s.prober.targets)
        s.clock.advance(61)
        await _wait(s, workflow_id)
        assert len(s.prober.targets) == tried + 1


@pytest.mark.requirement("READY-3")
async def test_a_machine_that_went_silent_stops_being_ready() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.prober.reports = [DEAD] * 1000
        s.clock.advance(3600)
        [row] = (await _wait(s, workflow_id, 40))["instances"]
        assert row["readiness"] not in {"ssh_ok", "gpu_ok"}
        [row] = (await _wait(s, workflow_id, 300))["instances"]
        assert row["readiness"] == "failed"
        await s.refusal("export_inventory", format="ssh_config", instance_ids=[machine])


@pytest.mark.requirement("PURPOSE-1")
async def test_a_start_of_a_machine_that_is_stopping_is_asked_first() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        s.world.life.stop(s.world.instances[machine])
        assert s.world.instances[machine].actual == "running"
        refusal = await s.refusal("start_instances", instance_ids=[machine])
        assert refusal["code"] == "purpose_not_confirmed"
        assert s.world.requests["start"] == 0


@pytest.mark.requirement("SCHEMA-5")
async def test_a_refusal_in_the_middle_of_a_plan_leads_on_as_it_says() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "too_many_requests", operation="create", threshold=100.0)
        made = await s.client.call_tool("create_instances", create)
        assert s.running() == [], text_of(made)
        other = stranger(s)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "unacknowledged_instances"
        assert refusal["next_call"]["arguments"]["acknowledge_instances"] == [other]
        after = (await follow(s, refusal))["next_call"]
        plan = await s.call(after["tool"], **after["arguments"])
        assert states(await follow(s, plan)) == ["refused", "rented"]  # the same plan's second try, which waited
        assert len(s.running()) == 2


@pytest.mark.requirement("ONCE-8")
async def test_prices_that_rose_in_the_middle_of_a_plan_hide_nothing_that_was_rented() -> None:
    async with stack() as s:
        create = await _half_rented(s)
        for machine in s.world.market.machines:
            machine.price *= 9
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented", "dropped"]
        assert made["orders"][0]["instance_id"] in s.running()
        assert made["next_call"]["tool"] == "wait_until_ready"
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-8")
async def test_a_begun_plan_is_gone_on_with_after_many_other_plans() -> None:
    async with stack() as s:
        create = await _half_rented(s)
        for _ in range(9):
            await s.call("find_offers", workflow_id=create["workflow_id"])
            s.clock.advance(10)
        assert states(await s.call("create_instances", **create)) == ["rented", "rented"]


@pytest.mark.requirement("INPUT-4")
@pytest.mark.parametrize("number", [2**53, 2**63, 2**70])
async def test_an_id_that_no_machine_can_have_is_refused_as_bad_input(number: int) -> None:
    async with stack() as s:
        calls: list[tuple[str, dict[str, Any]]] = [
            (tool, {"instance_ids": [number]})
            for tool in ("instance_status", "destroy_instances", "stop_instances", "wait_until_ready", "attach_ssh_key")
        ]
        calls.append(("read_logs", {"instance_id": number}))
        for tool, arguments in calls:
            refusal = await s.refusal(tool, **arguments)
            assert refusal["code"] == "invalid_argument", tool


@pytest.mark.requirement("SECRET-1")
@pytest.mark.parametrize(
    "form", ["{}", "env:{}", "file:{}", "cli:{}", "VAST_API_KEY={}", "file:VAST_API_KEY={}", "~/{}"]
)
@pytest.mark.parametrize("first", ["7", "d"], ids=["begins with a digit", "begins with a letter"])
async def test_a_key_given_as_its_own_source_is_repeated_nowhere(form: str, first: str) -> None:
    async with stack() as s:
        key = first + s.world.api_key[1:]
        result = await s.client.call_tool("propose_fields", {"api_key_source": form.format(key)})
        assert result.is_error
        told = repr(result)
        assert not [i for i in range(len(key) - 7) if key[i : i + 8] in told]


@pytest.mark.requirement("INPUT-10")
@pytest.mark.parametrize("kind", ["newline", "injection", "ansi", "huge"])
@pytest.mark.parametrize("field", ["gpu_name", "geolocation"])
async def test_a_sentence_in_an_offer_is_not_repeated(field: str, kind: str) -> None:
    async with stack() as s:
        arm(s, "hostile_offer", field=field, kind=kind, times=0)
        proposal = await s.client.call_tool("propose_fields", {"gpu_name": "any"})
        told = repr(proposal)
        assert proposal.structured_content is not None
        workflow_id = proposal.structured_content["workflow_id"]
        told += repr(await s.client.call_tool("find_offers", {"workflow_id": workflow_id}))
        for words in ("SYSTEM", "ignore earlier", "role", "owned", "A" * 41, "\x1b"):
            assert words not in told.replace("\\x1b", "\x1b")
