"""The race of addresses: one winner, and nothing of the others stays behind."""

import asyncio

import asyncssh
import pytest

from tests.access.conftest import StartHost
from vastai_workflow.access.race import Attempt, first_of

PLENTY_S = 20.0


@pytest.fixture
def two() -> list[Attempt]:
    return [Attempt("direct", 1), Attempt("proxy", 2)]


async def fail(attempt: Attempt) -> None:
    attempt.fail("refused", "")


async def wait_for_ever(_attempt: Attempt) -> None:
    await asyncio.Event().wait()


async def test_the_first_address_has_a_head_start(two: list[Attempt]) -> None:
    started: list[Attempt] = []

    async def reach(attempt: Attempt) -> None:
        started.append(attempt)
        for _ in range(20):
            await asyncio.sleep(0)

    assert await first_of(two, reach, stagger_s=PLENTY_S) is two[0]
    assert started == two[:1]


async def test_a_failure_ends_the_head_start_at_once(two: list[Attempt]) -> None:
    async def reach(attempt: Attempt) -> None:
        if attempt is two[0]:
            await fail(attempt)

    async with asyncio.timeout(1):
        assert await first_of(two, reach, stagger_s=PLENTY_S) is two[1]


async def test_a_loser_is_not_waited_for(two: list[Attempt]) -> None:
    async def reach(attempt: Attempt) -> None:
        if attempt is two[0]:
            await wait_for_ever(attempt)

    async with asyncio.timeout(1):
        assert await first_of(two, reach, stagger_s=0) is two[1]


@pytest.mark.requirement("SSH-7")
async def test_two_that_arrive_together_leave_one_connection(
    start_host: StartHost, user_key: asyncssh.SSHKey, two: list[Attempt]
) -> None:
    host, port = await start_host()
    arrived = asyncio.Barrier(2)
    opened: list[asyncssh.SSHClientConnection] = []

    async def reach(attempt: Attempt) -> None:
        attempt.connection = await asyncssh.connect(
            host, port, config=None, username="root", client_keys=[user_key], known_hosts=None, agent_path=None
        )
        opened.append(attempt.connection)
        await arrived.wait()

    winner = await first_of(two, reach, stagger_s=0)
    loser = next(attempt for attempt in two if attempt is not winner)
    assert len(opened) == 2
    assert loser.connection is None
    assert winner.connection is not None
    assert [connection.is_closed() for connection in opened if connection is not winner.connection] == [True]
    await winner.close()
    assert winner.connection is None


@pytest.mark.parametrize(
    ("direct", "proxy", "reported"),
    [
        ("refused", "auth_refused", "auth_refused"),
        ("host_key_changed", "auth_refused", "host_key_changed"),
        ("timeout", "refused", "timeout"),
        ("bad_address", "unreachable", "unreachable"),
        ("refused", "refused", "refused"),
    ],
)
async def test_without_a_winner_the_most_telling_reason_is_reported(
    direct: str, proxy: str, reported: str, two: list[Attempt]
) -> None:
    reasons = {"direct": direct, "proxy": proxy}

    async def reach(attempt: Attempt) -> None:
        attempt.fail(reasons[attempt.host], "")

    assert (await first_of(two, reach, stagger_s=0)).reason == reported


async def test_the_one_that_came_farther_is_reported(two: list[Attempt]) -> None:
    async def reach(attempt: Attempt) -> None:
        attempt.fail("too_much_output", "")
        if attempt is two[1]:
            attempt.stage = "port_open"
            attempt.fail("closed", "")

    assert await first_of(two, reach, stagger_s=0) is two[1]
