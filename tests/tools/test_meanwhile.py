"""A person says no just before an agent's yes is written: the yes is judged by what is on record when it is."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import follow, stranger
from vastai_workflow.domain.workflow import Question, Workflow
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.steps.approving import answer
from vastai_workflow.store.sqlite import SqliteStore


class Interrupted(SqliteStore):
    """Something happens right before a workflow is written."""

    meanwhile: Callable[[], Awaitable[Any]] | None = None

    async def change_workflow(self, workflow_id: str, change: Callable[[Workflow], Workflow]) -> Workflow:
        if (happens := self.meanwhile) is not None:
            self.meanwhile = None
            await happens()
        return await super().change_workflow(workflow_id, change)


async def _rent(s: Stack) -> dict[str, Any]:
    return (await s.call("propose_fields"))["next_call"]["arguments"]


async def _key(s: Stack) -> dict[str, Any]:
    return (await s.call("propose_fields", api_key_source="file:vast_env"))["next_call"]["arguments"]


async def _keep(s: Stack) -> dict[str, Any]:
    plan = await follow(s, await follow(s, await s.call("propose_fields")))
    stranger(s)
    return (await s.refusal("create_instances", **plan["next_call"]["arguments"]))["next_call"]["arguments"]


async def _purpose(s: Stack) -> dict[str, Any]:
    return (await s.refusal("destroy_instances", instance_ids=[stranger(s)]))["next_call"]["arguments"]


@pytest.mark.parametrize("asks", [_rent, _key, _keep, _purpose])
@pytest.mark.requirement("ASK-4")
async def test_a_no_that_comes_first_counts(asks: Callable[[Stack], Awaitable[dict[str, Any]]], tmp_path: Path) -> None:
    clock = VirtualClock()
    store = Interrupted(":memory:", clock=clock)
    async with stack(store=store, clock=clock, folder=tmp_path) as s:
        (tmp_path / "vast_env").touch(0o600)
        (tmp_path / "vast_env").write_text(s.world.api_key)
        call = await asks(s)
        before = await _yeses(s, call)

        async def no() -> None:
            workflow, question = await _open(s, call)
            await answer(s.deps, workflow, question, "no", "you, on the terminal")

        store.meanwhile = no
        assert (await s.refusal("confirm_fields", **call))["code"] == "person_needed"
        assert await _yeses(s, call) == before


async def _open(s: Stack, call: dict[str, Any]) -> tuple[Workflow, Question]:
    workflow = await s.deps.store.workflow(call["workflow_id"])
    assert workflow is not None
    return workflow, workflow.questions[-1]


async def _yeses(s: Stack, call: dict[str, Any]) -> list[Any]:
    """What has a yes: purposes, machines kept beside, and the key source."""
    workflow = await s.deps.store.workflow(call["workflow_id"])
    assert workflow is not None
    given = [(item.confirmation_id, item.acknowledged) for item in workflow.confirmations]
    return [*given, workflow.fields["api_key_source"].status]
