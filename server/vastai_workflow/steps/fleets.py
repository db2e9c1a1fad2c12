"""Fleets: what became of a yes to several; `all_or_nothing` releases what came when the rest can't come any more."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.errors import CATALOGUE
from vastai_workflow.domain.ledger import (
    GIVEN_UP,
    GIVES_PLACE_BACK,
    UNSETTLED,
    YES_EXPIRED,
    Order,
    OrderFacts,
    OrderState,
)
from vastai_workflow.domain.money import Rate, total
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ending import CAME_LATE, NOT_AS_AGREED, ON_REQUEST, SHORT_FLEET, end_orders
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.releases import IN_USE_AFTER_S

_WHY_CAP: Final = 120
_LEAST_S: Final = 15.0
"""Seconds that a release gets in any call: what nobody agreed to costs money."""

_TAKEN_BACK: Final = frozenset({CAME_LATE, SHORT_FLEET})


@dataclass(frozen=True, slots=True)
class Released:
    """What was released of short fleets, as notes; the machines that are gone, and the orders that still have one."""

    notes: tuple[str, ...] = ()
    gone: frozenset[int] = frozenset()
    left: tuple[Order, ...] = ()


async def release_short_fleets(deps: Deps, market: Market, account_id: int, deadline: float) -> Released:
    """Release the machines of every fleet that stays short of what was agreed. Call it with the lock held.

    Nothing more of it is sent. Not long after the `deadline` the release stops, and a later call goes on: the provider
    takes one end in three seconds.
    """
    notes: list[str] = []
    gone: list[int] = []
    left: list[Order] = []
    for orders in await _plans(deps, account_id):
        why = unwanted(orders)
        if why is not None and (dropped := await drop_planned(deps, orders, why)):
            notes.append(f"{dropped} more of a fleet will not be rented ({why})")
        if not cant_be_whole(orders):
            continue
        live = [order for order in orders if order.live]
        if not live:
            continue
        now = deps.clock.now()
        if not all(order.young(deps.moment(), IN_USE_AFTER_S) for order in live):
            notes.append(
                f"all or nothing fell short: {_ids(live)} run without the others. Ask the user: keep or destroy?"
            )
            continue
        finals = await end_orders(deps, market, live, max(deadline, now + _LEAST_S), reason=SHORT_FLEET)
        for final in dict.fromkeys(finals.values()):
            of_it = [order for order in live if finals.get(order.order_id) == final]
            notes.append(f"released {_ids(of_it)} (all or nothing): {final}")
        rest = [order for order in live if finals.get(order.order_id) != "gone"]
        if rest:
            notes.append(f"{len(rest)} of an all-or-nothing fleet cost money until released: call wait_until_ready")
        left += rest
        gone += [order.instance_id for order in live if order.instance_id is not None and order not in rest]
    return Released(tuple(notes), frozenset(gone), tuple(left))


@dataclass(frozen=True, slots=True)
class FleetOutcome:
    """What became of a yes to several machines. `refused`: why how many did not come.

    `came`: how many the user got, whether or not they run still.
    """

    agreed: int
    came: int
    live: tuple[Order, ...]
    planned: int
    unclear: int
    released: int
    refused: Mapping[str, int]
    all_or_nothing: bool

    @property
    def cost(self) -> Rate:
        """What those that are rented cost together while all of them run."""
        return total([order.price for order in self.live])

    @property
    def over(self) -> bool:
        """Nothing more is sent, and what was sent is known."""
        return not self.planned and not self.unclear

    @property
    def short(self) -> bool:
        """The user never got all that was agreed."""
        return self.came < self.agreed


def fleet_outcome(orders: Sequence[Order], confirmation_id: str) -> FleetOutcome | None:
    """Of a yes and all its plans; None for a single machine, and where nothing was ordered.

    A place that was given back and taken again is told by what took it.
    """
    orders = [order for order in orders if order.confirmation_id == confirmation_id and order.reason != CAME_LATE]
    if not orders or orders[0].places == 1:
        return None
    agreed, states = orders[0].places, Counter(order.state for order in orders)
    replaced = {order.replaces for order in orders}
    given_back = [o for o in orders if o.state in GIVES_PLACE_BACK and o.order_id not in replaced]
    empty = max(agreed - sum(order.state not in GIVES_PLACE_BACK for order in orders), 0)
    refused = Counter(map(_why, given_back[::-1][:empty]))
    if empty > len(given_back):
        refused["no fitting offer was left or chosen"] += empty - len(given_back)
    return FleetOutcome(
        agreed=agreed,
        came=sum(map(_came, orders)),
        live=tuple(order for order in orders if order.live),
        planned=states[OrderState.PLANNED],
        unclear=sum(states[state] for state in UNSETTLED),
        released=states[OrderState.RELEASED],
        refused=refused,
        all_or_nothing=orders[0].fleet == "all_or_nothing",
    )


def _why(order: Order) -> str:
    """Why an order rented nothing, the same for the one that was refused and those that were not sent after it."""
    if order.state is OrderState.NOT_RENTED:
        return "its create got no good answer, and no list shows it"
    reason = order.reason or order.state
    return CATALOGUE[reason].meaning if reason in CATALOGUE else clean(reason.partition("; ")[0], _WHY_CAP)


def _ids(orders: Sequence[Order]) -> str:
    return f"machine{'s' * (len(orders) > 1)} " + ", ".join(str(order.instance_id) for order in orders)


async def short_fleets(deps: Deps, account_id: int) -> list[list[Order]]:
    """The machines that run of each fleet that can't be whole any more."""
    short = [orders for orders in await _plans(deps, account_id) if cant_be_whole(orders)]
    live = [[order for order in orders if order.live] for orders in short]
    return [orders for orders in live if orders]


