"""Machines of ours that the key of a call does not see: their account, since when they run, and where its key was."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from vastai_workflow.domain.ledger import UNSETTLED, Order
from vastai_workflow.steps.accounts import KEY_FIELD
from vastai_workflow.steps.deps import Caller, Deps

_SHOWN: Final = 20


async def on_other_accounts(deps: Deps, caller: Caller, account_id: int) -> tuple[str, ...]:
    """A sentence for each other account on which machines of this owner may be running."""
    orders = [o for o in await deps.store.orders() if o.owner == caller.owner and o.account_id != account_id]
    accounts: dict[int, list[Order]] = {}
    for order in orders:
        accounts.setdefault(order.account_id, []).append(order)
    return tuple([await _told(deps, caller, found) for found in accounts.values() if _may_run(found)])


def _may_run(orders: Sequence[Order]) -> bool:
    return any(order.live or order.state in UNSETTLED for order in orders)


async def _told(deps: Deps, caller: Caller, orders: Sequence[Order]) -> str:
    account_id = orders[0].account_id
    live = [order for order in orders if order.live]
    unclear = len([order for order in orders if order.state in UNSETTLED])
    what: list[str] = []
    if live:
        more = f" and {len(live) - _SHOWN} more" if len(live) > _SHOWN else ""
        which = ", ".join(f"{order.instance_id} (since {_time(order)})" for order in live[:_SHOWN])
        what.append(f"{len(live)} machine{'s' * (len(live) > 1)} of ours ({which}{more})")
    if unclear:
        what.append(f"{unclear} order{'s' * (unclear > 1)} that may have rented")
    source = await _last_source(deps, caller, orders)
    ids = [order.instance_id for order in live[:_SHOWN]]
    settles = "instance_status" if deps.caps.read_only else "wait_until_ready"
    look = f"instance_status(instance_ids={ids})" if live else f"{settles}(workflow_id={orders[-1].workflow_id!r})"
    return (
        f"on account {account_id}, which this key does not see: {' and '.join(what)}, which may cost money. "
        f"The key of that account was last in {source}: call {look}"
    )


def _time(order: Order) -> str:
    began = order.created_at if order.sent_at is None else order.sent_at
    return f"{datetime.fromtimestamp(began, UTC):%Y-%m-%d %H:%M} UTC"


async def _last_source(deps: Deps, caller: Caller, orders: Sequence[Order]) -> str:
    """Where the account's key was when it was used last: for an order, or for a workflow that had a yes to it."""
    of_orders = [(order.created_at, order.key_source) for order in orders]
    of_workflows = [
        (workflow.created_at, str(workflow.value(KEY_FIELD)))
        for workflow in await deps.store.workflows(caller.owner)
        if workflow.account_id == orders[0].account_id and workflow.fields[KEY_FIELD].status == "confirmed"
    ]
    return max((*of_orders, *of_workflows), key=lambda used: used[0])[1]
