"""The gate: what a workflow's stage allows, and which rules each purpose has to pass. Nothing else decides.

`STAGES` says for every stage and event where it leads, or with which code it is refused.
`RULES` says for every purpose which checks are made just before the request is sent, in order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.errors import Refusal, call
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState, places_taken
from vastai_workflow.domain.money import ZERO, Rate
from vastai_workflow.domain.workflow import Confirmation, Purpose, Workflow


class Stage(StrEnum):
    """Where a workflow stands."""

    PROPOSED = "proposed"
    CONFIRMED = "confirmed"
    PLANNED = "planned"
    ORDERING = "ordering"
    LIVE = "live"
    OVER = "over"


class Event(StrEnum):
    """What may happen to a workflow: calls of tools, and time."""

    PROPOSE = "propose_fields"
    CONFIRM = "confirm_fields"
    FIND_OFFERS = "find_offers"
    CREATE = "create_instances"
    WAIT = "wait_until_ready"
    DESTROY = "destroy_instances"
    EXPIRE = "30 minutes pass"


STAGES: Final[Mapping[Stage, Mapping[Event, Stage | str]]] = {
    Stage.PROPOSED: {
        Event.PROPOSE: Stage.PROPOSED,
        Event.CONFIRM: Stage.CONFIRMED,
        Event.FIND_OFFERS: Stage.PROPOSED,
        Event.CREATE: "not_confirmed",
        Event.WAIT: Stage.PROPOSED,
        Event.DESTROY: Stage.PROPOSED,
        Event.EXPIRE: Stage.PROPOSED,
    },
    Stage.CONFIRMED: {
        Event.PROPOSE: Stage.PROPOSED,
        Event.CONFIRM: Stage.CONFIRMED,
        Event.FIND_OFFERS: Stage.PLANNED,
        Event.CREATE: "plan_unknown",
        Event.WAIT: Stage.CONFIRMED,
        Event.DESTROY: Stage.CONFIRMED,
        Event.EXPIRE: Stage.PROPOSED,
    },
    Stage.PLANNED: {
        Event.PROPOSE: Stage.PROPOSED,
        Event.CONFIRM: Stage.CONFIRMED,
        Event.FIND_OFFERS: Stage.PLANNED,
        Event.CREATE: Stage.ORDERING,
        Event.WAIT: Stage.PLANNED,
        Event.DESTROY: Stage.PLANNED,
        Event.EXPIRE: Stage.PROPOSED,
    },
    Stage.ORDERING: {
        Event.PROPOSE: Stage.ORDERING,
        Event.CONFIRM: Stage.ORDERING,
        Event.FIND_OFFERS: Stage.ORDERING,
        Event.CREATE: Stage.LIVE,
        Event.WAIT: Stage.LIVE,
        Event.DESTROY: Stage.ORDERING,
        Event.EXPIRE: Stage.ORDERING,
    },
    Stage.LIVE: {
        Event.PROPOSE: Stage.LIVE,
        Event.CONFIRM: Stage.LIVE,
        Event.FIND_OFFERS: Stage.LIVE,
        Event.CREATE: Stage.ORDERING,
        Event.WAIT: Stage.LIVE,
        Event.DESTROY: Stage.OVER,
        Event.EXPIRE: Stage.LIVE,
    },
    Stage.OVER: {
        Event.PROPOSE: Stage.OVER,
        Event.CONFIRM: Stage.CONFIRMED,
        Event.FIND_OFFERS: Stage.PLANNED,
        Event.CREATE: Stage.ORDERING,
        Event.WAIT: Stage.OVER,
        Event.DESTROY: Stage.OVER,
        Event.EXPIRE: Stage.OVER,
    },
}
"""In `live` and `over` a further create still has to pass every rule below: the table opens no door by itself."""


def stage_of(workflow: Workflow, orders: Sequence[Order], now: float) -> Stage:
    """Where a workflow stands, from what is on record."""
    if any(order.state in UNSETTLED or order.state is OrderState.PLANNED for order in orders):
        return Stage.ORDERING
    if any(order.live for order in orders):
        return Stage.LIVE
    confirmation = workflow.confirmation(Purpose.RENT, workflow.digest)
    spent = confirmation is None or places_taken(orders, confirmation.confirmation_id) >= confirmation.places
    if confirmation is None or spent or not confirmation.open_at(now) or unconfirmed(workflow):
        return Stage.OVER if orders else Stage.PROPOSED
    planned = any(plan.digest == workflow.digest and now < plan.expires_at for plan in workflow.plans)
    return Stage.PLANNED if planned else Stage.CONFIRMED


def unconfirmed(workflow: Workflow) -> tuple[str, ...]:
    """The fields that have no yes."""
    return tuple(name for name, state in workflow.fields.items() if state.status != "confirmed")


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a rule may look at, read just before the request would be sent.

    `confirmation` is the newest one of the purpose, whatever its digest: rules compare, they do not search.
    `burning` and `running` are of all machines of the account; `price` is what this request adds, in $/h.
    """

    purpose: Purpose
    now: float
    caps: Caps
    account_id: int
    digest: str
    confirmation: Confirmation | None
    missing: tuple[str, ...] = ()
    places_taken: int = 0
    unsettled: tuple[str, ...] = ()
    unacknowledged: tuple[int, ...] = ()
    misfits: tuple[str, ...] = ()
    price: Rate | None = None
    burning: Rate = ZERO
    running: int = 0


Rule = Callable[[Facts], Refusal | None]


