"""Named misbehaviour on schedule: "the third create takes effect, then its reply is lost".

Nothing here is random: a fault says which operation it meets, which of its calls, and how many in a row. Calls are
counted from the moment the fault is there; calls that were refused for their key or their frequency do not count.
`FAULTS` lists every name with what it does; each is one small rule in `rules/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vastai_workflow.simulator.endpoints import OPERATIONS
from vastai_workflow.simulator.exchange import Call, Refused
from vastai_workflow.simulator.rules import fates, lies, lists, replies
from vastai_workflow.simulator.rules.rule import Rule, Settings, Value

FAULTS: Mapping[str, Rule] = {**replies.RULES, **lists.RULES, **lies.RULES, **fates.RULES}
"""Every fault by its name."""
ANY_OPERATION = "*"


class Fault:
    """One scheduled fault: from the `nth` call of an operation on, `times` calls (0 is all of them).

    `operation` is the simulator's name of it (`create`, `list`, `start`, ...; `*` is any); without one the fault meets
    the operation it is made for. Raises `ValueError` for an unknown name, operation or setting.
    """

    def __init__(self, name: str, *, operation: str = "", nth: int = 1, times: int = 1, **settings: Value) -> None:
        rule = FAULTS.get(name)
        if rule is None:
            msg = f"got the fault {name!r}, allowed: {', '.join(sorted(FAULTS))}"
            raise ValueError(msg)
        if operation not in {"", ANY_OPERATION, *OPERATIONS}:
            allowed = ", ".join((ANY_OPERATION, *sorted(OPERATIONS)))
            msg = f"got operation={operation} for the fault {name!r}, allowed: {allowed}"
            raise ValueError(msg)
        unknown = sorted(set(settings) - set(rule.settings))
        if unknown:
            allowed = ", ".join(sorted(rule.settings)) or "none"
            msg = f"got the setting {unknown[0]!r} for the fault {name!r}, allowed: {allowed}"
            raise ValueError(msg)
        for key, allowed_values in rule.choices.items():
            if key in settings and settings[key] not in allowed_values:
                allowed = ", ".join(str(value) for value in allowed_values)
                msg = f"got {key}={settings[key]} for the fault {name!r}, allowed: {allowed}"
                raise ValueError(msg)
        if nth < 1 or times < 0:
            msg = f"got nth={nth} and times={times}, allowed: nth 1 or more, times 0 or more"
            raise ValueError(msg)
        self.name = name
        self.operation = operation or rule.operation
        self.nth = nth
        self.times = times
        self.rule = rule
        self.settings: Settings = {**rule.settings, **settings}

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """A fault as the command line writes it: `NAME[:k=v]...`."""
        name, *parts = text.split(":")
        settings: dict[str, Value] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals:
                msg = f"got {part!r} in the fault {text!r}, expected key=value"
                raise ValueError(msg)
            settings[key] = _value(value)
        return cls.from_settings(name, settings)

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, Value]) -> "Fault":
        """A fault from one flat mapping, as it comes from outside."""
        own = dict(settings)
        operation, nth, times = own.pop("operation", ""), own.pop("nth", 1), own.pop("times", 1)
        return cls(name, operation=str(operation), nth=int(nth), times=int(times), **own)

    def __repr__(self) -> str:
        return f"Fault({self.name!r}, operation={self.operation!r}, nth={self.nth}, times={self.times})"


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


@dataclass(slots=True)
class _Armed:
    fault: Fault
    seen: int = 0

    def meets(self, call: Call) -> bool:
        """Count this call if it is one of the fault's; whether the fault strikes."""
        if self.fault.operation not in {ANY_OPERATION, call.operation}:
            return False
        self.seen += 1
        last = float("inf") if self.fault.times == 0 else self.fault.nth + self.fault.times - 1
        return self.fault.nth <= self.seen <= last


class Schedule:
    """All faults that are armed."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._armed = [_Armed(fault) for fault in faults]

    def add(self, fault: Fault) -> None:
        """Arm one more."""
        self._armed.append(_Armed(fault))

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def striking(self, call: Call) -> list[Fault]:
        """The faults that strike this call, in the order they were armed."""
        return [armed.fault for armed in self._armed if armed.meets(call)]


def as_refusal(error: ValueError) -> Refused:
    """A fault that cannot be, as an answer."""
    return Refused(400, "invalid_fault", str(error))
