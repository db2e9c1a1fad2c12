"""LangChain's adapters over the Python SDK of the 1.x line: lists tools, is refused once, succeeds once.

The arguments are the server's command; prints one line of JSON. It runs in an environment of its own, whose packages
are not here.
"""
# pyright: basic, reportMissingImports=false

import asyncio
import json
import sys
from importlib.metadata import version

from langchain_core.tools import ToolException
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools


async def main() -> None:
    command, *arguments = sys.argv[1:]
    client = MultiServerMCPClient({"gpus": {"transport": "stdio", "command": command, "args": arguments}})
    async with client.session("gpus") as session:
        tools = {tool.name: tool for tool in await load_mcp_tools(session)}
        try:
            refusal = str(await tools["create_instances"].ainvoke({"workflow_id": "wf_none", "plan_id": "p_none"}))
        except ToolException as error:
            refusal = str(error)
        proposal = str(await tools["propose_fields"].ainvoke({"gpu_name": "RTX 4090", "disk_gb": 40}))
    sys.stdout.write(
        json.dumps({"sdk": version("mcp"), "tools": len(tools), "refusal": refusal, "proposal": proposal}) + "\n"
    )


asyncio.run(main())
