"""What a client declares decides whether it is sent a form: only those that can show one are, by the lines on stdio."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.stack import ERAS, Era
from vastai_workflow.server import REFUSAL_META

ME = {"name": "tester", "version": "1"}
ONLY_ADDRESSES: dict[str, Any] = {"elicitation": {"url": {}}}
VERSIONS: dict[Era, str] = {"legacy": "2025-11-25", "auto": "2026-07-28"}


@dataclass
class Client:
    """Speaks JSON-RPC itself, so that it can declare what no SDK declares. Asked, it declines."""

    process: subprocess.Popen[str]
    era: Era
    declares: dict[str, Any]
    asked: list[str] = field(default_factory=list[str])
    """Every question that it was sent, in whichever era's way."""

    def send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result."""
        if self.era == "auto":
            names = ("protocolVersion", VERSIONS[self.era]), ("clientInfo", ME), ("clientCapabilities", self.declares)
            params = {**params, "_meta": {f"io.modelcontextprotocol/{name}": value for name, value in names}}
        self.send(id=7, method=method, params=params)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("method") == "elicitation/create":
                self.asked.append(message["params"]["mode"])
                self.send(id=message["id"], result={"action": "decline"})
            elif message.get("id") == 7:
                self.asked += [item["params"]["mode"] for item in message["result"].get("inputRequests", {}).values()]
                return message["result"]
        raise AssertionError

    def call(self, tool: str, **given: Any) -> dict[str, Any]:
        """A tool's result."""
        return self.request("tools/call", {"name": tool, "arguments": given})

    def proposed(self) -> dict[str, Any]:
        """A proposal."""
        return self.call("propose_fields")["structuredContent"]


@contextmanager
def client(folder: Path, era: Era, declares: dict[str, Any], *options: str) -> Generator[Client]:
    """In front of a real server on a simulated market."""
    with subprocess.Popen(  # noqa: S603 # this Python
        [sys.executable, "-m", "vastai_workflow", "serve", "--simulate", *options],
        env={"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        it = Client(process, era, declares)
        if era == "legacy":
            hello = {"protocolVersion": VERSIONS[era], "capabilities": declares, "clientInfo": ME}
            it.request("initialize", hello)
            it.send(method="notifications/initialized")
        yield it
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.requirement("ASK-7")
@pytest.mark.parametrize("era", ERAS)
def test_a_client_that_only_opens_addresses_is_sent_no_form_and_its_agent_asks(tmp_path: Path, era: Era) -> None:
    with client(tmp_path, era, ONLY_ADDRESSES) as it:
        proposal = it.proposed()
        assert proposal["questions"][0].startswith("Rent 1 machine (RTX 4090)")
        told = it.call("confirm_fields", workflow_id=proposal["workflow_id"], digest=proposal["digest"])
        assert told["structuredContent"]["confirmation"]["by"] == "relayed by tester"
        assert it.asked == []


@pytest.mark.requirement("ASK-7")
@pytest.mark.parametrize("era", ERAS)
def test_where_only_a_persons_yes_counts_such_a_client_is_told_their_command(tmp_path: Path, era: Era) -> None:
    with client(tmp_path, era, ONLY_ADDRESSES, "--approval", "human") as it:
        proposal = it.proposed()
        assert " approve " in proposal["questions"][0]
        told = it.call("confirm_fields", workflow_id=proposal["workflow_id"], digest=proposal["digest"])
        assert told["_meta"][REFUSAL_META]["code"] == "person_needed"
        assert " approve " in told["_meta"][REFUSAL_META]["ask_user"]
        assert it.asked == []


@pytest.mark.requirement("ASK-7")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("modes", [{}, {"form": {}, "url": {}}], ids=["none named", "both"])
def test_a_client_that_shows_forms_is_sent_one_also_when_it_names_no_mode(
    tmp_path: Path, era: Era, modes: dict[str, Any]
) -> None:
    with client(tmp_path, era, {"elicitation": modes}) as it:
        proposal = it.proposed()
        assert proposal["questions"] == []
        it.call("confirm_fields", workflow_id=proposal["workflow_id"], digest=proposal["digest"])
        assert it.asked == ["form"]
