"""`vastai-workflow simulate` as a process: one line that tells where it is, until SIGTERM."""

import argparse
import json
import subprocess
import sys

import httpx
import pytest

from vastai_workflow.cli import simulate


def parsed(*arguments: str) -> argparse.Namespace:
    """Arguments as the command reads them."""
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return parser.parse_args(arguments)


def test_it_says_where_it_is_and_stops_on_sigterm() -> None:
    command = [sys.executable, "-m", "vastai_workflow", "simulate", "--seed", "7", "--speed", "50"]
    with subprocess.Popen([*command, "--fault", "http_error:operation=user:nth=2"], stdout=subprocess.PIPE) as process:  # noqa: S603 - this Python
        assert process.stdout is not None
        greeting = json.loads(process.stdout.readline())
        with httpx.Client(
            base_url=greeting["url"], headers={"Authorization": f"Bearer {greeting['api_key']}"}, timeout=10
        ) as client:
            statuses = [client.get("/api/v0/users/current").status_code]
            client.post("/__sim__/advance", json={"seconds": 5})
            statuses.append(client.get("/api/v0/users/current").status_code)
        process.terminate()
        rest = process.stdout.read()

        assert process.wait(20) == 0
    assert set(greeting) == {"url", "api_key", "seed"}
    assert greeting["seed"] == 7
    assert statuses == [200, 502]
    assert rest == b""


def test_a_fault_that_cannot_be_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.run(parsed("--fault", "nonsense")) == 2
    assert "got the fault 'nonsense', allowed:" in capsys.readouterr().err


def test_all_faults_are_listed_with_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.run(parsed("--list-faults")) == 0
    assert "delay:seconds=150.0 (create): the call takes effect" in capsys.readouterr().out
