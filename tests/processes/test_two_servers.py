"""Two real servers on one ledger and one account, told to do the same thing at the same time."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes.actors import Market, RefusedError, Server, market, server
from vastai_workflow.cli.clock import SystemClock
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.store.sqlite import SqliteStore

pytestmark = [pytest.mark.slow]

GIVES_WAY = {"account_busy", "unacknowledged_instances", "unsettled_order", "no_offers"}
"""How a server may answer that was told to rent while another one did."""


@asynccontextmanager
async def two_servers(folder: Path) -> AsyncGenerator[tuple[Market, Server, Server]]:
    async with market() as where, server(folder, where) as one, server(folder, where) as other:
        yield where, one, other


async def outcome(call: Awaitable[dict[str, Any]]) -> dict[str, Any] | str:
    """The answer, or the code of the refusal."""
    try:
        return await call
    except RefusedError as refused:
        return refused.code


async def moves(folder: Path, to: OrderState) -> int:
    """How often an order was moved to a state, over all processes."""
    store = SqliteStore(folder, clock=SystemClock())
    events = await store.events()
    await store.aclose()
    return sum(event.state is to and event.was is not to for event in events)


async def all_on_record(folder: Path, where: Market) -> list[dict[str, Any]]:
    """The machines, each of which is a live order's, and all on different hosts."""
    store = SqliteStore(folder, clock=SystemClock())
    live = {order.order_id: order.instance_id for order in await store.orders() if order.live}
    await store.aclose()
    machines = await where.machines()
    assert {row["env"][ORDER_VARIABLE].partition(".")[2]: row["id"] for row in machines} == live
    assert len({row["machine_id"] for row in machines}) == len(machines)
    return machines


@pytest.mark.requirement("ONCE-13")
async def test_two_workflows_in_two_processes_rent_no_more_than_agreed_and_no_offer_twice(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with two_servers(folder) as (where, one, other):
        first, second = await one.planned(), await other.planned()
        answers = await asyncio.gather(
            outcome(one.call("create_instances", **first)), outcome(other.call("create_instances", **second))
        )
        rented = [answer for answer in answers if not isinstance(answer, str)]
        assert {answer for answer in answers if isinstance(answer, str)} <= GIVES_WAY
        assert rented
        assert len(await all_on_record(folder, where)) == len(rented)
        assert (await where.requests())["create"] <= 2


@pytest.mark.requirement("ONCE-13")
async def test_one_plan_that_two_processes_are_told_to_rent_is_rented_once(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with two_servers(folder) as (where, one, other):
        create = await one.planned(count=2, fleet="best_effort")
        answers = await asyncio.gather(*(outcome(each.call("create_instances", **create)) for each in (one, other)))
        told = [answer for answer in answers if not isinstance(answer, str)]
        assert {answer for answer in answers if isinstance(answer, str)} <= {"account_busy"}
        machines = await all_on_record(folder, where)
        assert len(machines) == 2
        assert (await where.requests())["create"] == 2
        for answer in told:
            assert {row["instance_id"] for row in answer["orders"]} <= {None, *(row["id"] for row in machines)}


@pytest.mark.requirement("ONCE-13")
async def test_two_processes_that_find_an_order_s_machine_at_once_adopt_it_once(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with two_servers(folder) as (where, one, other):
        create = await one.planned()
        await where.arm("drop_reply")
        made = await one.call("create_instances", **create)
        assert [row["state"] for row in made["orders"]] == ["unknown"]
        await where.advance(5)
        wait = {"workflow_id": create["workflow_id"], "timeout_s": 0}
        await asyncio.gather(one.call("wait_until_ready", **wait), other.call("wait_until_ready", **wait))
        assert await moves(folder, OrderState.RENTED) == 1
        assert len(await all_on_record(folder, where)) == 1


@pytest.mark.requirement("ONCE-13")
async def test_of_two_processes_that_judge_a_lost_order_at_once_one_does(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with market() as where, server(folder, where) as one:
        create = await one.planned()
        await where.arm("drop_request")
        made = await one.call("create_instances", **create)
        assert [row["state"] for row in made["orders"]] == ["unknown"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= {"VAST_URL": where.url, "VAST_API_KEY": where.api_key}
        command = (sys.executable, "-m", "tests.processes.ahead", str(folder))
        judges = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(3)]
        assert [await judge.wait() for judge in judges] == [0, 0, 0]
        assert await moves(folder, OrderState.NOT_RENTED) == 1
        assert await where.machines() == []
