"""The official client and this server on one market: each sees what the other did, and they agree on the end."""

import os
import shlex
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio import run_process
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.interop.official import OfficialCli, Simulator
from tests.stack import text_of
from vastai_workflow.server import REFUSAL_META

pytestmark = pytest.mark.interop


class Agent:
    """A client of `vastai-workflow serve`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a call that has to succeed."""
        result = await self._client.call_tool(tool, arguments)
        assert not result.is_error, text_of(result)
        assert result.structured_content is not None
        return result.structured_content

    async def refusal(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The refusal of a call that has to be refused."""
        result = await self._client.call_tool(tool, arguments)
        assert result.is_error, text_of(result)
        assert result.meta is not None
        return result.meta[REFUSAL_META]

    async def rented(self) -> dict[str, Any]:
        """One RTX 4090, ready, as wait_until_ready tells it; running machines are acknowledged."""
        proposal = await self.call("propose_fields", gpu_name="RTX 4090")
        workflow = {"workflow_id": proposal["workflow_id"]}
        await self.call("confirm_fields", **workflow, digest=proposal["digest"])
        plan = await self.call("find_offers", **workflow)
        await self.call("create_instances", **workflow, plan_id=plan["plan_id"])
        waited = await self.call("wait_until_ready", **workflow)
        while waited["next_call"] is not None:
            waited = await self.call("wait_until_ready", **workflow)
        machine: dict[str, Any]
        (machine,) = waited["instances"]
        assert machine["readiness"] == "gpu_ok"
        return machine


@asynccontextmanager
async def serving(simulator: Simulator, home: Path) -> AsyncGenerator[Agent]:
    """The real server on stdio, on the same account and market as the official client."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(home),
        "VAST_URL": simulator.url,
        "VAST_API_KEY": simulator.api_key,
        "VASTAI_WORKFLOW_STATE": str(home / "state"),
    }
    server = StdioServerParameters(command=sys.executable, args=["-m", "vastai_workflow", "serve"], env=environment)
    async with Client(server) as client:
        yield Agent(client)


def shown(cli: OfficialCli, simulator: Simulator) -> list[dict[str, Any]]:
    """The account's machines as the official client lists them."""
    return cli.run(simulator, "show", "instances", "--raw").json


async def test_what_this_server_rents_the_official_client_shows_and_both_see_its_end(
    official_cli: OfficialCli, simulator: Simulator, tmp_path: Path
) -> None:
    before = {row["id"] for row in shown(official_cli, simulator)}
    async with serving(simulator, tmp_path) as agent:
        machine = await agent.rented()
        ssh, number = machine["ssh"], machine["instance_id"]

        (row,) = [row for row in shown(official_cli, simulator) if row["id"] not in before]
        assert (row["id"], row["label"], row["actual_status"]) == (number, machine["label"], "running")
        address = official_cli.run(simulator, "ssh-url", str(number)).stdout.strip()
        assert address == f"ssh://root@{ssh['host']}:{ssh['port']}"

        options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        program, *arguments = shlex.split(ssh["command"])
        login = await run_process(
            [program, *options, *arguments, "nvidia-smi -L"], check=False, stdin=subprocess.DEVNULL
        )
        assert "RTX 4090" in login.stdout.decode(), login.stderr

        ended = await agent.call("destroy_instances", instance_ids=[number])
        assert [(end["instance_id"], end["final_state"]) for end in ended["instances"]] == [(number, "gone")]
        assert {row["id"] for row in shown(official_cli, simulator)} == before


async def test_what_the_official_client_rents_is_not_ours_and_needs_a_yes_of_its_own(
    official_cli: OfficialCli, simulator: Simulator, tmp_path: Path
) -> None:
    query = ("search", "offers", "gpu_name=RTX_3090 num_gpus=1", "-o", "dph", "--limit", "1", "--raw")
    (offer,) = official_cli.run(simulator, *query).json
    order = ("--image", "pytorch/pytorch:latest", "--disk", "20", "--ssh", "--direct", "--label", "mine", "--raw")
    number = official_cli.run(simulator, "create", "instance", str(offer["id"]), *order).json["new_contract"]

    async with serving(simulator, tmp_path) as agent:
        proposal = await agent.call("propose_fields", gpu_name="RTX 4090")
        (foreign,) = [row for row in proposal["active"] if row["instance_id"] == number]
        assert (foreign["label"], foreign["ours"]) == ("mine", False)
        assert str(number) in proposal["questions"][-1]

        refusal = await agent.refusal("destroy_instances", instance_ids=[number])
        assert refusal["next_call"]["tool"] == "confirm_fields"
        assert number in [row["id"] for row in shown(official_cli, simulator)]

        own = (await agent.rented())["instance_id"]
        assert {number, own} <= {row["id"] for row in shown(official_cli, simulator)}
        ended = await agent.call("destroy_instances", instance_ids=[own])
        assert ended["instances"][0]["final_state"] == "gone"
        left = [row["id"] for row in shown(official_cli, simulator)]
        assert number in left
        assert own not in left

        official_cli.run(simulator, "destroy", "instance", str(number), "-y")
        assert number not in [row["id"] for row in shown(official_cli, simulator)]
        preflight = await agent.call("preflight")
        assert number not in [row["instance_id"] for row in preflight["active"]]
