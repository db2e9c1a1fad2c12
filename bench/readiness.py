"""From rented to ready: lag, pace and memory of a wait, for 1, 8 and 64 machines. 1 where a goal is missed.

Time is virtual, on an event loop whose clock jumps: the provider answers in `--answer` seconds, and a login with its
look at the GPUs takes what one took here just before, by real SSH. Lag: from the moment at which a machine of the
simulator lets SSH in to the moment at which the client hears that it is ready. Memory: of one process with this server,
the simulator and its real SSH servers, on Linux.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import httpx
from starlette.applications import Starlette
from tests.real_ssh import real_ssh
from tests.stack import ShortcutProber, Stack, stack

from bench.virtual_time import LoopClock, run
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World
from vastai_workflow.steps.ports import ProbeReport, ProbeTarget
from vastai_workflow.steps.probing import target_of

SMALL: Final = Switches()
LARGE: Final = Switches(loading_s=900.0)
"""Images so large that the last create is over before the first machine runs: the whole way is waited for."""

FLEETS: Final = {1: (40, SMALL), 8: (8, SMALL), 64: (1, LARGE)}
"""How many machines, and in how many markets: a lone machine gives one figure a market."""

PAGE: Final = 25
LIST_EVERY_S: Final = 1.0
CREATE_EVERY_S: Final = 4.5
"""The provider's published intervals."""

LAG_GOAL_S: Final = 1.0
"""Beside one sweep of the list."""

RATE_GOAL: Final = 1.0
TIME_GOAL: Final = 1.15


class TimedProber(ShortcutProber):
    """A login that takes its time."""

    def __init__(self, world: World, login_s: float) -> None:
        super().__init__(world)
        self._login_s = login_s

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        """Log in, in time."""
        await asyncio.sleep(self._login_s)
        return await super().probe(target, timeout_s=timeout_s)


class Distant(httpx.AsyncBaseTransport):
    """The simulated API some way off."""

    def __init__(self, app: Starlette, answer_s: float) -> None:
        self._inside = SimulatedTransport(app)
        self._answer_s = answer_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Half of the way there, half of it back."""
        await asyncio.sleep(self._answer_s / 2)
        response = await self._inside.handle_async_request(request)
        await asyncio.sleep(self._answer_s / 2)
        return response


@dataclass
class Seen:
    """What one fleet showed. `lags_s` of the machines that came up while they were waited for."""

    lags_s: list[float] = field(default_factory=list[float])
    requests_per_s: float = 0.0
    """To the provider, while waiting."""

    times_the_bound: float = 0.0
    """From the first create to the last machine told ready, against what the provider's interval and its boots take."""


