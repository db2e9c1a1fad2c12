"""The simulated API on a loopback port, in the current event loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from vastai_workflow.simulator.answering import ConnectionDropped
from vastai_workflow.simulator.app import build_app
from vastai_workflow.simulator.clock import AdjustableClock
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.world import World

if TYPE_CHECKING:
    from vastai_workflow.simulator.ssh_hosts import SshHosts

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Service:
    """Where a running simulator answers, and what it runs on."""

    url: str
    """Without a slash at its end, as the official client wants it."""
    api_key: str = field(repr=False)
    world: World
    app: Starlette


class _Server(uvicorn.Server):
    """A uvicorn that leaves the signals of the process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _OnSockets:
    """The app on real connections: SSH hosts follow the instances, and a broken connection is really broken."""

    def __init__(self, app: Starlette, hosts: "SshHosts | None") -> None:
        self._app = app
        self._hosts = hosts
        self.server: _Server | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._follow()
            await self._app(scope, receive, send)
        except ConnectionDropped:
            await self._hang_up(scope, receive)
        finally:
            await self._follow()

    async def _follow(self) -> None:
        if self._hosts is not None:
            await self._hosts.follow()

    async def _hang_up(self, scope: Scope, receive: Receive) -> None:
        """Close the request's connection, and let uvicorn see that before it misses the reply."""
        for connection in list(self.server.server_state.connections) if self.server else ():
            protocol = cast("H11Protocol", connection)
            if protocol.client == scope["client"]:
                protocol.transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


@asynccontextmanager
async def running(
    world: World, clock: AdjustableClock, *, port: int = 0, faults: Iterable[Fault] = (), ssh: bool = True
) -> AsyncGenerator[Service, None]:
    """Serve a world on a loopback port (0 is any free one); with `ssh` each running instance has a real SSH server."""
    hosts: SshHosts | None = None
    if ssh:
        from vastai_workflow.simulator import ssh_hosts  # noqa: PLC0415 - worlds without SSH need no asyncssh

        hosts = ssh_hosts.SshHosts(world)
    world.loopback = ssh
    app = build_app(world, faults, clock=clock)
    on_sockets = _OnSockets(app, hosts)
    config = uvicorn.Config(
        on_sockets,
        http=H11Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        date_header=False,  # the market's own clock says the date
    )
    server = on_sockets.server = _Server(config)
    listener = socket.create_server((HOST, port))  # listens from here on, so nobody has to wait for the start
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield Service(url, world.api_key, world, app)
    finally:
        server.should_exit = True
        server.force_exit = True
        await serving
        if hosts is not None:
            await hosts.close()
