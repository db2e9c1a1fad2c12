"""The server as a process on stdio: what it does before the first call (nothing), and what stdout carries (MCP)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.stack import ERAS, Era, text_of
from tests.tools.person import Person
from vastai_workflow.server import REFUSAL_META, TOOLS

TIMEOUT_S = 60
NO_ONE_LISTENS = "http://127.0.0.1:1"

WATCHED_SERVER = """
import os, sys
home = os.environ["HOME"]

def watch(event, arguments):
    outside = event in {"socket.connect", "socket.getaddrinfo", "socket.bind", "sqlite3.connect", "subprocess.Popen"}
    own_file = event in {"open", "os.mkdir", "os.listdir"} and str(arguments[0]).startswith(home)
    if outside or own_file:
        os.write(2, f"touched: {event} {arguments!r}\\n".encode())

sys.addaudithook(watch)
from vastai_workflow.cli import main
sys.exit(main([]))
"""
"""The server under an audit hook that tells each connection, database, process and file of the user on stderr."""

CLIENT = {"name": "tester", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
OPENING: dict[Era, list[dict[str, Any]]] = {
    "legacy": [
        {
            "id": 1,
            "method": "initialize",
            "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT},
        },
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
    ],
    "auto": [
        {"id": 1, "method": "server/discover", "params": {"_meta": META}},
        {"id": 2, "method": "tools/list", "params": {"_meta": META}},
    ],
}


def surroundings(folder: Path) -> dict[str, str]:
    """A key, a provider that nobody can reach, and a ledger that can't be made: its folder would be below a file."""
    (folder / "file").touch()
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "VAST_API_KEY": "0" * 64,
        "VAST_URL": NO_ONE_LISTENS,
        "VASTAI_WORKFLOW_STATE": str(folder / "file" / "state"),
    }


@pytest.mark.parametrize("era", ERAS)
def test_listing_tools_touches_no_network_and_no_file_and_stdout_carries_only_the_protocol(
    era: Era, tmp_path: Path
) -> None:
    messages = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in OPENING[era])
    with subprocess.Popen(  # noqa: S603 # this Python
        [sys.executable, "-c", WATCHED_SERVER],
        env=surroundings(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(messages)
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        rest, complaints = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, rest, complaints) == (0, "", "")
    assert [(answer["jsonrpc"], answer["id"]) for answer in answers] == [("2.0", 1), ("2.0", 2)]
    assert len(answers[1]["result"]["tools"]) == len(TOOLS)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_ledger_that_cannot_be_opened_is_a_refusal_of_the_call_and_not_the_end_of_the_server(
    era: Era, tmp_path: Path
) -> None:
    server = StdioServerParameters(command=sys.executable, args=["-m", "vastai_workflow"], env=surroundings(tmp_path))
    async with Client(server, mode=era) as client:
        for _ in range(2):
            refused = await client.call_tool("instance_status", {})
            assert refused.is_error
            assert "Not a directory" in text_of(refused)
            assert refused.meta is not None
            assert refused.meta[REFUSAL_META]["code"] == "store_unavailable"
        assert len((await client.list_tools()).tools) == len(TOOLS)


@pytest.mark.requirement("ASK-1")
@pytest.mark.parametrize("era", ERAS)
async def test_over_stdio_the_person_is_asked_and_their_no_and_yes_count(era: Era, tmp_path: Path) -> None:
    command = ["-m", "vastai_workflow", "serve", "--simulate", "--approval", "human"]
    server = StdioServerParameters(command=sys.executable, args=command, env=surroundings(tmp_path))
    person = Person("decline", "yes")
    async with Client(server, mode=era, elicitation_callback=person) as client:
        proposal = (await client.call_tool("propose_fields", {})).structured_content
        assert proposal is not None
        confirm = proposal["next_call"]
        no = await client.call_tool(confirm["tool"], confirm["arguments"])
        assert no.meta is not None
        assert no.meta[REFUSAL_META]["code"] == "declined"
        assert f"{sys.executable} -m vastai_workflow approve " in no.meta[REFUSAL_META]["ask_user"]
        yes = (await client.call_tool(confirm["tool"], confirm["arguments"])).structured_content
        assert yes is not None
        assert yes["confirmation"]["by"] == "you, asked by mcp"
        assert len(person.asked) == 2


def test_no_step_is_loaded_before_a_call_needs_it() -> None:
    code = (
        "import sys, types, vastai_workflow.server\n"
        "print(*[name for name, module in sys.modules.items()"
        " if name.startswith('vastai_workflow.steps.') and type(module) is types.ModuleType])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT_S)  # noqa: S603 # this Python
    assert done.stdout.split() == []
