"""Search and rent: `/bundles/`, `/search/asks/`, `/asks/`, `/launch_instance/` and the names of cards."""

import json
from decimal import Decimal
from typing import Any, cast

from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply, fields, items, ok
from vastai_workflow.simulator.hardware import MODELS
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.query import ALIASES, as_condition, known_columns, matches, number, ordered, pairs
from vastai_workflow.simulator.renting import rent
from vastai_workflow.simulator.rows import offer_row

MOST_ROWS = 64
DEFAULT_ALLOCATED_GB = 8.0
_NOT_FILTERS = frozenset(
    {"order", "limit", "type", "allocated_storage", "select_cols", "q", "extra_ids", "gpu_option", "client_id"}
    | {"show_incompatible", "sort_option", "template_id", "disable_bundling", "target_reliability"}
)
_SERVER_DEFAULTS: JsonObject = {"verified": {"eq": True}, "rentable": {"eq": True}, "rented": {"eq": False}}
_SCALED = {"gpu_ram_GB": "gpu_ram", "cpu_ram_GB": "cpu_ram", "gpu_totalram_GB": "gpu_total_ram"}


def find_offers(call: Call, query: JsonObject) -> list[JsonObject]:
    """The offers that a search body asks for, at most 64."""
    world = call.world
    kind = {"on-demand": "ondemand", "interruptible": "bid"}.get(str(query.get("type")), str(query.get("type")))
    allocated = number(query.get("allocated_storage"))
    gigabytes = Decimal(str(DEFAULT_ALLOCATED_GB if allocated is None else allocated))
    filters = {name: value for name, value in query.items() if name not in _NOT_FILTERS}
    if world.switches.search_defaults:
        filters = {**_SERVER_DEFAULTS, **filters}
    rows = [offer_row(world, ask, kind, gigabytes) for ask in world.market.asks.values()]
    known = frozenset(rows[0]) | set(ALIASES) | set(_SCALED) | {"verified"} if rows else frozenset[str]()
    if rows and world.switches.unknown_filters == "refused":
        known_columns(filters, known)
    conditions = {name: as_condition(value) for name, value in filters.items() if name in known}
    if "id" in conditions and not world.switches.id_filter_matches:
        return []
    rows = [row for row in rows if all(matches(_value(row, name), cond) for name, cond in conditions.items())]
    order = [(ALIASES.get(name, name), direction) for name, direction in pairs(query.get("order"))]
    limit = number(query.get("limit"))
    most = MOST_ROWS if limit is None or limit <= 0 else min(int(limit), MOST_ROWS)
    return ordered(rows, order)[:most]


def _value(row: JsonObject, name: str) -> object:
    """A row's value in the form that filters compare."""
    if name == "verified":
        return row["verification"] == "verified"
    if name == "geolocation":
        return row["geolocation"][-2:]
    if name in _SCALED:
        return row[_SCALED[name]] / 1000
    return row.get(ALIASES.get(name, name))


def _search(call: Call) -> Reply:
    query = call.body
    text = call.query.get("q")
    if text is not None:
        try:
            query = json.loads(text)
        except ValueError:
            query = None
        if not isinstance(query, dict):
            raise Refused(400, "invalid_request", "Invalid json body")
    return Reply({"offers": find_offers(call, cast("JsonObject", query))})


def _search_asks(call: Call) -> Reply:
    query: Any = call.body.get("q")
    if not isinstance(query, dict):
        raise Refused(400, "invalid_request", "Invalid json body")
    return Reply({"offers": find_offers(call, cast("JsonObject", query))})


def _rented(instance: Instance, ask_id: int) -> Reply:
    return ok(new_contract=instance.id, instance_api_key=instance.api_key.secret, ask_id=ask_id)


def _create(call: Call) -> Reply:
    return _rented(rent(call.world, call.account, call.id, call.body), call.id)


def _create_bulk(call: Call) -> Reply:
    """Rent several asks with one body; each has its own result."""
    results: list[JsonObject] = []
    for ask_id in [int(one) for one in items(call.body.get("ids"))][:MOST_ROWS]:
        try:
            instance = rent(call.world, call.account, ask_id, call.body)
        except Refused as refusal:
            results.append(refusal.body)
        else:
            results.append({"success": True, "ask_id": ask_id, "new_contract": instance.id})
    rented = [one["new_contract"] for one in results if one["success"]]
    return ok(new_contracts=rented, results=results)


def _launch(call: Call) -> Reply:
    """Search on the server and rent the first offer that can be rented."""
    found = find_offers(call, fields(call.body.get("q")))
    for row in found:
        try:
            return _rented(rent(call.world, call.account, row["id"], call.body), row["id"])
        except Refused as refusal:
            if "no_such_ask" not in refusal.body["msg"]:
                raise
    raise Refused(404, "no_offers", "No offers match the query.")


def _gpu_names(_: Call) -> Reply:
    return Reply({"gpu_names": sorted(model.name for model in MODELS)})


def _gpu_types(_: Call) -> Reply:
    return Reply({"gpu_types": [{"name": model.name, "gpu_ram": model.ram} for model in MODELS]})


ENDPOINTS = (
    Endpoint("POST", "/api/v0/bundles", "search", _search, "misc", per_minute=10),
    Endpoint("GET", "/api/v0/bundles", "search", _search, "misc", per_minute=10),
    Endpoint("PUT", "/api/v0/search/asks", "search", _search_asks, "misc", per_minute=10),
    Endpoint("PUT", "/api/v0/asks/{id:int}", "create", _create, "instance_write", interval_s=4.5, penalty_s=12.0),
    Endpoint("POST", "/api/v0/asks/bulk", "create_bulk", _create_bulk, "instance_write", interval_s=4.5),
    Endpoint("PUT", "/api/v0/launch_instance", "launch", _launch, "misc", interval_s=5.0),
    Endpoint("GET", "/api/v0/gpu_names/unique", "gpu_names", _gpu_names),
    Endpoint("GET", "/api/v0/gpu_types", "gpu_types", _gpu_types),
)
