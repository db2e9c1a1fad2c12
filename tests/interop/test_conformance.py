"""The official conformance scenarios that need no fixtures, on the real server over HTTP, in both specifications."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.interop.node import TIMEOUT_S, NodePackages

pytestmark = pytest.mark.interop

IN_BOTH = (
    *("tools-list", "tools-call-error", "resources-list", "prompts-list"),
    *("dns-rebinding-protection", "server-sse-multiple-streams"),
)
SCENARIOS = {
    "2025-11-25": (*IN_BOTH, "server-initialize", "ping", "server-session-lifecycle"),
    "2026-07-28": (
        *IN_BOTH,
        "caching",
        "sep-2164-resource-not-found",
        "http-header-validation",
        "input-required-result-unsupported-methods",
    ),
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The real server on a loopback port."""
    command = [sys.executable, "-m", "tests.interop.http_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 # this Python
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)


@pytest.mark.parametrize(
    ("specification", "scenario"), [(version, name) for version, names in SCENARIOS.items() for name in names]
)
def test_a_scenario_passes(node: NodePackages, address: str, specification: str, scenario: str) -> None:
    done = node.run("conformance", "server", "--url", address, "--scenario", scenario, "--spec-version", specification)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed, 0 warnings" in done.stdout, "it ran, and was not skipped"


@pytest.mark.parametrize("scenario", ["sep-2640-skills-enumeration", "sep-2640-skills-manifest"])
def test_the_skills_extension_passes(node: NodePackages, address: str, scenario: str) -> None:
    done = node.run("conformance", "server", "--url", address, "--scenario", scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed, 0 warnings" in done.stdout, "it ran, and was not skipped"
