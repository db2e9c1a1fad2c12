"""Sixty-four machines by one yes: at the provider's pace, call after call, and told one by one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from tests.stack import ShortcutProber, Stack, stack
from tests.tools.acts import Heard, arm, planned, states
from vastai_workflow.domain.ledger import Order
from vastai_workflow.domain.market import Instance
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.ending import CALL_BUDGET_S
from vastai_workflow.steps.ports import ProbeReport, ProbeTarget
from vastai_workflow.steps.probing import AT_ONCE, probing

CREATE_EVERY_S = 4.5
DESTROY_EVERY_S = 3.0
"""The provider's published intervals."""


AT_THE_START = 2
"""Requests of a wait that can't be spread yet: whose key it is, and the first page."""


class Watched(httpx.AsyncBaseTransport):
    """The simulated API, with when what was asked and how it was answered."""

    def __init__(self, app: Starlette, clock: VirtualClock) -> None:
        self._inside = SimulatedTransport(app)
        self._clock = clock
        self.seen: list[tuple[float, str, int]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        at = self._clock.now()
        response = await self._inside.handle_async_request(request)
        self.seen.append((at, f"{request.method} {request.url.path}", response.status_code))
        return response

    def times(self, start: str) -> list[float]:
        """When each request was sent whose method and path begin so."""
        return [at for at, what, _ in self.seen if what.startswith(start)]


@asynccontextmanager
async def watched(**kinds: Any) -> AsyncGenerator[tuple[Stack, Watched]]:
    """A market with enough machines, and who watches it."""
    clock = VirtualClock()
    watchers: list[Watched] = []

    def transport(app: Starlette) -> httpx.AsyncBaseTransport:
        watchers.append(Watched(app, clock))
        return watchers[0]

    async with stack(clock=clock, offers=160, transport_to=transport, **kinds) as s:
        await s.call("preflight")
        yield s, watchers[0]


async def waited_for(s: Stack, workflow_id: str) -> list[dict[str, Any]]:
    """The machines of a fleet after as many waits as they take."""
    while True:
        waited = await s.call("wait_until_ready", workflow_id=workflow_id)
        if waited["next_call"] is None:
            return waited["instances"]


@pytest.mark.requirement("ONCE-8")
@pytest.mark.requirement("READY-8")
async def test_64_machines_come_one_by_one_at_the_providers_interval_and_are_waited_for_at_a_request_a_second() -> None:
    async with watched() as (s, api):
        create = await planned(s, count=64, fleet="all_or_nothing")
        calls = 0
        while True:
            began = s.clock.now()
            made = await s.call("create_instances", **create)
            calls += 1
            assert s.clock.now() - began < CALL_BUDGET_S + 2 * CREATE_EVERY_S
            if made["next_call"]["tool"] != "create_instances":
                break
        assert states(made) == ["rented"] * 64
        creates = api.times("PUT /api/v0/asks/")
        assert len(creates) == s.creates_sent() == len(s.running()) == 64
        assert min(after - before for before, after in pairwise(creates)) >= CREATE_EVERY_S
        assert creates[-1] - creates[0] < 1.1 * 63 * CREATE_EVERY_S
        assert calls <= 9

        began, before = s.clock.now(), len(api.seen)
        rows = await waited_for(s, create["workflow_id"])
        assert [row["readiness"] for row in rows] == ["gpu_ok"] * 64
        assert len(api.seen) - before <= s.clock.now() - began + AT_THE_START
        assert 429 not in {status for _, _, status in api.seen}


@pytest.mark.requirement("READY-8")
@pytest.mark.parametrize("count", [1, 30])
async def test_a_wait_that_has_to_attach_keys_too_asks_no_more_than_once_a_second(count: int) -> None:
    async with watched(switches=Switches(loading_s=60.0)) as (s, api):
        s.world.account.team = True
        more = {} if count == 1 else {"fleet": "best_effort"}
        create = await planned(s, count=count, **more)
        after: dict[str, Any] = {"tool": "create_instances", "arguments": create}
        while after["tool"] == "create_instances":
            after = (await s.call("create_instances", **after["arguments"]))["next_call"]
        began, before = s.clock.now(), len(api.seen)
        rows = await waited_for(s, create["workflow_id"])
        assert [row["readiness"] for row in rows] == ["gpu_ok"] * count
        assert s.world.requests["attach"] == count
        assert len(api.seen) - before <= s.clock.now() - began + AT_THE_START


@pytest.mark.requirement("FLEET-4")
async def test_a_large_fleet_that_came_short_is_released_call_after_call() -> None:
    async with watched() as (s, api):
        create = await planned(s, count=20, fleet="all_or_nothing")
        arm(s, "refuse", operation="create", nth=20, code="insufficient_credit")
        made: dict[str, Any] = {"next_call": {"tool": "create_instances"}}
        while made["next_call"]["tool"] == "create_instances":
            began = s.clock.now()
            made = await s.call("create_instances", **create)
            assert s.clock.now() - began < CALL_BUDGET_S + 25
        assert 0 < states(made).count("released") < 19
        waited = made
        while waited["next_call"]["tool"] == "wait_until_ready":
            began = s.clock.now()
            waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"])
            assert s.clock.now() - began < CALL_BUDGET_S + 25
        assert waited["next_call"]["tool"] == "propose_fields"
        assert {row["state"] for row in waited["instances"]} == {"gone"}
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []
        ends = api.times("DELETE /api/v0/instances/")
        assert min(later - before for before, later in pairwise(ends)) >= DESTROY_EVERY_S


@pytest.mark.requirement("ONCE-6")
async def test_ends_of_many_are_seen_in_one_round_and_only_the_last_may_have_to_be_sent_again() -> None:
    async with watched() as (s, api):
        _, machines = await s.rented(count=8, fleet="best_effort")
        s.clock.advance(10)
        told = await s.call("destroy_instances", instance_ids=machines)
        assert [row["final_state"] for row in told["instances"]] == ["gone"] * 8
        assert len(api.times("DELETE /api/v0/instances/")) <= 9


class SilentFor(ShortcutProber):
    """One machine keeps a login waiting until it is let go."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.silent = 0
        self.let_go = anyio.Event()

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        if target.instance_id == self.silent:
            with anyio.fail_after(20):
                await self.let_go.wait()
        return await super().probe(target, timeout_s=timeout_s)


class LetsGo(Heard):
    """Lets the silent machine go once the others were told ready."""

    def __init__(self, prober: SilentFor, others: str) -> None:
        super().__init__()
        self._prober = prober
        self._others = others

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        await super().__call__(progress, total, message)
        if self._others in (message or ""):
            self._prober.let_go.set()


@pytest.mark.requirement("READY-7")
async def test_a_machine_that_keeps_a_login_waiting_holds_up_no_other() -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, offers=40, switches=Switches(loading_s=6.0))
    prober = SilentFor(world)
    async with stack(world=world, clock=clock, real_prober=prober) as s:
        workflow_id, machines = await s.rented(count=3, fleet="best_effort")
        prober.silent = machines[1]
        clock.advance(100)
        heard = LetsGo(prober, "1 running, 2 ready")
        await s.client.call_tool("wait_until_ready", {"workflow_id": workflow_id}, progress_callback=heard)
        assert heard.lines[-1] == "3 machines: 3 ready"
        assert [target.instance_id for target in prober.targets].count(machines[1]) == 1


class HoldsOn(ShortcutProber):
    """Keeps each login until all are let go, and counts how many there are at a time."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.at_once = self.most = 0
        self.full = anyio.Event()
        self.let_go = anyio.Event()

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        if self.at_once == AT_ONCE:
            self.full.set()
        with anyio.fail_after(20):
            await self.let_go.wait()
        self.at_once -= 1
        return await super().probe(target, timeout_s=timeout_s)


async def nobody(_order: Order, _instance: Instance) -> None:
    """Who hears of the machines that were tried."""


@pytest.mark.requirement("READY-7")
async def test_no_more_machines_are_tried_at_once_than_a_process_has_open_files_for() -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, offers=40, switches=Switches(loading_s=6.0))
    prober = HoldsOn(world)
    async with stack(world=world, clock=clock, real_prober=prober) as s:
        workflow_id, _ = await s.rented()
        clock.advance(100)
        [order] = await s.deps.store.orders()
        opened = await open_market(s.deps, s.caller, workflow_id)
        [instance] = await opened.market.instances()
        async with probing(s.deps, opened, clock.now() + 300) as probes:
            for number in range(AT_ONCE + 8):
                probes.start(order, replace(instance, id=instance.id + number), nobody)
            with anyio.fail_after(20):
                await prober.full.wait()
            for _ in range(AT_ONCE):
                await s.deps.store.window(instance.id)  # as many turns as the others would need
            prober.let_go.set()
            await probes.rest(None)
    assert (prober.most, len(prober.targets)) == (AT_ONCE, AT_ONCE + 8)
