"""Looking at the market for a proposal: account, machines that run, offers, and what the plan would cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Final

from vastai_workflow.domain import fields, plan
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.domain.market import Account, Offer
from vastai_workflow.domain.money import Rate
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.fleet_view import ActiveInstance, all_active, burning
from vastai_workflow.steps.listing import list_instances
from vastai_workflow.steps.ports import Market
from vastai_workflow.steps.reconcile import settle_on_first_use

_NEAREST: Final = 3


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. `shortage` says why there is no plan though the market was looked at.

    `owed`: orders that made more than was agreed, which is to be released first.
    """

    account: Account
    active: tuple[ActiveInstance, ...]
    ranked: tuple[Offer, ...] = ()
    chosen: tuple[Offer, ...] = ()
    outlook: plan.Outlook | None = None
    shortage: Refusal | None = None
    owed: tuple[Order, ...] = ()

    @property
    def burn(self) -> Rate:
        """What runs already, in $/h."""
        return burning(self.active)


async def look_around(deps: Deps, market: Market) -> Look:
    """The account and every machine of it."""
    account = await market.account()
    listed = await list_instances(deps, market)
    left = await settle_on_first_use(deps, market, account.id, listed)
    return Look(account, await all_active(deps, account.id, listed.instances), owed=left.owed)


async def look_at_offers(deps: Deps, market: Market, values: Mapping[str, Any], ceiling: Rate | None) -> Look:
    """The same, with the offers that fit some fields and the plan that would be chosen now."""
    around = await look_around(deps, market)
    ranked = await not_held(deps, around.account.id, await search(market, values))
    try:
        chosen = plan.choose(under(ranked, ceiling), values["count"], values["policy"], values.get("fleet"))
    except Refusal as shortage:
        return replace(around, ranked=ranked, shortage=shortage)
    outlook = plan.outlook(chosen, around.account.credit, around.burn)
    return replace(around, ranked=ranked, chosen=chosen, outlook=outlook)


async def search(market: Market, values: Mapping[str, Any], ask_ids: Sequence[int] = ()) -> tuple[Offer, ...]:
    """Fitting offers at any price, best first. A GPU name that no offer has is refused with the nearest real ones."""
    wanted = plan.query(values)
    found = await market.offers(replace(wanted, ask_ids=tuple(ask_ids)))
    fitting = [offer for offer in found if not plan.mismatches(offer, wanted)]
    if not fitting and wanted.gpu_name is not None and not ask_ids:
        await _check_gpu_name(market, wanted.gpu_name)
    return plan.rank(_at_bid(fitting, values), values["objective"])


async def not_held(deps: Deps, account_id: int, offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """Without those that an order of this account has, or may have, taken: a search may lag behind."""
    states = (*UNSETTLED, OrderState.RENTED)
    held = {order.ask_id for order in await deps.store.orders(account_id=account_id, states=states)}
    return tuple(offer for offer in offers if offer.ask_id not in held)


def _at_bid(offers: Sequence[Offer], values: Mapping[str, Any]) -> list[Offer]:
    """Interruptible machines cost what is bid, not the least that would win; those that the bid can't win are out."""
    if not values.get("interruptible") or "bid_per_hour" not in values:
        return list(offers)
    bid = Rate.of(values["bid_per_hour"])
    winning = [(offer, offer.min_bid or offer.price) for offer in offers]
    return [replace(offer, price=bid + (offer.price - least)) for offer, least in winning if least <= bid]


def under(ranked: Sequence[Offer], ceiling: Rate | None) -> tuple[Offer, ...]:
    """Those at or below a ceiling; where that leaves none of some, the refusal names the cheapest."""
    kept = tuple(offer for offer in ranked if ceiling is None or offer.price <= ceiling)
    if ranked and not kept:
        cheapest = min(offer.price for offer in ranked)
        raise Refusal("no_offers", f"got {cheapest} as the cheapest that fits, allowed {ceiling}")
    return kept


async def _check_gpu_name(market: Market, name: str) -> None:
    names = await market.gpu_names()
    if not names or name.casefold() in {known.casefold() for known in names}:
        return
    folded = {known.casefold(): known for known in names}
    near = [folded[match] for match in get_close_matches(name.casefold(), list(folded), _NEAREST, 0.4)]
    near = near or [known for known in names if name.casefold() in known.casefold()][:_NEAREST]
    step = f"use one of {', '.join(near)}, or {fields.ANY_GPU!r}" if near else f"use {fields.ANY_GPU!r} and min_vram_gb"
    raise Refusal("unknown_gpu", f"gpu_name: got {name!r}, which no offer has", next_step=step)
