"""The commands as processes: exit codes, what they print, and that SIGTERM ends them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vastai_workflow.cli import main

COMMAND = (sys.executable, "-m", "vastai_workflow")
TIMEOUT_S = 60


def run(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command with a home of its own and nothing of this machine's environment."""
    return subprocess.run(  # noqa: S603 # this Python
        [*COMMAND, *arguments],
        env={"PATH": os.defpath, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def market() -> Iterator[dict[str, str]]:
    """`simulate` as a process of its own: the first line says where it is, SIGTERM ends it with 0."""
    command = [*COMMAND, "simulate", "--seed", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 # this Python
        assert process.stdout is not None
        greeting = json.loads(process.stdout.readline())
        assert greeting["seed"] == 3
        yield {"VAST_URL": greeting["url"], "VAST_API_KEY": greeting["api_key"]}
        process.send_signal(signal.SIGTERM)
        rest, complaints = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, rest, complaints) == (0, "", "")


def test_a_folder_that_a_simulated_market_would_not_use_is_refused(tmp_path: Path) -> None:
    done = run("serve", "--simulate", "--store", str(tmp_path / "state"), home=tmp_path)
    assert done.returncode == 2
    assert "--store" in done.stderr
    assert "--simulate" in done.stderr
    assert not (tmp_path / "state").exists()


def test_doctor_finds_a_good_set_up_good(market: dict[str, str], tmp_path: Path) -> None:
    done = run("doctor", home=tmp_path, VASTAI_WORKFLOW_STATE=str(tmp_path / "state"), **market)
    assert done.returncode == 0, done.stdout + done.stderr
    heads = [line.split(": ", 1)[0] for line in done.stdout.splitlines()]
    assert heads == ["ok    settings", "ok    ledger", "ok    SSH key", "ok    account", "ok    machines"]
    assert "balance $25.00" in done.stdout
    assert market["VAST_API_KEY"] not in done.stdout + done.stderr


def test_doctor_says_what_is_wrong_with_the_key_and_the_folder_and_goes_on(
    market: dict[str, str], tmp_path: Path
) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()
    wrong = {**market, "VAST_API_KEY": "f" * 64}
    done = run("doctor", home=tmp_path, VASTAI_WORKFLOW_STATE=str(no_folder / "state"), **wrong)
    assert done.returncode == 1
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["ok    settings", "FAIL  ledger", "FAIL  SSH key", "FAIL  account"]
    assert "Not a directory" in lines["FAIL  ledger"]
    assert "key" in lines["FAIL  account"]
    assert all("Next: " in line for head, line in lines.items() if head.startswith("FAIL"))
    assert "f" * 64 not in done.stdout + done.stderr


def test_the_demo_ends_with_one_line_of_json_and_a_machine_that_is_gone(tmp_path: Path) -> None:
    done = run("demo", "--json", "--speed", "100", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    outcome = json.loads(line)
    assert set(outcome) == {
        *("ok", "tool_calls", "instances", "readiness", "ssh", "cost_usd", "final_state", "seconds"),
    }
    assert (outcome["ok"], outcome["readiness"], outcome["final_state"]) == (True, "gpu_ok", "gone")
    assert set(outcome["ssh"]) == {"host", "port", "user"}
    assert len(outcome["instances"]) == 1
    assert 0 < outcome["cost_usd"] < 0.1
    assert list(tmp_path.iterdir()) == [], "what the demo wrote is gone with it"


@pytest.mark.slow
def test_the_demo_shows_the_dialog_as_a_person_would_see_it(tmp_path: Path) -> None:
    done = run("demo", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    order = ["user  I need a 4090.", "refused", "Ask the user: Rent 1 machine", "user  Yes.", "ssh -p", "gone, it cost"]
    places = [done.stdout.find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"VAST_URL": "http://example.com"}, "VAST_URL: got http://example.com, allowed https"),
        ({"VASTAI_WORKFLOW_MAX_PRICE_PER_HOUR": "cheap"}, "VASTAI_WORKFLOW_MAX_PRICE_PER_HOUR"),
        ({"VASTAI_WORKFLOW_APPROVAL": ""}, "VASTAI_WORKFLOW_APPROVAL: got '', allowed human | relayed | auto"),
    ],
)
def test_bad_settings_end_the_server_with_a_sentence(
    environment: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    done = run(home=tmp_path, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert [command for command in ("serve", "simulate", "demo", "doctor") if command not in shown] == []


def test_an_option_that_does_not_exist_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--nonsense"])
    assert end.value.code == 2
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("serve --simulate --speed 0", "--speed: got 0, allowed: a number of more than 0"),
        ("demo --json --speed 0", "--speed: got 0, allowed: a number of more than 0"),
        ("simulate --speed 0", "--speed: got 0, allowed: a number of more than 0"),
        ("simulate --speed -1", "--speed: got -1, allowed: a number of more than 0"),
        ("simulate --speed nan", "--speed: got nan, allowed: a number of more than 0"),
        ("simulate --speed fast", "--speed: got fast, allowed: a number of more than 0"),
        ("simulate --port 99999", "--port: got 99999, allowed: 0 to 65535"),
        ("simulate --fault drop_reply:operation=crate", "got operation=crate for the fault 'drop_reply', allowed: *, "),
    ],
)
def test_an_argument_that_cannot_be_is_told_before_anything_starts(command: str, sentence: str, tmp_path: Path) -> None:
    done = run(*command.split(), home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
