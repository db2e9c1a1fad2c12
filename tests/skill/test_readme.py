import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.skill.rendered import PROJECT
from vastai_workflow import settings
from vastai_workflow.domain import caps
from vastai_workflow.vast.endpoints import ENDPOINTS

README = (PROJECT / "README.md").read_text("utf-8")
DOCUMENTS = [*PROJECT.glob("*.md"), *(PROJECT / "references").glob("*.md")]
PATH = "/path/to/vastai-workflow"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n#")[0]


def test_the_two_commands_are_those_that_a_fresh_machine_needs() -> None:
    venv = "python3 -m venv .venv && .venv/bin/pip install -q"
    assert f"{venv} . && .venv/bin/vastai-workflow demo\n" in blocks("sh")
    assert f"{venv} -e '.[test]' && .venv/bin/pytest\n" in blocks("sh")


@pytest.mark.parametrize("text", blocks("json"), ids=range(len(blocks("json"))))
def test_a_clients_configuration_starts_the_server_and_has_a_trial(text: str) -> None:
    configuration = json.loads(text)
    servers = configuration.get("mcpServers") or configuration["servers"]
    assert servers["vastai-workflow"]["command"] == PATH
    assert set(servers["vastai-workflow"]["env"]) == {"VAST_API_KEY"}
    trial = servers["vastai-workflow-trial"]
    assert (trial["command"], trial["args"], trial.get("env")) == (PATH, ["--simulate"], None)


def test_codex_reads_its_table() -> None:
    (text,) = blocks("toml")
    server = tomllib.loads(text)["mcp_servers"]["vastai-workflow"]
    assert server == {"command": PATH, "env": {"VAST_API_KEY": "..."}}


@pytest.mark.parametrize("client", ["Claude Code", "Claude Desktop", "Cursor", "VS Code", "Codex", "Gemini CLI"])
def test_every_client_has_its_place(client: str) -> None:
    assert re.search(rf"^### .*{client}", README, re.MULTILINE)


def test_every_variable_of_the_environment_is_told_and_no_other() -> None:
    modules = (settings, caps)
    known = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, str) and re.fullmatch(r"VAST(AI_WORKFLOW)?_[A-Z_]*[A-Z]", value)
    }
    told = set(re.findall(r"^\| `(VAST[A-Z_]+)` \|", README, re.MULTILINE))
    assert told == known | {"VAST_API_KEY"}


def test_the_permissions_of_a_key_are_those_that_the_calls_need() -> None:
    told = set(re.findall(r"`(\w+)`", section("Give it your key").partition("Then choose")[0]))
    assert told == {one.scope for one in ENDPOINTS if one.scope}


def test_the_gate_is_told_in_ten_lines() -> None:
    assert re.findall(r"^(\d+)\. ", section("How the gate works"), re.MULTILINE) == [str(n) for n in range(1, 11)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []
