"""A question that went to a person and has no answer: until they answer it, nobody says yes for them."""

from pathlib import Path
from typing import Any

import pytest

from tests.stack import ERAS, Era, stack
from tests.tools.acts import follow, stranger, writes
from tests.tools.person import Person
from tests.tools.test_answers import Slow, answered, first_round, yeses
from tests.tools.test_asked import beside, rents
from tests.tools.test_purposes import each_case
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.steps.approving import answer
from vastai_workflow.store.sqlite import SqliteStore

both_eras = pytest.mark.parametrize("era", ERAS)
TERMINAL = "you, on the terminal"


@pytest.mark.parametrize("approval", ["auto", "relayed"])
@pytest.mark.requirement("ASK-4")
async def test_a_question_that_was_dropped_takes_no_agents_yes_also_after_a_restart(
    approval: Any, tmp_path: Path
) -> None:
    clock = VirtualClock()
    store = SqliteStore(tmp_path / "state", clock=clock)
    async with stack(person=Person(), store=store, clock=clock) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]
        await first_round(s, call)
    await store.aclose()
    again = SqliteStore(tmp_path / "state", clock=clock)
    async with stack(approval=approval, store=again, world=s.world, clock=clock) as mute:
        refusal = await mute.refusal("confirm_fields", **call)
        assert refusal["code"] == "person_needed"
        assert "they were asked, and no answer came yet" in refusal["message"]
        assert "approve " in refusal["ask_user"]
        asked = await mute.call("propose_fields", workflow_id=proposal["workflow_id"])
        assert asked["digest"] == proposal["digest"]
        assert "approve " in asked["questions"][0]
        clock.advance(CONFIRMATION_LIFE_S)
        await mute.call("propose_fields", workflow_id=proposal["workflow_id"])
        assert (await mute.refusal("confirm_fields", **call))["code"] == "person_needed"
        assert await rents(mute, proposal) == ["refused"]
        assert await yeses(mute) == []
    await again.aclose()


@both_eras
@pytest.mark.requirement("ASK-4")
async def test_while_the_person_thinks_no_agent_says_yes(era: Era) -> None:
    person, told = Slow(), list[str]()
    async with stack(era=era, person=person) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]

        async def another_agent_says_yes() -> None:
            async with beside(s, era) as mute:
                told.append((await mute.refusal("confirm_fields", **call))["code"])

        person.meanwhile = another_agent_says_yes
        given = await follow(s, proposal)
        assert told == ["person_needed"]
        assert given["confirmation"]["by"] == "you, asked by mcp"


@both_eras
@pytest.mark.parametrize("typed", ["yes", "9.99"])
@pytest.mark.requirement("ASK-4")
async def test_once_it_is_answered_with_a_yes_it_stands_as_before(era: Era, typed: str) -> None:
    async with stack(era=era, person=Person(typed)) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]
        await s.client.call_tool("confirm_fields", call)
        async with beside(s, era) as mute:
            s.clock.advance(CONFIRMATION_LIFE_S)
            await mute.call("propose_fields", workflow_id=proposal["workflow_id"])
            again = await mute.client.call_tool("confirm_fields", call)
            assert again.is_error is (typed != "yes")
            assert [item.by for item in await yeses(mute)] == (
                ["you, asked by mcp", "relayed by mcp"] if typed == "yes" else []
            )


@each_case
@pytest.mark.parametrize("in_another", [True, False])
@pytest.mark.requirement("ASK-4")
async def test_what_is_done_to_a_machine_waits_for_the_person_in_every_workflow(
    prepare: Any, tool: str, extra: dict[str, Any], purpose: str, *, in_another: bool
) -> None:
    async with stack(person=Person()) as s:
        _, machine = await prepare(s)
        call = {"instance_ids": [machine], **extra}
        asked = (await s.refusal(tool, **call))["next_call"]["arguments"]
        first = await first_round(s, asked)
        before = dict(writes(s))
        async with beside(s, "auto") as mute:
            other = (await mute.call("propose_fields"))["workflow_id"] if in_another else asked["workflow_id"]
            refusal = await mute.refusal(tool, **call, workflow_id=other)
            assert "approve " in refusal["ask_user"]
            told = {**asked, "workflow_id": other}
            assert (await mute.refusal("confirm_fields", **told))["code"] == "person_needed"
            assert (await mute.refusal(tool, **call))["code"] == "purpose_not_confirmed"
            assert writes(mute) == before
        given = await answered(s, asked, first, "yes")
        assert given.structured_content["confirmation"]["purpose"] == purpose
        await s.call(tool, **call)
        assert writes(s) != before


@pytest.mark.requirement("ASK-4")
async def test_a_later_machine_and_a_key_source_wait_for_the_person_too(tmp_path: Path) -> None:
    (tmp_path / "vast_env").touch(0o600)
    async with stack(person=Person(), folder=tmp_path) as s:
        (tmp_path / "vast_env").write_text(s.world.api_key)
        agreed = await follow(s, await s.call("propose_fields"))
        stranger(s)
        create = (await follow(s, agreed))["next_call"]["arguments"]
        keep = (await s.refusal("create_instances", **create))["next_call"]["arguments"]
        await first_round(s, keep)
        key = (await s.call("propose_fields", api_key_source="file:vast_env"))["next_call"]["arguments"]
        await first_round(s, key)
        async with beside(s, "auto") as mute:
            assert (await mute.refusal("confirm_fields", **keep))["code"] == "person_needed"
            assert (await mute.refusal("create_instances", **create))["code"] == "unacknowledged_instances"
            assert (await mute.refusal("confirm_fields", **key))["code"] == "person_needed"
        assert s.creates_sent() == 0


@pytest.mark.requirement("ASK-4")
async def test_the_person_answers_elsewhere_what_their_client_dropped() -> None:
    async with stack(person=Person()) as s:
        proposal = await s.call("propose_fields")
        await first_round(s, proposal["next_call"]["arguments"])
        workflow = await s.deps.store.workflow(proposal["workflow_id"])
        assert workflow is not None
        [question] = workflow.questions
        assert await answer(s.deps, workflow, question, question.answer, TERMINAL)
        async with beside(s, "auto") as mute:
            given = await mute.call("confirm_fields", workflow_id=proposal["workflow_id"], digest=proposal["digest"])
            assert given["confirmation"]["by"] == TERMINAL
            assert await rents(mute, proposal) == ["rented"]
