"""What the server shows of itself: tools, schemas, annotations, and the shape of answers and refusals."""

import json
from typing import Any

import jsonschema
import pytest

from tests.stack import ERAS, Era, Stack, stack
from tests.tools import snapshot
from tests.tools.acts import stranger, writes
from vastai_workflow.server import REFUSAL_META

READ_ONLY = {
    "preflight",
    "find_offers",
    "instance_status",
    "billing_report",
    "read_logs",
    "export_inventory",
}
DESTRUCTIVE = {"remove_ssh_key", "restart_instances", "destroy_instances"}
NOT_IDEMPOTENT = {"propose_fields", "confirm_fields", "find_offers", "start_instances", "restart_instances"}


async def tools_of(s: Stack) -> dict[str, dict[str, Any]]:
    """The listed tools by name."""
    tools = (await s.client.list_tools()).tools
    return {tool.name: tool.model_dump(mode="json", by_alias=True) for tool in tools}


@pytest.mark.requirement("SCHEMA-1")
async def test_the_listed_tools_are_those_of_the_snapshot() -> None:
    kept = json.loads(snapshot.FILE.read_text())
    assert await snapshot.listed() == kept, "run: python -m tests.tools.snapshot"


@pytest.mark.requirement("SCHEMA-1")
@pytest.mark.parametrize("era", ERAS)
async def test_every_tool_has_a_title_all_annotations_and_strict_schemas(era: Era) -> None:
    async with stack(era=era) as s:
        for name, tool in (await tools_of(s)).items():
            assert tool["title"]
            assert tool["description"]
            assert tool["annotations"] == {
                "title": tool["annotations"].get("title"),
                "readOnlyHint": name in READ_ONLY,
                "destructiveHint": name in DESTRUCTIVE,
                "idempotentHint": name not in NOT_IDEMPOTENT,
                "openWorldHint": True,
            }
            assert tool["inputSchema"]["additionalProperties"] is False
            jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
            jsonschema.Draft202012Validator.check_schema(tool["outputSchema"])
            assert tool["outputSchema"]["additionalProperties"] is False


@pytest.mark.requirement("SCHEMA-2")
async def test_a_read_only_tool_sends_no_request_that_changes_something() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        stranger(s)
        before = dict(writes(s))
        truth = s.world.state()["instances"]
        arguments: dict[str, dict[str, Any]] = {
            "preflight": {},
            "find_offers": {"workflow_id": workflow_id},
            "instance_status": {},
            "billing_report": {},
            "read_logs": {"instance_id": machine},
            "export_inventory": {"format": "ssh_config"},
        }
        assert set(arguments) == READ_ONLY
        for tool, given in arguments.items():
            await s.call(tool, **given)
        assert writes(s) == before
        assert [row["id"] for row in s.world.state()["instances"]] == [row["id"] for row in truth]


@pytest.mark.requirement("SCHEMA-3")
@pytest.mark.parametrize("era", ERAS)
async def test_each_answer_of_the_main_job_fits_its_output_schema(era: Era) -> None:
    async with stack(era=era) as s:
        tools = await tools_of(s)

        async def valid(tool: str, **arguments: Any) -> dict[str, Any]:
            answer = await s.call(tool, **arguments)
            jsonschema.validate(answer, tools[tool]["outputSchema"])
            return answer

        proposal = await valid("propose_fields")
        known = {"workflow_id": proposal["workflow_id"]}
        await valid("confirm_fields", **known, digest=proposal["digest"])
        plan = await valid("find_offers", **known)
        made = await valid("create_instances", **known, plan_id=plan["plan_id"])
        ids = [order["instance_id"] for order in made["orders"]]
        await valid("wait_until_ready", **known, timeout_s=120)
        for tool in ("instance_status", "preflight", "billing_report"):
            await valid(tool)
        await valid("read_logs", instance_id=ids[0])
        await valid("export_inventory", format="ansible")
        await valid("attach_ssh_key", instance_ids=ids)
        await valid("remove_ssh_key", instance_ids=ids)
        await valid("restart_instances", instance_ids=ids, mode="reboot")
        await valid("stop_instances", instance_ids=ids)
        await valid("destroy_instances", instance_ids=ids)


@pytest.mark.requirement("SCHEMA-4")
@pytest.mark.parametrize("era", ERAS)
async def test_a_refusal_has_two_text_blocks_and_meta_and_no_structured_content(era: Era) -> None:
    async with stack(era=era) as s:
        result = await s.client.call_tool("create_instances", {"workflow_id": "wf_none", "plan_id": "p"})
        assert result.is_error
        assert result.structured_content is None
        sentence, compact = (block.text for block in result.content if block.type == "text")
        assert result.meta is not None
        body = result.meta[REFUSAL_META]
        assert json.loads(compact) == body
        assert set(body) == {"code", "message", "missing", "ask_user", "next_call"}
        assert body["message"] in sentence
        assert "Next: " in sentence


@pytest.mark.requirement("SCHEMA-5")
async def test_every_next_call_names_a_tool_and_arguments_that_it_takes() -> None:
    async with stack() as s:
        tools = await tools_of(s)
        proposal = await s.call("propose_fields")
        answer: dict[str, Any] = proposal
        seen: list[str] = []
        while (after := answer["next_call"]) is not None:
            jsonschema.validate(after["arguments"], tools[after["tool"]]["inputSchema"])
            seen.append(after["tool"])
            answer = await s.call(after["tool"], **after["arguments"])
        assert list(dict.fromkeys(seen)) == ["confirm_fields", "find_offers", "create_instances", "wait_until_ready"]
        assert answer["instances"][0]["readiness"] == "gpu_ok"
