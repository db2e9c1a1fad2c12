"""What the tests in a browser install once."""

import pytest

from tests.app.hosting import Kit


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """The host's script and the accessibility checker."""
    return Kit.installed(tmp_path_factory.mktemp("app-host"))
