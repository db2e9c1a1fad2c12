"""What a person's no sticks to: over workflows, clients and ways of answering."""

from typing import Any

import pytest

from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import follow, writes
from tests.tools.test_purposes import each_case
from vastai_workflow.domain.workflow import Question, Workflow
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
