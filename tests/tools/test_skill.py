"""The Agent Skill over MCP: its files as resources, and its manifest, in both protocol eras."""

import hashlib
import re
from typing import Any

import pytest
import yaml
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, Request, Result, TextResourceContents
from pydantic import ConfigDict

from tests.skill.rendered import PROJECT
from tests.stack import ERAS, Era, Stack, stack
from vastai_workflow.tools import skill

FILES = {
    path.relative_to(PROJECT).as_posix(): path.read_bytes()
    for path in (PROJECT / "SKILL.md", *sorted((PROJECT / "references").glob("*")))
}


class Answer(Result):
    """An extension's result: whatever it holds."""

    model_config = ConfigDict(extra="allow")


async def asked(s: Stack, method: str, **params: str) -> dict[str, Any]:
    request = Request[dict[str, str], str](method=method, params=params)
    return (await s.client.session.send_request(request, Answer)).model_dump(by_alias=True)


async def read(s: Stack, uri: str) -> str:
    [content] = (await s.client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    assert content.mime_type == "text/markdown"
    return content.text


@pytest.mark.requirement("RESOURCE-1")
@pytest.mark.parametrize("era", ERAS)
async def test_every_file_of_the_skill_is_a_resource_that_says_when_to_read_it(era: Era) -> None:
    async with stack(era=era) as s:
        listed = {item.uri: item for item in (await s.client.list_resources()).resources if "skill:" in item.uri}
        assert list(listed) == [f"skill://vastai-workflow/{name}" for name in FILES]
        for name, content in FILES.items():
            assert (await read(s, f"skill://vastai-workflow/{name}")).encode() == content
        descriptions = {uri: item.description or "" for uri, item in listed.items()}
        assert descriptions.pop(skill.URI).startswith("Rents cloud GPUs on Vast.ai")
        assert listed[skill.URI].name == "vastai-workflow"
        assert all(text.startswith("Read this ") and text.endswith(".") for text in descriptions.values())


@pytest.mark.requirement("RESOURCE-1")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("uri", ["skill://vastai-workflow/../pyproject.toml", "skill://other/SKILL.md"])
async def test_nothing_but_the_skill_is_served(era: Era, uri: str) -> None:
    async with stack(era=era) as s:
        with pytest.raises(MCPError) as refused:
            await s.client.read_resource(uri)
        assert refused.value.error.code == INVALID_PARAMS


@pytest.mark.requirement("RESOURCE-2")
async def test_the_skill_is_listed_with_its_head_and_a_digest_of_every_file() -> None:
    async with stack() as s:
        assert (s.client.server_capabilities.extensions or {})["io.modelcontextprotocol/skills"] == {}
        listed = await asked(s, "skills/list")
        assert (listed["resultType"], listed["cacheScope"], listed["ttlMs"]) == ("complete", "public", skill.TTL_MS)
        [entry] = listed["skills"]
        assert entry["uri"] == skill.URI
        assert entry["frontmatter"] == yaml.safe_load(FILES["SKILL.md"].decode().split("---\n", 2)[1])
        assert {item["uri"]: (item["digest"], item["size"]) for item in entry["resources"]} == {
            f"skill://vastai-workflow/{name}": (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
            for name, content in FILES.items()
        }
        got = await asked(s, "skills/get", uri=skill.URI)
        assert (got["skill"], got["resultType"], got["ttlMs"]) == (entry, "complete", skill.TTL_MS)


@pytest.mark.requirement("RESOURCE-2")
@pytest.mark.parametrize("uri", ["skill://vastai-workflow/references/api.md", "skill://other/SKILL.md", "x" * 5000])
async def test_what_is_no_skill_of_this_server_is_refused(uri: str) -> None:
    async with stack() as s:
        with pytest.raises(MCPError, match=f"allowed {re.escape(skill.URI)}") as refused:
            await asked(s, "skills/get", uri=uri)
        assert refused.value.error.code == INVALID_PARAMS
