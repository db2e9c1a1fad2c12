"""Paths, bodies and answers beside the provider's own description, where it does not lag behind the service."""

import json
from typing import Any

import jsonschema
import pytest
from pydantic import SecretStr

from tests.vast.fakes import DATA, create_request, instance_row, listed, offer_row
from vastai_workflow.vast import endpoints, models
from vastai_workflow.vast.endpoints import ENDPOINTS, Endpoint
from vastai_workflow.vast.renting import create_body
from vastai_workflow.vast.wire import answer

SHAPES: dict[str, Any] = json.loads((DATA / "api-shapes.json").read_text())
UNDESCRIBED = {endpoints.GPU_NAMES}
"""Used by the official client, missing from the description."""


def operation(endpoint: Endpoint) -> dict[str, Any]:
    return SHAPES["paths"][f"/api/{endpoint.version}{endpoint.path}".rstrip("/")][endpoint.method.lower()]


def checked(value: object, schema: dict[str, Any]) -> None:
    resolved = {**schema, "components": {"schemas": SHAPES["schemas"]}}
    jsonschema.Draft202012Validator(resolved).validate(value)  # pyright: ignore[reportUnknownMemberType] # loosely typed


def made_from(schema: Any) -> Any:
    """The plainest value of a shape."""
    if schema is None:
        return {}
    if "$ref" in schema:
        return made_from(SHAPES["schemas"][schema["$ref"].rpartition("/")[2]])
    kinds: Any = schema.get("type", "object")
    kind: Any = kinds if isinstance(kinds, str) else kinds[0]
    match kind:
        case "object":
            return {name: made_from(part) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [made_from(schema.get("items", {}))]
        case "string":
            return "running"
        case "boolean":
            return True
        case _:
            return 7


@pytest.mark.parametrize("endpoint", [one for one in ENDPOINTS if one not in UNDESCRIBED], ids=lambda one: one.name)
def test_every_endpoint_is_described_by_the_provider(endpoint: Endpoint) -> None:
    assert operation(endpoint)["responses"]["200"]


def test_the_create_fits_the_described_body_where_that_is_up_to_date() -> None:
    """The description still says that env is a text and lacks the runtype that the official client sends."""
    body = create_body(create_request(env={"A": SecretStr("b")}, onstart="echo hi"))
    given = {name: value for name, value in body.items() if value is not None and name not in ("env", "runtype")}
    checked(given, operation(endpoints.CREATE)["body"])
    assert set(given) - {"client_id"} <= set(operation(endpoints.CREATE)["body"]["properties"])


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (endpoints.START, {"state": "running"}),
        (endpoints.STOP, {"state": "stopped"}),
        (endpoints.ADD_ACCOUNT_KEY, {"ssh_key": "ssh-ed25519 AAAA"}),
        (endpoints.ATTACH_KEY, {"ssh_key": "ssh-ed25519 AAAA"}),
        (endpoints.LOGS, {"tail": "5", "daemon_logs": "true"}),
    ],
    ids=lambda value: value.name if isinstance(value, Endpoint) else "",
)
def test_bodies_fit_the_described_ones(endpoint: Endpoint, body: dict[str, Any]) -> None:
    checked(body, operation(endpoint)["body"])


def test_the_fakes_of_these_tests_fit_the_described_answers() -> None:
    page = json.loads(listed(instance_row()).content)
    checked(page, operation(endpoints.INSTANCES)["responses"]["200"])
    checked({"offers": [offer_row(1)]}, operation(endpoints.OFFERS)["responses"]["200"])


READERS = [
    (endpoints.INSTANCE, models.single_instance),
    (endpoints.START, models.done),
    (endpoints.ADD_ACCOUNT_KEY, models.done),
    (endpoints.DESTROY, models.done),
    (endpoints.ACCOUNT_KEYS, models.account_keys),
    (endpoints.LOGS, models.result_url),
]


@pytest.mark.parametrize(("endpoint", "read"), READERS, ids=[endpoint.name for endpoint, _ in READERS])
def test_an_answer_in_the_described_shape_is_read(endpoint: Endpoint, read: Any) -> None:
    described = made_from(operation(endpoint)["responses"]["200"])
    if endpoint == endpoints.ACCOUNT_KEYS:
        described[0]["deleted_at"] = None
    read(answer(200, {}, json.dumps(described).encode()).body)


@pytest.mark.parametrize(
    ("endpoint", "name", "read"),
    [
        (endpoints.INSTANCES, "instances", models.instance),
        (endpoints.CHARGES, "results", models.charge),
        (endpoints.INVOICES, "results", models.charge),
    ],
    ids=lambda value: value.name if isinstance(value, Endpoint) else "",
)
def test_a_row_in_the_described_shape_is_read(endpoint: Endpoint, name: str, read: Any) -> None:
    described = made_from(operation(endpoint)["responses"]["200"])
    for row in models.rows(answer(200, {}, json.dumps(described).encode()).body, name):
        read(row)
