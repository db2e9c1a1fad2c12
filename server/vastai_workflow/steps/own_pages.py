"""Where no complete list can be read: a machine's own page proves whose it is, and says nothing of any other."""

from collections.abc import Sequence

from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.market import Instance
from vastai_workflow.steps.adoption import adopt
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.fleet_view import ActiveInstance, with_orders
from vastai_workflow.steps.ports import Market


async def ours_by_page(
    deps: Deps, market: Market, account_id: int, ids: Sequence[int]
) -> tuple[tuple[ActiveInstance, ...], ProviderError | None]:
    """Those of these machines that are ours by the mark on their pages, and why a page could not be read."""
    pages, failed = await read_pages(market, ids)
    await adopt(deps, account_id, pages, ids)
    return tuple(item for item in await with_orders(deps, account_id, pages) if item.ours), failed


async def read_pages(market: Market, ids: Sequence[int]) -> tuple[tuple[Instance, ...], ProviderError | None]:
    """The machines whose own pages show them, and the last error."""
    found: list[Instance] = []
    failed: ProviderError | None = None
    for instance_id in ids:
        try:
            page = await market.instance(instance_id)
        except ProviderError as error:
            failed = error
            continue
        if page is not None:
            found.append(page)
    return tuple(found), failed
