from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.vast.fakes import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    folder = tmp_path / "answers"
    folder.mkdir()
    made = Bench(folder)
    yield made
    await made.market.aclose()


@pytest.fixture
async def local_bench(tmp_path: Path) -> AsyncIterator[Bench]:
    folder = tmp_path / "answers"
    folder.mkdir()
    made = Bench(folder, "http://127.0.0.1:8931")
    yield made
    await made.market.aclose()
