"""Machines of ours on an account that the key of a call does not see: told, and ended with their own key."""

import pytest

from tests.stack import Stack, stack, text_of
from tests.tools.acts import arm, follow, planned


async def on_the_second_account(s: Stack) -> str:
    """A workflow that uses a key of another account, in another variable."""
    s.environment["OTHER"] = next(iter(s.world.add_account("other").keys))
    proposal = await s.call("propose_fields", api_key_source="env:OTHER")
    return (await follow(s, proposal))["workflow_id"]


@pytest.mark.requirement("KEY-5")
@pytest.mark.parametrize("tool", ["preflight", "instance_status"])
async def test_machines_on_an_account_that_the_key_does_not_see_are_told_with_how_to_reach_them(tool: str) -> None:
    async with stack() as s:
        _, [one, two] = await s.ready(count=2, fleet="best_effort")
        workflow_id = await on_the_second_account(s)
        s.clock.advance(7200)
        notes = (await s.call(tool, workflow_id=workflow_id))["notes"]
        [note] = [note for note in notes if "account 9" in note]
        assert "2 machines of ours" in note
        assert note.count(" UTC)") == 2
        assert "was last in env:VAST_API_KEY" in note
        assert f"instance_status(instance_ids=[{one}, {two}])" in note
        seen = await s.call("instance_status", instance_ids=[one, two])
        assert [row["state"] for row in seen["instances"]] == ["running", "running"]


@pytest.mark.requirement("KEY-5")
async def test_an_order_of_another_account_that_may_have_rented_is_told_too() -> None:
    async with stack() as s:
        arm(s, "drop_request", operation="create")
        await s.call("create_instances", **await planned(s))
        workflow_id = await on_the_second_account(s)
        notes = (await s.call("preflight", workflow_id=workflow_id))["notes"]
        assert any("1 order that may have rented" in note for note in notes)


@pytest.mark.requirement("KEY-5")
async def test_what_the_key_sees_and_what_ended_is_not_told_as_elsewhere() -> None:
    async with stack() as s:
        _, machines = await s.ready()
        assert (await s.call("preflight"))["notes"] == []
        await s.call("destroy_instances", instance_ids=machines)
        workflow_id = await on_the_second_account(s)
        for tool in ("preflight", "instance_status"):
            assert (await s.call(tool, workflow_id=workflow_id))["notes"] == []


@pytest.mark.requirement("KEY-5")
async def test_another_accounts_machine_is_not_destroyed_with_this_key_and_the_refusal_says_with_which() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        workflow_id = await on_the_second_account(s)
        refusal = await s.refusal("destroy_instances", instance_ids=[machine], workflow_id=workflow_id)
        assert refusal["code"] == "account_changed"
        assert f"machine {machine} belongs to account 9" in refusal["message"]
        result = await s.client.call_tool("destroy_instances", {"instance_ids": [machine], "workflow_id": workflow_id})
        assert "Next: call it again without workflow_id" in text_of(result)
        assert s.running() == [machine]
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert end["final_state"] == "gone"


@pytest.mark.requirement("KEY-5")
async def test_where_the_source_holds_another_accounts_key_now_the_refusal_says_what_to_do() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        s.environment["BACK"] = s.world.api_key
        s.environment["VAST_API_KEY"] = next(iter(s.world.add_account("other").keys))
        result = await s.client.call_tool("destroy_instances", {"instance_ids": [machine]})
        said = text_of(result)
        assert f"machine {machine} belongs to account 9" in said
        assert "propose_fields with api_key_source" in said
        assert "console" in said
        proposal = await s.call("propose_fields", action="destroy", api_key_source="env:BACK")
        known = (await follow(s, proposal))["workflow_id"]
        [end] = (await s.call("destroy_instances", instance_ids=[machine], workflow_id=known))["instances"]
        assert end["final_state"] == "gone"


@pytest.mark.requirement("KEY-5")
async def test_machines_of_two_accounts_in_one_call_are_told_apart() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        workflow_id = await on_the_second_account(s)
        again = await s.call("propose_fields", workflow_id=workflow_id)
        await s.call("confirm_fields", workflow_id=workflow_id, digest=again["digest"])
        plan = await s.call("find_offers", workflow_id=workflow_id)
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        other = made["orders"][0]["instance_id"]
        result = await s.client.call_tool("destroy_instances", {"instance_ids": [machine, other]})
        assert "machines of one account" in text_of(result)
        assert s.running() == [machine, other]


@pytest.mark.requirement("KEY-5")
@pytest.mark.parametrize("tool", ["preflight", "instance_status"])
async def test_another_owners_machines_and_key_sources_are_told_to_nobody_else(tool: str) -> None:
    async with stack() as s:
        await s.ready()
        [order] = await s.deps.store.orders()
        theirs = {"order_id": "o_theirs", "owner": "bob", "account_id": order.account_id + 1, "instance_id": 77}
        await s.deps.store.add_orders([order.model_copy(update=theirs)])
        assert (await s.call(tool))["notes"] == []
