"""The same create in five clients, each on a new market: `python -m tests.interop.transcripts` prints what was said.

Four can ask their user. The Inspector's command line can't: there the user runs `approve CODE` on a terminal.
"""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Final, Literal

import httpx
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import Implementation

from tests.cli.terminal import typed
from tests.interop.node import NodePackages
from tests.interop.official import Simulator, simulating
from tests.tools.person import Person, named_in

KEPT: Final = Path("build/transcripts")
TAP: Final = Path(__file__).with_name("tap.py")
JOB: Final = Path(__file__).with_name("data") / "create_job.mjs"
PROGRAM: Final = (sys.executable, "-m", "vastai_workflow")
FIRST: Final[Mapping[str, Any]] = {"tool": "propose_fields", "arguments": {"gpu_name": "RTX 4090"}}
LAST: Final = "create_instances"

_APPROVE: Final = re.compile(r"`(.+? approve \w{8}.*?)`")
_WIDTH: Final = 110
_VERSION: Final = "io.modelcontextprotocol/protocolVersion"


@dataclass(frozen=True)
class Desk:
    """What each client gets new: a market, a ledger, and a server whose every line is kept."""

    simulator: Simulator
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The server's."""
        return {
            "HOME": str(self.home),
            "VAST_URL": self.simulator.url,
            "VAST_API_KEY": self.simulator.api_key,
            "VASTAI_WORKFLOW_STATE": str(self.home / "state"),
        }

    @property
    def log(self) -> Path:
        """What was said, in order."""
        return self.home / "said"

    def server(self, *options: str) -> tuple[str, ...]:
        """The server's command, whole: clients hand on little of their own environment."""
        settings = (f"{name}={value}" for name, value in self.environment.items())
        return ("env", *settings, sys.executable, str(TAP), str(self.log), *PROGRAM, "serve", *options)

    def machines(self) -> list[dict[str, Any]]:
        """What runs, as the market itself says."""
        headers = {"Authorization": f"Bearer {self.simulator.api_key}"}
        answer = httpx.get(f"{self.simulator.url}/api/v1/instances/", headers=headers)
        return answer.raise_for_status().json()["instances"]

    def trail(self, *options: str) -> str:
        """What `log` says."""
        done = subprocess.run(  # noqa: S603 # this Python
            [*PROGRAM, "log", *options], env=self.environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def agreed_by(self) -> list[str]:
        """Whose yes to rent is on record."""
        events = map(json.loads, self.trail("--json").splitlines())
        return [item["by"] for item in events if (item["kind"], item["purpose"]) == ("confirmed", "rent")]


@contextmanager
def desk() -> Generator[Desk]:
    """A new one."""
    with tempfile.TemporaryDirectory() as home, simulating("--speed", "60") as simulator:
        yield Desk(simulator, Path(home))


async def in_python(at: Desk, _: NodePackages, mode: Literal["auto", "legacy"]) -> None:
    """The Python SDK, whose user types what the question names."""
    command, *arguments = at.server()
    server = StdioServerParameters(command=command, args=arguments)
    me = Implementation(name="python-client", version="2.3.0")
    async with Client(server, mode=mode, elicitation_callback=Person(), client_info=me) as client:
        call, called = FIRST, ""
        while called != LAST:
            called = call["tool"]
            result = await client.call_tool(called, call["arguments"])
            assert result.structured_content is not None, result
            call = result.structured_content["next_call"]
        await client.call_tool("instance_status", {})


async def in_typescript(at: Desk, node: NodePackages, mode: Literal["auto", "legacy"]) -> None:
    """The TypeScript SDK, the same."""
    shutil.copy(JOB, node.place)
    done = await asyncio.to_thread(node.run, "node", JOB.name, mode, *at.server())
    assert done.returncode == 0, done.stderr


async def in_the_inspector(at: Desk, node: NodePackages, mode: Literal["auto", "legacy"]) -> None:
    """The Inspector's command line, one server a call; its user answers on a terminal where they are told to."""

    async def called(tool: str, given: Mapping[str, Any]) -> dict[str, Any]:
        words = ("--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(given))
        server = at.server("--approval", "human")
        done = await asyncio.to_thread(
            node.run, "mcp-inspector", "--cli", *server, *words, "--protocol-era", mode, "--format", "json"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["result"]["structuredContent"]

    call, tool = FIRST, ""
    while tool != LAST:
        tool = call["tool"]
        result = await called(tool, call["arguments"])
        for question in result.get("questions", ()):
            await asyncio.to_thread(_on_a_terminal, at, question)
        call = result["next_call"]
    await called("instance_status", {})


def _on_a_terminal(at: Desk, question: str) -> None:
    """The user runs the command that their agent passed on, and types the price limit that it shows."""
    found = _APPROVE.search(question)
    assert found is not None, question
    [limit] = re.findall(r"never above \$([\d.]+)/h each", question)
    code, screen = typed(shlex.split(found[1]), limit, at.environment)
    assert code == 0, screen
    assert named_in(screen) == limit
    with at.log.open("a") as log:
        log.write(f"terminal\t{json.dumps({'screen': screen})}\n")


@dataclass(frozen=True)
class Case:
    """A client: its name, how it does the job, and whose yes has to be on record."""

    title: str
    job: Callable[[Desk, NodePackages, Literal["auto", "legacy"]], Awaitable[None]]
    mode: Literal["auto", "legacy"]
    version: str
    yes: str


_NEW, _OLD = "2026-07-28", "2025-11-25"
CASES: Final[Mapping[str, Case]] = {
    "python-modern": Case("Python SDK 2.3.0", in_python, "auto", _NEW, "you, asked by python-client"),
    "python-legacy": Case("Python SDK 2.3.0, legacy", in_python, "legacy", _OLD, "you, asked by python-client"),
    "typescript-legacy": Case(
        "TypeScript SDK 2.4.0, legacy", in_typescript, "legacy", _OLD, "you, asked by typescript-client"
    ),
    "typescript-auto": Case(
        "TypeScript SDK 2.4.0, auto", in_typescript, "auto", _NEW, "you, asked by typescript-client"
    ),
    "inspector": Case(
        "Inspector 2.12.0, which can't ask its user; --approval human",
        in_the_inspector,
        "legacy",
        _OLD,
        "you, on the terminal",
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a create: the versions spoken, whose yes is on record, the machines, and all of it in words."""

    versions: set[str]
    agreed_by: list[str]
    machines: list[dict[str, Any]]
    transcript: str


async def outcome_of(case: Case, node: NodePackages) -> Outcome:
    """Do the job, and look at the market and at the record."""
    with desk() as at:
        await case.job(at, node, case.mode)
        said = [(who, json.loads(line)) for who, line in map(_split, at.log.read_text().splitlines())]
        versions, machines = set(_versions(said)), at.machines()
        ids = ", ".join(f"{row['id']} ({row['actual_status']})" for row in machines)
        lines = [
            f"{case.title}, protocol {', '.join(sorted(versions))}",
            "",
            *(line for who, text in _turns(said) for line in _laid_out(who, text)),
            "",
            f"On the market: {len(machines)} machine{'s' * (len(machines) != 1)}: {ids}",
            f"On record:\n{at.trail()}",
        ]
        return Outcome(versions, at.agreed_by(), machines, "\n".join(lines))


def _split(line: str) -> tuple[str, str]:
    who, _, message = line.partition("\t")
    return who, message


def _versions(said: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """Of each handshake of the old era, and of each call of the new one."""
    for _, message in said:
        if "protocolVersion" in message.get("result", {}):
            yield message["result"]["protocolVersion"]
        elif message.get("method") == "tools/call" and (meta := message["params"].get("_meta", {})).get(_VERSION):
            yield meta[_VERSION]


def _turns(said: list[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, str]]:
    """Who said what, of all that a person or an agent sees."""
    for who, message in said:
        params, result = message.get("params", {}), message.get("result", {})
        if who == "terminal":
            yield "terminal", message["screen"].strip()
        elif message.get("method") == "tools/call" and "inputResponses" not in params:
            given = ", ".join(f"{name}={value!r}" for name, value in params.get("arguments", {}).items())
            yield "agent", f"{params['name']}({given})"
        for asked in (message, *result.get("inputRequests", {}).values()):
            if asked.get("method") == "elicitation/create":
                yield "question", asked["params"]["message"]
        for reply in (result, *params.get("inputResponses", {}).values()):
            if "action" in reply:
                yield "person", f"{reply['action']}, {json.dumps(reply.get('content'))}"
        if "content" in result and "action" not in result:
            yield "server", result["content"][0]["text"]


def _laid_out(who: str, text: str) -> Iterator[str]:
    for line in text.splitlines():
        for part in wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False):
            yield f"{who:9} {part}"
            who = ""


def main() -> int:
    """Print all of them."""
    with tempfile.TemporaryDirectory() as place:
        node = NodePackages.installed(Path(place))
        for case in CASES.values():
            sys.stdout.write(f"{asyncio.run(outcome_of(case, node)).transcript}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
