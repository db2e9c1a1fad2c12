"""What a model has to read stays short: the tool list, and the results of the main job."""

from typing import Any

import pytest

from tests.stack import stack

pytestmark = pytest.mark.interop  # the extra `bench` counts the tokens; a plain test run is without it


async def test_the_tool_list_is_short() -> None:
    from bench.tokens import compact, count  # noqa: PLC0415 # as said above
    from bench.tool_list import GOAL, listed, seen  # noqa: PLC0415 # as said above

    assert count(compact([seen(tool) for tool in await listed()])) <= GOAL


async def test_the_results_of_the_main_job_are_short() -> None:
    from bench.main_job import GOAL, tokens_of  # noqa: PLC0415 # as said above

    taken: list[int] = []
    async with stack() as s:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await s.client.call_tool(tool, arguments)
            assert result.structured_content is not None
            taken.append(tokens_of(result))
            return result.structured_content

        proposal = await call("propose_fields")
        workflow = {"workflow_id": proposal["workflow_id"]}
        await call("confirm_fields", **workflow, digest=proposal["digest"])
        plan = await call("find_offers", **workflow)
        await call("create_instances", **workflow, plan_id=plan["plan_id"])
        waited = await call("wait_until_ready", **workflow, timeout_s=120)
        assert [machine["readiness"] for machine in waited["instances"]] == ["gpu_ok"]
    assert len(taken) == 5
    assert sum(taken) <= GOAL
