"""Other people's clients, each installed in a place of its own, and a simulator for them to talk to."""

from collections.abc import Iterator

import pytest

from tests.interop.node import NodePackages
from tests.interop.official import OfficialCli, Simulator, installed, simulating


@pytest.fixture(scope="session")
def official_cli(tmp_path_factory: pytest.TempPathFactory) -> OfficialCli:
    """The official client, newly installed."""
    return installed(tmp_path_factory.mktemp("official-cli"))


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """A simulator on this machine, fast enough that nobody waits for a boot."""
    with simulating("--speed", "200") as service:
        yield service


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodePackages:
    """Node 22 with the Inspector, the conformance suite and the TypeScript client."""
    return NodePackages.installed(tmp_path_factory.mktemp("node"))
