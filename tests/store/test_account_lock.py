import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.store.values import SteppedClock, a_workflow, an_order
from vastai_workflow.domain.errors import LocalError, Refusal
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.store.sqlite import SqliteStore

PROJECT = Path(__file__).parents[2]


async def test_a_second_task_is_refused_after_its_wait_and_no_earlier(store: SqliteStore, clock: SteppedClock) -> None:
    async with store.account_lock(7):
        began = clock.now()
        with pytest.raises(Refusal, match="account 7") as refused:
            async with store.account_lock(7, wait_s=3.0):
                pytest.fail("two hold the lock")
        assert refused.value.code == "account_busy"
        assert clock.now() - began == pytest.approx(3.0)  # pyright: ignore[reportUnknownMemberType]  # pytest's own hint is partial


async def test_one_who_waits_gets_the_lock_when_it_is_given_back(store: SqliteStore) -> None:
    order: list[str] = []

    async def hold(name: str) -> None:
        async with store.account_lock(7):
            order.append(f"{name} in")
            for _ in range(3):
                await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(*(hold(name) for name in "abc"))
    assert [word.split()[1] for word in order] == ["in", "out"] * 3
    assert order[::2] != order[1::2]
    assert all(one.split()[0] == other.split()[0] for one, other in zip(order[::2], order[1::2], strict=True))


async def test_the_lock_is_given_back_when_the_work_under_it_fails_or_is_cancelled(store: SqliteStore) -> None:
    with pytest.raises(LocalError):
        async with store.account_lock(7):
            raise LocalError("store_unavailable", "full")

    async def hold() -> None:
        async with store.account_lock(7):
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with store.account_lock(7, wait_s=0):
        pass


async def test_other_accounts_do_not_wait(store: SqliteStore) -> None:
    async with store.account_lock(7), store.account_lock(8, wait_s=0):
        pass


async def test_two_stores_of_one_process_share_the_lock(folder: Path) -> None:
    first, second = (SqliteStore(folder, clock=SteppedClock()) for _ in range(2))
    async with first.account_lock(7):
        with pytest.raises(Refusal):
            async with second.account_lock(7, wait_s=1.0):
                pytest.fail("two hold the lock")
    async with second.account_lock(7, wait_s=0):
        pass


async def test_a_lock_that_can_not_be_made_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "account-7.lock").mkdir()
    with pytest.raises(LocalError) as refused:
        async with SqliteStore(tmp_path, clock=SteppedClock()).account_lock(7):
            pytest.fail("nothing is held")
    assert refused.value.code == "store_unavailable"


async def test_a_process_holds_the_lock_until_it_is_killed_and_its_order_stays_sent(folder: Path) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    await store.add_workflow(a_workflow())
    await store.add_orders([an_order()])
    command = (sys.executable, "-m", "tests.store.holder", str(folder))
    async with asyncio.timeout(30):
        holder = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdin=PIPE, stdout=PIPE)
        try:
            assert holder.stdout is not None
            assert await holder.stdout.readline() == b"held\n"
            with pytest.raises(Refusal) as refused:
                async with store.account_lock(7, wait_s=1.0):
                    pytest.fail("two hold the lock")
            assert refused.value.code == "account_busy"
        finally:
            holder.kill()
            await holder.wait()
    async with store.account_lock(7, wait_s=0):
        assert [order.state for order in await store.orders()] == [OrderState.SENT]
    await store.aclose()
