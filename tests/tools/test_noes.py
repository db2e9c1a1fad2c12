"""What a person's no sticks to: over workflows, clients and ways of answering."""

from decimal import Decimal
from typing import Any

import pytest

from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import follow, stranger, writes
from tests.tools.person import Person
from tests.tools.test_asked import asked_for, beside, rents
from tests.tools.test_purposes import each_case
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S, Question, Workflow
from vastai_workflow.steps.approving import answer

both_eras = pytest.mark.parametrize("era", ERAS)
TERMINAL = "you, on the terminal"


async def asked_in(s: Stack, refusal: dict[str, Any]) -> tuple[Workflow, Question]:
    """The workflow and the question that a refusal leads to."""
    workflow = await s.deps.store.workflow(refusal["next_call"]["arguments"]["workflow_id"])
    assert workflow is not None
    return workflow, workflow.questions[-1]


@both_eras
@each_case
@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.requirement("ASK-4")
async def test_a_no_to_what_is_done_to_a_machine_holds_in_every_workflow(  # the cases
    prepare: Any, tool: str, extra: dict[str, Any], purpose: str, era: Era, *, asked_before: bool
) -> None:
    async with stack(era=era) as s:
        _, machine = await prepare(s)
        call = {"instance_ids": [machine], **extra}
        other = (await s.call("propose_fields"))["workflow_id"]
        if asked_before:
            await s.refusal(tool, **call, workflow_id=other)
        workflow, question = await asked_in(s, await s.refusal(tool, **call))
        assert question.about == purpose
        await answer(s.deps, workflow, question, "no", TERMINAL)
        before = dict(writes(s))
        refusal = await s.refusal(tool, **call, workflow_id=other)
        assert "approve " in refusal["ask_user"]
        told = {"workflow_id": other, "digest": question.digest, "purpose": purpose, "instance_ids": [machine]}
        assert (await s.refusal("confirm_fields", **told))["code"] == "person_needed"
        assert (await s.refusal(tool, **call, workflow_id=other))["code"] == "purpose_not_confirmed"
        assert writes(s) == before


@both_eras
@each_case
@pytest.mark.requirement("ASK-4")
async def test_a_no_ends_the_yes_to_the_same_that_was_given_in_another_workflow(
    prepare: Any, tool: str, extra: dict[str, Any], purpose: str, era: Era
) -> None:
    async with stack(era=era) as s:
        _, machine = await prepare(s)
        call = {"instance_ids": [machine], **extra}
        workflow, question = await asked_in(s, await s.refusal(tool, **call))
        other = (await s.call("propose_fields"))["workflow_id"]
        given = await follow(s, await s.refusal(tool, **call, workflow_id=other))
        assert given["confirmation"]["purpose"] == purpose
        before = dict(writes(s))
        await answer(s.deps, workflow, question, "no", TERMINAL)
        for known in ({"workflow_id": other}, {}):
            assert (await s.refusal(tool, **call, **known))["code"] in {"purpose_not_confirmed", "confirmation_expired"}
        assert writes(s) == before


@both_eras
@pytest.mark.requirement("ASK-4")
async def test_a_no_to_rent_ends_the_yes_of_its_workflow_to_an_earlier_proposal(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        proposal = await asked_for(s)
        await follow(s, proposal)
        _, machines = await s.rented(gpu_name="RTX 3090")
        changed = await asked_for(s, workflow_id=proposal["workflow_id"])
        assert changed["digest"] != proposal["digest"]
        person.then("decline")
        await s.refusal("confirm_fields", **changed["next_call"]["arguments"])
        await s.call("destroy_instances", instance_ids=machines)
        s.clock.advance(120)
        await s.call("destroy_instances", instance_ids=machines)
        again = await asked_for(s, workflow_id=proposal["workflow_id"])
        assert again["digest"] == proposal["digest"]
        asked = len(person.asked)
        assert await rents(s, again) == ["refused"]
        await follow(s, await asked_for(s, workflow_id=proposal["workflow_id"]))
        assert len(person.asked) == asked + 1
        assert await rents(s, again) == ["rented"]


@both_eras
@pytest.mark.requirement("ASK-4")
async def test_a_no_to_a_start_at_another_price_ends_the_yes_to_the_earlier_one(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        _, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        await follow(s, await s.refusal("start_instances", instance_ids=[machine]))
        s.world.instances[machine].dph_base += Decimal("0.2")
        dearer = await s.refusal("start_instances", instance_ids=[machine])
        assert dearer["code"] == "price_above_ceiling"
        person.then("decline")
        await s.refusal("confirm_fields", **dearer["next_call"]["arguments"])
        s.world.instances[machine].dph_base -= Decimal("0.2")
        before = dict(writes(s))
        await s.refusal("start_instances", instance_ids=[machine])
        assert writes(s) == before


@pytest.mark.requirement("ASK-4")
async def test_a_no_to_destroy_one_ends_a_yes_that_names_it_among_others_and_leaves_the_rest() -> None:
    person = Person()
    async with stack(person=person) as s:
        one, other, third = stranger(s), stranger(s), stranger(s)
        both, alone = {"instance_ids": [one, other]}, {"instance_ids": [third]}
        for tool, call in (("destroy_instances", both), ("destroy_instances", alone), ("stop_instances", alone)):
            await follow(s, await s.refusal(tool, **call))
        person.then("decline")
        no = (await s.refusal("destroy_instances", instance_ids=[one]))["next_call"]["arguments"]
        assert (await s.refusal("confirm_fields", **no))["code"] == "declined"
        await s.refusal("destroy_instances", **both)
        assert s.world.requests["destroy"] == 0
        await s.call("stop_instances", **alone)
        await s.call("destroy_instances", **alone)
        assert {one, other} <= set(s.world.instances)
        assert third not in s.world.instances


@both_eras
@pytest.mark.requirement("ASK-4")
async def test_a_machine_that_was_not_wanted_beside_takes_their_own_yes_in_the_next_question_too(era: Era) -> None:
    async with stack(era=era, person=Person("yes", "decline")) as s:
        agreed = await follow(s, await asked_for(s))
        machine = stranger(s)
        plan = await follow(s, agreed)
        asked = await s.refusal("create_instances", **plan["next_call"]["arguments"])
        assert (await s.refusal("confirm_fields", **asked["next_call"]["arguments"]))["code"] == "declined"
        async with beside(s, era) as mute:
            known = {"workflow_id": agreed["workflow_id"]}
            proposal = await mute.call("propose_fields", **known)
            [question] = proposal["questions"]
            assert str(machine) in question
            assert "approve " in question
            told = await mute.refusal("confirm_fields", **known, digest=proposal["digest"])
            assert told["code"] == "person_needed"
            assert "they did not agree when they were asked" in told["message"]
            assert "approve " in told["ask_user"]
            assert await rents(mute, proposal) == ["refused"]
            assert mute.creates_sent() == 0


@both_eras
@pytest.mark.requirement("GATE-4")
async def test_a_reported_yes_to_a_question_of_yesterday_is_none(era: Era) -> None:
    async with stack(era=era) as s:
        proposal = await s.call("propose_fields")
        s.clock.advance(CONFIRMATION_LIFE_S)
        refusal = await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        assert refusal["code"] == "confirmation_expired"
        known = {"workflow_id": proposal["workflow_id"]}
        assert refusal["next_call"] == {"tool": "propose_fields", "arguments": known}
        assert await rents(s, proposal) == ["refused"]
        await follow(s, await follow(s, refusal))
        assert await rents(s, proposal) == ["rented"]
