"""The Agent Skill over MCP (SEP-2640): each of its files as a resource, and its manifest with digests.

The files stand once: at the project's root, and in the wheel beside this package. They are read when first asked for.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcp.server.extension import Extension, MethodBinding, ResourceBinding
from mcp.server.mcpserver.resources import FunctionResource
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, PaginatedRequestParams, RequestParams
from mcp.types import Resource as ListedResource

if TYPE_CHECKING:
    from mcp.server.context import HandlerResult, ServerRequestContext

ROOT: Final = "skill://vastai-workflow"
URI: Final = f"{ROOT}/SKILL.md"
FILES: Final = (
    "SKILL.md",
    *(f"references/{name}.md" for name in ("api", "costs", "errors", "fleets", "ssh", "workflow")),
)
TTL_MS: Final = 3_600_000
"""The files change with the program, never while it runs."""

_PACKAGED: Final = Path(__file__).parents[1] / "skill"
_PROJECT: Final = Path(__file__).parents[3]
_WHEN: Final = "When to read this: "
_MODERN: Final = frozenset({"2026-07-28"})


class GetSkillParams(RequestParams):
    """`skills/get`: the URI of a skill's SKILL.md."""

    uri: str


class Skills(Extension):
    """One skill, listed whole; older clients read its files as ordinary resources."""

    identifier = "io.modelcontextprotocol/skills"

    def resources(self) -> Sequence[ResourceBinding]:
        """A resource for each file."""
        return [ResourceBinding(_resource(name)) for name in FILES]

    def methods(self) -> Sequence[MethodBinding]:
        """The two methods that a server of this extension must have."""
        return (
            MethodBinding("skills/list", PaginatedRequestParams, _list_skills, _MODERN),
            MethodBinding("skills/get", GetSkillParams, _get_skill, _MODERN),
        )


def described(listed: ListedResource) -> ListedResource:
    """A listed file of the skill with what its text says of itself; other resources as they are."""
    if listed.uri == URI:
        return listed.model_copy(update={"description": frontmatter()["description"]})
    if listed.uri.startswith(f"{ROOT}/"):
        text = content(listed.uri.removeprefix(f"{ROOT}/")).decode()
        when = next(line.removeprefix(_WHEN) for line in text.splitlines() if line.startswith(_WHEN))
        return listed.model_copy(update={"description": f"Read this {when}"})
    return listed


@cache
def content(name: str) -> bytes:
    """A file's bytes, as they are."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _PROJECT
    return (folder / name).read_bytes()


def frontmatter() -> dict[str, Any]:
    """SKILL.md's head, as JSON."""
    import yaml  # noqa: PLC0415 # only who asks for it pays

    return yaml.safe_load(content("SKILL.md").decode().split("---\n", 2)[1])


def entry() -> dict[str, Any]:
    """The skill as `skills/list` and `skills/get` tell it: its head, and every file with size and digest."""
    files = [
        {
            "uri": f"{ROOT}/{name}",
            "digest": f"sha256:{hashlib.sha256(content(name)).hexdigest()}",
            "size": len(content(name)),
        }
        for name in FILES
    ]
    return {"uri": URI, "frontmatter": frontmatter(), "resources": files}


def _resource(name: str) -> FunctionResource:
    def read() -> str:
        return content(name).decode()

    title = "vastai-workflow" if name == "SKILL.md" else name
    return FunctionResource(uri=f"{ROOT}/{name}", name=title, mime_type="text/markdown", fn=read)


async def _list_skills(_: "ServerRequestContext[Any, Any]", __: PaginatedRequestParams) -> "HandlerResult":
    return {"resultType": "complete", "skills": [entry()], "ttlMs": TTL_MS, "cacheScope": "public"}


async def _get_skill(_: "ServerRequestContext[Any, Any]", params: GetSkillParams) -> "HandlerResult":
    if params.uri != URI:
        raise MCPError(INVALID_PARAMS, f"got no skill of this server, allowed {URI}", {"uri": params.uri[:200]})
    return {"resultType": "complete", "skill": entry(), "ttlMs": TTL_MS, "cacheScope": "public"}
