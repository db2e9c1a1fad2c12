"""The simulator's answers fit the official description, operation by operation, but for what it has wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from tests.simulator.bench import Bench, without_limits
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.switches import Switches

SHAPES: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "api-shapes.json").read_text())

WRONG: Mapping[tuple[str, ...], tuple[Any, str]] = {
    ("schemas", "Instance", "properties", "ports"): (
        {"type": ["object", "null"]},
        "described as a list of numbers; it is a mapping from port to bindings, as the list's own shape says",
    ),
    ("schemas", "Instance", "properties", "extra_env", "items"): (
        {"type": "array", "items": {"type": "string"}},
        "described as a list of strings; the official client takes a list of pairs",
    ),
    ("paths", "/api/v0/ssh", "post", "responses", "200", "properties", "key", "properties", "created_at"): (
        {"type": ["number", "string"]},
        "described as a date text; keys carry Unix seconds",
    ),
    ("paths", "/api/v0/ssh", "get", "responses", "200", "items", "properties", "created_at"): (
        {"type": ["number", "string"]},
        "described as a date text; keys carry Unix seconds",
    ),
}
"""Where the description is wrong: what stands there in truth, and why."""


def corrected() -> dict[str, Any]:
    """The description with its errors mended."""
    shapes = json.loads(json.dumps(SHAPES))
    for path, (truth, _) in WRONG.items():
        place = shapes
        for name in path[:-1]:
            place = place[name]
        assert path[-1] in place, f"{path} is not described any more"
        place[path[-1]] = truth
    return shapes


def check(operation: str, reply: httpx.Response) -> None:
    """Hold a reply against the description of `METHOD path`."""
    method, path = operation.split()
    shapes = corrected()
    described = shapes["paths"][path][method.lower()]["responses"]
    shape = described[str(reply.status_code)]
    assert reply.headers["content-type"] == "application/json"
    if shape is not None:
        jsonschema.validate(reply.json(), {**shape, "components": {"schemas": shapes["schemas"]}})


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def calls(bench: Bench) -> dict[str, httpx.Response]:
    """Every described operation that the simulator has, once with success."""
    key = "ssh-ed25519 AAAA me"
    replies = {"POST /api/v0/ssh": await bench.send("POST", "/api/v0/ssh/", {"ssh_key": key})}
    key_id = replies["POST /api/v0/ssh"].json()["key"]["id"]
    replies["GET /api/v0/ssh"] = await bench.send("GET", "/api/v0/ssh/")
    replies["PUT /api/v0/ssh/{id}"] = await bench.send("PUT", f"/api/v0/ssh/{key_id}/", {"ssh_key": key + "2"})
    replies["DELETE /api/v0/ssh/{id}"] = await bench.send("DELETE", f"/api/v0/ssh/{key_id}/", {})

    replies["POST /api/v0/bundles"] = await bench.send("POST", "/api/v0/bundles/", {"limit": 5})
    replies["PUT /api/v0/asks/{id}"] = await bench.order(price=1.0)
    instance = bench.alive[0]
    bench.advance(60)
    number = instance.id
    replies["GET /api/v0/instances/{id}"] = await bench.send("GET", f"/api/v0/instances/{number}/")
    replies["GET /api/v1/instances"] = await bench.send("GET", "/api/v1/instances/")
    path = f"/api/v0/instances/{number}/ssh/"
    replies["POST /api/v0/instances/{id}/ssh"] = await bench.send("POST", path, {"ssh_key": key})
    replies["GET /api/v0/instances/{id}/ssh"] = await bench.send("GET", path)
    attached = json.loads(replies["POST /api/v0/instances/{id}/ssh"].json()["key"])["id"]
    replies["DELETE /api/v0/instances/{id}/ssh/{ssh_key_id}"] = await bench.send("DELETE", f"{path}{attached}/", {})

    for name, body in (
        ("bid_price", {"client_id": "me", "price": 2.0}),
        ("reboot", {}),
        ("recycle", {}),
        ("prepay", {"amount": 1.0}),
        ("request_logs", {"tail": "5"}),
        ("command", {"command": "ls"}),
    ):
        reply = await bench.send("PUT", f"/api/v0/instances/{name}/{number}/", body)
        replies[f"PUT /api/v0/instances/{name}/{{id}}"] = reply
    replies["GET /api/v0/instances/balance/{id}"] = await bench.send("GET", f"/api/v0/instances/balance/{number}/")
    replies["PUT /api/v0/instances/{id}"] = await bench.set(instance, label="x")
    bench.advance(3600)

    span = {"gte": bench.clock.now() - 90_000, "lte": bench.clock.now() + 90_000}
    day, when = json.dumps({"day": span}), json.dumps({"when": span})
    replies["GET /api/v0/charges"] = await bench.send("GET", "/api/v0/charges/", query={"select_filters": day})
    replies["GET /api/v1/invoices"] = await bench.send("GET", "/api/v1/invoices/", query={"select_filters": when})
    assert replies["GET /api/v0/charges"].json()["results"]
    assert replies["GET /api/v1/invoices"].json()["results"]
    replies["DELETE /api/v0/instances/{id}"] = await bench.destroy(instance)
    return {**replies, **await calls_of_the_account(bench)}


async def calls_of_the_account(bench: Bench) -> dict[str, httpx.Response]:
    """The described operations around the account, its templates and its volumes."""
    replies = {
        "GET /api/v0/users/current": await bench.send("GET", "/api/v0/users/current"),
        "PUT /api/v0/users": await bench.send("PUT", "/api/v0/users/", {"username": "new"}),
        "GET /api/v0/auth/apikeys": await bench.send("GET", "/api/v0/auth/apikeys/"),
        "POST /api/v0/secrets": await bench.send("POST", "/api/v0/secrets/", {"key": "a", "value": "1"}),
        "PUT /api/v0/secrets": await bench.send("PUT", "/api/v0/secrets/", {"key": "a", "value": "2"}),
        "GET /api/v0/secrets": await bench.send("GET", "/api/v0/secrets/"),
        "DELETE /api/v0/secrets": await bench.send("DELETE", "/api/v0/secrets/", {"key": "a"}),
        "POST /api/v0/template": await bench.send("POST", "/api/v0/template/", {"name": "t", "image": "x"}),
        "GET /api/v0/template": await bench.send("GET", "/api/v0/template/"),
        "POST /api/v0/volumes/search": await bench.send("POST", "/api/v0/volumes/search/", {}),
    }
    template = replies["POST /api/v0/template"].json()["template"]["id"]
    replies["DELETE /api/v0/template"] = await bench.send("DELETE", "/api/v0/template/", {"template_id": template})
    volume = replies["POST /api/v0/volumes/search"].json()["offers"][0]["id"]
    rented = await bench.send("PUT", "/api/v0/volumes/", {"id": volume, "size": 20})
    replies["PUT /api/v0/volumes"] = rented
    replies["GET /api/v0/volumes"] = await bench.send("GET", "/api/v0/volumes", query={"owner": "me"})
    number = str(rented.json()["volume_id"])
    replies["DELETE /api/v0/volumes"] = await bench.send("DELETE", "/api/v0/volumes/", {}, query={"id": number})
    return replies


async def test_successful_answers_fit_the_description(bench: Bench) -> None:
    replies = await calls(bench)

    assert {reply.status_code for reply in replies.values()} == {200}
    for operation, reply in replies.items():
        check(operation, reply)


LEFT_OUT = {
    "POST /api/v0/auth/apikeys": "keys are made with the world, not over the wire",
    "DELETE /api/v0/auth/apikeys/{id}": "keys are revoked with the world, not over the wire",
    "POST /api/v0/users": "accounts are made with the world, not over the wire",
    "PUT /api/v0/template": "templates are made and deleted, not edited",
}
NOT_OURS = ("metrics", "machine", "notification", "cloud_integrations", "ipaddrs", "commands", "unlist")
"""Hosts, statistics, transfers: nothing that a renter's workflow touches."""


