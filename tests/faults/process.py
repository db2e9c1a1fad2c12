"""Server processes that die: every way out of one is a point where it may be killed, and then it does nothing more.

A process is what stands behind `Deps`: its connections, its memory of settled accounts. The ledger and the market
outlive it. The server and its client are built once for a place (`Host`) and serve one process after another.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

import httpx
from mcp.client import Client
from starlette.applications import Starlette

from tests.faults.clock import MachineClock
from tests.faults.crossings import Crossings, Died
from tests.stack import FixedKeys, ShortcutProber
from vastai_workflow.domain.audit import AuditEvent
from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.server import build_server
from vastai_workflow.simulator.answering import operation_of
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ports import Market, Window
from vastai_workflow.store.sqlite import SqliteStore
from vastai_workflow.vast.key_sources import VastMarkets

MOVES = ("planned", *(state.value for state in OrderState if state is not OrderState.PLANNED))
WRITES = (*MOVES, "noted", "window", "workflow")
"""What is written to the ledger; `planned` is an order's first line."""
SENDS = ("create", "destroy", "start", "stop", "list", "show", "attach", "search", "user", "add_ssh_key")
"""What is sent to the market."""
POINTS = tuple(
    f"{kind}:{name}:{side}"
    for kind, names in (("ledger", WRITES), ("send", SENDS))
    for name in names
    for side in ("before", "after")
)
"""Where a process may die: before and after each commit, before a request's effect and after it."""


class Witness(Protocol):
    """Who sees all that goes out and all that is kept."""

    async def sending(self, operation: str, request: httpx.Request) -> None:
        """A request is about to reach the market."""
        ...

    def answered(self, operation: str, content: bytes | None) -> None:
        """It has reached it; None where no answer came."""
        ...

    def kept(self, order: Order) -> None:
        """An order stands in the ledger as this."""
        ...


@dataclass
class Stage:
    """What outlives the processes of one schedule: market, the machine's clock, ledger, and who watches."""

    world: World
    app: Starlette
    clock: MachineClock
    ledger: SqliteStore
    witness: Witness
    crossings: Crossings
    answers: Path
    seed: int
    ids: Callable[[int], str]


class Process:
    """One life of a server process."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.dead = False
        self.clock = stage.clock.of_a_process()
        self.prober = ShortcutProber(stage.world)
        home = Path("/nonexistent")
        self.markets = VastMarkets(
            environment={"VAST_API_KEY": stage.world.api_key},
            cwd=home,
            home=home,
            clock=self.clock,
            base_url="http://127.0.0.1:1",
            chance=Random(stage.seed),  # noqa: S311 - jitter
            transport=lambda: _Line(self),
            answers_dir=stage.answers,
        )

    def live(self) -> None:
        """A dead process does nothing more."""
        if self.dead:
            raise Died

    def cross(self, point: str) -> None:
        """Come to a point, and perhaps die there."""
        self.live()
        if self.stage.crossings.kills(point):
            self.dead = True
            raise Died


class _Line(httpx.AsyncBaseTransport):
    """A process's connection to the market."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._market = SimulatedTransport(process.stage.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        process, stage = self._process, self._process.stage
        operation = operation_of(request.method, request.url.path, request.content)
        process.cross(f"send:{operation}:before")
        await stage.witness.sending(operation, request)
        content: bytes | None = None
        try:
            response = await self._market.handle_async_request(request)
            content = await response.aread()
        finally:
            stage.witness.answered(operation, content)
            process.cross(f"send:{operation}:after")
        return response


class Host:
    """A place where a server runs: server, client and ports are kept, and serve one process after another."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process: Process | None = None
        self._settled: dict[int, float] = {}
        self._untold: dict[int, tuple[str, ...]] = {}
        self.server = build_server(self._make, self._close)

    @property
    def process(self) -> Process:
        """The process that runs here now."""
        if self._process is None:
            raise AssertionError
        return self._process

    def boot(self, stage: Stage) -> None:
        """Start a fresh process: nothing of an earlier one is left but what the stage keeps."""
        self._process = Process(stage)
        self._settled.clear()
        self._untold.clear()

    async def _make(self) -> Deps:
        return Deps(
            clock=_Clock(self),
            store=_Ledger(self),
            markets=_Markets(self),
            keys=FixedKeys(),
            prober=_Prober(self),
            caps=Caps(),
            new_id=self._new_id,
            settled_accounts=self._settled,
            untold=self._untold,
        )

    def _new_id(self, size: int) -> str:
        return self.process.stage.ids(size)

    async def _close(self, _: Deps) -> None:
        """The processes' connections are to an app in this process: nothing is open."""


