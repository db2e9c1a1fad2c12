"""SSH keys that come back, or go to several machines: only by a yes that is newer than the no."""

import anyio
import pytest
from mcp.types import CallToolResult

from tests.stack import ERAS, PUBLIC_KEY, Era, Stack, stack, text_of
from tests.tools.acts import arm, follow, planned, stranger
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S
from vastai_workflow.server import REFUSAL_META
from vastai_workflow.steps.ending import CALL_BUDGET_S

OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnotherKeyThatNobodyHasSeenBeforeNowxxxxx bob@elsewhere"

both_eras = pytest.mark.parametrize("era", ERAS)


def blobs_on_account(s: Stack) -> set[str]:
    return {key.public_key.split()[1] for key in s.world.account.ssh_keys.values()}


@both_eras
@pytest.mark.requirement("UNKEY-2")
async def test_a_key_that_was_taken_from_the_account_does_not_come_back_by_an_earlier_yes(era: Era) -> None:
    async with stack(era=era) as s:
        await s.ready()
        wanted = await planned(s)
        await follow(s, await s.refusal("remove_ssh_key", public_key=PUBLIC_KEY))
        await s.call("remove_ssh_key", public_key=PUBLIC_KEY)
        sent = s.creates_sent()
        refusal = await s.refusal("create_instances", **wanted)
        assert refusal["code"] == "confirmation_expired"
        assert "was taken from the account after this yes" in refusal["message"]
        assert (s.creates_sent(), blobs_on_account(s)) == (sent, set())
        again = await follow(s, refusal)
        s.clock.advance(1)
        await s.call("confirm_fields", workflow_id=again["workflow_id"], digest=again["digest"])
        plan = await s.call("find_offers", workflow_id=again["workflow_id"])
        made = await s.call("create_instances", workflow_id=again["workflow_id"], plan_id=plan["plan_id"])
        assert [order["state"] for order in made["orders"]] == ["rented"]
        assert blobs_on_account(s) == {PUBLIC_KEY.split()[1]}


def have(s: Stack, public_key: str) -> list[int]:
    blob = public_key.split()[1]
    machines = s.world.instances.items()
    return [i for i, machine in machines if any(blob in key.public_key for key in machine.ssh_keys.values())]


@both_eras
@pytest.mark.requirement("KEYS-1")
async def test_a_machine_that_refuses_a_key_hides_no_other_and_is_told_with_its_reason(era: Era) -> None:
    async with stack(era=era) as s:
        _, ids = await s.ready(count=3, fleet="best_effort")
        wanted = {"instance_ids": ids, "public_key": OTHER}
        await follow(s, await s.refusal("attach_ssh_key", **wanted))
        arm(s, "refuse", operation="attach", nth=2, code="scope_missing", status=403)
        result = await s.client.call_tool("attach_ssh_key", wanted)
        assert result.structured_content is not None
        rows = result.structured_content["keys"]
        assert [(row["added"], row["reason"] is None) for row in rows] == [(True, True), (False, False), (True, True)]
        assert have(s, OTHER) == [ids[0], ids[2]]
        assert f"again for {ids[1]};" in text_of(result)
        await follow(s, await s.refusal("attach_ssh_key", instance_ids=[ids[1]], public_key=OTHER))
        await s.call("attach_ssh_key", instance_ids=[ids[1]], public_key=OTHER)
        assert have(s, OTHER) == ids


@pytest.mark.requirement("KEYS-1")
async def test_attaching_to_a_large_fleet_ends_in_time_and_says_where_it_stopped() -> None:
    async with stack(offers=200) as s:
        _, ids = await s.ready(count=10, fleet="best_effort")
        wanted = {"instance_ids": ids, "public_key": OTHER}
        await follow(s, await s.refusal("attach_ssh_key", **wanted))
        arm(s, "delay", operation="attach", times=99, seconds=CALL_BUDGET_S / 3)
        rows = (await s.call("attach_ssh_key", **wanted))["keys"]
        left = [row["instance_id"] for row in rows if row["reason"] == "nothing was sent, out of time"]
        assert left
        assert have(s, OTHER) == [i for i in ids if i not in left]


