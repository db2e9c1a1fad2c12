"""Preflight: the key works, what is on the balance, and every active machine with its cost per hour."""

from dataclasses import dataclass

from vastai_workflow.domain.label import label_for
from vastai_workflow.domain.ledger import UNSETTLED, Order
from vastai_workflow.domain.market import Account
from vastai_workflow.domain.money import Rate
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.elsewhere import on_other_accounts
from vastai_workflow.steps.fleet_view import ActiveInstance, all_active, burning
from vastai_workflow.steps.untold import take


@dataclass(frozen=True, slots=True)
class Preflight:
    """The account, what runs on it, and the orders, of whatever process, that may have rented unseen."""

    account: Account
    source: str
    active: tuple[ActiveInstance, ...]
    notes: tuple[str, ...] = ()
    unsettled: tuple[Order, ...] = ()

    @property
    def name(self) -> str:
        """How the account is called: also the label of new machines."""
        return label_for(self.account)

    @property
    def burn(self) -> Rate:
        """All of it, in $/h."""
        return burning(self.active)


async def preflight(deps: Deps, caller: Caller, workflow_id: str | None) -> Preflight:
    """Read the account and a complete list; an incomplete one is an error, never "nothing runs"."""
    opened = await open_market(deps, caller, workflow_id)
    active = await all_active(deps, opened.account.id, await opened.market.instances())
    elsewhere = await on_other_accounts(deps, caller, opened.account.id)
    unsettled = await deps.store.orders(account_id=opened.account.id, states=tuple(UNSETTLED))
    notes = (*take(deps, opened.account.id), *opened.notes, *elsewhere)
    return Preflight(opened.account, opened.source, active, notes, unsettled)
