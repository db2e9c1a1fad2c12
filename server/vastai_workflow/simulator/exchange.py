"""One request and its answer inside the simulator, and the endpoint that joins them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from vastai_workflow.simulator.accounts import Account, ApiKey
    from vastai_workflow.simulator.world import World

JsonObject = dict[str, Any]


def fields(value: object) -> JsonObject:
    """A JSON object; empty for anything else."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """A JSON list; empty for anything else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


class Refused(Exception):
    """The provider says no: a status and the usual error envelope."""

    def __init__(self, status: int, error: str, msg: str, **extra: object) -> None:
        super().__init__(msg)
        self.status = status
        self.body: JsonObject = {"success": False, "error": error, "msg": msg, **extra}


@dataclass(slots=True)
class Reply:
    """What goes out. A `str` body goes out as it is, anything else as JSON."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    content_type: str = "application/json"
    truncated: bool = False
    """Only the first half of the body goes out, as if that were all."""


@dataclass(slots=True)
class Call:
    """What came in, with the account it acts for."""

    world: "World"
    operation: str
    path: Mapping[str, int | str]
    query: Mapping[str, str]
    body: JsonObject
    base_url: str
    bearer: str | None = field(default=None, repr=False)
    account_or_none: "Account | None" = None
    key_or_none: "ApiKey | None" = None

    @property
    def account(self) -> "Account":
        """The account; only endpoints with a scope have one."""
        if self.account_or_none is None:
            raise Refused(403, "auth_error", "This action requires login.")
        return self.account_or_none

    @property
    def id(self) -> int:
        """The number in the path."""
        return int(self.path["id"])


Handler = Callable[[Call], Reply]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of the provider: what it does, which scope it needs and how often it may be called."""

    method: str
    path: str
    operation: str | Callable[[JsonObject], str]
    """The name that faults and counters use; from the body where one route does several things."""
    handler: Handler
    scope: str | None = None
    """The permission category; None needs no key."""
    interval_s: float = 0.0
    penalty_s: float = 0.0
    per_minute: int = 0
    """A number of calls a minute in place of an interval; 0 is none."""
    choices: tuple[str, ...] = ()
    """The operations that the body chooses between, where it does."""

    @property
    def operations(self) -> tuple[str, ...]:
        """Every operation that this route may be."""
        return (self.operation,) if isinstance(self.operation, str) else self.choices

    def operation_of(self, body: JsonObject) -> str:
        """The operation's name for this body."""
        return self.operation if isinstance(self.operation, str) else self.operation(body)


def ok(**values: Any) -> Reply:
    """The usual success envelope."""
    return Reply({"success": True, **values})
