"""What the offers page shows beyond the tool's answer: every fitting offer, with its score."""

from typing import Any, Final

from mcp.server.apps import client_supports_apps

from vastai_workflow.domain.money import Rate
from vastai_workflow.domain.workflow import Purpose
from vastai_workflow.steps.offers import Found
from vastai_workflow.tools import render
from vastai_workflow.tools.surface import Ctx

OFFERS_META: Final = "vastai-workflow/offers"


def for_page(ctx: Ctx, found: Found) -> dict[str, Any] | None:
    """What stands under `_meta` of find_offers, for the page alone: a model does not read it.

    `offers`: as in the answer, with `dlperf` (the provider's score, None where it has none). `ceiling_per_hour`: $/h.
    `yes_until`: when the newest yes to rent runs out, in Unix seconds.
    """
    if not client_supports_apps(ctx):
        return None
    rows = [
        render.offer_row(offer).model_dump(mode="json")
        | {"dlperf": None if offer.dlperf is None else round(float(offer.dlperf), 1)}
        for offer in found.offers
    ]
    ceiling = found.workflow.values.get("max_price_per_hour")
    given = found.workflow.confirmation(Purpose.RENT, found.plan.digest)
    return {
        OFFERS_META: {
            "offers": rows,
            "ceiling_per_hour": None if ceiling is None else Rate.of(ceiling).number(),
            "yes_until": None if given is None else given.expires_at,
        }
    }
