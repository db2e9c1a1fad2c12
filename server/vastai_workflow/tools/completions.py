"""Completions for arguments of prompts and resources: GPU names, regions, images, own machines and workflows.

A completion is a help while typing and never an error: where a source can't be read, nothing is suggested.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp.types import CompleteRequestParams, CompleteResult, Completion

from vastai_workflow.domain.errors import WorkflowError
from vastai_workflow.tools.on_first_use import on_first_use
from vastai_workflow.tools.surface import App, Ctx, caller_of, deps_of

with on_first_use():
    from vastai_workflow.domain import ledger
    from vastai_workflow.steps import accounts

if TYPE_CHECKING:
    from vastai_workflow.steps.deps import Caller, Deps

MOST: Final = 100
"""Values of one answer: the protocol's limit."""

_LIFE_S: Final = 600.0
"""Seconds for which the market's names are not asked for again."""

_RETRY_S: Final = 30.0
"""The same after an error."""

_PATIENCE_S: Final = 5.0
_HISTORY: Final = 20

REGIONS: Final = (
    *("US", "CA", "MX", "BR", "AR", "GB", "IE", "FR", "ES", "PT", "NL", "BE", "DE", "AT", "CH", "IT", "PL", "CZ", "HU"),
    *("RO", "BG", "GR", "SE", "NO", "FI", "DK", "IS", "EE", "LV", "LT", "UA", "TR", "IL", "AE", "IN", "SG", "MY", "TH"),
    *("VN", "HK", "TW", "KR", "JP", "AU", "NZ", "ZA"),
)
"""Suggestions only: any two-letter code may be given, and the search says what there is."""

IMAGES: Final = (
    "pytorch/pytorch:latest",
    "vastai/pytorch",
    "vastai/base-image",
    "nvidia/cuda:12.4.1-cudnn-devel-ubuntu22.04",
    "tensorflow/tensorflow:latest-gpu",
    "vllm/vllm-openai:latest",
    "ubuntu:24.04",
)

Source = Callable[[App, "Deps", "Caller"], Awaitable[Iterable[str]]]


async def complete(ctx: Ctx, params: CompleteRequestParams) -> CompleteResult:
    """Suggestions for one argument, best first, `MOST` at most; none for an argument that has no source."""
    found: Iterable[str] = ()
    source = SOURCES.get(params.argument.name)
    if source is not None:
        with anyio.move_on_after(_PATIENCE_S):
            try:
                found = await source(ctx.request_context.lifespan_context, await deps_of(ctx), caller_of(ctx))
            except WorkflowError:
                found = ()  # no key, no ledger, no market: nothing to suggest
    values = _fitting(found, params.argument.value)
    completion = Completion(values=values[:MOST], total=len(values), has_more=len(values) > MOST)
    return CompleteResult(completion=completion)


def _fitting(values: Iterable[str], typed: str) -> list[str]:
    """Those that hold what was typed, those that begin with it first."""
    wanted = typed.strip().lower()
    fitting = [value for value in dict.fromkeys(values) if wanted in value.lower()]
    return sorted(fitting, key=lambda value: not value.lower().startswith(wanted))


async def _gpu_names(app: App, deps: "Deps", caller: "Caller") -> Iterable[str]:
    """The market's names, with a key that may be read already."""
    now = deps.clock.now()
    if app.gpu_names is None or not 0 <= now - app.gpu_names[0] < (_LIFE_S if app.gpu_names[1] else _RETRY_S):
        app.gpu_names = now, ()
        source = await accounts.last_source(deps, caller) or accounts.ENVIRONMENT_KEY
        app.gpu_names = now, await (await deps.markets.open(source)).gpu_names()
    return app.gpu_names[1]


async def _regions(_: App, deps: "Deps", caller: "Caller") -> Iterable[str]:
    used = [region for values in await _history(deps, caller) for region in values.get("regions") or ()]
    return (*used, *REGIONS)


async def _images(_: App, deps: "Deps", caller: "Caller") -> Iterable[str]:
    return (*(values["image"] for values in await _history(deps, caller) if "image" in values), *IMAGES)


async def _history(deps: "Deps", caller: "Caller") -> list[dict[str, Any]]:
    """What the caller's newest workflows had for values."""
    return [workflow.values for workflow in (await deps.store.workflows(caller.owner))[:_HISTORY]]


async def _machines(_: App, deps: "Deps", caller: "Caller") -> Iterable[str]:
    """Those that the ledger has as rented, the newest first."""
    orders = await deps.store.orders(states=(ledger.OrderState.RENTED,))
    return [str(order.instance_id) for order in reversed(orders) if order.owner == caller.owner]


async def _workflows(_: App, deps: "Deps", caller: "Caller") -> Iterable[str]:
    return [workflow.workflow_id for workflow in await deps.store.workflows(caller.owner)]


SOURCES: Final[Mapping[str, Source]] = {
    "gpu_name": _gpu_names,
    "region": _regions,
    "image": _images,
    "instance_id": _machines,
    "workflow_id": _workflows,
}
"""Where suggestions for an argument come from."""
