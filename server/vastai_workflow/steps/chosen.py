"""The machines that a call names, as one complete list shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from vastai_workflow.domain.errors import ProviderError, Refusal
from vastai_workflow.steps.accounts import Opened, open_market
from vastai_workflow.steps.adoption import adopt
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.fleet_view import ActiveInstance, all_active
from vastai_workflow.steps.own_pages import ours_by_page


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


async def chosen_machines(
    deps: Deps, caller: Caller, instance_ids: Sequence[int], workflow_id: str | None, *, stops: bool = False
) -> Chosen:
    """Refusal `not_yours` for an id that the key does not see.

    `stops`: the call only saves money. A machine of an order without a clear answer is ours then, and where no complete
    list can be read, machines that are ours by their own pages will do.
    """
    ids = tuple(dict.fromkeys(instance_ids))
    opened = await open_market(deps, caller, workflow_id, ids)
    try:
        listed = await opened.market.instances()
        if stops:
            await adopt(deps, opened.account.id, listed, ids)
        active = await all_active(deps, opened.account.id, listed)
    except ProviderError:
        if not stops:
            raise
        active, _ = await ours_by_page(deps, opened.market, opened.account.id, ids)
        if {item.instance.id for item in active} != set(ids):
            raise
    by_id = {item.instance.id: item for item in active if item.listed}
    unseen = [i for i in ids if i not in by_id]
    if unseen:
        raise Refusal("not_yours", f"got {unseen[0]}, which this key does not see; nothing was sent")
    return Chosen(opened, tuple(by_id[i] for i in ids), active)
