"""The operator's caps: limits that no yes can exceed. What can't be read stops the server, it is never ignored."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.money import Rate

MAX_PRICE_PER_HOUR: Final = "VASTAI_WORKFLOW_MAX_PRICE_PER_HOUR"
MAX_TOTAL_PER_HOUR: Final = "VASTAI_WORKFLOW_MAX_TOTAL_PER_HOUR"
MAX_INSTANCES: Final = "VASTAI_WORKFLOW_MAX_INSTANCES"
READ_ONLY: Final = "VASTAI_WORKFLOW_READ_ONLY"

_PREFIX: Final = "VASTAI_WORKFLOW_"
_KNOWN: Final = (
    *(MAX_PRICE_PER_HOUR, MAX_TOTAL_PER_HOUR, MAX_INSTANCES, READ_ONLY),
    *(f"{_PREFIX}{name}" for name in ("STATE", "APPROVAL", "LOG_LEVEL", "ORDER")),
)
"""A name besides these is a limit that somebody meant and misspelt. `ORDER` stands in the machines that we rent."""
_DOLLARS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_SWITCH: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits on renting and starting: $/h for one machine, $/h and number for all of them. None is no limit."""

    max_price_per_hour: Rate | None = None
    max_total_per_hour: Rate | None = None
    max_instances: int | None = None
    read_only: bool = False


def caps_from(environment: Mapping[str, str]) -> Caps:
    """The caps that the variables state; Refusal `invalid_argument` for a value or a name that can't be read.

    An empty value is refused too: somebody meant to set a cap.
    """
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name not in _KNOWN:
            raise _unreadable("the environment", name, f"one of {', '.join(_KNOWN)}")
    return Caps(
        max_price_per_hour=_rate(environment, MAX_PRICE_PER_HOUR),
        max_total_per_hour=_rate(environment, MAX_TOTAL_PER_HOUR),
        max_instances=_count(environment, MAX_INSTANCES),
        read_only=_switch(environment, READ_ONLY),
    )


def _rate(environment: Mapping[str, str], name: str) -> Rate | None:
    value = environment.get(name)
    if value is None:
        return None
    if not _DOLLARS.fullmatch(value.strip()):
        raise _unreadable(name, value, "dollars per hour such as 0.50")
    return Rate.of(value.strip())


def _count(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    if value is None:
        return None
    if not _WHOLE.fullmatch(value.strip()):
        raise _unreadable(name, value, "a whole number such as 4")
    return int(value)


def _switch(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name)
    if value is None:
        return False
    if value.strip().lower() not in _SWITCH:
        raise _unreadable(name, value, f"one of {', '.join(_SWITCH)}")
    return _SWITCH[value.strip().lower()]


def _unreadable(name: str, value: str, allowed: str) -> Refusal:
    return Refusal(
        "invalid_argument",
        f"{name}: got {value[:40]!r}, allowed {allowed}",
        next_step="correct or unset the variable, then start the server again",
    )
