"""Kill -9 the real server in the middle of its work, start another one on its ledger, and count what the market has.

`python -m tests.processes.kills --kills 200 --seed 1` prints where the kills fell and what broke; exit code 1 if any.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.processes.actors import KilledError, Market, RefusedError, Server, market, started
from tests.processes.ahead import settle_ahead
from tests.processes.wire import Wire, wire
from vastai_workflow.cli.clock import SystemClock
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.store.sqlite import SqliteStore

KILLS_IN_A_LANE: Final = 3
"""Then a lane begins anew: its market's clock is moved forward at each kill, and may not run too far ahead."""

LANES: Final = 10
"""Side by side: most of their time they wait for the market's intervals."""

JITTER_TURNS: Final = 1000
"""Turns of the event loop within which a kill falls after its step: it spreads the kills and decides nothing."""

SEEN_S: Final = 7.0
"""Moves the market's clock beyond the delay after which lists show what is true, and beyond the interval of creates."""

REST_S: Final = 30.0
"""Moves it after a create: a plan and its repetition take up to seven of the ten searches that a minute has."""

RUNS_S: Final = 50.0
"""Moves it to where a machine runs."""

A_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl colleague"
FINAL: Final = frozenset(OrderState) - UNSETTLED - {OrderState.PLANNED}


class BrokenError(AssertionError):
    """A promise that a kill broke."""


@dataclass
class Lane:
    """One market and one ledger, with one server after another."""

    market: Market
    direct: Market
    wire: Wire
    folder: Path
    chance: random.Random
    fell: Counter[str] = field(default_factory=Counter[str])
    server: Server | None = None

    async def running(self) -> Server:
        """The server; another one on the same ledger where the last was killed."""
        if self.server is None:
            self.server = await started(self.folder, self.market)
        return self.server

    async def stop(self) -> None:
        """No server from here on, until one is asked for."""
        last, self.server = self.server, None
        if last is not None:
            await last.stop()

    async def orders(self) -> tuple[Order, ...]:
        """What the ledger holds, read by another process than the server."""
        store = SqliteStore(self.folder, clock=SystemClock())
        try:
            return await store.orders()
        finally:
            await store.aclose()

    async def killed(self, running: Server, act: str, steps: range, call: Awaitable[Any]) -> bool:
        """Kill the server at one of these steps of a call; whether the kill came before the answer."""
        turns = self.chance.randrange(JITTER_TURNS)

        async def kill() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            running.kill()

        self.wire.arm(self.chance.choice(steps), kill)
        try:
            await call
        except KilledError:
            return True
        finally:
            await self.stop()
        self.fell[f"{act}: after the answer"] += 1
        return False

    async def judge(self) -> None:
        """Settle on the same ledger, once nothing can be under way any more."""
        await settle_ahead(self.folder, self.direct.url, self.direct.api_key)

    async def rented(self, running: Server) -> tuple[str, int]:
        """A workflow with a machine that lists show; both ids."""
        create = await running.planned()
        made = await running.call("create_instances", **create)
        await self.direct.advance(SEEN_S)
        return create["workflow_id"], made["orders"][0]["instance_id"]


def hold(promise: bool, what: str) -> None:  # noqa: FBT001 # a condition
    """BrokenError unless the promise holds."""
    if not promise:
        raise BrokenError(what)


def where(orders: Sequence[Order]) -> str:
    """The states of a plan's orders, as found on disk."""
    return "+".join(sorted(order.state for order in orders)) or "no order"


async def kill_create(lane: Lane) -> None:
    """Never more machines than agreed, each on record; what may have rented blocks; the same plan again is safe."""
    count = lane.chance.choice((1, 1, 2))
    steps = lane.chance.choice((range(1, 20), range(20, 36), range(20, 36)))  # the second has the request and after
    before = {row["id"] for row in await lane.direct.machines()}
    running = await lane.running()
    create = await running.planned(count=count, **({"fleet": "best_effort"} if count > 1 else {}))
    if await lane.killed(running, "create", steps, running.call("create_instances", **create)):
        mine = [order for order in await lane.orders() if order.workflow_id == create["workflow_id"]]
        lane.fell[f"create: {where(mine)}"] += 1
    await lane.direct.advance(SEEN_S)
    running = await lane.running()
    waited = await running.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
    await on_record(lane, before, count)
    if not waited["settled"]:
        await blocked(running)
        await lane.judge()
    try:
        await running.call("create_instances", **create)
    except RefusedError as refused:
        hold(refused.code == "confirmation_spent", f"the same plan again: {refused}")
    await lane.direct.advance(SEEN_S)
    await running.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
    made = await on_record(lane, before, count)
    mine = [order for order in await lane.orders() if order.workflow_id == create["workflow_id"]]
    hold(all(order.state in FINAL for order in mine), f"not settled: {where(mine)}")
    live = {order.instance_id for order in mine if order.live}
    hold(live == {row["id"] for row in made}, f"on record {live}, running {[row['id'] for row in made]}")
    await lane.stop()  # a server counts its searches by a clock that nobody moves
    await lane.direct.advance(REST_S)