class Ear:
    """Hears how many machines are ready, and when."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self._heard: list[tuple[float, int]] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002 # SDK
        """Keep the number."""
        self._heard.append((self._clock.now(), int(progress)))

    def ready_at(self, number: int) -> float:
        """When so many were told ready."""
        return next(when for when, ready in self._heard if ready >= number)


async def rent(s: Stack, count: int) -> str:
    """Rent a fleet, call after call; answers its workflow."""
    more = {} if count == 1 else {"fleet": "best_effort"}
    workflow_id = await s.agreed(count=count, **more)
    plan = await s.call("find_offers", workflow_id=workflow_id)
    after: dict[str, Any] = plan["next_call"]
    while after["tool"] == "create_instances":
        after = (await s.call("create_instances", **after["arguments"]))["next_call"]
    if len(s.running()) != count:
        raise SystemExit(f"{len(s.running())} of {count} machines came")
    return workflow_id


async def fleet(seed: int, count: int, switches: Switches, answer_s: float, login_s: float) -> Seen:
    """Rent and wait, as an agent does that makes each next call at once."""
    clock = LoopClock()
    world = World(seed, now=clock.now, offers=2 * count + 30, switches=switches)
    ear, prober = Ear(clock), TimedProber(world, login_s)
    async with stack(
        world=world, clock=clock, real_prober=prober, transport_to=lambda app: Distant(app, answer_s)
    ) as s:
        workflow_id = await rent(s, count)
        began, before = clock.now(), world.requests.total()
        over = False
        while not over:
            result = await s.client.call_tool("wait_until_ready", {"workflow_id": workflow_id}, progress_callback=ear)
            over = result.structured_content is None or result.structured_content["next_call"] is None
        rate = (world.requests.total() - before) / (clock.now() - began)
    machines = sorted(world.instances.values(), key=lambda machine: machine.created_at)
    up = sorted(machine.running_since or 0.0 for machine in machines)
    lags = [ear.ready_at(number) - at for number, at in enumerate(up, start=1) if at > began]
    first = machines[0].created_at
    boots = [(machine.running_since or 0.0) - machine.created_at for machine in machines]
    bound = max(number * CREATE_EVERY_S + boot for number, boot in enumerate(boots))
    return Seen(lags, rate, (ear.ready_at(count) - first) / bound)


async def one_login() -> float:
    """Seconds that a real login with its look at the GPUs takes: connection, keys, command, answer."""
    took: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with real_ssh(Path(folder)) as s:
            await s.ready()
            target = await _target(s)
            for _ in range(20):
                started = time.perf_counter()
                report = await s.deps.prober.probe(target, timeout_s=10)
                took.append(time.perf_counter() - started)
                if report.stage != "gpu_ok":
                    raise SystemExit(f"the login failed: {report}")
    return median(took)


async def _target(s: Stack) -> ProbeTarget:
    [order] = await s.deps.store.orders()
    market = await s.deps.markets.open(order.key_source)
    [instance] = await market.instances()
    if order.ssh_key is None:
        raise SystemExit("the order has no key")
    return target_of(order, order.ssh_key, instance, local_market=True)


async def wait_for_real(count: int) -> None:
    """Wait for so many real SSH servers that run already; prints the process's largest size in KB and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        async with real_ssh(Path(folder), offers=2 * count + 30) as s:
            workflow_id = await rent(s, count)
            s.clock.advance(600)
            await s.call("instance_status")
            started = time.perf_counter()
            waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
            took = time.perf_counter() - started
    if any(row["readiness"] != "gpu_ok" for row in waited["instances"]):
        raise SystemExit(f"not ready: {waited}")
    print(largest(), took)


def largest() -> str:
    """This process's largest size so far, in KB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("VmHWM"))


def real(count: int) -> tuple[float, float]:
    """The same in a process of its own: MB, and real seconds."""
    command = [sys.executable, "-m", "bench.readiness", "--real", str(count)]
    size, took = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(size) / 1024, float(took)


def percentile_95(values: Sequence[float]) -> float:
    return quantiles(values, n=20, method="inclusive")[-1]


def compare(answer_s: float) -> bool:
    """Print the table; whether every goal is met."""
    login_s = asyncio.run(one_login())
    print(f"a login takes {login_s:.2f} s here; the provider answers in {answer_s:g} s")
    met = True
    for count, (markets, switches) in FLEETS.items():
        seen = [run(fleet(seed, count, switches, answer_s, login_s)) for seed in range(1, markets + 1)]
        lags = [lag for one in seen for lag in one.lags_s]
        goal, rate = LAG_GOAL_S + ceil(count / PAGE) * LIST_EVERY_S, max(one.requests_per_s for one in seen)
        late = percentile_95(lags)
        print(
            f"{count:2} machines: lag {median(lags):.1f} s, p95 {late:.1f} s = {late / goal:.2f} x the goal of "
            f"{goal:g} s ({len(lags)} seen); {rate:.2f} requests/s while waiting, goal {RATE_GOAL:g}"
        )
        met = met and late <= goal and rate <= RATE_GOAL
    whole = run(fleet(1, 64, SMALL, answer_s, login_s)).times_the_bound
    print(f"64 machines ready after {whole:.2f} x the provider's bound, goal {TIME_GOAL:g}")
    (one, _), (many, took) = real(1), real(64)
    print(f"memory: 64 machines take {many / one:.2f} x one ({many:.0f} MB); 64 real logins in {took:.1f} s")
    return met and whole <= TIME_GOAL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answer", type=float, default=0.1, metavar="SECONDS")
    parser.add_argument("--real", type=int, metavar="MACHINES", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.real:
        asyncio.run(wait_for_real(given.real))
        return 0
    return 0 if compare(given.answer) else 1


if __name__ == "__main__":
    sys.exit(main())
