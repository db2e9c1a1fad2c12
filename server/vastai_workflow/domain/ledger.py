"""The life of an order: one table of legal moves, and what the ledger keeps of each order."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from vastai_workflow.domain.money import Rate
from vastai_workflow.domain.workflow import ChosenKey


class OrderState(StrEnum):
    """Where an order stands."""

    PLANNED = "planned"
    SENT = "sent"
    UNKNOWN = "unknown"
    RENTED = "rented"
    REFUSED = "refused"
    NOT_RENTED = "not_rented"
    DROPPED = "dropped"
    RELEASED = "released"


TRANSITIONS: Final[Mapping[OrderState, frozenset[OrderState]]] = {
    OrderState.PLANNED: frozenset({OrderState.SENT, OrderState.DROPPED}),
    OrderState.SENT: frozenset({OrderState.RENTED, OrderState.REFUSED, OrderState.UNKNOWN}),
    OrderState.UNKNOWN: frozenset({OrderState.RENTED, OrderState.NOT_RENTED}),
    OrderState.DROPPED: frozenset({OrderState.RENTED}),  # a list showed its id after all
    OrderState.REFUSED: frozenset({OrderState.RENTED}),  # the same
    OrderState.NOT_RENTED: frozenset({OrderState.RENTED}),  # the same
    OrderState.RENTED: frozenset({OrderState.RELEASED}),
    OrderState.RELEASED: frozenset(),
}

GIVES_PLACE_BACK: Final = frozenset({OrderState.DROPPED, OrderState.REFUSED, OrderState.NOT_RENTED})
"""States in which an order holds no place of its confirmation, unless the user gave up its fleet.

`released` keeps its place: the money was spent.
"""

GIVEN_UP: Final = "machines of it were destroyed on request"
YES_EXPIRED: Final = "its yes expired before it was sent"
"""Reasons for which an order is dropped that was to come."""

UNSETTLED: Final = frozenset({OrderState.SENT, OrderState.UNKNOWN})
"""States in which a machine may exist that no list has shown yet."""


CREATE_TIMEOUT_S: Final = 60.0
"""How long a create may take to answer; the adapter's time-out is not longer."""

VISIBILITY_S: Final = 60.0
"""A new machine may be missing from lists for this long (reported; the exact delay is not known)."""


SETTLES_S: Final = CREATE_TIMEOUT_S + VISIBILITY_S
"""Age of an order from which its absence from a complete list proves that it rented nothing."""

CLOCK_SKEW_S: Final = 120.0
"""How far the provider's clock may seem to be from ours, by the time that its answers take."""


class Moment(NamedTuple):
    """A time on two clocks: Unix seconds, which somebody may set, and seconds that only pass, since the machine began.

    The second one is the same for all processes of a machine, and begins anew with it.
    """

    unix: float
    steady: float


class IllegalMoveError(Exception):
    """A move that `TRANSITIONS` does not have: a programming error, or two processes at one order."""

    def __init__(self, order_id: str, state: OrderState, to: OrderState) -> None:
        """Names the order and both states."""
        super().__init__(f"order {order_id} is {state}, it can't become {to}")