@asynccontextmanager
async def running(name: str) -> AsyncGenerator[tuple[Host, Client]]:
    """A host with a connected client, which lists the tools and compiles their schemas once."""
    host = Host(name)
    async with Client(host.server) as client:
        yield host, client


class _Port:
    def __init__(self, host: Host) -> None:
        self._host = host


class _Clock(_Port):
    def now(self) -> float:
        return self._host.process.clock.now()

    def steady(self) -> float:
        return self._host.process.clock.steady()

    async def sleep(self, seconds: float) -> None:
        self._host.process.live()
        await self._host.process.clock.sleep(seconds)


class _Markets(_Port):
    def resolve(self, source: str) -> str:
        return self._host.process.markets.resolve(source)

    async def open(self, source: str) -> Market:
        self._host.process.live()
        return await self._host.process.markets.open(source)

    async def aclose(self) -> None:
        await self._host.process.markets.aclose()


class _Prober(_Port):
    @property
    def known_hosts_file(self) -> Path:
        return self._host.process.prober.known_hosts_file

    async def probe(self, target: Any, *, timeout_s: float) -> Any:
        self._host.process.live()
        return await self._host.process.prober.probe(target, timeout_s=timeout_s)

    async def is_pinned(self, instance_id: int, fingerprint: str | None) -> bool:
        self._host.process.live()
        return await self._host.process.prober.is_pinned(instance_id, fingerprint)

    async def forget(self, instance_id: int) -> bool:
        self._host.process.live()
        return await self._host.process.prober.forget(instance_id)


class _Ledger(_Port):
    """The kept ledger as a process sees it."""

    @property
    def _kept(self) -> SqliteStore:
        self._host.process.live()
        return self._host.process.stage.ledger

    @property
    def store_id(self) -> str:
        return self._kept.store_id

    @property
    def store_ids(self) -> tuple[str, ...]:
        return self._kept.store_ids

    @asynccontextmanager
    async def _writing(self, what: str) -> AsyncGenerator[SqliteStore]:
        process = self._host.process
        process.cross(f"ledger:{what}:before")
        yield process.stage.ledger
        process.cross(f"ledger:{what}:after")

    def _note(self, orders: Sequence[Order]) -> None:
        for order in orders:
            self._host.process.stage.witness.kept(order)

    async def add_workflow(self, workflow: Workflow) -> None:
        async with self._writing("workflow") as kept:
            await kept.add_workflow(workflow)

    async def workflow(self, workflow_id: str) -> Workflow | None:
        return await self._kept.workflow(workflow_id)

    async def workflows(self, owner: str) -> tuple[Workflow, ...]:
        return await self._kept.workflows(owner)

    async def change_workflow(self, workflow_id: str, change: Callable[[Workflow], Workflow]) -> Workflow:
        async with self._writing("workflow") as kept:
            return await kept.change_workflow(workflow_id, change)

    async def add_orders(self, orders: Sequence[Order]) -> None:
        async with self._writing("planned") as kept:
            await kept.add_orders(orders)
            self._note(orders)

    async def move_order(self, order_id: str, to: OrderState, facts: OrderFacts | None = None) -> Order:
        async with self._writing(to.value) as kept:
            order = await kept.move_order(order_id, to, facts)
            self._note([order])
        return order

    async def note_order(self, order_id: str, facts: OrderFacts) -> Order:
        async with self._writing("noted") as kept:
            order = await kept.note_order(order_id, facts)
            self._note([order])
        return order

    async def orders(
        self,
        *,
        workflow_id: str | None = None,
        account_id: int | None = None,
        instance_ids: Sequence[int] | None = None,
        states: Sequence[OrderState] | None = None,
    ) -> tuple[Order, ...]:
        return await self._kept.orders(
            workflow_id=workflow_id, account_id=account_id, instance_ids=instance_ids, states=states
        )

    async def window(self, instance_id: int) -> Window:
        return await self._kept.window(instance_id)

    async def change_window(self, instance_id: int, change: Callable[[Window], Window]) -> Window:
        async with self._writing("window") as kept:
            return await kept.change_window(instance_id, change)

    async def record(self, events: Sequence[AuditEvent]) -> None:
        await self._kept.record(events)

    async def trail(self, workflow_id: str | None = None) -> tuple[AuditEvent, ...]:
        return await self._kept.trail(workflow_id)

    @asynccontextmanager
    async def account_lock(self, account_id: int, *, wait_s: float = 10.0) -> AsyncGenerator[None]:
        async with self._kept.account_lock(account_id, wait_s=wait_s):
            yield
