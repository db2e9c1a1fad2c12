"""The Inspector's command line reads and drives the server in both protocol eras, and finds nothing to mend."""

import json
import sys
from typing import Any

import pytest

from tests.interop.node import NodePackages
from vastai_workflow.server import TOOLS

pytestmark = pytest.mark.interop
in_both_eras = pytest.mark.parametrize("era", ["legacy", "modern"])

SERVER = (sys.executable, "-m", "vastai_workflow", "serve", "--simulate")
TOOL_ERROR = 5


def inspect(node: NodePackages, era: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, result and what else was said."""
    done = node.run("mcp-inspector", "--cli", *SERVER, *arguments, "--protocol-era", era, "--format", "json")
    return done.returncode, json.loads(done.stdout)["result"], done.stderr


@in_both_eras
def test_the_strict_look_at_the_tools_finds_nothing(node: NodePackages, era: str) -> None:
    code, result, complaints = inspect(node, era, "--method", "tools/list", "--strict")
    assert (code, complaints.strip()) == (0, "")
    assert len(result["tools"]) == len(TOOLS)


@in_both_eras
def test_a_proposal_is_made(node: NodePackages, era: str) -> None:
    call = ("--method", "tools/call", "--tool-name", "propose_fields", "--tool-arg", "gpu_name=RTX 4090")
    code, result, _ = inspect(node, era, *call)
    assert code == 0
    assert result["structuredContent"]["questions"][0].startswith("Rent 1 machine (RTX 4090)")
    assert "Ask the user: Rent 1 machine" in result["content"][0]["text"]


@in_both_eras
def test_a_create_before_anything_was_agreed_is_a_tool_error_with_its_sentence(node: NodePackages, era: str) -> None:
    arguments = ("--tool-args-json", json.dumps({"workflow_id": "wf_none", "plan_id": "p_none"}))
    code, result, _ = inspect(node, era, "--method", "tools/call", "--tool-name", "create_instances", *arguments)
    assert code == TOOL_ERROR
    assert result["isError"] is True
    assert "structuredContent" not in result
    sentence, data = (block["text"] for block in result["content"])
    assert "call propose_fields" in sentence
    assert json.loads(data) == result["_meta"]["vastai-workflow/refusal"]


def test_every_file_of_the_skill_is_what_its_digest_says(node: NodePackages) -> None:
    verify = ("--method", "skills/list", "--verify", "--require-digests", "--protocol-era", "modern")
    done = node.run("mcp-inspector", "--cli", *SERVER, *verify)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verified 1 skill and 7 files: no conformance errors." in done.stdout + done.stderr
