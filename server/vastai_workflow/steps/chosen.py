"""The machines that a call names, as one complete list shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from vastai_workflow.domain.errors import Refusal
from vastai_workflow.steps.accounts import Opened, open_market
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.fleet_view import ActiveInstance, with_orders


@dataclass(frozen=True, slots=True)
class Chosen:
    """The machines of a call in its order, and every machine of the account."""

    opened: Opened
    machines: tuple[ActiveInstance, ...]
    active: tuple[ActiveInstance, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The machines' ids."""
        return tuple(item.instance.id for item in self.machines)


async def chosen_machines(deps: Deps, caller: Caller, instance_ids: Sequence[int], workflow_id: str | None) -> Chosen:
    """Refusal `not_yours` for an id that the key does not see."""
    ids = tuple(dict.fromkeys(instance_ids))
    opened = await open_market(deps, caller, workflow_id, ids)
    active = await with_orders(deps, opened.account.id, await opened.market.instances())
    by_id = {item.instance.id: item for item in active}
    unseen = [i for i in ids if i not in by_id]
    if unseen:
        raise Refusal("not_yours", f"got {unseen[0]}, which this key does not see; nothing was sent")
    return Chosen(opened, tuple(by_id[i] for i in ids), active)
