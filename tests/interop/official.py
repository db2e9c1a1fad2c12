"""The official command line client in an environment of its own, and a simulator in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        done = subprocess.run(  # noqa: S603 - the program that `installed` installed
            [str(self.program), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
        return Output(done.stdout, done.stderr)


def environment_with(place: Path, *packages: str) -> Path:
    """A new virtual environment with some packages; answers its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)  # noqa: S603 - this Python
    programs = place / "bin"
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    subprocess.run([str(programs / "python"), *install], check=True)  # noqa: S603 - the Python just made
    return programs


def installed(place: Path) -> OfficialCli:
    """The official client, newly installed."""
    home = place / "home"
    home.mkdir()
    return OfficialCli(environment_with(place / "venv", OFFICIAL_CLI) / "vastai", home)


@contextmanager
def simulating(*options: str) -> Generator[Simulator]:
    """A simulator on this machine, until the block ends."""
    command = [sys.executable, "-m", "vastai_workflow.cli.simulate", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this Python
        assert process.stdout is not None
        greeting = json.loads(process.stdout.readline())
        try:
            yield Simulator(greeting["url"], greeting["api_key"])
        finally:
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
