"""Filters, order and coercion as the provider applies them to offers and instances."""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from vastai_workflow.simulator.exchange import JsonObject, Refused

ALIASES: Mapping[str, str] = {
    "reliability2": "reliability",
    "dphtotal": "dph_total",
    "dph": "dph_total",
    "gpu_totalram": "gpu_total_ram",
    "ubuntu_version": "os_version",
    "driver_version": "driver_vers",
    "datacenter": "hosting_type",
    "cuda_vers": "cuda_max_good",
    "display_active": "gpu_display_active",
    "dlperf_usd": "dlperf_per_dphtotal",
    "flops_usd": "flops_per_dphtotal",
    "target_reliability": "expected_reliability",
}
"""Other names that search filters and orders may use."""

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
OPERATORS = frozenset({*_COMPARE, "in", "notin"})


def number(value: object) -> float | None:
    """The value as a number, as the service coerces it: booleans and numeric text count."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return {"true": 1.0, "false": 0.0}.get(value.lower())
    return None


def matches(value: object, condition: Mapping[str, object]) -> bool:
    """Whether a field's value satisfies all operators of its condition; unknown operators say nothing."""
    for name, wanted in condition.items():
        if name in {"in", "notin"}:
            found = isinstance(wanted, list) and any(_same(value, one) for one in cast("list[object]", wanted))
            if found is (name == "notin"):
                return False
        elif name in _COMPARE and not _compare(name, value, wanted):
            return False
    return True


def _same(value: object, wanted: object) -> bool:
    return _compare("eq", value, wanted)


def _compare(name: str, value: object, wanted: object) -> bool:
    if value is None or wanted is None:
        return (name == "eq" and value is wanted) or (name == "neq" and value is not wanted)
    left, right = number(value), number(wanted)
    if left is not None and right is not None:
        return _COMPARE[name](left, right)
    return _COMPARE[name](str(value), str(wanted))


def filtered(rows: Iterable[JsonObject], filters: Mapping[str, object]) -> list[JsonObject]:
    """The rows that satisfy every condition."""
    conditions = [(name, as_condition(value)) for name, value in filters.items()]
    return [row for row in rows if all(matches(row.get(name), condition) for name, condition in conditions)]


def as_condition(value: object) -> Mapping[str, object]:
    """A condition; a bare value means equality."""
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {"eq": value}


def ordered(rows: list[JsonObject], order: Iterable[tuple[str, str]]) -> list[JsonObject]:
    """The rows by several fields; missing values come last in either direction."""
    for name, direction in reversed(list(order)):
        down = direction == "desc"
        present = [row for row in rows if row.get(name) is not None]
        absent = [row for row in rows if row.get(name) is None]
        present.sort(key=lambda row, name=name: _sort_key(row[name]), reverse=down)
        rows = present + absent
    return rows


def _sort_key(value: object) -> tuple[float, str]:
    as_number = number(value)
    return (0.0, str(value)) if as_number is None else (as_number, "")


def pairs(value: object) -> list[tuple[str, str]]:
    """An `order` as the service takes it: a list of pairs, or one bare pair."""
    if not isinstance(value, list):
        return []
    items = cast("list[object]", value)
    if items and isinstance(items[0], str):
        items = [items]
    return [
        (str(pair[0]), str(pair[1]) if len(pair) > 1 else "asc")
        for pair in (cast("list[object]", item) for item in items if isinstance(item, list))
        if pair
    ]


def known_columns(names: Iterable[str], known: frozenset[str]) -> None:
    """Refuse a column that cannot be searched."""
    for name in names:
        if name not in known:
            raise Refused(400, "invalid_request", f"Error in query parameters: {name} is not a valid search key")
