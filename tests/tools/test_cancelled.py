"""A client that goes away in the middle of a create: what was begun ends in the ledger, and nothing is sent twice.

The points are the create's requests and ledger writes. At one of them the client's call is cancelled, or its whole
connection is dropped; the server goes on only when it had time to hear of it.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from tests.stack import ERAS, QUICK, Era, Stack, stack
from tests.tools.acts import arm, planned, states
from vastai_workflow.domain.ledger import Order, OrderState
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World
from vastai_workflow.store.sqlite import SqliteStore

_Result = TypeVar("_Result")

TURNS: Final = 100
"""Turns of the event loop in which a cancellation reaches the server, if it can."""
POINTS: Final = tuple(
    f"{side} {what}"
    for what in (
        *("1 POST bundles", "2 GET instances", "3 write", "4 GET ssh", "5 POST ssh"),
        *("6 write", "7 PUT asks", "8 write", "9 GET instances"),
    )
    for side in ("before", "after")
)
"""What a create does to the world outside, in order; writes: planned, sent, rented."""
_SENT: Final = POINTS.index("before 6 write")
BEFORE: Final = POINTS[:_SENT]
PAID: Final = POINTS[_SENT : _SENT + 6]
"""From the write that says "sent", which is done in full once it is begun, to the write of what became of it."""


@dataclass
class Points:
    """Counts what is done outside since `watch`; lets the client go at one point."""

    go: str = ""
    leave: Callable[[], object] = lambda: None
    passed: list[str] = field(default_factory=list[str])
    left: bool = False

    async def at(self, point: str) -> None:
        """Come to a point."""
        self.passed.append(point)
        if point == self.go:
            self.left = True
            self.leave()
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def name(self, what: str) -> str:
        """The next thing that is done."""
        return f"{1 + sum(point.startswith('before') for point in self.passed)} {what}"

    def watch(self, go: str, leave: Callable[[], object]) -> None:
        """Count from now on."""
        self.go, self.leave = go, leave
        self.passed.clear()


class PassedStore(SqliteStore):
    """The store in memory, with a point on each side of a write."""

    def __init__(self, clock: VirtualClock, points: Points) -> None:
        super().__init__(":memory:", clock=clock)
        self._points = points

    async def _write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        name = self._points.name("write")
        await self._points.at(f"before {name}")
        done = await super()._write(work)
        await self._points.at(f"after {name}")
        return done


class PassedTransport(SimulatedTransport):
    """The way to the market, with a point on each side of a request's effect."""

    def __init__(self, app: Starlette, points: Points) -> None:
        super().__init__(app)
        self._points = points

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As usual, between two points."""
        name = self._points.name(f"{request.method} {request.url.path.split('/')[3]}")
        await self._points.at(f"before {name}")
        try:
            return await super().handle_async_request(request)
        finally:
            await self._points.at(f"after {name}")


@dataclass
class Bench:
    """One market and one ledger, whoever is connected to them."""

    points: Points = field(default_factory=Points)
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        self.world = World(1, now=self.clock.now, offers=40, switches=QUICK)
        self.store = PassedStore(self.clock, self.points)

    def server(self, era: Era = "auto") -> Any:
        """A server with its client."""
        return stack(
            era=era,
            clock=self.clock,
            world=self.world,
            store=self.store,
            transport_to=lambda app: PassedTransport(app, self.points),
        )


ANSWERS: Final[dict[str, list[tuple[str, dict[str, Any]]]]] = {
    "a machine": [],
    "a lost reply": [("drop_reply", {})],
    "a lost request": [("drop_request", {})],
    "a reply after 20 s": [("delay", {"seconds": 20.0})],
    "no such offer": [("refuse", {"code": "no_such_ask"})],
    "too many requests": [("too_many_requests", {"operation": "create"})],
}
"""How the market answers the create."""
REFUSED: Final = frozenset({"no such offer", "too many requests"})
LOST: Final = frozenset({"a lost reply", "a lost request"})
CASES: Final = [(era, answer) for era in ERAS for answer in ANSWERS if era == "auto" or answer == "a machine"]


async def dust_settles() -> None:
    """Let the server finish what it is at."""
    for _ in range(10 * TURNS):
        await asyncio.sleep(0)


async def left_at(bench: Bench, s: Stack, create: dict[str, Any], point: str) -> None:
    """The host gives up this one call at a point, and stays."""
    with anyio.CancelScope() as scope:
        bench.points.watch(point, scope.cancel)
        await s.client.call_tool("create_instances", create)
    await dust_settles()
    assert bench.points.left
    bench.points.watch("", lambda: None)


async def dropped_at(bench: Bench, era: Era, answer: str, point: str) -> dict[str, Any]:
    """The host dies at a point, with its connection and the server behind it. The arguments of its create."""
    create: dict[str, Any] = {}
    with anyio.CancelScope() as scope:
        async with bench.server(era) as s:
            create |= await planned(s)
            for fault, settings in ANSWERS[answer]:
                arm(s, fault, **settings)
            bench.points.watch(point, scope.cancel)
            await s.client.call_tool("create_instances", create)
    await dust_settles()
    assert bench.points.left
    bench.points.watch("", lambda: None)
    return create


def finished(bench: Bench, orders: Sequence[Order], answer: str) -> bool:
    """Whether the paid section is over in the ledger: one request, and what became of it."""
    first, running = orders[0], sorted(bench.world.instances)
    if bench.world.requests["create"] != 1:
        return False
    if answer in REFUSED:
        return first.state is OrderState.REFUSED and not running
    if answer in LOST:
        return first.state is OrderState.UNKNOWN and first.instance_id is None
    return first.state is OrderState.RENTED and [first.instance_id] == running


async def one_machine_comes_of_it(bench: Bench, s: Stack, create: dict[str, Any]) -> bool:
    """The same create again once all is settled: each order was sent once, and what runs is on record."""
    bench.clock.advance(121)
    await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
    made = await s.call("create_instances", **create)
    rented = [row["instance_id"] for row in made["orders"] if row["state"] == "rented"]
    assert rented == sorted(bench.world.instances)
    assert bench.world.requests["create"] == sum(order.sent_at is not None for order in await bench.store.orders())
    return len(rented) == 1


async def test_the_points_are_those_of_a_create() -> None:
    bench = Bench()
    async with bench.server() as s:
        create = await planned(s)
        bench.points.watch("", lambda: None)
        assert states(await s.call("create_instances", **create)) == ["rented"]
        assert tuple(bench.points.passed) == POINTS


@pytest.mark.requirement("CANCEL-1")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("point", BEFORE)
async def test_a_create_that_is_cancelled_before_it_is_sent_sends_nothing(point: str, era: Era) -> None:
    bench = Bench()
    async with bench.server(era) as s:
        create = await planned(s)
        await left_at(bench, s, create, point)
        assert {order.state for order in await bench.store.orders()} <= {OrderState.PLANNED}
        assert (bench.world.requests["create"], s.running()) == (0, [])
        assert await one_machine_comes_of_it(bench, s, create)


@pytest.mark.requirement("CANCEL-1")
@pytest.mark.parametrize(("era", "answer"), CASES)
@pytest.mark.parametrize("point", PAID)
async def test_a_create_that_is_cancelled_once_it_is_sent_ends_in_the_ledger(point: str, era: Era, answer: str) -> None:
    bench = Bench()
    async with bench.server(era) as s:
        create = await planned(s)
        for fault, settings in ANSWERS[answer]:
            arm(s, fault, **settings)
        await left_at(bench, s, create, point)
        assert finished(bench, await bench.store.orders(), answer)
        assert await one_machine_comes_of_it(bench, s, create) is (answer != "a lost request")


@pytest.mark.requirement("CANCEL-1")
@pytest.mark.parametrize(("era", "answer"), CASES)
@pytest.mark.parametrize("point", PAID)
async def test_a_create_whose_connection_is_dropped_ends_in_the_ledger_for_the_next_server(
    point: str, era: Era, answer: str
) -> None:
    bench = Bench()
    create = await dropped_at(bench, era, answer, point)
    assert finished(bench, await bench.store.orders(), answer)
    async with bench.server(era) as s:
        assert await one_machine_comes_of_it(bench, s, create) is (answer != "a lost request")


@pytest.mark.requirement("CANCEL-1")
@pytest.mark.parametrize("point", PAID)
async def test_of_a_cancelled_fleet_no_more_is_sent_than_what_was_on_its_way(point: str) -> None:
    bench = Bench()
    async with bench.server() as s:
        create = await planned(s, count=3, fleet="best_effort")
        await left_at(bench, s, create, point)
        assert [order.state for order in await bench.store.orders()] == [
            OrderState.RENTED,
            OrderState.PLANNED,
            OrderState.PLANNED,
        ]
        assert bench.world.requests["create"] == 1
        assert states(await s.call("create_instances", **create)) == ["rented"] * 3
        assert bench.world.requests["create"] == len(s.running()) == 3