async def test_every_described_operation_is_answered_or_left_out_with_a_reason(bench: Bench) -> None:
    described = {
        f"{method.upper()} {path}"
        for path, methods in SHAPES["paths"].items()
        for method in methods
        if not any(word in path for word in NOT_OURS)
    }

    assert described == set(await calls(bench)) | set(LEFT_OUT)


async def test_refusals_fit_the_description(bench: Bench) -> None:
    check("PUT /api/v0/asks/{id}", await bench.order(1))
    check("PUT /api/v0/asks/{id}", await bench.order(1, cancel_unavail=False))
    check("PUT /api/v0/asks/{id}", await bench.order(price=1000))
    check("GET /api/v1/instances", await bench.send("GET", "/api/v1/instances/", query={"after_token": "x"}))
    check("DELETE /api/v0/instances/{id}", await bench.send("DELETE", "/api/v0/instances/1/", {}))
    check("PUT /api/v0/instances/bid_price/{id}", await bench.send("PUT", "/api/v0/instances/bid_price/1/", {}))
    check("GET /api/v0/charges", await bench.send("GET", "/api/v0/charges/"))
    check("GET /api/v1/invoices", await bench.send("GET", "/api/v1/invoices/"))
    check("DELETE /api/v0/ssh/{id}", await bench.send("DELETE", "/api/v0/ssh/1/", {}))
    check("PUT /api/v0/instances/request_logs/{id}", await bench.send("PUT", "/api/v0/instances/request_logs/1/", {}))


async def test_a_429_may_have_the_described_form() -> None:
    bench = Bench(switches=Switches(too_many_form="detail"))
    await bench.send("GET", "/api/v1/instances/")
    reply = await bench.send("GET", "/api/v1/instances/")

    assert reply.status_code == 429
    check("GET /api/v1/instances", reply)


@pytest.mark.parametrize("path", sorted(WRONG, key=str))
async def test_the_description_is_wrong_there(path: tuple[str, ...]) -> None:
    """Each correction is needed, and says why."""
    place: Any = SHAPES
    for name in path:
        place = place[name]

    truth, reason = WRONG[path]
    assert place != truth
    assert reason


async def test_instances_fit_in_every_state() -> None:
    for fault in ("stuck_loading", "oci_failure", "crash", "offline", "unknown_status", "frozen"):
        bench = Bench(Fault(fault), switches=without_limits(visibility_delay_s=0.0))
        await bench.rent(env={}, onstart=None, label=None)
        for _ in range(6):
            check("GET /api/v0/instances/{id}", await bench.send("GET", f"/api/v0/instances/{bench.alive[0].id}/"))
            check("GET /api/v1/instances", await bench.send("GET", "/api/v1/instances/"))
            bench.advance(10)