def writes_allowed(facts: Facts) -> Refusal | None:
    """The operator did not set the server to read only."""
    return (
        Refusal("read_only", "got a write, allowed only reads: the server is read only")
        if facts.caps.read_only
        else None
    )


def fields_confirmed(facts: Facts) -> Refusal | None:
    """Every field has the user's yes."""
    if not facts.missing:
        return None
    return Refusal("not_confirmed", f"no yes yet to: {', '.join(facts.missing)}", missing=facts.missing)


def yes_given(facts: Facts) -> Refusal | None:
    """There is a confirmation of this purpose."""
    if facts.confirmation is not None:
        return None
    code = "not_confirmed" if facts.purpose is Purpose.RENT else "purpose_not_confirmed"
    return Refusal(code, f"no yes to this {facts.purpose}")


def yes_to_this(facts: Facts) -> Refusal | None:
    """The confirmation is of this very digest."""
    confirmation = _given(facts)
    if confirmation.digest == facts.digest:
        return None
    return Refusal("digest_mismatch", f"got a yes to {confirmation.digest}, needed one to {facts.digest}")


def yes_unexpired(facts: Facts) -> Refusal | None:
    """The confirmation is not older than 30 minutes, nor from the future."""
    confirmation = _given(facts)
    if confirmation.at <= facts.now < confirmation.expires_at:
        return None
    return Refusal("confirmation_expired", "the yes is older than 30 minutes")


def yes_unspent(facts: Facts) -> Refusal | None:
    """The confirmation still has a place, or was not used."""
    confirmation = _given(facts)
    if confirmation.spent_at is None and facts.places_taken < confirmation.places:
        return None
    return Refusal("confirmation_spent", f"got {facts.places_taken + 1}, allowed {confirmation.places} by this yes")


def same_account(facts: Facts) -> Refusal | None:
    """The key belongs to the account of the confirmation."""
    if _given(facts).account_id == facts.account_id:
        return None
    return Refusal("account_changed", "the key belongs to another account than the yes")


def nothing_unsettled(facts: Facts) -> Refusal | None:
    """No order of this account may have rented unseen."""
    if not facts.unsettled:
        return None
    return Refusal("unsettled_order", f"not settled: order {', '.join(facts.unsettled)}; it may have rented")


def all_acknowledged(facts: Facts) -> Refusal | None:
    """The user was asked about every machine that this workflow did not make."""
    if not facts.unacknowledged:
        return None
    ids = ", ".join(map(str, facts.unacknowledged))
    ask = f"Machines {ids} are active already. Keep, stop or destroy them?"
    after = call("confirm_fields", acknowledge_instances=list(facts.unacknowledged))
    return Refusal("unacknowledged_instances", f"active and not asked about: {ids}", ask_user=ask, next_call=after)


def offer_fits(facts: Facts) -> Refusal | None:
    """The offer, as searched just now, fits the filter."""
    return Refusal("no_offers", "; ".join(facts.misfits)) if facts.misfits else None


def under_ceiling(facts: Facts) -> Refusal | None:
    """The price is known and not above what the user agreed to."""
    ceiling = _given(facts).ceiling_per_hour
    if facts.price is not None and ceiling is not None and facts.price <= Rate(ceiling):
        return None
    allowed = None if ceiling is None else Rate(ceiling)
    return Refusal("price_above_ceiling", f"got {facts.price}, allowed {allowed}")


def under_caps(facts: Facts) -> Refusal | None:
    """The operator's caps hold with this machine added."""
    caps, price = facts.caps, facts.price
    if price is not None and caps.max_price_per_hour is not None and price > caps.max_price_per_hour:
        return Refusal("cap_exceeded", f"got {price} per machine, allowed {caps.max_price_per_hour} by the operator")
    together = facts.burning + (price or ZERO)
    if caps.max_total_per_hour is not None and together > caps.max_total_per_hour:
        return Refusal("cap_exceeded", f"got {together} in all, allowed {caps.max_total_per_hour} by the operator")
    if caps.max_instances is not None and facts.running >= caps.max_instances:
        got = f"got machine number {facts.running + 1}"
        return Refusal("cap_exceeded", f"{got}, allowed {caps.max_instances} by the operator")
    return None


def _given(facts: Facts) -> Confirmation:
    if facts.confirmation is None:  # `yes_given` stands before every rule that asks for it
        raise AssertionError
    return facts.confirmation


_GOOD: Final = (yes_given, yes_to_this, yes_unexpired, yes_unspent, same_account)
_YES: Final = (writes_allowed, *_GOOD)
_PRICED: Final = (writes_allowed, under_caps, *_GOOD, under_ceiling)
"""The caps stand before the yes, so that nobody is asked in vain; those of a rent are told with its proposal."""

RULES: Final[Mapping[Purpose, tuple[Rule, ...]]] = {
    Purpose.RENT: (
        writes_allowed,
        fields_confirmed,
        yes_given,
        yes_to_this,
        yes_unexpired,
        yes_unspent,
        same_account,
        nothing_unsettled,
        all_acknowledged,
        offer_fits,
        under_ceiling,
        under_caps,
    ),
    Purpose.START: _PRICED,
    Purpose.BID: _PRICED,
    Purpose.EXTEND: _PRICED,
    Purpose.ATTACH: _YES,
    Purpose.DETACH: _YES,
    Purpose.RECYCLE: _YES,
    Purpose.END: _YES,
}


def first_refusal(facts: Facts) -> Refusal | None:
    """The first rule that says no; None opens the gate."""
    return next((refusal for rule in RULES[facts.purpose] if (refusal := rule(facts)) is not None), None)
