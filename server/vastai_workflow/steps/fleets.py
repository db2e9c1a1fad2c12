"""Fleets: with `all_or_nothing`, what came is released when the rest can't come any more."""

from collections.abc import Sequence
from typing import Final

from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ending import CAME_LATE, NOT_AS_AGREED, ON_REQUEST, SHORT_FLEET, end_order
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.releases import may_be_in_use

_TAKEN_BACK: Final = frozenset({CAME_LATE, SHORT_FLEET})


async def release_short_fleets(deps: Deps, market: Market, account_id: int) -> tuple[str, ...]:
    """Release the machines of every fleet that stays short of what was agreed. Call it with the lock held."""
    notes: list[str] = []
    for live in await short_fleets(deps, account_id):
        if any(may_be_in_use(order.sent_at, deps.clock.now()) for order in live):
            ids = ", ".join(str(order.instance_id) for order in live)
            notes.append(f"all or nothing fell short: {ids} run without the others. Ask the user: keep or destroy?")
        else:
            notes += [await _release(deps, market, order) for order in live]
    return tuple(notes)


async def short_fleets(deps: Deps, account_id: int) -> list[list[Order]]:
    """The machines that run of each fleet that can't be whole any more."""
    plans: dict[tuple[str, str], list[Order]] = {}
    for order in await deps.store.orders(account_id=account_id):
        if order.fleet == "all_or_nothing":
            plans.setdefault((order.workflow_id, order.plan_id), []).append(order)
    live = [[order for order in orders if order.live] for orders in plans.values() if _is_short(orders)]
    return [orders for orders in live if orders]


def _is_short(orders: Sequence[Order]) -> bool:
    pending = any(order.state in UNSETTLED or order.state is OrderState.PLANNED for order in orders)
    return not pending and sum(map(_came, orders)) < orders[0].places


def _came(order: Order) -> bool:
    """Whether the user got this machine; they may have ended it since. What was taken back, or never seen, did not."""
    if order.live:
        return True
    taken_back = order.reason in _TAKEN_BACK or (order.reason or "").startswith(NOT_AS_AGREED)
    seen = order.rented_price_per_hour is not None or order.reason == ON_REQUEST
    return order.state is OrderState.RELEASED and seen and not taken_back


async def _release(deps: Deps, market: Market, order: Order) -> str:
    final = await end_order(deps, market, order, reason=SHORT_FLEET)
    return f"machine {order.instance_id} released (all or nothing): {final}"
