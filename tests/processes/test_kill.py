"""The real server is killed in the middle of its work; `python -m tests.processes.kills` does it more often."""

from collections.abc import Callable

import pytest

from tests.processes.kills import run

KILLS = 40


@pytest.fixture
def nobody() -> Callable[[], None]:
    """Who is told of the progress."""
    return lambda: None


@pytest.mark.slow
@pytest.mark.requirement("ONCE-12")
async def test_a_server_that_is_killed_at_any_moment_leaves_nothing_that_the_next_one_does_not_settle(
    nobody: Callable[[], None],
) -> None:
    fell, broken = await run(KILLS, 1, nobody)
    assert broken == []
    assert sum(fell.values()) == KILLS
    before_the_answer = sum(number for place, number in fell.items() if "after the answer" not in place)
    assert before_the_answer > KILLS / 2, fell
