"""Faults of reads: what a list forgets, keeps too long, or never ends."""

from collections.abc import Mapping

from vastai_workflow.simulator.exchange import JsonObject, fields, items
from vastai_workflow.simulator.rows import instance_row
from vastai_workflow.simulator.rules.rule import Exchange, Rule, Settings, number


def _body(exchange: Exchange) -> JsonObject:
    body = fields(exchange.answer.body)
    return body if "instances" in body else {"instances": []}


def _show(body: JsonObject, rows: list[JsonObject], total: int | None = None) -> None:
    body["instances"] = rows
    body["instances_found"] = body["total_instances"] = len(rows) if total is None else total


def _stale(exchange: Exchange, settings: Settings) -> None:
    """As it was some seconds ago: without what came since, and with what went since."""
    world, call = exchange.call.world, exchange.call
    body, before = _body(exchange), world.time - number(settings, "seconds")
    rows: list[JsonObject] = [row for row in items(body["instances"]) if row["start_date"] <= before]
    shown = {row["id"] for row in rows}
    for instance in world.everything(call.account):
        went = instance.ended_at is not None and instance.ended_at > before >= instance.created_at
        if went and instance.id not in shown:
            row = instance_row(world, instance)
            rows.append({**row, "actual_status": "running", "cur_state": "running", "next_state": "running"})
    _show(body, rows)


def _empty(exchange: Exchange, _: Settings) -> None:
    body = _body(exchange)
    _show(body, [])
    body["next_token"], body["label_counts"] = None, {}


def _null(exchange: Exchange, _: Settings) -> None:
    _body(exchange)["instances"] = None


def _truncated(exchange: Exchange, settings: Settings) -> None:
    body = _body(exchange)
    body["instances"] = items(body["instances"])[: int(number(settings, "rows"))]
    body["next_token"] = None


def _bad_token(exchange: Exchange, _: Settings) -> None:
    _body(exchange)["next_token"] = "bm90IGEgdG9rZW4="  # noqa: S105 - a page token, not a secret


def _looping_token(exchange: Exchange, _: Settings) -> None:
    _body(exchange)["next_token"] = "eyJ2YWx1ZXMiOiB7ImlkIjogMH19"  # noqa: S105 - a page token: after id 0


def _hidden(exchange: Exchange, settings: Settings) -> None:
    if exchange.rented is not None:
        exchange.rented.visible_at = exchange.call.world.time + number(settings, "seconds")


RULES: Mapping[str, Rule] = {
    "stale_list": Rule(
        "the list is as it was `seconds` ago", operation="list", after=_stale, settings={"seconds": 60.0}
    ),
    "empty_list": Rule("the list says that there is nothing", operation="list", after=_empty),
    "null_list": Rule("the list has null for its rows", operation="list", after=_null),
    "truncated_list": Rule(
        "the list ends after `rows` rows, though the total says more",
        operation="list",
        after=_truncated,
        settings={"rows": 0},
    ),
    "bad_token": Rule("the next page's token is refused", operation="list", after=_bad_token),
    "looping_token": Rule("the next page's token leads to the first page", operation="list", after=_looping_token),
    "hidden": Rule("the new contract is missing from reads for `seconds`", after=_hidden, settings={"seconds": 60.0}),
}
