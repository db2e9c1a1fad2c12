"""The search for offers: the query on the wire, its pages, and the check of every row against what was asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vastai_workflow.domain.market import Offer, OfferQuery
from vastai_workflow.domain.plan import mismatches
from vastai_workflow.vast import models
from vastai_workflow.vast.client import Client
from vastai_workflow.vast.endpoints import OFFERS
from vastai_workflow.vast.models import Unreadable
from vastai_workflow.vast.wire import Request

PAGE: Final = 64
"""The provider answers with 64 rows at most, whatever is asked (reported)."""
MAX_PAGES: Final = 4
"""256 offers, the cheapest first. Ten searches a minute are allowed, so more pages would starve the next search."""


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer: how many rows came, those that can be read, and the `dph_total` of the last ($/h)."""

    rows: int
    offers: tuple[Offer, ...]
    last_price: float | None


async def search(client: Client, query: OfferQuery) -> tuple[Offer, ...]:
    """Every offer that fits, by price; a row that does not fit or can't be read is left out.

    There is no page token: the next page starts at the last price, and known ids are dropped.
    """
    found: dict[int, Offer] = {}
    from_price: float | None = None
    for _ in range(MAX_PAGES):
        request = Request(OFFERS, body=search_body(query, from_price))
        page = await client.call(request, lambda body: _page(body, bid=query.interruptible))
        new = [offer for offer in page.offers if offer.ask_id not in found]
        found |= {offer.ask_id: offer for offer in new}
        if page.rows < PAGE or not new or page.last_price is None:
            break
        from_price = page.last_price
    fitting = [offer for offer in found.values() if _fits(offer, query)]
    return tuple(sorted(fitting, key=lambda offer: (offer.price, offer.ask_id)))


def search_body(query: OfferQuery, from_price: float | None = None) -> dict[str, Any]:
    """The body of `POST /bundles/`. Free and rentable machines only, and prices with this disk, always."""
    price: dict[str, float] = {} if from_price is None else {"gte": from_price}
    body: dict[str, Any] = {"external": {"eq": False}, "rentable": {"eq": True}, "rented": {"eq": False}}
    if query.max_price is not None:
        ceiling = float(query.max_price.per_hour)
        if query.interruptible:
            body["min_bid"] = {"lte": ceiling}
        else:
            price["lte"] = ceiling
    wanted: dict[str, Mapping[str, Any] | None] = {
        "verified": {"eq": True} if query.verified else None,
        "gpu_name": _given("eq", query.gpu_name),
        "num_gpus": _given("eq", query.num_gpus),
        "gpu_ram": _given("gte", query.min_vram_mb),
        "geolocation": _given("in", list(query.regions) or None),
        "reliability": _given("gte", None if query.min_reliability is None else float(query.min_reliability)),
        "cuda_max_good": _given("gte", None if query.min_cuda is None else float(query.min_cuda)),
        "inet_down": _given("gte", query.min_inet_down_mbps),
        "direct_port_count": _given("gte", query.min_direct_ports),
        "ask_contract_id": _given("in", list(query.ask_ids) or None),
        "disk_space": {"gte": float(query.disk_gb)},
        "dph_total": price or None,
    }
    return body | {
        **{name: condition for name, condition in wanted.items() if condition is not None},
        "order": [["dph_total", "asc"]],
        "type": "bid" if query.interruptible else "on-demand",
        "limit": PAGE,
        "allocated_storage": float(query.disk_gb),
    }


def _given(operator: str, value: Any) -> dict[str, Any] | None:
    return None if value is None else {operator: value}


def _page(body: Any, *, bid: bool) -> _Page:
    """The rows that can be read; an offer that can't be is not rented, so it may be missing, but not all of them."""
    rows = models.rows(body, "offers")
    offers: list[Offer] = []
    broken: Unreadable | None = None
    for row in rows:
        try:
            offers.append(models.offer(row, bid=bid))
        except Unreadable as error:
            broken = error
    if broken is not None and not offers:
        raise broken
    return _Page(len(rows), tuple(offers), models.total_price(rows[-1]) if rows else None)


def _fits(offer: Offer, query: OfferQuery) -> bool:
    if query.ask_ids and offer.ask_id not in query.ask_ids:
        return False
    return not mismatches(offer, query, query.max_price)
