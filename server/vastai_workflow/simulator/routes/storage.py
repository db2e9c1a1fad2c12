"""Volumes and templates: enough to list, rent, make and delete them."""

import re
from decimal import Decimal
from typing import cast

from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply, fields, ok
from vastai_workflow.simulator.query import filtered, number
from vastai_workflow.simulator.routes.reading import json_parameter
from vastai_workflow.simulator.rows import offer_row

VOLUME_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
MOST_ROWS = 64


def _volume_offers(call: Call) -> list[JsonObject]:
    """One volume ask per verified machine, under the id that its offers name."""
    world = call.world
    rows: dict[int, JsonObject] = {}
    for ask in world.market.asks.values():
        row = offer_row(world, ask, "ondemand", Decimal(1))
        row["id"] = row["ask_contract_id"] = row["avail_vol_ask_id"]
        row["disk_space"] = row["avail_vol_size"]
        row["driver_vers"], row["vericode"] = row["driver_version"], row["verification"]
        row["geolocode"] = ask.machine.place.code
        if row["verification"] == "verified":
            rows[row["id"]] = row
    return list(rows.values())


def _search_volumes(call: Call) -> Reply:
    least = call.body.get("disk_space")
    filters = {"disk_space": least} if least else {}
    limit = int(number(call.body.get("limit")) or MOST_ROWS)
    return Reply({"offers": filtered(_volume_offers(call), filters)[: min(limit, MOST_ROWS)]})


def _volumes(call: Call) -> Reply:
    return Reply({"volumes": list(call.account.volumes.values())})


def _rent_volume(call: Call) -> Reply:
    offer = next((row for row in _volume_offers(call) if row["id"] == call.body.get("id")), None)
    if offer is None:
        raise Refused(404, "no_such_ask", "No such volume offer.")
    number_ = call.world.new_id()
    name = str(call.body.get("name") or f"V.{number_}")
    if call.body.get("name") and not VOLUME_NAME.fullmatch(name):
        raise Refused(422, "invalid_args", "Invalid volume name.")
    size = number(call.body.get("size")) or 15.0
    call.account.volumes[number_] = cast(
        "dict[str, object]",
        {
            **{key: offer[key] for key in offer if key not in {"search", "instance", "duration"}},
            "id": number_,
            "label": name,
            "disk_space": size,
            "status": "active",
            "start_date": call.world.time,
            "duration": 0.0,
            "instances": [],
        },
    )
    return ok(volume_id=number_, volume_name=name)


def _delete_volume(call: Call) -> Reply:
    wanted = number(call.query.get("id") or call.body.get("id"))
    if wanted is None or call.account.volumes.pop(int(wanted), None) is None:
        raise Refused(404, "no_such_volume", "No such volume.")
    return ok()


def _templates(call: Call) -> Reply:
    found = filtered(call.account.templates.values(), fields(json_parameter(call, "select_filters", {})))
    return ok(templates_found=len(found), templates=found)


def _make_template(call: Call) -> Reply:
    name, image = call.body.get("name"), call.body.get("image")
    if not name or not image:
        raise Refused(400, "invalid_args", "name and image are required")
    number_ = call.world.new_id()
    template: dict[str, object] = {
        **call.body,
        "id": number_,
        "hash_id": call.world.token(f"template {number_}")[:32],
        "creator_id": call.account.id,
        "created_at": call.world.time,
    }
    call.account.templates[number_] = template
    return ok(msg="Template created.", template=template)


def _delete_template(call: Call) -> Reply:
    wanted = number(call.body.get("template_id"))
    if wanted is None or call.account.templates.pop(int(wanted), None) is None:
        raise Refused(404, "no_such_template", "No such template.")
    return ok()


ENDPOINTS = (
    Endpoint("POST", "/api/v0/volumes/search", "search_volumes", _search_volumes, "misc", interval_s=5.5),
    Endpoint("GET", "/api/v0/volumes", "volumes", _volumes, "instance_read", interval_s=5.5),
    Endpoint("PUT", "/api/v0/volumes", "rent_volume", _rent_volume, "instance_write", interval_s=5.5),
    Endpoint("DELETE", "/api/v0/volumes", "delete_volume", _delete_volume, "instance_write", interval_s=5.5),
    Endpoint("GET", "/api/v0/template", "templates", _templates, "user_read", interval_s=3.0),
    Endpoint("POST", "/api/v0/template", "make_template", _make_template, "user_write", interval_s=3.0),
    Endpoint("DELETE", "/api/v0/template", "delete_template", _delete_template, "user_write", interval_s=3.0),
)
