from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.store.values import SteppedClock, a_database, a_workflow
from vastai_workflow.store.database import Database
from vastai_workflow.store.sqlite import SqliteStore


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder that does not exist yet."""
    return tmp_path / "deep" / "state"


@pytest.fixture
def folder_database(folder: Path) -> Iterator[Database]:
    """A second connection to the store's file."""
    database = a_database(folder)
    yield database
    database.close()


@pytest.fixture(params=["memory", "file"])
async def store(request: pytest.FixtureRequest, folder: Path, clock: SteppedClock) -> AsyncIterator[SqliteStore]:
    """A store that holds workflow w1, in memory and as a file."""
    store = SqliteStore(folder if request.param == "file" else ":memory:", clock=clock)
    await store.add_workflow(a_workflow())
    yield store
    await store.aclose()


@pytest.fixture
async def file_store(folder: Path, clock: SteppedClock) -> AsyncIterator[SqliteStore]:
    """A store in a folder, that holds workflow w1."""
    store = SqliteStore(folder, clock=clock)
    await store.add_workflow(a_workflow())
    yield store
    await store.aclose()
