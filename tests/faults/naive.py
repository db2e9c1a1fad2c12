"""A deliberately naive renter beside this server, under the same faults of a create: who has how many machines then.

The naive one does what common clients do: it repeats a create after a time-out, a broken connection, a 5xx, a 429 or an
answer that it can't read, takes the next offer when one is gone, believes each answer, and trusts a 200 to a destroy.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx

from tests.faults.play import OFFERS, QUICK
from tests.faults.runner import Runner, runner
from tests.faults.schedule import Act, Schedule
from vastai_workflow.simulator.app import build_app
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.rules.rule import Value
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World

DOCUMENT: Final = Path(__file__).parents[2] / "references" / "costs.md"
_OPENS: Final = "| fault |"
_CLOSES: Final = "\n\n"
SCHEDULES: Final = 12
"""For each fault: six markets, one machine and two."""
_ROWS: Final[tuple[tuple[str, dict[str, Value]], ...]] = (
    ("drop_request", {}),
    ("drop_reply", {}),
    ("cut_body", {}),
    ("delay", {"seconds": 150.0}),
    ("late_effect", {"seconds": 100.0}),
    ("http_error", {"status": 502}),
    ("http_error_after_effect", {"status": 502}),
    ("http_error_after_effect", {"status": 504}),
    ("empty_body", {}),
    ("truncated_json", {}),
    ("html_body", {}),
    ("success_false_after_effect", {}),
    ("error_with_contract", {}),
    ("other_id", {}),
    ("double_effect", {}),
    ("proxy_repeats", {}),
    ("too_many_requests", {}),
    ("sold_out", {}),
    ("dearer", {}),
    ("other_gpu", {}),
    ("smaller_disk", {}),
    ("destroy_ignored", {}),
)
"""The faults, each once, at the first create; `destroy_ignored` meets the destroy of what was rented."""
_IMAGE: Final = "pytorch/pytorch:latest"
_DISK_GB: Final = 64
_TRIES: Final = 4
_TIMEOUT_S: Final = 60.0
_CEILING: Final = Decimal("1.25")
_AT_REST_S: Final = 600.0
_OK: Final = 200
_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429


@dataclass
class Count:
    """Machines after everything is at rest. `unagreed`: more than agreed, or other ones; `unknown`: nobody was told."""

    running: int = 0
    unagreed: int = 0
    unknown: int = 0

    def add(self, machines: Sequence[Instance], fit: int, agreed: int, known: str) -> None:
        """Count the machines of one schedule."""
        self.running += len(machines)
        self.unagreed += len(machines) - min(fit, agreed)
        self.unknown += sum(str(one.id) not in known for one in machines)


@dataclass
class Row:
    """One fault's figures."""

    name: str
    schedules: int = 0
    agreed: int = 0
    naive: Count = field(default_factory=Count)
    server: Count = field(default_factory=Count)

    def cells(self) -> list[str]:
        """The row of the table."""
        figures = [self.schedules, self.agreed]
        for count in (self.naive, self.server):
            figures += [count.running, count.unagreed, count.unknown]
        return [f"`{self.name}`", *map(str, figures)]


class NaiveRenter:
    """Rents so many machines, and believes what it is told."""

    def __init__(self, world: World, clock: VirtualClock, http: httpx.AsyncClient) -> None:
        self._world = world
        self._clock = clock
        self._http = http
        self.heard: list[str] = []
        self.rented: list[int] = []

    async def rent(self, count: int) -> None:
        """The cheapest offers, one after another."""
        asks = await self._search()
        while len(self.rented) < count and asks:
            answer = await self._create(asks.pop(0))
            if answer is not None and answer.get("new_contract"):
                self.rented.append(int(answer["new_contract"]))

    async def end(self) -> None:
        """Destroy all of it; a 200 is the end."""
        for machine in self.rented:
            await self._send("DELETE", f"/api/v0/instances/{machine}/", {})

    async def _search(self) -> list[int]:
        query = {
            "gpu_name": {"eq": "RTX 4090"},
            "num_gpus": {"eq": 1},
            "verified": {"eq": True},
            "rentable": {"eq": True},
            "rented": {"eq": False},
            "order": [["dph_total", "asc"]],
            "allocated_storage": _DISK_GB,
        }
        found = await self._send("POST", "/api/v0/bundles/", query)
        return [] if found is None else [int(row["ask_contract_id"]) for row in found["offers"]]

    async def _create(self, ask: int) -> dict[str, Any] | None:
        body = {"client_id": "me", "image": _IMAGE, "disk": _DISK_GB, "runtype": "ssh_direc", "cancel_unavail": True}
        return await self._send("PUT", f"/api/v0/asks/{ask}/", body)

    async def _send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of the last try, whatever it says; None where there was none to read."""
        for number in range(_TRIES):
            try:
                reply = await self._http.request(method, path, json=body)
                self.heard.append(reply.text)
                if reply.status_code != _TOO_MANY and reply.status_code < _SERVER_ERROR:
                    return reply.json()
            except (httpx.RequestError, ValueError):
                pass
            await self._clock.sleep(2.0**number)
        return None


async def naive_run(schedule: Schedule, row: Row) -> None:
    """The naive renter under a schedule's faults."""
    clock = VirtualClock()
    world = World(schedule.market + 1, now=clock.now, offers=OFFERS, switches=QUICK)
    transport = SimulatedTransport(build_app(world, schedule.faults, clock=clock))
    headers = {"Authorization": f"Bearer {world.api_key}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:1", headers=headers, timeout=_TIMEOUT_S
    ) as http:
        cheapest = sorted(
            ask.machine.base_price(1) + ask.machine.storage_price(Decimal(_DISK_GB))
            for ask in world.market.free_asks()
            if ask.machine.model.name == "RTX 4090" and ask.num_gpus == 1 and ask.machine.verification == "verified"
        )
        renter = NaiveRenter(world, clock, http)
        await renter.rent(schedule.count)
        ended = any(act.kind == "destroy" for act in schedule.acts)
        if ended:
            await renter.end()
    clock.advance(_AT_REST_S)
    world.settle()
    machines = [one for one in world.instances.values() if not one.unloaded]
    ceiling = cheapest[schedule.count - 1] * _CEILING
    fit = sum(_fits(one, ceiling) for one in machines)
    agreed = 0 if ended else schedule.count
    row.naive.add(machines, fit, agreed, "" if ended else "\n".join(renter.heard))


