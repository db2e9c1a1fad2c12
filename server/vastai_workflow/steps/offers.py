"""Find offers: search with the fields, choose by the policy, and keep the plan for the create."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from vastai_workflow.domain import plan as choosing
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.market import Offer
from vastai_workflow.domain.money import Rate, total
from vastai_workflow.domain.workflow import Plan, PlannedOffer, Purpose, Workflow
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.deps import Caller, Deps, owned
from vastai_workflow.steps.fleet_view import burning, with_orders
from vastai_workflow.steps.outlook import not_held, search, under

_KEPT_PLANS: Final = 32
_SPARE: Final = 32
"""The next best offers that a plan names, for those of its own that are gone when their turn comes."""


@dataclass(frozen=True, slots=True)
class Found:
    """Ranked offers, the plan made of them, and what it costs."""

    workflow: Workflow
    offers: tuple[Offer, ...]
    plan: Plan
    total: Rate
    runway_h: Decimal

    @property
    def agreed(self) -> bool:
        """Whether the plan has the user's yes."""
        given = self.workflow.confirmation(Purpose.RENT, self.plan.digest)
        return given is not None and given.open_at(self.plan.created_at)


async def find_offers(deps: Deps, caller: Caller, workflow_id: str, offer_ids: Sequence[int] | None) -> Found:
    """Search, rank and choose; `offer_ids` makes the user's own choice the plan (it must fit filter and ceiling)."""
    workflow = await owned(deps, caller, workflow_id)
    opened = await open_market(deps, caller, workflow_id)
    values = workflow.values
    ceiling = _ceiling(workflow)
    found = await search(opened.market, values, tuple(offer_ids or ()))
    ranked = under(await not_held(deps, opened.account.id, found), ceiling)
    chosen = (
        _picked(ranked, offer_ids, values) if offer_ids else choosing.choose(ranked, values["count"], values["policy"])
    )
    now = deps.clock.now()
    machines = {offer.machine_id for offer in chosen}
    plan = Plan(
        plan_id=f"p_{deps.new_id(9)}",
        digest=workflow.digest,
        chosen=tuple(planned(offer) for offer in chosen),
        spare=tuple(offer.ask_id for offer in choosing.candidates(ranked, values["policy"], machines)[:_SPARE]),
        created_at=now,
        expires_at=now + choosing.PLAN_LIFE_S,
    )
    kept = await deps.store.change_workflow(
        workflow_id, lambda current: current.with_(plans=(*current.plans, plan)[-_KEPT_PLANS:])
    )
    together = total([offer.price for offer in chosen])
    active = await with_orders(deps, opened.account.id, await opened.market.instances())
    return Found(kept, ranked, plan, together, opened.account.credit / (together + burning(active)))


def _ceiling(workflow: Workflow) -> Rate | None:
    """For a look at the market only the ceiling that the user named: ours is for what is to be rented."""
    state = workflow.fields.get("max_price_per_hour")
    if state is None or (workflow.action == "offers" and state.source != "given"):
        return None
    return Rate.of(state.value)


def planned(offer: Offer) -> PlannedOffer:
    """An offer as the plan keeps it."""
    return PlannedOffer(
        ask_id=offer.ask_id,
        machine_id=offer.machine_id,
        gpu_name=offer.gpu_name,
        num_gpus=offer.num_gpus,
        gpu_ram_mb=offer.gpu_ram_mb,
        price_per_hour=offer.price.per_hour,
    )


def _picked(ranked: Sequence[Offer], offer_ids: Sequence[int], values: dict[str, Any]) -> tuple[Offer, ...]:
    by_id = {offer.ask_id: offer for offer in ranked}
    gone = [ask_id for ask_id in offer_ids if ask_id not in by_id]
    if gone:
        raise Refusal("no_offers", f"offer {gone[0]} is gone, or does not fit the filter or the ceiling")
    picked = tuple(by_id[ask_id] for ask_id in dict.fromkeys(offer_ids))
    if len(picked) != values["count"] or len({offer.machine_id for offer in picked}) != len(picked):
        raise Refusal(
            "invalid_argument", f"offer_ids: got {len(picked)}, allowed {values['count']} of distinct machines (count)"
        )
    return picked
