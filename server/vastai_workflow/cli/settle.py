"""`vastai-workflow settle`: hold the ledger against the provider's lists, and say what is still unknown and why."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from vastai_workflow.domain.errors import WorkflowError

if TYPE_CHECKING:
    from vastai_workflow.steps.deps import Deps
    from vastai_workflow.steps.settle import Settled

SETTLED: Final = 0
UNKNOWN: Final = 1

_ANOTHER_KEY_MAY_WORK: Final = frozenset(
    {"key_missing", "key_file_refused", "key_rejected", "scope_missing", "two_factor", "account_changed"}
)
"""Codes of a key that is not there, or not good any more; whatever else fails does so with each key."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--store", metavar="FOLDER", help="where the ledger is (default: the user's state folder)")
    parser.add_argument(
        "--not-rented", metavar="ORDER", help="close an unknown order: you looked, and it rented nothing (asks you)"
    )


def run(args: argparse.Namespace) -> int:
    """0 when every order is settled, 1 when something is unknown."""
    from vastai_workflow.cli.wiring import RealMarket  # noqa: PLC0415 # --help starts without it
    from vastai_workflow.settings import Settings  # noqa: PLC0415 # the same

    settings = Settings.from_environment(os.environ, state=args.store)
    market = RealMarket(settings, dict(os.environ))

    async def work() -> int:
        deps = await market.make()
        try:
            if args.not_rented is not None:
                await _close(deps, args.not_rented)
            return await settle_all(deps)
        finally:
            await market.close(deps)

    return asyncio.run(work())


async def settle_all(deps: "Deps") -> int:
    """Settle every account that the ledger knows; each is told, with what to do about what is left."""
    from vastai_workflow.cli.terminal import tell  # noqa: PLC0415 # with the others

    sources: dict[int, dict[str, None]] = {}
    for order in reversed(await deps.store.orders()):
        sources.setdefault(order.account_id, {})[order.key_source] = None
    if not sources:
        tell("settled: this ledger has no orders")
    code = SETTLED
    for account_id, newest_first in sources.items():
        code = max(code, await _settle_account(deps, account_id, tuple(newest_first)))
    return code


async def _settle_account(deps: "Deps", account_id: int, sources: Sequence[str]) -> int:
    """With the first of these key sources that works."""
    from vastai_workflow.cli.terminal import tell  # noqa: PLC0415 # with the others

    settled: Settled | None = None
    failed: list[str] = []
    for source in sources:
        try:
            settled = await _looked(deps, account_id, source)
            break
        except WorkflowError as error:
            failed.append(f"account {account_id}: can't be looked at with {source}: {error.sentence}")
            if error.code not in _ANOTHER_KEY_MAY_WORK:
                break
    if settled is None:
        for line in failed:
            tell(line)
        return await _told_blind(deps, account_id)
    for note in settled.notes:
        tell(f"account {account_id}: {note}")
    if settled.owed and deps.caps.read_only:
        tell(f"account {account_id}: read only: nothing was sent; run this where it may write")
        return UNKNOWN
    if settled.busy or settled.owed or settled.short:
        tell(f"account {account_id}: not settled yet: run this again")
        return UNKNOWN
    return await _told(deps, account_id)


async def _looked(deps: "Deps", account_id: int, source: str) -> "Settled":
    from vastai_workflow.domain.errors import Refusal  # noqa: PLC0415 # with the others
    from vastai_workflow.steps.listing import list_instances  # noqa: PLC0415 # with the others
    from vastai_workflow.steps.reconcile import settle_now  # noqa: PLC0415 # with the others

    market = await deps.markets.open(source)
    account = await market.account()
    if account.id != account_id:
        raise Refusal("account_changed", f"got the key of account {account.id} in {source}, needed {account_id}")
    return await settle_now(deps, market, account_id, await list_instances(deps, market))


async def _told(deps: "Deps", account_id: int) -> int:
    from vastai_workflow.cli.terminal import tell  # noqa: PLC0415 # with the others
    from vastai_workflow.domain.ledger import UNSETTLED  # noqa: PLC0415 # with the others
    from vastai_workflow.tools.render import unsettled_words  # noqa: PLC0415 # with the others

    open_orders = await deps.store.orders(account_id=account_id, states=tuple(UNSETTLED))
    for order in open_orders:
        tell(f"account {account_id}: {unsettled_words(order, deps.moment())}: run this again then")
    if not open_orders:
        tell(f"account {account_id}: settled")
    return UNKNOWN if open_orders else SETTLED


async def _told_blind(deps: "Deps", account_id: int) -> int:
    """No list can be read: what is not closed is unknown, and only the person can close it."""
    from vastai_workflow.cli.terminal import tell  # noqa: PLC0415 # with the others
    from vastai_workflow.domain.ledger import UNSETTLED, OrderState  # noqa: PLC0415 # with the others

    open_orders = await deps.store.orders(account_id=account_id, states=(*UNSETTLED, OrderState.RENTED))
    for order in open_orders:
        if order.state is OrderState.RENTED:
            tell(f"  order {order.order_id} rented machine {order.instance_id}: it may be running")
        else:
            tell(
                f"  order {order.order_id} may have rented: look for its machine in the provider's console; "
                f"if there is none, run vastai-workflow settle --not-rented {order.order_id}"
            )
    return UNKNOWN if open_orders else SETTLED


async def _close(deps: "Deps", order_id: str) -> None:
    from vastai_workflow.cli.terminal import ask, tell  # noqa: PLC0415 # with the others
    from vastai_workflow.steps.reconcile import close_by_hand, unknown_order  # noqa: PLC0415 # with the others

    order = await unknown_order(deps, order_id)
    what = f"{order.num_gpus}x {order.gpu_name} at {order.price}, offer {order.ask_id}, machine {order.machine_id}"
    tell(f"Order {order.order_id}: {what}. A machine of it that is running costs money until it is destroyed.")
    answer = ask(f"If you looked and it rented nothing, type its id, {order.order_id}:")
    if answer != order.order_id:
        tell("nothing was changed")
        return
    await close_by_hand(deps, order_id)
    tell(f"order {order.order_id}: closed as not rented")
