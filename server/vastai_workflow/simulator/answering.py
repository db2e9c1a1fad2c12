"""One request to the simulated API and its answer, both as values: route, key, frequency, faults, effect, reply."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from re import Pattern
from typing import Any, cast

from starlette.convertors import Convertor
from starlette.routing import compile_path

from vastai_workflow.simulator import refusals
from vastai_workflow.simulator.clock import AdjustableClock
from vastai_workflow.simulator.endpoints import ENDPOINTS
from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply
from vastai_workflow.simulator.faults import Fault, Schedule, as_refusal
from vastai_workflow.simulator.rules.rule import Exchange, refused
from vastai_workflow.simulator.world import World

_OF_INSTANCE_KEY = frozenset({"start", "stop", "destroy"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `timeout_s`: how long its client waits for the reply; `local`: it comes from this machine."""

    method: str
    path: str
    query: Mapping[str, str]
    content: bytes
    base_url: str
    authorization: str = ""
    timeout_s: float | None = None
    local: bool = False

    @property
    def bearer(self) -> str | None:
        """The key that came along."""
        scheme, _, key = self.authorization.partition(" ")
        return key.strip() if scheme.lower() == "bearer" else self.query.get("api_key")


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes back; where it is `cut`, half of the body does, and the connection breaks."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    cut: bool = False


class ConnectionDropped(Exception):
    """The connection breaks."""


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


async def answered(simulator: Simulator, asked: Asked) -> Answered:
    """Answer one request. ConnectionDropped or ReplyTooLate where no answer comes."""
    endpoint, ids = _route(asked.method, asked.path)
    if endpoint is not None:
        return await _at(simulator, endpoint, ids, asked)
    handler = _OUTSIDE.get((asked.method, asked.path))
    try:
        if handler is None:
            raise Refused(404, "not_found", f"No route {asked.method} {asked.path}.")  # noqa: TRY301 - refusals are one kind
        if not asked.local:
            raise Refused(403, "forbidden", "For this machine only.")  # noqa: TRY301 - the same
        return _sent(handler(simulator, json.loads(asked.content or "{}")))
    except Refused as refusal:
        return _sent(refused(refusal))


def operation_of(method: str, path: str, content: bytes) -> str:
    """The name by which faults and counters know what a request asks; empty for no route."""
    endpoint, _ = _route(method, path)
    return "" if endpoint is None else endpoint.operation_of(_body(endpoint, content) or {})


async def _at(simulator: Simulator, endpoint: Endpoint, ids: Mapping[str, int | str], asked: Asked) -> Answered:
    simulator.world.settle()
    body = _body(endpoint, asked.content)
    call = Call(
        world=simulator.world,
        operation=endpoint.operation_of(body or {}),
        path=ids,
        query=asked.query,
        body=body or {},
        base_url=asked.base_url,
        bearer=asked.bearer,
    )
    simulator.world.requests[call.operation] += 1
    try:
        _identify(call, endpoint)
    except Refused as refusal:
        return _sent(refused(refusal))
    wait_s = _wait(call, endpoint)
    if wait_s > 0:
        threshold = 60 / endpoint.per_minute if endpoint.per_minute else endpoint.interval_s
        return _sent(refusals.too_many(simulator.world.switches, threshold, wait_s))
    return await _exchange(simulator, call, endpoint, asked.timeout_s, malformed=body is None)


def _body(endpoint: Endpoint, content: bytes) -> JsonObject | None:
    """The JSON body, empty if there is none; None if it is no JSON object."""
    if not content or endpoint.method == "GET":
        return {}
    try:
        body: Any = json.loads(content)
    except ValueError:
        return None
    return cast("JsonObject", body) if isinstance(body, dict) else None


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
    simulator: Simulator, call: Call, endpoint: Endpoint, left: float | None, *, malformed: bool
) -> Answered:
    """Let the call take effect among the faults that strike it. `left`: seconds for which the client waits."""

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
    left = await _let_pass(simulator, exchange.effect_after_s, left, perform)
    if exchange.reply is None:
        exchange.reply = perform()
    for fault in striking:
        if fault.rule.after is not None:
            fault.rule.after(exchange, fault.settings)
    await _let_pass(simulator, exchange.reply_after_s, left, None)
    if exchange.cut == "before_reply":
        raise ConnectionDropped
    date = formatdate(simulator.world.time, usegmt=True)
    return _sent(exchange.reply, cut=exchange.cut == "in_body", date=date)


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


def _sent(reply: Reply, *, cut: bool = False, **headers: str) -> Answered:
    content = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
    if reply.truncated:
        content = content[: len(content) // 2]
    charset = "; charset=utf-8" if reply.content_type.startswith("text/") else ""
    headers = {**reply.headers, **headers, "content-type": f"{reply.content_type}{charset}"}
    return Answered(reply.status, headers, content.encode(), cut=cut)


# -- for checks from outside


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


_OUTSIDE: Mapping[tuple[str, str], Callable[[Simulator, JsonObject], Reply]] = {
    ("GET", "/__sim__/state"): _state,
    ("POST", "/__sim__/advance"): _advance,
    ("POST", "/__sim__/fault"): _arm,
}
"""Routes for tests, without key and limits, for this machine only."""

# -- routes

_FIXED: Mapping[tuple[str, str], Endpoint] = {(one.method, one.path): one for one in ENDPOINTS if "{" not in one.path}


def _compiled(endpoint: Endpoint) -> tuple[Endpoint, Pattern[str], Mapping[str, Convertor[Any]]]:
    pattern, _, convertors = compile_path(endpoint.path)
    return endpoint, pattern, convertors


_WITH_IDS = tuple(_compiled(one) for one in ENDPOINTS if "{" in one.path)


def _route(method: str, path: str) -> tuple[Endpoint | None, Mapping[str, int | str]]:
    """The endpoint of a path, which may end in a slash or not, and what the path names."""
    path = path.rstrip("/")
    fixed = _FIXED.get((method, path))
    if fixed is not None:
        return fixed, {}
    for endpoint, pattern, convertors in _WITH_IDS:
        if endpoint.method == method and (found := pattern.match(path)):
            return endpoint, {name: convertors[name].convert(text) for name, text in found.groupdict().items()}
    return None, {}
