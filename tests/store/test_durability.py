"""What the store says it kept is there after its process was killed, at whatever moment.

Shown here: no move that was told is lost with the process, and none is half there. That a commit also waits for the
disk (a power cut) rests on SQLite's `synchronous = FULL`, whose setting `test_files.py` reads back; the flush itself
can't be watched in a way that every machine has.
"""

import asyncio
import random
import sqlite3
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.store.values import SteppedClock, a_workflow, an_order
from vastai_workflow.domain.ledger import Order, OrderState
from vastai_workflow.store.folder import LEDGER
from vastai_workflow.store.sqlite import SqliteStore

PROJECT = Path(__file__).parents[2]
ORDERS = 400
IN_ORDER = (OrderState.PLANNED, OrderState.SENT, OrderState.RENTED)


async def told_until_killed(folder: Path, size: int) -> list[str]:
    """The moves that a writer told before it was killed, which was once it had told `size` bytes."""
    command = (sys.executable, "-m", "tests.store.writer", str(folder))
    writer = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=PIPE)
    assert writer.stdout is not None
    async with asyncio.timeout(60):
        told = await writer.stdout.readexactly(size)
        writer.kill()
        told += await writer.stdout.read()
        await writer.wait()
    return told.decode().splitlines()


def integrity(folder: Path) -> list[tuple[str]]:
    raw = sqlite3.connect(folder / LEDGER)
    found = raw.execute("PRAGMA integrity_check").fetchall()
    raw.close()
    return found


def has_come_to(order: Order, state: str) -> bool:
    return IN_ORDER.index(order.state) >= IN_ORDER.index(OrderState(state))


@pytest.mark.requirement("ONCE-11")
@pytest.mark.parametrize("seed", range(4))
async def test_no_move_that_was_told_is_lost_when_the_process_is_killed(folder: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 # repeatable
    store = SqliteStore(folder, clock=SteppedClock())
    await store.add_workflow(a_workflow())
    await store.add_orders([an_order(f"o{number}") for number in range(ORDERS)])
    await store.aclose()
    moves = 0
    for _ in range(3):
        told = await told_until_killed(folder, chance.randrange(1, 1_500))
        assert integrity(folder) == [("ok",)]
        orders = {order.order_id: order for order in await store.orders()}
        assert [line for line in told if not has_come_to(orders[line.split()[0]], line.split()[1])] == []
        events = await store.events()
        for order in orders.values():
            passed = [event.state for event in events if event.order_id == order.order_id]
            assert passed == list(IN_ORDER[: len(passed)])
            assert passed[-1] is order.state
        done = len(events) - ORDERS
        moves += len(told)
        assert moves <= done <= moves + 3  # at most one move at each kill was kept and not told any more
        await store.aclose()
