"""The API calls of a workflow as a resource: for its owner, in both eras, without secrets, bounded."""

import re

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, TextResourceContents

from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import arm, planned
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.steps.calls import MOST_CALLS, MOST_WORKFLOWS, CallJournal
from vastai_workflow.steps.ports import ApiCall
from vastai_workflow.store.sqlite import SqliteStore

TOKEN = "hf_a_secret_value_of_the_user"


async def calls_of(s: Stack, workflow_id: str) -> str:
    [content] = (await s.client.read_resource(f"vast://workflow/{workflow_id}/calls")).contents
    assert isinstance(content, TextResourceContents)
    assert content.mime_type == "text/plain"
    return content.text


def lines(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("curl") and all(word in line for word in words)]


@pytest.mark.requirement("RESOURCE-3")
@pytest.mark.parametrize("era", ERAS)
async def test_what_a_workflow_sent_is_there_also_what_named_only_its_machines(era: Era) -> None:
    async with stack(era=era) as s:
        workflow_id, machines = await s.rented(env={"HF_TOKEN": TOKEN}, onstart=f"login {TOKEN}")
        await s.call("destroy_instances", instance_ids=machines)
        text = await calls_of(s, workflow_id)
        assert len(lines(text, "-X PUT", "/api/v0/asks/")) == 1
        assert len(lines(text, "-X DELETE", f"/api/v0/instances/{machines[0]}/")) == s.world.requests["destroy"]
        assert len(lines(text)) == sum(s.world.requests.values())
        assert f"{len(lines(text))} calls" in text
        assert all("Bearer $VAST_API_KEY" in line for line in lines(text))
        assert s.world.api_key not in text
        assert TOKEN not in text
        [template] = (await s.client.list_resource_templates()).resource_templates
        assert template.uri_template == "vast://workflow/{workflow_id}/calls"


@pytest.mark.requirement("RESOURCE-3")
async def test_each_workflow_has_its_own_and_one_that_sent_nothing_has_none() -> None:
    async with stack() as s:
        mine = (await s.call("propose_fields"))["workflow_id"]
        other = (await s.call("propose_fields", gpu_name="RTX 3090"))["workflow_id"]
        assert lines(await calls_of(s, mine), "RTX 4090")
        assert not lines(await calls_of(s, mine), "RTX 3090")
        assert lines(await calls_of(s, other), "RTX 3090")
        unread = (await s.call("propose_fields", api_key_source="env:OTHER"))["workflow_id"]
        assert ": 0 calls" in await calls_of(s, unread)


@pytest.mark.requirement("RESOURCE-3")
async def test_a_create_without_an_answer_is_told_as_that() -> None:
    async with stack() as s:
        arguments = await planned(s)
        arm(s, "drop_reply", operation="create")
        await s.call("create_instances", **arguments)
        text = await calls_of(s, arguments["workflow_id"])
        assert re.search(r"UTC, no answer\ncurl -sS -X PUT \S+/api/v0/asks/", text)


@pytest.mark.requirement("RESOURCE-3")
@pytest.mark.parametrize("era", ERAS)
async def test_anothers_workflow_is_as_unknown_as_one_that_never_was(era: Era) -> None:
    async with stack(era=era) as s:
        workflow_id = (await s.call("propose_fields"))["workflow_id"]
        await s.deps.store.change_workflow(workflow_id, lambda w: w.with_(owner="ada"))
        for name in (workflow_id, "wf_none"):
            with pytest.raises(MCPError, match="no workflow of yours") as refused:
                await calls_of(s, name)
            assert refused.value.error.code == INVALID_PARAMS


class Unreadable(SqliteStore):
    """A ledger that can't be read."""

    async def workflow(self, workflow_id: str) -> Workflow | None:  # noqa: ARG002 # the port's
        raise LocalError("store_unavailable", "the disk failed under the ledger")


@pytest.mark.requirement("RESOURCE-3")
@pytest.mark.parametrize("era", ERAS)
async def test_a_ledger_that_can_not_be_read_is_said_in_its_own_words(era: Era) -> None:
    clock = VirtualClock()
    async with stack(era=era, clock=clock, store=Unreadable(":memory:", clock=clock)) as s:
        with pytest.raises(MCPError, match="the disk failed under the ledger") as refused:
            await calls_of(s, "wf_any")
        assert refused.value.error.code == INTERNAL_ERROR


def a_call(number: int, *, changes: bool = False) -> ApiCall:
    return ApiCall(float(number), f"curl {number}", "status 200", changes=changes)


@pytest.mark.requirement("RESOURCE-3")
def test_looks_do_not_push_out_what_changed_something_and_both_are_bounded() -> None:
    journal = CallJournal()
    journal.keep(["w1"], [a_call(0, changes=True)])
    journal.keep(["w1"], [a_call(number) for number in range(1, 3 * MOST_CALLS)])
    kept = journal.of("w1")
    assert len(kept) == MOST_CALLS + 1
    assert kept[0] == a_call(0, changes=True)
    assert [call.at for call in kept] == sorted(call.at for call in kept)
    assert kept[-1] == a_call(3 * MOST_CALLS - 1)
    journal.keep(["w1"], [a_call(number, changes=True) for number in range(3 * MOST_CALLS)])
    assert len(journal.of("w1")) == 2 * MOST_CALLS


@pytest.mark.requirement("RESOURCE-3")
def test_the_workflows_that_were_used_last_are_kept() -> None:
    journal = CallJournal()
    for number in range(MOST_WORKFLOWS):
        journal.keep([f"w{number}"], [a_call(number)])
    journal.keep(["w0"], [a_call(1000)])
    journal.keep(["new"], [a_call(1001)])
    assert journal.of("w1") == ()
    assert journal.of("w0") == (a_call(0), a_call(1000))
    assert journal.of("new") == (a_call(1001),)
