"""A complete list of an account's machines, with the time of which it speaks."""

from collections.abc import Callable
from dataclasses import dataclass

from vastai_workflow.domain.ledger import Moment
from vastai_workflow.domain.market import Instance
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ports import Market


@dataclass(frozen=True, slots=True)
class Listed:
    """Every machine of the account; what came before `asked` and is not among them was hidden then.

    An answer may take a minute: what came meanwhile proves nothing by its absence.
    """

    asked: Moment
    instances: tuple[Instance, ...]


async def list_instances(deps: Deps, market: Market, shown: Callable[[Instance], object] | None = None) -> Listed:
    """Read it. `shown` is told of each machine when its page came."""
    asked = deps.moment()
    return Listed(asked, await market.instances(shown))
