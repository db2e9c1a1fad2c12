"""The simulated API as a Starlette app: key, frequency, faults, effect, reply."""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from vastai_workflow.simulator import refusals
from vastai_workflow.simulator.clock import AdjustableClock
from vastai_workflow.simulator.endpoints import ENDPOINTS
from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply
from vastai_workflow.simulator.faults import Fault, Schedule, as_refusal
from vastai_workflow.simulator.rules.rule import Exchange, refused
from vastai_workflow.simulator.world import World

TIMEOUT_IN_SCOPE = "simulator.timeout_s"
"""Where a transport says how long its client waits for a reply, in seconds."""
LOOPBACK = frozenset({"127.0.0.1", "::1"})
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
_OF_INSTANCE_KEY = frozenset({"start", "stop", "destroy"})


class ConnectionDropped(Exception):
    """The connection breaks; `in_body` if a part of the reply was sent."""

    def __init__(self, *, in_body: bool = False) -> None:
        super().__init__("the simulated connection broke")
        self.in_body = in_body


class ReplyTooLate(Exception):
    """The client's time is over before the reply comes."""


@dataclass(slots=True)
class Simulator:
    """What the app works on."""

    world: World
    clock: AdjustableClock | None = None
    schedule: Schedule = field(default_factory=Schedule)

    async def sleep(self, seconds: float) -> None:
        """Let time pass, if there is a clock."""
        if self.clock is not None and seconds > 0:
            await self.clock.sleep(seconds)
            self.world.settle()