async def drop_planned(deps: Deps, orders: Sequence[Order], reason: str) -> int:
    """Those of these orders that were not sent yet are not sent any more; answers how many."""
    planned = [order for order in orders if order.state is OrderState.PLANNED]
    for order in planned:
        await deps.store.move_order(order.order_id, OrderState.DROPPED, OrderFacts(reason=reason))
    return len(planned)


async def given_up(deps: Deps, ended: Sequence[Order]) -> tuple[str, ...]:
    """What is not sent any more of the fleets that these orders are of; a later create, or wait, drops it."""
    notes: list[str] = []
    for workflow_id, plan_id in dict.fromkeys((order.workflow_id, order.plan_id) for order in ended):
        fleet = [o for o in await deps.store.orders(workflow_id=workflow_id) if o.plan_id == plan_id]
        planned, why = sum(order.state is OrderState.PLANNED for order in fleet), unwanted(fleet)
        if planned and why is not None:
            others = sum(order.live and order.reason != ON_REQUEST for order in fleet)
            rest = f"; {others} of it {'runs' if others == 1 else 'run'} on" if others else ""
            notes.append(f"{planned} more of this fleet were planned and will not be rented ({why}){rest}")
    return tuple(notes)


async def _plans(deps: Deps, account_id: int) -> list[list[Order]]:
    """All orders, by the plan that they are of."""
    plans: dict[tuple[str, str], list[Order]] = {}
    for order in await deps.store.orders(account_id=account_id):
        plans.setdefault((order.workflow_id, order.plan_id), []).append(order)
    return list(plans.values())


def unwanted(orders: Sequence[Order]) -> str | None:
    """Why what is still planned of a fleet is not to be rented any more; None while it is."""
    if any(order.reason == ON_REQUEST for order in orders):
        return GIVEN_UP
    return SHORT_FLEET if cant_be_whole(orders) else None


def cant_be_whole(orders: Sequence[Order]) -> bool:
    """Whether a fleet of all or nothing stays short, though all that is planned or unclear should come."""
    if not orders or orders[0].fleet != "all_or_nothing":
        return False
    may_come = sum(order.state in UNSETTLED or order.state is OrderState.PLANNED for order in orders)
    return may_come + sum(map(_came, orders)) + _spared(orders) < orders[0].places


def _spared(orders: Sequence[Order]) -> int:
    """How many did not come because the user ended machines of the fleet before: their wish makes it short of none."""
    if all(order.reason != ON_REQUEST for order in orders):
        return 0
    return sum(order.state is OrderState.DROPPED and order.reason in {GIVEN_UP, YES_EXPIRED} for order in orders)


def _came(order: Order) -> bool:
    """Whether the user got this machine; they may have ended it since. What was taken back, or never seen, did not."""
    if order.live:
        return True
    taken_back = order.reason in _TAKEN_BACK or (order.reason or "").startswith(NOT_AS_AGREED)
    seen = order.rented_price_per_hour is not None or order.reason == ON_REQUEST
    return order.state is OrderState.RELEASED and seen and not taken_back
