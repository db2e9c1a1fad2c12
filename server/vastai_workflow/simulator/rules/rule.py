"""The shape of a fault's rule, and the exchange it may spoil."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vastai_workflow.simulator.exchange import Call, Refused, Reply, fields
from vastai_workflow.simulator.instances import Instance

Value = bool | int | float | str
Settings = Mapping[str, Value]


@dataclass(slots=True)
class Exchange:
    """One call on its way through the faults."""

    call: Call
    perform: Callable[[], Reply]
    """Lets the call take effect; gives the provider's own reply, refusals too."""
    reply: Reply | None = None
    """Set before the effect, it replaces the effect."""
    effect_after_s: float = 0.0
    """How late the call takes effect."""
    reply_after_s: float = 0.0
    """How late the reply comes after the effect."""
    cut: Literal["", "before_reply", "in_body"] = ""
    """Where the connection breaks."""

    @property
    def answer(self) -> Reply:
        """The reply, once there is one."""
        if self.reply is None:
            raise LookupError("this rule runs before the reply")
        return self.reply

    @property
    def rented(self) -> Instance | None:
        """The instance that this call has rented, if it has."""
        number = fields(self.reply.body).get("new_contract") if self.reply else None
        return self.call.world.instances.get(number) if isinstance(number, int) else None

    @property
    def target(self) -> Instance | None:
        """The instance that this call is about: the rented one, or the one in the path."""
        return self.rented or self.call.world.instances.get(int(self.call.path.get("id", 0)))


Act = Callable[[Exchange, Settings], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a fault does before or after the effect, which operation it is made for, and its settings' defaults."""

    about: str
    operation: str = "create"
    before: Act | None = None
    after: Act | None = None
    settings: Settings = field(default_factory=dict[str, Value])
    choices: Mapping[str, tuple[Value, ...]] = field(default_factory=dict[str, tuple[Value, ...]])
    """The values that a setting may have, where not every value makes sense."""


def refused(refusal: Refused) -> Reply:
    """A refusal as a reply."""
    return Reply(refusal.body, refusal.status)


def number(settings: Settings, name: str) -> float:
    """A setting as a number."""
    return float(settings[name])
