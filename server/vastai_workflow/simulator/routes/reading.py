"""Read instances: the paged list, one, counts and filters, and the old list that is gone."""

import base64
import binascii
import json
from collections import Counter
from typing import Any, cast

from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply, fields, items, ok
from vastai_workflow.simulator.query import filtered, known_columns, number, ordered
from vastai_workflow.simulator.rows import STORED_COLUMNS, columns, instance_row

PAGE_ROWS = 25
ROWS_FOR_NO_LIMIT = 5


def json_parameter(call: Call, name: str, default: Any) -> Any:
    """A query parameter that carries JSON."""
    text = call.query.get(name)
    if not text:
        return default
    try:
        return json.loads(text)
    except ValueError:
        raise Refused(400, "invalid_request", f"Error in query parameters: {name} is not valid JSON") from None


def to_token(values: JsonObject) -> str:
    """A page token: what the last row had in the ordered columns."""
    return base64.b64encode(json.dumps({"values": values}).encode()).decode()


def from_token(token: str) -> JsonObject:
    """The values of a page token."""
    try:
        decoded = json.loads(base64.b64decode(token, validate=True))
        return cast("JsonObject", decoded["values"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise Refused(400, "invalid_token", "Invalid pagination token") from None


def page(rows: list[JsonObject], token: str | None, limit: int) -> tuple[list[JsonObject], str | None]:
    """The rows after a token, and the token of the next page if there is one; rows carry `id`."""
    if token:
        last = from_token(token).get("id")
        ids = [row["id"] for row in rows]
        if last in ids:
            rows = rows[ids.index(last) + 1 :]
        elif isinstance(last, int):
            rows = [row for row in rows if row["id"] > last]
        else:
            raise Refused(400, "invalid_token", "Invalid pagination token")
    shown = rows[:limit]
    return shown, to_token({"id": shown[-1]["id"]}) if len(rows) > limit else None


def _order(call: Call) -> list[tuple[str, str]]:
    columns_ = [fields(one) for one in items(json_parameter(call, "order_by", []))]
    order = [(str(one.get("col")), str(one.get("dir", "asc"))) for one in columns_]
    known_columns((name for name, _ in order), STORED_COLUMNS)
    return [*order, ("id", "asc")]


def _list(call: Call) -> Reply:
    filters = fields(json_parameter(call, "select_filters", {}))
    known_columns(filters, STORED_COLUMNS)
    every = [instance_row(call.world, one) for one in call.world.of_account(call.account)]
    found = ordered(filtered(every, filters), _order(call))
    wanted = number(call.query.get("limit"))
    limit = PAGE_ROWS if wanted is None else min(int(wanted), PAGE_ROWS)
    shown, token = page(found, call.query.get("after_token"), limit if limit > 0 else ROWS_FOR_NO_LIMIT)
    names = json_parameter(call, "select_cols", ["*"])
    return ok(
        instances_found=len(found),
        total_instances=len(every),
        label_counts=dict(Counter(row["label"] or "" for row in found)),
        next_token=token,
        instances=[columns(row, names) for row in shown],
    )


def _show(call: Call) -> Reply:
    for one in call.world.of_account(call.account):
        if one.id == call.id:
            row = instance_row(call.world, one)
            del row["volume_info"]  # reported to appear only in the list
            return Reply({"instances": row})
    if call.world.switches.unknown_instance == "404":
        raise Refused(404, "no_such_instance", f"Instance {call.id} not found.")
    return Reply({"instances": None})


def _old_list(_: Call) -> Reply:
    raise Refused(410, "deprecated_endpoint", "/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead.")


def _filters(call: Call) -> Reply:
    names = ("actual_status", "verification", "gpu_name")
    rows = [instance_row(call.world, one) for one in call.world.of_account(call.account)]
    distinct = {tuple(row[name] for name in names) for row in rows}
    ordered_rows = sorted(distinct, key=str)
    return Reply({"filters": [dict(zip(names, values, strict=True)) for values in ordered_rows]})


def _count(call: Call) -> Reply:
    return ok(count=len(call.world.of_account(call.account)))


def _counts(call: Call) -> Reply:
    return ok(instances=len(call.world.of_account(call.account)), volumes=len(call.account.volumes))


ENDPOINTS = (
    Endpoint("GET", "/api/v1/instances", "list", _list, "instance_read", interval_s=1.0),
    Endpoint("GET", "/api/v1/counts", "counts", _counts, "instance_read", interval_s=1.0),
    Endpoint("GET", "/api/v0/instances", "old_list", _old_list, "instance_read"),
    Endpoint("GET", "/api/v0/instances/filters", "filters", _filters, "instance_read", interval_s=1.0),
    Endpoint("GET", "/api/v0/instances/count", "count", _count, "instance_read", interval_s=1.0),
    Endpoint("GET", "/api/v0/instances/{id:int}", "show", _show, "instance_read", interval_s=2.0),
)
