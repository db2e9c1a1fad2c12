"""A market that lists machines at other addresses than their own."""

import json
from collections.abc import Callable
from typing import Any

import httpx
from starlette.applications import Starlette

from vastai_workflow.simulator.transport import SimulatedTransport


class Relisted:
    """`shown`: the fields that each listed machine has from now on."""

    def __init__(self) -> None:
        self.shown: dict[str, Any] = {}

    def at(self, host: str, port: int) -> None:
        """Each machine has this one address from now on."""
        self.shown = {"public_ipaddr": host, "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]}}  # noqa: S104 # as the API writes it
        self.shown |= {"ssh_host": host, "ssh_port": port}

    @property
    def transport(self) -> Callable[[Starlette], httpx.AsyncBaseTransport]:
        """What a stack connects its client by."""
        return lambda app: _Transport(self, app)


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, market: Relisted, app: Starlette) -> None:
        self._market = market
        self._inside = SimulatedTransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inside.handle_async_request(request)
        if request.method != "GET" or "/instances" not in request.url.path:
            return response
        body = json.loads(await response.aread())
        for row in body.get("instances", []):
            row.update(self._market.shown)
        return httpx.Response(response.status_code, json=body)
