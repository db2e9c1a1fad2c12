"""The main job in tokens of results: this server's five calls, and the same job with the official client's `--raw`.

A result counts by the longer of its text and its structured content, since some hosts show their model only one of
them. Repeated waits are not counted, on neither side. 1 where the goal is missed.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult
from tests.interop.official import Simulator, installed, simulating

from bench.tokens import compact, count

GOAL: Final = 1500
SPEED: Final = "30"
CLI_OFFERS: Final = ("search", "offers", "gpu_name=RTX_4090 num_gpus=1 verified=true", "-o", "dph", "--storage", "64")


def tokens_of(result: CallToolResult) -> int:
    """What a host shows its model."""
    texts = [block.text for block in result.content if block.type == "text"]
    return max(count("\n".join(texts)), count(compact(result.structured_content)))


async def with_this_server(simulator: Simulator, place: Path) -> dict[str, int]:
    """Propose, confirm, find, create, wait; then the machine is given back."""
    environment = {
        "VAST_URL": simulator.url,
        "VAST_API_KEY": simulator.api_key,
        "VASTAI_WORKFLOW_STATE": str(place / "state"),
        "HOME": str(place),
    }
    server = StdioServerParameters(command=sys.executable, args=["-m", "vastai_workflow"], env=environment)
    taken: dict[str, int] = {}
    async with Client(server) as client:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(tool, arguments)
            if result.is_error or result.structured_content is None:
                raise SystemExit(f"{tool} was refused: {result.content}")
            taken[tool] = tokens_of(result)
            return result.structured_content

        proposal = await call("propose_fields", gpu_name="RTX 4090")
        workflow = {"workflow_id": proposal["workflow_id"]}
        await call("confirm_fields", **workflow, digest=proposal["digest"])
        plan = await call("find_offers", **workflow)
        made = await call("create_instances", **workflow, plan_id=plan["plan_id"])
        waited = await call("wait_until_ready", **workflow)
        while waited["next_call"] and waited["next_call"]["tool"] == "wait_until_ready":
            waited = await call("wait_until_ready", **workflow)
        if [machine["readiness"] for machine in waited["instances"]] != ["gpu_ok"]:
            raise SystemExit(f"not ready: {waited}")
        await client.call_tool("destroy_instances", {"instance_ids": [made["orders"][0]["instance_id"]]})
    return taken


def with_the_official_client(simulator: Simulator, place: Path) -> dict[str, int]:
    """What an agent reads that does the same by hand."""
    vastai = installed(place)
    taken: dict[str, int] = {}

    def run(name: str, *arguments: str) -> Any:
        output = vastai.run(simulator, *arguments, "--raw")
        taken[name] = count(output.stdout + output.stderr)
        return output.json if output.stdout.lstrip().startswith(("{", "[")) else output.stdout

    run("show user", "show", "user")
    run("show instances", "show", "instances")
    run("search offers (all of them)", *CLI_OFFERS)
    offers = run("search offers --limit 3", *CLI_OFFERS, "--limit", "3")
    order = ("--image", "pytorch/pytorch:latest", "--disk", "64", "--ssh", "--direct")
    made = run("create instance", "create", "instance", str(offers[0]["id"]), *order)
    machine = str(made["new_contract"])
    while run("show instance", "show", "instance", machine)["actual_status"] != "running":
        time.sleep(1)
    run("ssh-url", "ssh-url", machine)
    vastai.run(simulator, "destroy", "instance", machine, "-y")
    return taken


def both() -> tuple[dict[str, int], dict[str, int]]:
    with tempfile.TemporaryDirectory() as folder, simulating("--speed", SPEED) as simulator:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        ours.mkdir()
        theirs.mkdir()
        return asyncio.run(with_this_server(simulator, ours)), with_the_official_client(simulator, theirs)


def main() -> int:
    ours, theirs = both()
    for name, tokens in ours.items():
        print(f"{name:28} {tokens:6}")
    total = sum(ours.values())
    print(f"{len(ours)} calls of this server: {total} tokens (goal: at most {GOAL})")
    for name, tokens in theirs.items():
        print(f"{name:28} {tokens:6}")
    everything = theirs.pop("search offers (all of them)")
    frugal = sum(theirs.values())
    verbose = frugal - theirs["search offers --limit 3"] + everything
    print(f"{len(theirs)} calls of the official client: {frugal} tokens, {frugal / total:.1f} x this server")
    print(f"with every offer that fits: {verbose} tokens, {verbose / total:.1f} x this server")
    return 0 if total <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