class SimulatorApp(Starlette):
    """A Starlette without error pages: a broken connection has none. Paths may end in a slash or not."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self.router(scope, receive, send)


class _CutResponse(Response):
    """Announces its whole body, sends half, and breaks the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        body = bytes(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        raise ConnectionDropped(in_body=True)


def build_app(world: World, faults: Iterable[Fault] = (), *, clock: AdjustableClock | None = None) -> Starlette:
    """The API over a world. With the clock that the world reads, late replies take their time on it."""
    app = SimulatorApp(routes=list(_ROUTES))
    app.state.simulator = Simulator(world, clock, Schedule(tuple(faults)))
    return app


def simulator_of(app: Starlette) -> Simulator:
    """What an app of `build_app` works on."""
    return cast("Simulator", app.state.simulator)


def _endpoint(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        simulator = simulator_of(cast("Starlette", request.app))
        simulator.world.settle()
        body = await _body(request, endpoint)
        call = Call(
            world=simulator.world,
            operation=endpoint.operation_of(body or {}),
            path=request.path_params,
            query=dict(request.query_params),
            body=body or {},
            base_url=str(request.base_url).rstrip("/"),
            bearer=_bearer(request),
        )
        simulator.world.requests[call.operation] += 1
        try:
            _identify(call, endpoint)
        except Refused as refusal:
            return _response(refused(refusal))
        wait_s = _wait(call, endpoint)
        if wait_s > 0:
            threshold = 60 / endpoint.per_minute if endpoint.per_minute else endpoint.interval_s
            return _response(refusals.too_many(simulator.world.switches, threshold, wait_s))
        response = await _exchange(simulator, call, endpoint, request, malformed=body is None)
        response.headers["date"] = formatdate(simulator.world.time, usegmt=True)
        return response

    return answer


async def _body(request: Request, endpoint: Endpoint) -> JsonObject | None:
    """The JSON body, empty if there is none; None if it is no JSON object."""
    raw = await request.body()
    if not raw or endpoint.method == "GET":
        return {}
    try:
        body: Any = json.loads(raw)
    except ValueError:
        return None
    return cast("JsonObject", body) if isinstance(body, dict) else None


def _bearer(request: Request) -> str | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.query_params.get("api_key")


def _identify(call: Call, endpoint: Endpoint) -> None:
    """Find the account and check the key's permission."""
    world = call.world
    if endpoint.scope is None or (call.operation == "search" and not world.switches.search_needs_key):
        return
    if not call.bearer:
        raise refusals.no_key()
    found = world.find_key(call.bearer)
    if found is None:
        raise refusals.unknown_key(world.switches)
    call.account_or_none, call.key_or_none = found
    key = found[1]
    if key.instance_id is not None:
        if call.operation not in _OF_INSTANCE_KEY or call.path.get("id") != key.instance_id:
            raise refusals.missing_scope(world.switches, endpoint.scope)
    elif endpoint.scope not in key.scopes:
        raise refusals.missing_scope(world.switches, endpoint.scope)


def _wait(call: Call, endpoint: Endpoint) -> float:
    world = call.world
    if not world.switches.limits or call.bearer is None:
        return 0.0
    return world.limits.wait_s(endpoint, call.bearer, world.time)


async def _exchange(
    simulator: Simulator, call: Call, endpoint: Endpoint, request: Request, *, malformed: bool
) -> Response:
    """Let the call take effect among the faults that strike it."""

    def perform() -> Reply:
        try:
            if malformed and call.operation != "execute":
                raise Refused(400, "invalid_request", "Invalid json body")  # noqa: TRY301 - refusals are one kind
            return endpoint.handler(call)
        except Refused as refusal:
            return refused(refusal)

    exchange = Exchange(call, perform)
    striking = simulator.schedule.striking(call)
    for fault in striking:
        if fault.rule.before is not None:
            fault.rule.before(exchange, fault.settings)
    left: float | None = request.scope.get(TIMEOUT_IN_SCOPE)
    left = await _let_pass(simulator, exchange.effect_after_s, left, perform)
    if exchange.reply is None:
        exchange.reply = perform()
    for fault in striking:
        if fault.rule.after is not None:
            fault.rule.after(exchange, fault.settings)
    await _let_pass(simulator, exchange.reply_after_s, left, None)
    if exchange.cut == "before_reply":
        raise ConnectionDropped
    return _response(exchange.reply, cut=exchange.cut == "in_body")


async def _let_pass(
    simulator: Simulator, seconds: float, left: float | None, then: Callable[[], Reply] | None
) -> float | None:
    """Wait; when the client gives up first, what was to happen afterwards happens without it."""
    if seconds <= 0:
        return left
    if left is None or seconds < left:
        await simulator.sleep(seconds)
        return None if left is None else left - seconds
    if then is not None:
        simulator.world.later(seconds, lambda: _discard(then()))
    await simulator.sleep(left)
    raise ReplyTooLate


def _discard(_: Reply) -> None:
    """Nobody is there to read it."""


def _response(reply: Reply, *, cut: bool = False) -> Response:
    content = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
    if reply.truncated:
        content = content[: len(content) // 2]
    kind = _CutResponse if cut else Response
    return kind(content, reply.status, reply.headers, media_type=reply.content_type)


# -- for checks from outside


def _from_loopback(request: Request) -> bool:
    return request.client is not None and request.client.host in LOOPBACK


def _outside(handler: Callable[[Simulator, JsonObject], Reply]) -> Callable[[Request], Awaitable[Response]]:
    """A route for tests, without key and limits, for this machine only."""

    async def answer(request: Request) -> Response:
        if not _from_loopback(request):
            return _response(refused(Refused(403, "forbidden", "For this machine only.")))
        raw = await request.body()
        simulator = simulator_of(cast("Starlette", request.app))
        try:
            return _response(handler(simulator, json.loads(raw) if raw else {}))
        except Refused as refusal:
            return _response(refused(refusal))

    return answer


def _state(simulator: Simulator, _: JsonObject) -> Reply:
    return Reply(simulator.world.state())


def _advance(simulator: Simulator, body: JsonObject) -> Reply:
    if simulator.clock is None:
        raise Refused(409, "no_clock", "This app has no clock to move.")
    simulator.clock.advance(float(body["seconds"]))
    simulator.world.settle()
    return Reply({"now": simulator.world.time})


def _arm(simulator: Simulator, body: JsonObject) -> Reply:
    try:
        fault = Fault.from_settings(str(body.get("name")), {key: body[key] for key in body if key != "name"})
    except ValueError as error:
        raise as_refusal(error) from None
    simulator.schedule.add(fault)
    return Reply({"armed": repr(fault)})


async def _nothing_here(request: Request) -> Response:
    return _response(refused(Refused(404, "not_found", f"No route {request.method} {request.url.path}.")))


_ROUTES: tuple[BaseRoute, ...] = (
    *(Route(one.path, _endpoint(one), methods=[one.method]) for one in ENDPOINTS),
    Route("/__sim__/state", _outside(_state), methods=["GET"]),
    Route("/__sim__/advance", _outside(_advance), methods=["POST"]),
    Route("/__sim__/fault", _outside(_arm), methods=["POST"]),
    Route("/{rest:path}", _nothing_here, methods=_METHODS),
)
