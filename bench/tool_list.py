"""What a model sees of the tool list: names, descriptions and input schemas, in tokens. 1 where the goal is missed."""

import asyncio
import sys
from typing import Any, Final

from mcp.client import Client
from mcp.types import Tool

from bench.tokens import compact, count
from vastai_workflow.server import build_server
from vastai_workflow.steps.deps import Deps

GOAL: Final = 2700


async def listed() -> list[Tool]:
    """The tools as a client gets them; listing opens nothing."""

    async def no_deps() -> Deps:
        raise AssertionError("listing tools needs nothing")

    async def nothing(_: Deps) -> None: ...

    async with Client(build_server(no_deps, nothing)) as client:
        return (await client.list_tools()).tools


def seen(tool: Tool) -> dict[str, Any]:
    """What hosts put before their model."""
    return {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}


def main() -> int:
    tools = asyncio.run(listed())
    for tool in tools:
        with_output = {**seen(tool), "output_schema": tool.output_schema}
        print(f"{tool.name:18} {count(compact(seen(tool))):5}  with output schema {count(compact(with_output)):5}")
    total = count(compact([seen(tool) for tool in tools]))
    whole = count(compact([tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in tools]))
    print(f"{len(tools)} tools: {total} tokens (goal: at most {GOAL}); all that is listed, output schemas too: {whole}")
    return 0 if total <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
