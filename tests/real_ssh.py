"""A stack whose machines have real SSH servers on this machine, and whose prober really logs in."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette

from tests.stack import QUICK, Stack, stack
from vastai_workflow.access.keys import SshKeys
from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.access.probe import SshProber
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.ssh_hosts import SshHosts
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World


class Following(httpx.AsyncBaseTransport):
    """The simulated API; before and after each call the SSH hosts fit the instances that run."""

    def __init__(self, app: Starlette, hosts: SshHosts) -> None:
        self._inside = SimulatedTransport(app)
        self._hosts = hosts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._hosts.follow()
        try:
            return await self._inside.handle_async_request(request)
        finally:
            await self._hosts.follow()


@asynccontextmanager
async def real_ssh(folder: Path, offers: int = 40) -> AsyncGenerator[Stack]:
    """Keys, pins and everything else that is written stand in `folder`."""
    clock = VirtualClock()
    world = World(1, now=clock.now, offers=offers, switches=QUICK, loopback=True)
    hosts = SshHosts(world)
    prober = SshProber(KnownHosts(folder / "known_hosts"))
    keys = SshKeys(home=folder, state_dir=folder / "state")
    try:
        async with stack(
            world=world,
            clock=clock,
            keys=keys,
            real_prober=prober,
            transport_to=lambda app: Following(app, hosts),
        ) as s:
            yield s
    finally:
        await hosts.close()