async def on_record(lane: Lane, before: set[int], count: int) -> list[dict[str, Any]]:
    """The machines that came: no more than agreed, and each with the order that made it."""
    made = [row for row in await lane.direct.machines() if row["id"] not in before]
    hold(len(made) <= count, f"{len(made)} machines, {count} agreed")
    orders = {order.order_id: order for order in await lane.orders()}
    for row in made:
        order = orders.get(row["env"][ORDER_VARIABLE].partition(".")[2])
        hold(order is not None and order.instance_id == row["id"] and order.live, f"{row['id']} is on no live order")
    hold(len({row["machine_id"] for row in made}) == len(made), "the same machine twice")
    return made


async def blocked(running: Server) -> None:
    """While an order may have rented, nothing more is rented."""
    try:
        await running.call("create_instances", **await running.planned())
    except RefusedError as refused:
        hold(refused.code == "unsettled_order", f"refused for another reason: {refused}")
    else:
        raise BrokenError("an order was unknown, and more was rented")


async def kill_destroy(lane: Lane) -> None:
    """A machine that was to be ended is gone, or is said to be there; never called gone while it runs."""
    running = await lane.running()
    workflow_id, machine = await lane.rented(running)
    call = running.call("destroy_instances", instance_ids=[machine])
    if await lane.killed(running, "destroy", range(1, 20), call):
        [order] = [order for order in await lane.orders() if order.instance_id == machine]
        there = machine in {row["id"] for row in await lane.direct.machines()}
        hold(order.live or not there, "called gone while it runs")
        lane.fell[f"destroy: {order.state}, the machine {'is there' if there else 'is gone'}"] += 1
    await lane.direct.advance(SEEN_S)
    there = machine in {row["id"] for row in await lane.direct.machines()}
    running = await lane.running()
    status = await running.call("instance_status", instance_ids=[machine])
    shown = status["instances"][0]["state"]
    hold(not (there and shown == "gone"), "shown as gone while it runs")
    ended, _ = await asyncio.gather(
        running.call("destroy_instances", instance_ids=[machine], workflow_id=workflow_id),
        lane.direct.advance(SEEN_S),
    )
    hold(ended["instances"][0]["final_state"] in {"gone", "unknown"}, f"ended: {ended}")
    await lane.direct.advance(SEEN_S)
    hold(machine not in {row["id"] for row in await lane.direct.machines()}, "it runs on")
    await lane.judge()
    [order] = [order for order in await lane.orders() if order.instance_id == machine]
    hold(order.state is OrderState.RELEASED, f"gone, but on record as {order.state}")


async def kill_start(lane: Lane) -> None:
    """A start that a yes was given for is sent once at most, whatever is called again."""
    running = await lane.running()
    _, machine = await lane.rented(running)
    await lane.direct.advance(RUNS_S)
    await asyncio.gather(running.call("stop_instances", instance_ids=[machine]), lane.direct.advance(SEEN_S))
    await agreed(running, "start_instances", machine)
    before = (await lane.direct.requests()).get("start", 0)
    if await lane.killed(running, "start", range(6, 24), running.call("start_instances", instance_ids=[machine])):
        sent = (await lane.direct.requests()).get("start", 0) - before
        lane.fell[f"start: sent {sent} times"] += 1
    await lane.direct.advance(SEEN_S)
    running = await lane.running()
    await running.call("instance_status", instance_ids=[machine])
    intended = next(row["intended_status"] for row in await lane.direct.machines() if row["id"] == machine)
    try:
        await running.call("start_instances", instance_ids=[machine])
    except RefusedError as refused:
        hold(refused.code in {"confirmation_spent", "purpose_not_confirmed"}, f"start again: {refused}")
    sent = (await lane.direct.requests()).get("start", 0) - before
    hold(sent <= 1, f"one yes, {sent} starts")
    hold(sent == 1 or intended != "running", "started by nobody")


async def agreed(running: Server, tool: str, machine: int, **more: Any) -> None:
    """The user's yes to what a tool is refused for."""
    try:
        await running.call(tool, instance_ids=[machine], **more)
    except RefusedError as refused:
        after = refused.next_call or {"tool": "the refusal leads nowhere", "arguments": {}}
        await running.call(after["tool"], **after["arguments"])
    else:
        raise BrokenError(f"{tool} asked nobody")


