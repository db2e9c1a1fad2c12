"""Choosing: which offers fit what was agreed, in which order, which are taken, and what that costs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.fields import ANY_GPU, BEST_EFFORT
from vastai_workflow.domain.market import Offer, OfferQuery
from vastai_workflow.domain.money import ZERO, Rate, Usd, total

PLAN_LIFE_S: Final = 600.0
"""A plan's prices are looked at again before each order; after ten minutes it is made anew."""

_CEILING_FACTOR: Final = Decimal("1.25")
_MB_PER_GB: Final = 1000
_NOMINAL: Final = Decimal("0.95")
"""Cards report a little less memory than their name says (24 GB: 24564 MB, 23028 MB with ECC)."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a choice costs."""

    price: Rate
    total: Rate
    runway_h: Decimal | None


def query(values: Mapping[str, Any]) -> OfferQuery:
    """The search for some agreed or proposed fields."""
    gpu_name = values["gpu_name"]
    vram = values.get("min_vram_gb")
    return OfferQuery(
        disk_gb=values["disk_gb"],
        gpu_name=None if gpu_name == ANY_GPU else gpu_name,
        num_gpus=values["num_gpus"],
        verified=values["verified"],
        min_vram_mb=int(vram * _MB_PER_GB * _NOMINAL) if vram else None,
        regions=tuple(values.get("regions") or ()),
        min_reliability=_decimal(values.get("min_reliability")),
        min_cuda=_decimal(values.get("min_cuda")),
        min_inet_down_mbps=values.get("min_inet_down_mbps"),
        min_direct_ports=len(values["ports"]) + 1 if values.get("ports") else None,
        interruptible=bool(values.get("interruptible")),
    )


def mismatches(offer: Offer, wanted: OfferQuery, ceiling: Rate | None = None) -> tuple[str, ...]:
    """Why an offer does not fit; each says what it got and what is allowed. Empty: it fits."""
    checks: list[tuple[bool, str]] = [
        (offer.rentable and not offer.rented, "got a rented offer, allowed a free one"),
        (
            wanted.gpu_name is None or offer.gpu_name.casefold() == wanted.gpu_name.casefold(),
            f"got GPU {offer.gpu_name}, allowed {wanted.gpu_name}",
        ),
        (
            wanted.num_gpus is None or offer.num_gpus == wanted.num_gpus,
            f"got {offer.num_gpus} GPUs, allowed {wanted.num_gpus}",
        ),
        (offer.verified or not wanted.verified, "got an unverified machine, allowed verified ones"),
        (
            offer.disk_space_gb >= wanted.disk_gb,
            f"got room for {offer.disk_space_gb} GB, allowed {wanted.disk_gb} GB or more",
        ),
        (
            not wanted.regions or offer.country in wanted.regions,
            f"got {offer.country or 'no region'}, allowed {', '.join(wanted.regions)}",
        ),
        _at_least("GPU memory (MB)", offer.gpu_ram_mb, wanted.min_vram_mb),
        _at_least("reliability", offer.reliability, wanted.min_reliability),
        _at_least("CUDA", offer.cuda, wanted.min_cuda),
        _at_least("download (Mb/s)", offer.inet_down_mbps, wanted.min_inet_down_mbps),
        _at_least("direct ports", offer.direct_ports, wanted.min_direct_ports),
        (offer.price > ZERO, f"got {offer.price}, allowed a price above nothing"),
        (ceiling is None or offer.price <= ceiling, f"got {offer.price}, allowed {ceiling}"),
    ]
    return tuple(why for fits, why in checks if not fits)


def rank(offers: Iterable[Offer], objective: str) -> tuple[Offer, ...]:
    """Best first; ties go to the cheaper, then the smaller id, so that the order is stable."""

    def key(offer: Offer) -> tuple[Decimal, Decimal, int]:
        merit = {"performance": offer.dlperf, "reliability": offer.reliability}.get(objective)
        return (-(merit or Decimal(0)), offer.price.per_hour, offer.ask_id)

    return tuple(sorted(offers, key=key))


def choose(ranked: Sequence[Offer], count: int, policy: str, fleet: str | None = None) -> tuple[Offer, ...]:
    """The `count` offers to take, each of another machine; `second_cheapest` skips the first match.

    A `best_effort` fleet takes fewer where no more fit. Refusal `no_offers` where there are too few, `single_match`
    where the policy would skip the only one.
    """
    distinct = by_machine(ranked)
    if not distinct:
        raise Refusal("no_offers", "no offer fits the filter now")
    if policy == "second_cheapest" and len(distinct) == 1:
        question = f"Only one offer fits, at {distinct[0].price}. Take it (policy cheapest), or loosen the filter?"
        raise Refusal("single_match", "one offer fits and the policy skips the first", ask_user=question)
    taken = distinct[1:] if policy == "second_cheapest" else distinct
    if len(taken) < count and fleet != BEST_EFFORT:
        now = f"Only {len(taken)} of {count} machines fit now, at {total([offer.price for offer in taken])} in all."
        choice = f"{now} Rent as many as there are (fleet {BEST_EFFORT}), or loosen the filter?"
        raise Refusal("no_offers", f"got {len(taken)} fitting machines, needed {count}", ask_user=choice)
    return taken[:count]


def by_machine(ranked: Sequence[Offer]) -> tuple[Offer, ...]:
    """The best offer of each machine, in the order of the ranking."""
    best: dict[int, Offer] = {}
    for offer in ranked:
        best.setdefault(offer.machine_id, offer)
    return tuple(best.values())


def candidates(ranked: Sequence[Offer], policy: str, used: Collection[int]) -> tuple[Offer, ...]:
    """What may stand in for a gone offer: machines not `used`, and none that the policy skips."""
    distinct = by_machine(ranked)
    allowed = distinct[1:] if policy == "second_cheapest" else distinct
    return tuple(offer for offer in allowed if offer.machine_id not in used)


def default_ceiling(chosen: Sequence[Offer], cap: Rate | None) -> Rate:
    """1.25 x the dearest chosen machine, up to the cent, never above the operator's cap."""
    ceiling = (max(offer.price for offer in chosen) * _CEILING_FACTOR).up_to_the_cent()
    return ceiling if cap is None else min(ceiling, cap)


def outlook(chosen: Sequence[Offer], credit: Usd | None, burning: Rate) -> Outlook:
    """Price of the dearest machine, the total, and how long the balance lasts beside what runs already."""
    prices = [offer.price for offer in chosen]
    together = total(prices)
    runway = None if credit is None else credit / (together + burning)
    return Outlook(max(prices), together, runway)


def traffic(chosen: Sequence[Offer]) -> Usd:
    """What a GB of the dearest machine's traffic costs; no ceiling bounds it."""
    return max((offer.down_price_per_gb or Usd.of(0) for offer in chosen), default=Usd.of(0))


def _at_least(what: str, got: Decimal | int | None, least: Decimal | int | None) -> tuple[bool, str]:
    fits = least is None or (got is not None and got >= least)
    return fits, f"got {what} {got}, allowed {least} or more"


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)
