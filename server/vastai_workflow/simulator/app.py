"""The simulated API as a Starlette app."""

from collections.abc import Iterable
from typing import cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from vastai_workflow.simulator.answering import Asked, ConnectionDropped, Simulator, answered
from vastai_workflow.simulator.clock import AdjustableClock
from vastai_workflow.simulator.faults import Fault, Schedule
from vastai_workflow.simulator.world import World

LOOPBACK = frozenset({"127.0.0.1", "::1"})
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


class SimulatorApp(Starlette):
    """A Starlette without error pages: a broken connection has none."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self
        await self.router(scope, receive, send)


class _CutResponse(Response):
    """Announces its whole body, sends half, and breaks the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        body = bytes(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        raise ConnectionDropped


def build_app(world: World, faults: Iterable[Fault] = (), *, clock: AdjustableClock | None = None) -> Starlette:
    """The API over a world. With the clock that the world reads, late replies take their time on it."""
    app = SimulatorApp(routes=[Route("/{rest:path}", _answer, methods=_METHODS)])
    app.state.simulator = Simulator(world, clock, Schedule(tuple(faults)))
    return app


def simulator_of(app: Starlette) -> Simulator:
    """What an app of `build_app` works on."""
    return cast("Simulator", app.state.simulator)


async def _answer(request: Request) -> Response:
    asked = Asked(
        method=request.method,
        path=request.url.path,
        query=dict(request.query_params),
        content=await request.body(),
        base_url=str(request.base_url).rstrip("/"),
        authorization=request.headers.get("authorization", ""),
        local=request.client is not None and request.client.host in LOOPBACK,
    )
    answer = await answered(simulator_of(cast("Starlette", request.app)), asked)
    kind = _CutResponse if answer.cut else Response
    return kind(answer.content, answer.status, answer.headers)
