"""Charges, invoices in both versions, as they appear some time after the use."""

from decimal import Decimal

from vastai_workflow.simulator.billing import Line
from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply, fields, items, ok
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.query import number
from vastai_workflow.simulator.routes.reading import json_parameter, page

DEFAULT_ROWS = 100
MOST_ROWS = 500


def _range(filters: JsonObject, name: str) -> tuple[float, float] | None:
    bounds = fields(filters.get(name))
    since, until = number(bounds.get("gte")), number(bounds.get("lte"))
    return None if since is None or until is None else (since, until)


def _part(line: Line, since: float, until: float) -> Line | None:
    """The part of a line inside a range."""
    start, end = max(line.start, since), min(line.end, until)
    return Line(line.kind, start, end, line.rate, line.gigabytes) if end >= start else None


def _charge(instance: Instance, since: float, until: float) -> JsonObject | None:
    parts = [part for part in (_part(line, since, until) for line in instance.meter.lines) if part is not None]
    details: list[JsonObject] = [
        {
            "start": int(part.start),
            "end": int(part.end),
            "type": part.kind,
            "source": None,
            "description": part.description(until),
            "amount": float(part.amount(until)),
            "metadata": {},
            "items": [],
        }
        for part in parts
    ]
    amount = sum((part.amount(until) for part in parts), Decimal(0))
    if not amount:
        return None
    return {
        "id": instance.id,
        "start": int(min(part.start for part in parts)),
        "end": int(max(part.end for part in parts)),
        "type": "instance",
        "source": f"instance-{instance.id}",
        "description": f"Instance {instance.id} Charges",
        "amount": float(amount),
        "metadata": {"label": instance.label or ""},
        "items": details,
    }


def _paged(call: Call, rows: list[JsonObject]) -> Reply:
    if call.query.get("latest_first") == "true":
        rows.reverse()
    asked = number(call.query.get("limit"))
    limit = DEFAULT_ROWS if asked is None else max(1, min(int(asked), MOST_ROWS))
    shown, token = page(rows, call.query.get("after_token"), limit)
    results = [{name: value for name, value in row.items() if name != "id"} for row in shown]
    return ok(count=len(results), total=len(rows), next_token=token, results=results)


def _charges(call: Call) -> Reply:
    filters = fields(json_parameter(call, "select_filters", {}))
    bounds = _range(filters, "day")
    if bounds is None:
        raise Refused(400, "invalid_request", "Must provide both 'day' gte and lte filters as timestamps.")
    since, until = bounds[0], min(bounds[1], call.world.time - call.world.switches.charges_lag_s)
    kinds = items(fields(filters.get("type")).get("in")) or ["instance"]
    rows = [_charge(one, since, until) for one in call.world.everything(call.account)] if "instance" in kinds else []
    return _paged(call, [row for row in rows if row is not None])


def _invoices(call: Call) -> Reply:
    filters = fields(json_parameter(call, "select_filters", {}))
    bounds = _range(filters, "when")
    if bounds is None:
        return Reply(
            {"success": False, "error": "Invalid date range", "count": 0, "total": 0, "next_token": None, "results": []}
        )
    services = items(fields(filters.get("service")).get("in"))
    rows: list[JsonObject] = [
        {
            "id": one.id,
            "start": one.at,
            "end": one.at,
            "type": "credit",
            "source": one.service,
            "description": "Credit purchase",
            "amount": float(-one.amount),
            "metadata": {"invoice_id": one.id, "service": one.service},
            "items": [],
        }
        for one in call.account.payments
        if bounds[0] <= one.at <= bounds[1] and (not services or one.service in services)
    ]
    return _paged(call, rows)


def _old_invoices(call: Call) -> Reply:
    until = call.world.time - call.world.switches.charges_lag_s
    rows: list[JsonObject] = []
    total = Decimal(0)
    for instance in call.world.everything(call.account):
        for line in instance.meter.lines:
            amount = line.amount(until)
            total += amount
            if amount:
                rows.append(
                    {
                        "type": "charge",
                        "timestamp": min(line.end, until),
                        "description": f"Instance {instance.id} {line.kind}: {line.description(until)}",
                        "instance_id": instance.id,
                        "quantity": f"{max(min(line.end, until) - line.start, 0) / 3600:.6f}",
                        "rate": str(line.rate),
                        "amount": f"{amount:.6f}",
                    }
                )
    current: JsonObject = {
        "charges": float(total),
        "service_fee": 0,
        "total": float(total),
        "credit": float(call.account.credit),
    }
    return Reply({"invoices": rows, "current": current})


ENDPOINTS = (
    Endpoint("GET", "/api/v0/charges", "charges", _charges, "billing_read", interval_s=1.0),
    Endpoint("GET", "/api/v1/invoices", "invoices", _invoices, "billing_read", interval_s=3.0),
    Endpoint("GET", "/api/v0/users/me/invoices", "old_invoices", _old_invoices, "billing_read", interval_s=2.0),
)