async def kill_attach(lane: Lane) -> None:
    """A key that a yes was given for is attached once at most, and once it is there it is there once."""
    running = await lane.running()
    _, machine = await lane.rented(running)
    await agreed(running, "attach_ssh_key", machine, public_key=A_KEY)
    call = running.call("attach_ssh_key", instance_ids=[machine], public_key=A_KEY)
    if await lane.killed(running, "attach", range(4, 20), call):
        found = await times_on(lane, machine)
        lane.fell[f"attach: the key is there {found} times"] += 1
        hold(found <= 1, f"one yes, the key is there {found} times")
    running = await lane.running()
    await lane.direct.advance(SEEN_S)
    try:
        await running.call("attach_ssh_key", instance_ids=[machine], public_key=A_KEY)
    except RefusedError as refused:
        hold(refused.code in {"confirmation_spent", "purpose_not_confirmed"}, f"attach again: {refused}")
        await agreed(running, "attach_ssh_key", machine, public_key=A_KEY)
        await running.call("attach_ssh_key", instance_ids=[machine], public_key=A_KEY)
    found = await times_on(lane, machine)
    hold(found == 1, f"the key is there {found} times")


async def kill_remove(lane: Lane) -> None:
    """The agreed key is not gone without being on record as taken away, and calling again takes it."""
    running = await lane.running()
    _, machine = await lane.rented(running)
    [order] = [order for order in await lane.orders() if order.instance_id == machine]
    agreed_key = "" if order.ssh_key is None else order.ssh_key.public_key
    hold(await times_on(lane, machine, agreed_key) == 1, "the agreed key is not on the machine")
    if await lane.killed(running, "remove", range(6, 28), running.call("remove_ssh_key", instance_ids=[machine])):
        found = await times_on(lane, machine, agreed_key)
        [order] = [order for order in await lane.orders() if order.instance_id == machine]
        hold(found == 1 or order.ssh_key_removed, "the key is gone, and not on record as taken away")
        lane.fell[f"remove: {'on record' if order.ssh_key_removed else 'not yet'}, the key is there {found} times"] += 1
    running = await lane.running()
    await lane.direct.advance(SEEN_S)
    again, _ = await asyncio.gather(running.call("remove_ssh_key", instance_ids=[machine]), lane.direct.advance(SEEN_S))
    hold(again["keys"][0]["state"] in {"gone", "was not there"}, f"taken again: {again}")
    hold(await times_on(lane, machine, agreed_key) == 0, "the key is there after it was taken away")
    await lane.stop()


async def times_on(lane: Lane, machine: int, public_key: str = A_KEY) -> int:
    """How often the market has the key for a machine."""
    await lane.direct.advance(2.0)  # the interval of this call
    headers = {"Authorization": f"Bearer {lane.direct.api_key}"}
    answer = await lane.direct.http.get(f"/api/v0/instances/{machine}/ssh/", headers=headers)
    return answer.text.count(public_key.split()[1])


Act = Callable[[Lane], Awaitable[None]]
ACTS: Final[tuple[Act, ...]] = (*(kill_create,) * 7, kill_destroy, kill_start, kill_attach, kill_remove)


async def run_lane(seed: int, acts: Sequence[Act], report: Callable[[], None]) -> tuple[Counter[str], list[str]]:
    """Where the kills fell, and what broke."""
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        async with market(seed) as direct, wire(direct.url) as (relay, url):
            chance = random.Random(seed)  # noqa: S311 # repeatable
            lane = Lane(Market(url, direct.api_key, direct.http), direct, relay, Path(place) / "state", chance)
            try:
                for number, act in enumerate(acts):
                    try:
                        await act(lane)
                    except (BrokenError, RefusedError, KilledError, TimeoutError) as error:
                        broken.append(f"seed {seed}, {number} {act.__name__}: {type(error).__name__} {error}")
                    report()
            finally:
                await lane.stop()
            return lane.fell, broken


async def run(kills: int, seed: int, report: Callable[[], None]) -> tuple[Counter[str], list[str]]:
    """So many kills, in lanes of a few; what each does is dealt by the seed."""
    deck = [ACTS[number % len(ACTS)] for number in range(kills)]
    random.Random(seed).shuffle(deck)  # noqa: S311 # repeatable
    turns = asyncio.Semaphore(LANES)

    async def one(number: int) -> tuple[Counter[str], list[str]]:
        async with turns:
            return await run_lane(seed * 1_000 + number, deck[number : number + KILLS_IN_A_LANE], report)

    fell: Counter[str] = Counter()
    broken: list[str] = []
    for counted, errors in await asyncio.gather(*(one(number) for number in range(0, kills, KILLS_IN_A_LANE))):
        fell += counted
        broken += errors
    return fell, broken


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="which moments are chosen (default: 1)")
    given = parser.parse_args()
    began, done = time.monotonic(), 0

    def report() -> None:
        nonlocal done
        done += 1
        sys.stderr.write(f"\r{done}/{given.kills} kills, {time.monotonic() - began:.0f} s")
        sys.stderr.flush()

    fell, broken = asyncio.run(run(given.kills, given.seed, report))
    sys.stderr.write("\n")
    for place, number in sorted(fell.items()):
        sys.stdout.write(f"{number:5}  {place}\n")
    sys.stdout.write("".join(f"BROKEN {line}\n" for line in broken))
    took = time.monotonic() - began
    sys.stdout.write(f"{sum(fell.values())} kills, {len(broken)} broken, {took / given.kills:.1f} s each\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