class Order(BaseModel):
    """One machine to rent. Money in $/h, times in Unix seconds.

    `key_source` lets the machine be ended after a restart; `replaces` names the order whose place this one takes.
    `ssh_key`, `fleet` and `places` are those of the yes, whichever of its plans the order is of.
    `reply_error`: the create's reply was an error, and named a machine all the same.
    `late_since`: when its machine showed up after its place was given back.
    `sent_steady`: the same time as `sent_at` on the clock that nobody sets; `sent_there`: on the provider's.
    `final_state`: how its end went, once one was asked for.
    `host_key`: the SHA256 fingerprint of the SSH host key at the first login; empty after a recycle, until the next.
    `ssh_key_removed`: it was to be taken from the machine; only a yes of its own gives it back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_id: str
    workflow_id: str
    owner: str
    plan_id: str
    confirmation_id: str
    account_id: int
    key_source: str
    ask_id: int
    machine_id: int
    gpu_name: str
    num_gpus: int
    gpu_ram_mb: int
    disk_gb: int
    price_per_hour: Decimal
    ceiling_per_hour: Decimal
    agreed_by: str
    created_at: float
    state: OrderState = OrderState.PLANNED
    replaces: str | None = None
    sent_at: float | None = None
    sent_steady: float | None = None
    sent_there: float | None = None
    instance_id: int | None = None
    rented_price_per_hour: Decimal | None = None
    ended_at: float | None = None
    final_state: str | None = None
    cost_usd: Decimal | None = None
    reason: str | None = None
    reply_error: str | None = None
    late_since: float | None = None
    warnings: tuple[str, ...] = ()
    host_key: str | None = None
    ssh_key: ChosenKey | None = None
    ssh_key_removed: bool = False
    fleet: str | None = None
    places: int = 1

    @property
    def price(self) -> Rate:
        """What it costs: as rented where that is known, else as planned."""
        return Rate(self.price_per_hour if self.rented_price_per_hour is None else self.rented_price_per_hour)

    @property
    def holds_place(self) -> bool:
        """Whether it uses up one of its confirmation's places."""
        return self.state not in GIVES_PLACE_BACK or (self.state is OrderState.DROPPED and self.reason == GIVEN_UP)

    @property
    def live(self) -> bool:
        """Rented and not seen to be gone."""
        return self.state is OrderState.RENTED

    @property
    def key_to_give(self) -> ChosenKey | None:
        """The agreed SSH key, unless it was taken away."""
        return None if self.ssh_key_removed else self.ssh_key

    @property
    def late(self) -> bool:
        """Whether its machine showed up after its place was given back."""
        return self.late_since is not None

    def age(self, at: Moment) -> float:
        """Seconds since it was sent, of which both clocks know; 0 where none was kept.

        A clock that was set may say too much. The steady one never does: begun anew, it says what passed since then.
        """
        if self.sent_at is None:
            return 0.0
        told = at.unix - self.sent_at
        if self.sent_steady is None:
            return told
        passed = at.steady - self.sent_steady
        return min(told, passed if passed >= 0 else at.steady)

    def young(self, at: Moment, within_s: float) -> bool:
        """Whether both clocks say that it was sent less than so many seconds ago; never after one began anew."""
        ages = [] if self.sent_at is None else [at.unix - self.sent_at]
        if self.sent_steady is not None:
            ages.append(at.steady - self.sent_steady)
        return bool(ages) and all(0 <= age < within_s for age in ages)

    def settles_in(self, at: Moment) -> float:
        """Seconds until a complete list without it proves that it rented nothing; 0 or less: one of now does."""
        return SETTLES_S - self.age(at)

    def can_have_made(self, started_there: float | None) -> bool:
        """Whether a machine of this age is from this order's one request; its mark may be copied any time later.

        Both times are the provider's, so that no clock of ours that was wrong or set has a part in it. False where the
        age is not known: what may be somebody's copy is not ended for being ours.
        """
        if started_there is None:
            return False
        sent = next(time for time in (self.sent_there, self.sent_at, self.created_at) if time is not None)
        return sent - CLOCK_SKEW_S <= started_there <= sent + CREATE_TIMEOUT_S + CLOCK_SKEW_S

    def moved(self, to: OrderState, facts: "OrderFacts | None" = None) -> "Order":
        """This order in its next state, or IllegalMoveError."""
        if to not in TRANSITIONS[self.state]:
            raise IllegalMoveError(self.order_id, self.state, to)
        cleared = {"reason": None} if to is OrderState.RENTED else {}  # why it was not sure is history
        return self.model_copy(update={"state": to, **cleared, **(facts.given() if facts else {})})

    def noted(self, facts: "OrderFacts") -> "Order":
        """This order with new facts."""
        return self.model_copy(update=facts.given())


class OrderFacts(BaseModel):
    """What may be learned of an order; only what is set is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sent_at: float | None = None
    sent_steady: float | None = None
    sent_there: float | None = None
    instance_id: int | None = None
    rented_price_per_hour: Decimal | None = None
    ended_at: float | None = None
    final_state: str | None = None
    cost_usd: Decimal | None = None
    reason: str | None = None
    reply_error: str | None = None
    late_since: float | None = None
    warnings: tuple[str, ...] | None = None
    host_key: str | None = None
    ssh_key_removed: bool | None = None

    def given(self) -> dict[str, Any]:
        """The fields that were set."""
        return self.model_dump(exclude_none=True)


def places_taken(orders: Iterable[Order], confirmation_id: str) -> int:
    """How many places of a yes these orders hold."""
    return sum(order.holds_place and order.confirmation_id == confirmation_id for order in orders)


def marker(store_id: str, order_id: str) -> str:
    """The value of the order variable in the instance's environment."""
    return f"{store_id}.{order_id}"


def order_of_marker(value: str | None, store_ids: tuple[str, ...]) -> str | None:
    """The order id of a marker that a ledger with these ids made; None for others' markers."""
    store, dot, order_id = (value or "").partition(".")
    return order_id if dot and store in store_ids and order_id else None


def is_marker(value: str | None) -> bool:
    """Whether a ledger of this program made it, whichever."""
    store, dot, order_id = (value or "").partition(".")
    return bool(store and dot and order_id)
