"""Fleets: with `all_or_nothing`, what came is released when the rest can't come any more."""

from collections.abc import Sequence
from typing import Final

from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ending import NOT_AS_AGREED, end_order
from vastai_workflow.steps.ports import Market

IN_USE_AFTER_S: Final = 600.0
"""Seconds after its order from which a machine that answered is no longer ended without a word of the user."""


async def release_short_fleets(deps: Deps, market: Market, account_id: int) -> tuple[str, ...]:
    """Release the machines of every fleet that stays short of what was agreed. Call it with the lock held."""
    plans: dict[tuple[str, str], list[Order]] = {}
    for order in await deps.store.orders(account_id=account_id):
        if order.fleet == "all_or_nothing":
            plans.setdefault((order.workflow_id, order.plan_id), []).append(order)
    notes: list[str] = []
    for orders in plans.values():
        live = [order for order in orders if order.live]
        if not live or not _is_short(orders):
            continue
        if any([await _in_use(deps, order) for order in live]):
            ids = ", ".join(str(order.instance_id) for order in live)
            notes.append(f"all or nothing fell short: {ids} run without the others. Ask the user: keep or destroy?")
        else:
            notes += [await _release(deps, market, order) for order in live]
    return tuple(notes)


def _is_short(orders: Sequence[Order]) -> bool:
    pending = any(order.state in UNSETTLED or order.state is OrderState.PLANNED for order in orders)
    return not pending and sum(map(_came, orders)) < orders[0].places


async def _in_use(deps: Deps, order: Order) -> bool:
    """Whether it answered and is no longer new: somebody may work on it, so it is theirs to end."""
    if order.instance_id is None or deps.clock.now() < (order.sent_at or 0.0) + IN_USE_AFTER_S:
        return False
    return (await deps.store.window(order.instance_id)).stage in {"ssh_ok", "gpu_ok"}


def _came(order: Order) -> bool:
    """Whether the user got this machine; they may have ended it since."""
    unfit = (order.reason or "").startswith(NOT_AS_AGREED)
    return order.live or (order.state is OrderState.RELEASED and not unfit)


async def _release(deps: Deps, market: Market, order: Order) -> str:
    final = await end_order(deps, market, order, reason="all or nothing: the others did not come")
    return f"machine {order.instance_id} released (all or nothing): {final}"
