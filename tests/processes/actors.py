"""Real processes: the simulated market, and the server on stdio, driven over its pipes so that it can be killed."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from vastai_workflow.server import REFUSAL_META

PATIENCE_S = 120.0
"""No answer takes this long; a process that is silent for longer has failed."""
_LONGEST_LINE = 2**22
_GREETING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tester", "version": "1"}}


class KilledError(Exception):
    """The server ended before it answered."""


class RefusedError(Exception):
    """The server refused a call; `code` says why."""

    def __init__(self, refusal: dict[str, Any]) -> None:
        super().__init__(f"{refusal['code']}: {refusal['message']}")
        self.code: str = refusal["code"]
        self.next_call: dict[str, Any] | None = refusal["next_call"]


@dataclass
class Market:
    """A `vastai-workflow simulate` process, seen from outside."""

    url: str
    api_key: str
    http: httpx.AsyncClient

    async def machines(self) -> list[dict[str, Any]]:
        """What the market bills now, whatever anybody believes."""
        state = (await self.http.get("/__sim__/state")).json()
        return [row for row in state["instances"] if row["account_id"] == state["accounts"][0]["id"]]

    async def requests(self) -> dict[str, int]:
        """How often each operation was asked for."""
        return (await self.http.get("/__sim__/state")).json()["requests"]

    async def advance(self, seconds: float) -> None:
        """Let the market's time pass."""
        (await self.http.post("/__sim__/advance", json={"seconds": seconds})).raise_for_status()

    async def arm(self, name: str, **settings: Any) -> None:
        """Schedule a fault from now on."""
        (await self.http.post("/__sim__/fault", json={"name": name, **settings})).raise_for_status()


@asynccontextmanager
async def market(seed: int = 1, offers: int = 60) -> AsyncGenerator[Market]:
    """A market process on a loopback port, without SSH hosts."""
    arguments = ["simulate", "--seed", str(seed), "--offers", str(offers), "--no-ssh"]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "vastai_workflow", *arguments, stdout=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            greeting = json.loads(await process.stdout.readline())
        once = httpx.Limits(max_keepalive_connections=0)  # the market closes idle connections just when it wants
        async with httpx.AsyncClient(base_url=greeting["url"], timeout=PATIENCE_S, limits=once) as http:
            yield Market(greeting["url"], greeting["api_key"], http)
    finally:
        process.terminate()
        await process.wait()


@dataclass
class Server:
    """A `vastai-workflow serve` process. Calls may overlap; its end fails those that are open."""

    process: Process
    waiting: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict[int, Any])
    listening: asyncio.Task[None] | None = None
    last_id: int = 0
    killed: bool = False

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer; RefusedError, or KilledError where the process ended first."""
        async with asyncio.timeout(PATIENCE_S):
            result = await self.ask("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            assert REFUSAL_META in result.get("_meta", {}), result
            raise RefusedError(result["_meta"][REFUSAL_META])
        return result["structuredContent"]

    async def planned(self, **fields: Any) -> dict[str, Any]:
        """The arguments of a create that the user agreed to."""
        proposal = await self.call("propose_fields", **fields)
        workflow_id = proposal["workflow_id"]
        await self.call("confirm_fields", workflow_id=workflow_id, digest=proposal["digest"])
        plan = await self.call("find_offers", workflow_id=workflow_id)
        return {"workflow_id": workflow_id, "plan_id": plan["plan_id"]}

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One request of the protocol; its result."""
        self.last_id += 1
        answer = self.waiting[self.last_id] = asyncio.get_running_loop().create_future()
        self.tell(method, params, id=self.last_id)
        return await answer

    def tell(self, method: str, params: dict[str, Any], **more: Any) -> None:
        """Write one message."""
        assert self.process.stdin is not None
        message = {"jsonrpc": "2.0", "method": method, "params": params, **more}
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def listen(self) -> None:
        """Hand the answers to those who wait, until the process ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            message = json.loads(line)
            waiter = self.waiting.pop(message.get("id"), None)
            if waiter is not None and not waiter.done():
                waiter.set_result(message.get("result") or {"isError": True, **message})
        for waiter in self.waiting.values():
            if not waiter.done():
                waiter.set_exception(KilledError())

    def kill(self) -> None:
        """End it with SIGKILL, at once."""
        if not self.killed:  # a second signal would reap it under asyncio's nose
            self.killed = True
            with suppress(ProcessLookupError):  # it ended by itself
                self.process.kill()

    async def stop(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        await self.process.wait()
        if self.listening is not None:
            await self.listening


async def started(folder: Path, where: Market) -> Server:
    """A server process with its ledger in a folder, ready for calls; stop it."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder.parent),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "VAST_API_KEY": where.api_key,
        "VAST_URL": where.url,
        "VASTAI_WORKFLOW_STATE": str(folder),
    }
    command = (sys.executable, "-m", "vastai_workflow", "serve")
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=PIPE, stdout=PIPE, limit=_LONGEST_LINE
    )
    running = Server(process)
    running.listening = asyncio.create_task(running.listen())
    async with asyncio.timeout(PATIENCE_S):
        await running.ask("initialize", _GREETING)
    running.tell("notifications/initialized", {})
    return running


@asynccontextmanager
async def server(folder: Path, where: Market) -> AsyncGenerator[Server]:
    """The same, killed at the end."""
    running = await started(folder, where)
    try:
        yield running
    finally:
        await running.stop()
