"""Completions while somebody types, in both eras: from the market, from one's own ledger, and never an error."""

import pytest
from mcp.types import Completion, PromptReference, ResourceTemplateReference

from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import arm, stranger
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.hardware import MODELS
from vastai_workflow.store.sqlite import SqliteStore
from vastai_workflow.tools.completions import IMAGES, MOST, REGIONS
from vastai_workflow.tools.prompts import PROMPTS
from vastai_workflow.tools.resources import CALLS_URI

CREATE = PromptReference(type="ref/prompt", name="create")
CALLS = ResourceTemplateReference(type="ref/resource", uri=CALLS_URI)


async def completed(
    s: Stack, argument: str, typed: str = "", ref: PromptReference | ResourceTemplateReference = CREATE
) -> Completion:
    return (await s.client.complete(ref, {"name": argument, "value": typed})).completion


async def values(s: Stack, argument: str, typed: str = "") -> list[str]:
    return (await completed(s, argument, typed)).values


@pytest.mark.requirement("COMPLETE-1")
@pytest.mark.parametrize("era", ERAS)
async def test_gpu_names_come_from_the_market_once_and_what_begins_so_is_first(era: Era) -> None:
    async with stack(era=era) as s:
        assert s.client.server_capabilities.completions is not None
        names = await values(s, "gpu_name")
        assert set(names) == {model.name for model in MODELS}
        assert await values(s, "gpu_name", "rtx 40") == [name for name in names if name.startswith("RTX 40")]
        assert (await values(s, "gpu_name", "a"))[0].startswith("A")
        assert await values(s, "gpu_name", "no such") == []
        asked = dict(s.world.requests)
        assert sum(asked.values()) == 1
        s.clock.advance(601)
        assert await values(s, "gpu_name") == names
        assert sum(s.world.requests.values()) == 2


@pytest.mark.requirement("COMPLETE-1")
@pytest.mark.parametrize("era", ERAS)
async def test_regions_and_images_begin_with_what_was_used_before(era: Era) -> None:
    async with stack(era=era) as s:
        assert await values(s, "region") == list(REGIONS)
        assert await values(s, "image") == list(IMAGES)
        await s.call("propose_fields", regions=["SE", "IS"], image="my/image:1")
        assert (await values(s, "region"))[:3] == ["IS", "SE", "US"]
        assert (await values(s, "image"))[0] == "my/image:1"
        assert await values(s, "region", "s") == ["SE", "SG", "IS", "US", "ES"]
        assert await values(s, "image", "cuda") == ["nvidia/cuda:12.4.1-cudnn-devel-ubuntu22.04"]


@pytest.mark.requirement("COMPLETE-2")
@pytest.mark.parametrize("era", ERAS)
async def test_machines_and_workflows_are_ones_own_the_newest_first(era: Era) -> None:
    async with stack(era=era) as s:
        stranger(s)
        first, [one] = await s.rented()
        second, [other] = await s.rented()
        assert await values(s, "instance_id") == [str(other), str(one)]
        assert (await completed(s, "workflow_id", ref=CALLS)).values == [second, first]
        s.clock.advance(130)
        await s.call("destroy_instances", instance_ids=[other])
        assert await values(s, "instance_id") == [str(one)]
        for workflow_id in (first, second):
            await s.deps.store.change_workflow(workflow_id, lambda w: w.with_(owner="ada"))
        assert (await completed(s, "workflow_id", ref=CALLS)).values == []


@pytest.mark.requirement("COMPLETE-2")
async def test_anothers_machines_are_not_suggested() -> None:
    async with stack() as s:
        _, [machine] = await s.rented()
        [order] = await s.deps.store.orders()
        adas = order.model_copy(update={"order_id": "o_ada", "owner": "ada", "instance_id": 5})
        await s.deps.store.add_orders([adas])
        assert await values(s, "instance_id") == [str(machine)]


@pytest.mark.requirement("COMPLETE-3")
async def test_no_more_than_a_hundred_are_told_with_how_many_there_are() -> None:
    async with stack() as s:
        for number in range(MOST + 3):
            await s.deps.store.add_workflow(Workflow(workflow_id=f"wf_{number}", owner="local", created_at=1.0))
        told = await completed(s, "workflow_id", ref=CALLS)
        assert (len(told.values), told.total, told.has_more) == (MOST, MOST + 3, True)
        assert told.values[0] == f"wf_{MOST + 2}"


@pytest.mark.requirement("COMPLETE-3")
@pytest.mark.parametrize("era", ERAS)
async def test_without_a_key_or_a_market_nothing_is_suggested_and_nothing_fails(era: Era) -> None:
    async with stack(era=era) as s:
        key = s.environment.pop("VAST_API_KEY")
        assert await values(s, "gpu_name") == []
        s.environment["VAST_API_KEY"] = key
        s.clock.advance(31)
        arm(s, "http_error", operation="*", times=0, status=503, body="text")
        assert await values(s, "gpu_name") == []
        sent = sum(s.world.requests.values())
        assert await values(s, "gpu_name") == []
        assert sum(s.world.requests.values()) == sent, "it is not asked again at each letter"


@pytest.mark.requirement("COMPLETE-3")
async def test_a_key_file_that_nobody_said_yes_to_is_not_read_for_a_suggestion() -> None:
    async with stack() as s:
        s.environment["OTHER"] = s.environment.pop("VAST_API_KEY")
        proposal = await s.call("propose_fields", api_key_source="env:OTHER")
        assert await values(s, "gpu_name") == []
        known = {"workflow_id": proposal["workflow_id"], "digest": proposal["digest"]}
        await s.call("confirm_fields", **known, fields=["api_key_source"])
        s.clock.advance(31)
        assert "RTX 4090" in await values(s, "gpu_name")


class Unreadable(SqliteStore):
    """A ledger that can't be read."""

    async def workflows(self, owner: str) -> tuple[Workflow, ...]:  # noqa: ARG002 # the port's
        raise LocalError("store_unavailable", "the disk failed under the ledger")


@pytest.mark.requirement("COMPLETE-3")
async def test_a_ledger_that_can_not_be_read_and_an_unknown_argument_suggest_nothing() -> None:
    clock = VirtualClock()
    async with stack(clock=clock, store=Unreadable(":memory:", clock=clock)) as s:
        assert (await completed(s, "workflow_id", ref=CALLS)).values == []
        assert await values(s, "image") == []
        assert await values(s, "api_key") == []


@pytest.mark.requirement("COMPLETE-3")
async def test_each_argument_of_a_prompt_is_completed_or_free() -> None:
    async with stack() as s:
        free = {"max_price_per_hour", "start", "end"}
        listed = {prompt.name: prompt for prompt in (await s.client.list_prompts()).prompts}
        arguments = {one.name for prompt in PROMPTS for one in listed[prompt.name].arguments or ()}
        await s.rented()
        assert {name for name in arguments if not await values(s, name)} == free
