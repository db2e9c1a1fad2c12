"""Other people's clients, each installed in a place of its own, and a simulator for them to talk to."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OFFICIAL_CLI = "vastai==1.9.1"
TIMEOUT_S = 60


@dataclass(frozen=True)
class Output:
    """What a command printed; its exit code says nothing."""

    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Simulator:
    """A `vastai-workflow simulate` of its own process."""

    url: str
    api_key: str


@dataclass(frozen=True)
class OfficialCli:
    """The official command line client, in an environment of its own, with folders of its own."""

    program: Path
    home: Path

    def run(self, simulator: Simulator, *arguments: str) -> Output:
        """Run one command against a simulator."""
        environment = {
            "PATH": str(self.program.parent),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "VAST_URL": simulator.url,
            "VAST_API_KEY": simulator.api_key,
            "VASTAI_NO_UPDATE_CHECK": "1",
            "COLUMNS": "250",
            "NO_PROXY": "127.0.0.1",
            "PYTHONUTF8": "1",
        }
        done = subprocess.run(  # noqa: S603 - the program that this fixture installed
            [str(self.program), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
        return Output(done.stdout, done.stderr)


@pytest.fixture(scope="session")
def official_cli(tmp_path_factory: pytest.TempPathFactory) -> OfficialCli:
    """The official client, newly installed."""
    place = tmp_path_factory.mktemp("official-cli")
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)  # noqa: S603 - this Python
    python = place / "venv" / "bin" / "python"
    subprocess.run(  # noqa: S603 - the Python just made
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", OFFICIAL_CLI], check=True
    )
    home = place / "home"
    home.mkdir()
    return OfficialCli(python.with_name("vastai"), home)


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """A simulator on this machine, fast enough that nobody waits for a boot."""
    command = [sys.executable, "-m", "vastai_workflow", "simulate", "--speed", "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this Python
        assert process.stdout is not None
        greeting = json.loads(process.stdout.readline())
        try:
            yield Simulator(greeting["url"], greeting["api_key"])
        finally:
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