def _fits(instance: Instance, ceiling: Decimal) -> bool:
    price = instance.dph_base + instance.machine.storage_price(instance.disk_gb)
    return price <= ceiling and instance.disk_gb >= _DISK_GB and not instance.disguise


async def server_run(kept: Runner, schedule: Schedule, row: Row) -> None:
    """This server under the same."""
    play, outcome = await kept.played(schedule)
    if outcome.broken is not None:
        raise AssertionError(outcome.broken)
    ended = any(act.kind == "destroy" for act in schedule.acts)
    agreed = 0 if ended else schedule.count
    machines = play.book.alive()
    row.server.add(machines, len(machines) - len(play.book.bad), agreed, "\n".join(play.book.heard))


def schedules(name: str, settings: dict[str, Value], number: int) -> Iterator[Schedule]:
    """One fault on several markets, for one machine and for two."""
    ending = name == "destroy_ignored"
    for place in range(number):
        count = 1 + place % 2
        yield Schedule(
            seed=place,
            market=place // 2 % 6,
            count=count,
            fleet=None if count == 1 else "best_effort",
            secret=False,
            acts=(Act("known"), Act("create"), *((Act("wait", value=15), Act("destroy")) if ending else ())),
            faults=(Fault.from_settings(name, {"operation": "destroy" if ending else "create", **settings}),),
            crashes=(),
            rivals_per_hour=0.0,
        )


async def compare(number: int = SCHEDULES) -> list[Row]:
    """Both under every fault."""
    rows: list[Row] = []
    async with runner() as kept:
        for name, settings in _ROWS:
            title = " ".join([name, *(f"{value:g}" for value in settings.values() if isinstance(value, int | float))])
            row = Row(title)
            for schedule in schedules(name, settings, number):
                row.schedules += 1
                row.agreed += 0 if name == "destroy_ignored" else schedule.count
                await naive_run(schedule, row)
                await server_run(kept, schedule, row)
            rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """The figures in Markdown; the last row is the sum."""
    total = Row("all")
    for row in rows:
        total.schedules += row.schedules
        total.agreed += row.agreed
        for into, count in ((total.naive, row.naive), (total.server, row.server)):
            into.running += count.running
            into.unagreed += count.unagreed
            into.unknown += count.unknown
    heads = ("fault", "schedules", "agreed", "naive: running", "not agreed", "unknown")
    lines = [(*heads, "this server: running", "not agreed", "unknown"), ("---",) * 9]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (*lines, *(row.cells() for row in (*rows, total))))


def shown() -> str:
    """The table as the document has it."""
    _, opens, rest = DOCUMENT.read_text("utf-8").partition(_OPENS)
    return opens + rest.partition(_CLOSES)[0]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tests.faults.naive", description=__doc__)
    parser.add_argument("--schedules", type=int, default=SCHEDULES, help=f"for each fault ({SCHEDULES})")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    wanted = parser.parse_args()
    made = table(asyncio.run(compare(wanted.schedules)))
    sys.stdout.write(f"{made}\n")
    if wanted.write:
        before, _, rest = DOCUMENT.read_text("utf-8").partition(_OPENS)
        DOCUMENT.write_text(f"{before}{made}{_CLOSES}{rest.partition(_CLOSES)[2]}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
