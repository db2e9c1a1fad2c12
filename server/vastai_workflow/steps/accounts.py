"""Which key a call uses: the workflow's, else the ledger's for that machine, else the owner's last, else the usual."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.errors import Refusal, call
from vastai_workflow.domain.ledger import Order
from vastai_workflow.domain.market import Account
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.steps.asking import refusal_that_asks
from vastai_workflow.steps.deps import Caller, Deps, owned
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.reconcile import settle_on_first_use
from vastai_workflow.steps.settle import Settled

ENVIRONMENT_KEY: Final = "env:VAST_API_KEY"
KEY_FIELD: Final = "api_key_source"


@dataclass(frozen=True, slots=True)
class Opened:
    """The provider's API for this call, and whose account it is. `notes`: what is to be done, found again each time."""

    market: Market
    account: Account
    source: str
    workflow: Workflow | None
    notes: tuple[str, ...] = ()


async def open_market(
    deps: Deps,
    caller: Caller,
    workflow_id: str | None = None,
    instance_ids: Sequence[int] = (),
    *,
    settles: bool = True,
) -> Opened:
    """Open the API with the right key. Another account than the one that rented these machines is a refusal.

    `settles` false: the caller settles by itself.
    """
    workflow = None if workflow_id is None else await owned(deps, caller, workflow_id)
    orders = [o for o in await deps.store.orders(instance_ids=tuple(instance_ids)) if o.owner == caller.owner]
    source = (
        _usable(deps, caller, workflow, await known_sources(deps, caller))
        or (orders[-1].key_source if orders else None)
        or await last_source(deps, caller)
    )
    market = await deps.markets.open(source or ENVIRONMENT_KEY)
    account = await market.account()
    _check_account(account, source or ENVIRONMENT_KEY, orders, workflow)
    left = await settle_on_first_use(deps, market, account.id) if settles else Settled()
    return Opened(market, account, source or ENVIRONMENT_KEY, workflow, left.notes)


async def known_sources(deps: Deps, caller: Caller) -> frozenset[str]:
    """Key sources that this owner said yes to before."""
    states = [workflow.fields[KEY_FIELD] for workflow in await deps.store.workflows(caller.owner)]
    return frozenset(state.value for state in states if state.status == "confirmed")


def readable(workflow: Workflow, known: Collection[str]) -> bool:
    """Whether the key may be read: the usual variable always, else after a yes to this very source."""
    state = workflow.fields[KEY_FIELD]
    return state.value == ENVIRONMENT_KEY or state.status == "confirmed" or state.value in known


def _usable(deps: Deps, caller: Caller, workflow: Workflow | None, known: Collection[str]) -> str | None:
    if workflow is None:
        return None
    if not readable(workflow, known):
        raise key_refused(deps, caller, workflow)
    return str(workflow.value(KEY_FIELD))


def key_refused(deps: Deps, caller: Caller, workflow: Workflow) -> Refusal:
    """A key source that waits for its yes, and how to give that."""
    message = f"the key in {workflow.value(KEY_FIELD)} is read only after a yes to it, and prices come after"
    question = workflow.asked("key", workflow.digest)
    if question is None:
        again = call("propose_fields", workflow_id=workflow.workflow_id)
        return Refusal("key_source_not_confirmed", message, next_call=again)
    return refusal_that_asks(deps, caller, workflow, question, ("key_source_not_confirmed", message))


async def last_source(deps: Deps, caller: Caller) -> str | None:
    """The key source that this owner said yes to last."""
    for workflow in await deps.store.workflows(caller.owner):
        state = workflow.fields[KEY_FIELD]
        if state.status == "confirmed":
            return str(state.value)
    return None


def _check_account(account: Account, source: str, orders: Sequence[Order], workflow: Workflow | None) -> None:
    strange = [order for order in orders if order.account_id != account.id]
    if strange:
        raise _another_accounts(account, source, strange, orders, workflow)
    if workflow is not None and workflow.account_id not in {None, account.id}:
        raise Refusal("account_changed", f"got account {account.id}, the workflow is of account {workflow.account_id}")


def _another_accounts(
    account: Account, source: str, strange: Sequence[Order], orders: Sequence[Order], workflow: Workflow | None
) -> Refusal:
    """Whose key these machines need, and how to use it."""
    ids = ", ".join(str(order.instance_id) for order in strange)
    belong = f"machine {ids} belongs" if len(strange) == 1 else f"machines {ids} belong"
    theirs, last = strange[-1].account_id, strange[-1].key_source
    if len({order.account_id for order in orders}) > 1:
        step = "name the machines of one account in a call"
    elif workflow is not None and last != source:
        step = f"call it again without workflow_id: then the key in {last} is used, which rented it"
    else:
        step = (
            f"ask the user where a key of account {theirs} is; call propose_fields with api_key_source and confirm it, "
            "then call this again with that workflow_id. To end it before, use the provider's console"
        )
    message = f"{belong} to account {theirs}, got the key of account {account.id} in {source}; nothing was sent"
    return Refusal("account_changed", message, next_step=step)
