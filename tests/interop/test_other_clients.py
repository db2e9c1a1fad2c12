"""Clients that are not the Python SDK of today: the TypeScript one, and LangChain's adapters on the 1.x SDK."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.node import TIMEOUT_S, NodePackages
from tests.interop.official import environment_with
from vastai_workflow.server import TOOLS

pytestmark = pytest.mark.interop

DATA = Path(__file__).with_name("data")
SERVER = (sys.executable, "-m", "vastai_workflow", "serve", "--simulate", "--speed", "60")


@pytest.mark.parametrize(("era", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
def test_the_typescript_client_does_the_main_job(node: NodePackages, era: str, version: str) -> None:
    shutil.copy(DATA / "main_job.mjs", node.place)
    done = node.run("node", "main_job.mjs", era, *SERVER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {
        "version": version,
        "tools": len(TOOLS),
        "refused": "not_confirmed",
        "readiness": "gpu_ok",
        "final_state": "gone",
    }


@pytest.mark.requirement("ASK-1")
@pytest.mark.parametrize(("era", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
def test_the_typescript_client_asks_its_user(node: NodePackages, era: str, version: str) -> None:
    shutil.copy(DATA / "asked_job.mjs", node.place)
    done = node.run("node", "asked_job.mjs", era, *SERVER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {
        "version": version,
        "questions": [],
        "noes": ["declined", "wrong_answer"],
        "asked": 3,
        "first": "Rent 1 machine (RTX 4090) with pytorch/pytorch:latest, 64 GB disk",
        "agreed_by": "you, asked by typescript-client",
        "final_state": "gone",
    }


def test_langchain_on_the_old_sdk_is_refused_and_succeeds(tmp_path: Path) -> None:
    programs = environment_with(tmp_path / "venv", "langchain-mcp-adapters==0.3.2", "mcp<2")
    command = [str(programs / "python"), str(DATA / "old_client.py"), *SERVER]
    done = subprocess.run(  # noqa: S603 # the Python just made
        command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env={"HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["sdk"].startswith("1.")
    assert outcome["tools"] == len(TOOLS)
    assert "call propose_fields to start one" in outcome["refusal"]
    assert "workflow_unknown" in outcome["refusal"]
    assert "Ask the user: Rent 1 machine (RTX 4090)" in outcome["proposal"]
