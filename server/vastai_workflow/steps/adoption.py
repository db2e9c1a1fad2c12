"""Adoption: the machine of an order without a clear answer becomes the order's when a call names it.

Its mark and its age are the proof. Settling does the same for all machines, and later: an end should not wait for it,
nor be asked about as a stranger's.
"""

from collections.abc import Collection, Sequence

from vastai_workflow.domain.ledger import GIVES_PLACE_BACK, UNSETTLED, Order, OrderFacts, OrderState
from vastai_workflow.domain.market import Instance
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ending import CAME_AFTER_ALL
from vastai_workflow.steps.fleet_view import marked_by


async def adopt(deps: Deps, account_id: int, shown: Sequence[Instance], named: Collection[int]) -> None:
    """Put such machines on record as rented. Refusal `account_busy` where another call rents for the account.

    Of two machines of one request the order's is the one that was not named: the other is the user's to end.
    """
    if not await _made_unseen(deps, account_id, shown, named):
        return
    async with deps.store.account_lock(account_id):
        for order, instance in await _made_unseen(deps, account_id, shown, named):
            facts = OrderFacts(instance_id=instance.id)
            if order.state in GIVES_PLACE_BACK:
                facts = facts.model_copy(update={"late_since": deps.clock.now(), "warnings": (CAME_AFTER_ALL,)})
            await deps.store.move_order(order.order_id, OrderState.RENTED, facts)


async def _made_unseen(
    deps: Deps, account_id: int, shown: Sequence[Instance], named: Collection[int]
) -> tuple[tuple[Order, Instance], ...]:
    """Orders without a machine of which one is named, each with the first machine of its mark and age."""
    states = (*UNSETTLED, *GIVES_PLACE_BACK)
    unseen = [o for o in await deps.store.orders(account_id=account_id, states=states) if o.instance_id is None]
    made: list[tuple[Order, Instance]] = []
    for order in unseen:
        of_it = [
            instance
            for instance in shown
            if marked_by(instance, deps.store.store_ids) == order.order_id
            and order.can_have_made(instance.started_there)
        ]
        if any(instance.id in named for instance in of_it):
            made.append((order, min(of_it, key=lambda one: (one.id in named, one.id))))
    return tuple(made)