each_way = pytest.mark.parametrize("tool", ["attach_ssh_key", "remove_ssh_key"])


async def agreed_for_another_key(s: Stack, tool: str) -> dict[str, object]:
    """The call with a yes of its own, for a key that the machine lacks, or has, as the tool needs it."""
    _, [machine] = await s.ready()
    wanted: dict[str, object] = {"instance_ids": [machine], "public_key": OTHER}
    if tool == "remove_ssh_key":
        await follow(s, await s.refusal("attach_ssh_key", **wanted))
        await s.call("attach_ssh_key", **wanted)
    await follow(s, await s.refusal(tool, **wanted))
    return wanted


@each_way
@both_eras
@pytest.mark.requirement("PURPOSE-1")
async def test_a_call_that_fails_before_it_changes_a_key_leaves_the_yes_for_the_next(tool: str, era: Era) -> None:
    async with stack(era=era) as s:
        wanted = await agreed_for_another_key(s, tool)
        arm(s, "refuse", operation="instance_keys", nth=len(have(s, OTHER)) + 1, code="scope_missing", status=403)
        assert "scope_missing" in text_of(await s.client.call_tool(tool, wanted))
        before = len(have(s, OTHER))
        await s.call(tool, **wanted)
        assert len(have(s, OTHER)) == 1 - before


@pytest.mark.requirement("PURPOSE-1")
async def test_a_yes_is_used_up_by_a_request_whatever_becomes_of_it() -> None:
    async with stack() as s:
        wanted = await agreed_for_another_key(s, "attach_ssh_key")
        arm(s, "refuse", operation="attach", code="scope_missing", status=403)
        assert (await s.refusal("attach_ssh_key", **wanted))["code"] == "scope_missing"
        assert (await s.refusal("attach_ssh_key", **wanted))["code"] == "confirmation_spent"
        assert have(s, OTHER) == []


@pytest.mark.requirement("PURPOSE-1")
async def test_a_yes_is_used_up_by_a_call_that_finds_the_key_there() -> None:
    async with stack() as s:
        wanted = await agreed_for_another_key(s, "attach_ssh_key")
        await s.call("attach_ssh_key", **wanted)
        await follow(s, await s.refusal("attach_ssh_key", **wanted))
        s.clock.advance(1)
        assert (await s.call("attach_ssh_key", **wanted))["keys"][0]["added"] is False
        assert (await s.refusal("attach_ssh_key", **wanted))["code"] == "confirmation_spent"


@pytest.mark.requirement("PURPOSE-1")
async def test_two_calls_at_once_on_one_yes_attach_once() -> None:
    async with stack() as s:
        wanted = {"instance_ids": [stranger(s)], "public_key": OTHER}
        await follow(s, await s.refusal("attach_ssh_key", **wanted))
        arm(s, "delay", operation="instance_keys", times=2, seconds=5.0)
        results: list[CallToolResult] = []

        async def attach() -> None:
            results.append(await s.client.call_tool("attach_ssh_key", wanted))

        async with anyio.create_task_group() as both:
            both.start_soon(attach)
            both.start_soon(attach)
        [refused] = [result for result in results if result.is_error]
        assert refused.meta is not None
        refusal = refused.meta[REFUSAL_META]
        assert refusal["code"] == "confirmation_spent"
        assert refusal["next_call"] == {"tool": "attach_ssh_key", "arguments": wanted}
        assert s.world.requests["attach"] == 1


@pytest.mark.requirement("PURPOSE-2")
async def test_a_yes_whose_time_is_up_when_the_request_would_leave_attaches_nothing() -> None:
    async with stack() as s:
        wanted = {"instance_ids": [stranger(s)], "public_key": OTHER}
        await follow(s, await s.refusal("attach_ssh_key", **wanted))
        s.clock.advance(CONFIRMATION_LIFE_S - 10)
        arm(s, "delay", operation="instance_keys", seconds=15.0)
        refusal = await s.refusal("attach_ssh_key", **wanted)
        assert refusal["code"] == "confirmation_expired"
        await follow(s, await s.refusal("attach_ssh_key", **refusal["next_call"]["arguments"]))
        assert s.world.requests["attach"] == 0
