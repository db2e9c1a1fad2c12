"""Adoption: the machine of an order without a clear answer becomes the order's when a call names it.

Its mark and its age are the proof. Settling does the same for all machines, and later: an end should not wait for it,
nor be asked about as a stranger's.
"""

from collections.abc import Sequence

from vastai_workflow.domain.ledger import GIVES_PLACE_BACK, UNSETTLED, Order, OrderFacts, OrderState
from vastai_workflow.domain.market import Instance
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.fleet_view import marked_by


async def adopt(deps: Deps, account_id: int, named: Sequence[Instance]) -> None:
    """Put such machines on record as rented. Refusal `account_busy` where another call rents for the account."""
    if not await _made_unseen(deps, account_id, named):
        return
    async with deps.store.account_lock(account_id):
        for order, instance in await _made_unseen(deps, account_id, named):
            late = deps.clock.now() if order.state in GIVES_PLACE_BACK else None
            facts = OrderFacts(instance_id=instance.id, late_since=late)
            await deps.store.move_order(order.order_id, OrderState.RENTED, facts)


async def _made_unseen(deps: Deps, account_id: int, named: Sequence[Instance]) -> tuple[tuple[Order, Instance], ...]:
    """Orders without a machine, each with the first of these that carries its mark and is of its age."""
    states = (*UNSETTLED, *GIVES_PLACE_BACK)
    unseen = [o for o in await deps.store.orders(account_id=account_id, states=states) if o.instance_id is None]
    made: dict[str, tuple[Order, Instance]] = {}
    for instance in named:
        mark = marked_by(instance, deps.store.store_ids)
        for order in unseen:
            if order.order_id == mark and order.can_have_made(instance.start_date):
                made.setdefault(order.order_id, (order, instance))
    return tuple(made.values())
