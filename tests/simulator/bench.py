"""A small market and a plain client for it: what a test does to the simulator, in one line each."""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import httpx

from vastai_workflow.simulator.app import build_app
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGh3Y2FuYWRhZG9lc25vdGV4aXN0YXRhbGxvaGRlYXI somebody@example"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIIyeWV0YW5vdGhlcmtleXRoYXRkb2Vzbm90ZXhpc3Qx other@example"
ORDER: dict[str, Any] = {
    "client_id": "me",
    "image": "pytorch/pytorch:latest",
    "env": {"FOO": "bar", "-p 8080:8080": "1"},
    "disk": 40.0,
    "label": "lab",
    "runtype": "ssh_direc ssh_proxy",
    "onstart": "echo hi",
    "cancel_unavail": True,
}
SINGLE_4090: dict[str, Any] = {
    "verified": {"eq": True},
    "rentable": {"eq": True},
    "rented": {"eq": False},
    "gpu_name": {"eq": "RTX 4090"},
    "num_gpus": {"eq": "1"},
    "order": [["dph_total", "asc"]],
    "type": "on-demand",
    "allocated_storage": 40.0,
}
BOOTED_S = 60.0
"""More than any new instance needs to run."""


class Bench:
    """A market of 24 offers without limits, unless told otherwise."""

    def __init__(
        self,
        *faults: Fault,
        switches: Switches | None = None,
        credit: str = "25",
        offers: int = 24,
        seed: int = 1,
        competitors_per_hour: float = 0.0,
    ) -> None:
        self.clock = VirtualClock()
        self.world = World(
            seed,
            now=self.clock.now,
            offers=offers,
            switches=switches or Switches(limits=False),
            credit=Decimal(credit),
            competitors_per_hour=competitors_per_hour,
        )
        self.app = build_app(self.world, faults, clock=self.clock)
        self.key = self.world.api_key

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """One request with the account's key, or another one (an empty one is none)."""
        key = self.key if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(
            transport=SimulatedTransport(self.app), base_url="http://simulator", headers=headers, timeout=timeout_s
        ) as client:
            return await client.request(method, path, json=body, params=query)

    async def offers(self, **query: object) -> list[dict[str, Any]]:
        """The offers of a search; single verified RTX 4090 unless told otherwise."""
        reply = await self.send("POST", "/api/v0/bundles/", {**SINGLE_4090, **query})
        return reply.json()["offers"]

    async def order(self, offer: int | None = None, *, timeout_s: float | None = None, **order: Any) -> httpx.Response:
        """The create call, for the cheapest offer unless told otherwise."""
        if offer is None:
            free = [ask for ask in self.world.market.free_asks() if ask.machine.model.name == "RTX 4090"]
            offer = min(free, key=lambda ask: ask.machine.base_price(ask.num_gpus)).id
        return await self.send("PUT", f"/api/v0/asks/{offer}/", {**ORDER, **order}, timeout_s=timeout_s)

    async def rent(self, offer: int | None = None, **order: Any) -> Instance:
        """Rent, and give the instance as the world has it."""
        reply = await self.order(offer, **order)
        assert reply.json()["success"] is True, reply.text
        return self.world.instances[reply.json()["new_contract"]]

    async def running(self, **order: Any) -> Instance:
        """Rent, and wait until it runs."""
        instance = await self.rent(**order)
        self.advance(BOOTED_S)
        assert instance.actual == "running"
        return instance

    async def set(self, instance: Instance, **body: object) -> httpx.Response:
        """Start, stop or label."""
        return await self.send("PUT", f"/api/v0/instances/{instance.id}/", body)

    async def destroy(self, instance: Instance) -> httpx.Response:
        """The destroy call."""
        return await self.send("DELETE", f"/api/v0/instances/{instance.id}/", {})

    async def row(self, instance: Instance) -> dict[str, Any] | None:
        """One instance as the API shows it."""
        reply = await self.send("GET", f"/api/v0/instances/{instance.id}/", query={"owner": "me"})
        return reply.json()["instances"]

    async def page(self, **query: object) -> dict[str, Any]:
        """One page of the list; values that are not text go as JSON."""
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}
        return (await self.send("GET", "/api/v1/instances/", query=texts)).json()

    async def listed(self) -> list[int]:
        """The ids on the first page."""
        return [row["id"] for row in (await self.page())["instances"]]

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.world.settle()

    @property
    def alive(self) -> list[Instance]:
        """All contracts that cost money now, whatever reads say."""
        self.world.settle()
        return [one for one in self.world.instances.values() if not one.unloaded]


def states(instance: Instance) -> tuple[str | None, str, str, str]:
    """Actual, intended, current and next state."""
    return instance.actual, instance.intended, instance.cur, instance.next


def without_limits(**switches: Any) -> Switches:
    """Switches, without minimum intervals."""
    return Switches(limits=False, **switches)


def ids(rows: Iterable[dict[str, Any]]) -> list[int]:
    """The ids of rows."""
    return [row["id"] for row in rows]
