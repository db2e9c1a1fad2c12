"""Who settles, and when: while waiting, once after a start, and by hand for the person at a terminal."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vastai_workflow.domain.errors import LocalError, ProviderError, Refusal
from vastai_workflow.domain.ledger import CREATE_TIMEOUT_S, SETTLES_S, UNSETTLED, Moment, Order, OrderFacts, OrderState
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ending import CALL_BUDGET_S
from vastai_workflow.steps.fleets import release_short_fleets, short_fleets
from vastai_workflow.steps.listing import Listed, list_instances
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.settle import Settled, dated, settle
from vastai_workflow.steps.untold import keep
from vastai_workflow.steps.writes import by_calling

_BUSY: Final = "account_busy"
_SHOWN_S: Final = SETTLES_S + 60.0
"""Age of an order from which each list shows all that its request made, its second effect too."""

BY_HAND: Final = "closed by hand: the person saw no machine of it"


async def settle_now(
    deps: Deps, market: Market, account_id: int, listed: Listed, *, deadline: float | None = None
) -> Settled:
    """Settle with this list, unless another call or process is renting for the account just now.

    What it finds is kept until an answer tells it. Read only it sends nothing, and says what is to be released. Not
    long after the `deadline` (None: of a call that begins now) short fleets are left to the next call.
    """
    deadline = deps.clock.now() + CALL_BUDGET_S if deadline is None else deadline
    try:
        async with deps.store.account_lock(account_id, wait_s=0.0):
            if deps.caps.read_only:
                return await _looked_at(deps, market, account_id, listed)
            settled = await settle(deps, market, account_id, listed)
            keep(deps, account_id, settled.notes)  # should the rest fail
            short = await release_short_fleets(deps, market, account_id, deadline)
            if short.left:
                deps.settled_accounts.pop(account_id, None)
            elif not settled.owed:
                deps.settled_accounts[account_id] = listed.asked.steady
            keep(deps, account_id, short.notes)
            notes, ended = (*settled.notes, *short.notes), settled.ended | short.gone
            return replace(settled, notes=notes, ended=ended, short=short.left)
    except Refusal as busy:
        if busy.code != _BUSY:
            raise
        notes = ("another call is renting for this account",)
        keep(deps, account_id, notes)
        return Settled(notes=notes, busy=True)


async def settle_on_first_use(deps: Deps, market: Market, account_id: int, listed: Listed | None = None) -> Settled:
    """What a crash, or a request's second effect, left is found before anything else is done or shown.

    Once per process and account, and again once a list shows all that a request of the account, of whatever process,
    can have made. Brings the ledger up to date and sends nothing; what is to be released is said at each call
    until it is. What is found but once is kept until an answer tells it.
    """
    sent = await deps.store.orders(account_id=account_id)
    amid = any(order.state is OrderState.SENT for order in sent)  # by a call that goes on now, or that was cut short
    if not sent or (not amid and _seen_since(deps.settled_accounts.get(account_id), sent, deps.moment())):
        return Settled()
    try:
        async with deps.store.account_lock(account_id, wait_s=0.0):
            listed = await list_instances(deps, market) if listed is None else listed
            settled = await _looked_at(deps, market, account_id, listed)
    except (ProviderError, LocalError) as error:
        return Settled(notes=(f"what an earlier run left could not be looked at: {error.message}",))
    except Refusal as busy:
        if busy.code != _BUSY:
            raise
        return Settled()
    if not settled.owed:
        deps.settled_accounts[account_id] = listed.asked.steady
    kept = settled.once if settled.owed else settled.notes  # with something owed, the next call finds the rest again
    keep(deps, account_id, kept)
    return replace(settled, notes=tuple(note for note in settled.notes if note not in kept))


async def _looked_at(deps: Deps, market: Market, account_id: int, listed: Listed) -> Settled:
    """Bring the ledger up to date and send nothing; what is to be released is said."""
    settled = await settle(deps, market, account_id, listed, may_end=False)
    short = [order for orders in await short_fleets(deps, account_id) for order in orders]
    told = (f"machine {o.instance_id} runs without its fleet: {by_calling(deps)}" for o in short)
    return replace(settled, owed=(*settled.owed, *short), notes=(*settled.notes, *told))


def _seen_since(settled_at: float | None, orders: Sequence[Order], now: Moment) -> bool:
    """Whether the last settling's list shows all that those of these orders made whose requests are over by now."""
    if settled_at is None:
        return False
    shown_for = [order.age(now) - _SHOWN_S for order in orders if order.sent_at is not None]
    return all(seconds >= now.steady - settled_at for seconds in shown_for if seconds >= 0)


async def unknown_order(deps: Deps, order_id: str) -> Order:
    """An order that the person may close; Refusal `invalid_argument` for any other."""
    order = next((item for item in await deps.store.orders() if item.order_id == order_id), None)
    if order is None:
        raise Refusal("invalid_argument", f"got order {order_id[:40]!r}, allowed one that the ledger holds")
    if order.state not in UNSETTLED:
        raise Refusal("invalid_argument", f"got an order that is {order.state}, allowed one that is unknown")
    order = await dated(deps, order)
    left = CREATE_TIMEOUT_S - order.age(deps.moment())
    if left > 0:
        raise Refusal(
            "invalid_argument",
            f"got an order whose request may be under way for {left:.0f} s more, allowed one that is older",
            next_step="wait, then run it again",
        )
    return order


async def close_by_hand(deps: Deps, order_id: str) -> Order:
    """The person says that an unknown order rented nothing; a list that shows it later still finds it."""
    async with deps.store.account_lock((await unknown_order(deps, order_id)).account_id):
        order = await unknown_order(deps, order_id)  # as it is with the lock held
        if order.state is OrderState.SENT:
            await deps.store.move_order(order_id, OrderState.UNKNOWN)
        return await deps.store.move_order(order_id, OrderState.NOT_RENTED, OrderFacts(reason=BY_HAND))
