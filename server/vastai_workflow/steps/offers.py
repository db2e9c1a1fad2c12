"""Find offers: search with the fields, choose by the policy, and keep the plan for the create."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from vastai_workflow.domain import plan as choosing
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.fields import ALL_OR_NOTHING, BEST_EFFORT
from vastai_workflow.domain.ledger import GIVES_PLACE_BACK, Order, OrderState, places_taken
from vastai_workflow.domain.market import Offer
from vastai_workflow.domain.money import Rate, total
from vastai_workflow.domain.workflow import Confirmation, Plan, PlannedOffer, Purpose, Workflow
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.deps import Caller, Deps, owned
from vastai_workflow.steps.fleet_view import all_active, burning
from vastai_workflow.steps.held import running_plan
from vastai_workflow.steps.outlook import not_held, search, under

_KEPT_PLANS: Final = 32
_SPARE: Final = 32
"""The next best offers that a plan names, for those of its own that are gone when their turn comes."""


@dataclass(frozen=True, slots=True)
class Found:
    """Ranked offers, the plan made of them, and what it costs.

    `left`: machines that the user's yes still gives; 0 where none is open. `ended`: those of it that came and ended;
    `standing`: those that run, or are ordered.
    `picked`: the user chose. `running`: the plan that a create goes on with, and what is still to be sent of it.
    """

    workflow: Workflow
    offers: tuple[Offer, ...]
    plan: Plan
    total: Rate
    runway_h: Decimal
    left: int
    ended: int = 0
    standing: int = 0
    picked: bool = False
    running: tuple[str, int] | None = None

    @property
    def agreed(self) -> bool:
        """Whether the plan has the user's yes."""
        return self.left > 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the plan has fewer machines than were agreed to or proposed, and what is still to be sent."""
        count, planned = self.workflow.value("count"), len(self.plan.chosen)
        wanted = self.left or count
        notes: list[str] = []
        if self.running is not None:
            notes.append(
                f"{self.running[1]} machines agreed to are still to be sent: create_instances goes on with them"
            )
        if wanted < count:
            ended = f", {self.ended} came and ended" if self.ended else ""
            taken = f"{self.standing} of the {count} machines agreed to are rented or ordered{ended}"
            notes.append(f"{taken}; this is for the {wanted} left")
        if planned < wanted and not self.picked:
            notes.append(f"only {planned} of {wanted} machines fit now; best effort takes them")
        return tuple(notes)


async def find_offers(deps: Deps, caller: Caller, workflow_id: str, offer_ids: Sequence[int] | None) -> Found:
    """Search, rank and choose; `offer_ids` makes the user's own choice the plan (it must fit filter and ceiling)."""
    workflow = await owned(deps, caller, workflow_id)
    opened = await open_market(deps, caller, workflow_id)
    values = workflow.values
    ceiling = _ceiling(workflow)
    found = await search(opened.market, values, tuple(offer_ids or ()))
    ranked = under(await not_held(deps, opened.account.id, found), ceiling)
    now = deps.clock.now()
    orders = await deps.store.orders(workflow_id=workflow_id)
    given = _open_yes(workflow, now)
    left = 0 if given is None else _places_left(given, orders)
    if offer_ids:
        chosen = _picked(ranked, offer_ids, left or values["count"], values.get("fleet"))
    else:
        chosen = choosing.choose(ranked, left or values["count"], values["policy"], values.get("fleet"))
    machines = {offer.machine_id for offer in chosen}
    plan = Plan(
        plan_id=f"p_{deps.new_id(9)}",
        digest=workflow.digest,
        chosen=tuple(planned(offer) for offer in chosen),
        spare=tuple(offer.ask_id for offer in choosing.candidates(ranked, values["policy"], machines)[:_SPARE]),
        created_at=now,
        expires_at=now + choosing.PLAN_LIFE_S,
    )
    begun = {order.plan_id for order in orders if order.state is OrderState.PLANNED}
    kept = await deps.store.change_workflow(workflow_id, lambda current: _with_plan(current, plan, begun))
    together = total([offer.price for offer in chosen])
    active = await all_active(deps, opened.account.id, await opened.market.instances())
    of_yes = [order for order in orders if given is not None and order.confirmation_id == given.confirmation_id]
    return Found(
        kept,
        ranked,
        plan,
        together,
        opened.account.credit / (together + burning(active)),
        left,
        ended=sum(order.state is OrderState.RELEASED for order in of_yes),
        standing=sum(order.state not in {OrderState.RELEASED, *GIVES_PLACE_BACK} for order in of_yes),
        picked=bool(offer_ids),
        running=running_plan(kept, orders, now),
    )


def _with_plan(workflow: Workflow, plan: Plan, begun: Collection[str]) -> Workflow:
    """With one plan more. The oldest go, but none that a create still has orders to send of."""
    newest = workflow.plans[1 - _KEPT_PLANS :]
    kept = [item for item in workflow.plans if item in newest or item.plan_id in begun]
    return workflow.with_(plans=(*kept, plan))


def _open_yes(workflow: Workflow, now: float) -> Confirmation | None:
    given = workflow.confirmation(Purpose.RENT, workflow.digest)
    return given if given is not None and given.open_at(now) else None


def _places_left(given: Confirmation, orders: Sequence[Order]) -> int:
    """Machines that an open yes still gives; one to all or nothing gives them all, or none."""
    left = max(given.places - places_taken(orders, given.confirmation_id), 0)
    return 0 if left < given.places and given.values.get("fleet") == ALL_OR_NOTHING else left


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


def _picked(ranked: Sequence[Offer], offer_ids: Sequence[int], count: int, fleet: str | None) -> tuple[Offer, ...]:
    by_id = {offer.ask_id: offer for offer in ranked}
    gone = [ask_id for ask_id in offer_ids if ask_id not in by_id]
    if gone:
        raise Refusal("no_offers", f"offer {gone[0]} is gone, or does not fit the filter or the ceiling")
    picked = tuple(by_id[ask_id] for ask_id in dict.fromkeys(offer_ids))
    fits = len(picked) <= count if fleet == BEST_EFFORT else len(picked) == count
    if not fits or len({offer.machine_id for offer in picked}) != len(picked):
        raise Refusal("invalid_argument", f"offer_ids: got {len(picked)}, allowed {count} of distinct machines (count)")
    return picked
