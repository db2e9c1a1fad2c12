"""What runs now: the account's machines as a user sees them, with whose they are and what they cost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vastai_workflow.domain.ledger import Order, order_of_marker
from vastai_workflow.domain.lifecycle import BILLS_GPU, State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.meter import burn_rate
from vastai_workflow.domain.money import ZERO, Rate, total
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.steps.deps import Deps

LABEL_CAP = 60


@dataclass(frozen=True, slots=True)
class ActiveInstance:
    """One machine of the account. `order` is its order where this server's ledger has one, also after its end."""

    instance: Instance
    state: State
    burn: Rate
    order: Order | None

    @property
    def label(self) -> str:
        """The label, cleaned."""
        return clean(self.instance.label, LABEL_CAP)

    @property
    def ours(self) -> bool:
        """Whether this server rented it."""
        return self.order is not None


async def with_orders(deps: Deps, account_id: int, instances: Iterable[Instance]) -> tuple[ActiveInstance, ...]:
    """Join a complete list with the ledger."""
    orders = {order.order_id: order for order in await deps.store.orders(account_id=account_id)}
    return tuple(_active(item, orders.get(marked_by(item, deps.store.store_ids) or "")) for item in instances)


def _active(instance: Instance, order: Order | None) -> ActiveInstance:
    state = condition(instance).state
    burn = burn_rate(instance, gpu_billed=state in BILLS_GPU)
    mine = order if order is not None and order.instance_id == instance.id else None
    return ActiveInstance(instance, state, burn, mine)


def committed(active: Sequence[ActiveInstance]) -> Rate:
    """What all of it may cost per hour without anybody asking: what is not stopped can run again by itself."""
    return total([item.burn if item.state is State.STOPPED else max(item.instance.price, ZERO) for item in active])


def burning(active: Sequence[ActiveInstance]) -> Rate:
    """What all of it costs per hour now."""
    return total([item.burn for item in active])


def made_by(instance: Instance, order: Order, store_ids: tuple[str, ...]) -> bool:
    """Whether a machine carries this order's mark: a reply that names an id proves nothing by itself."""
    return marked_by(instance, store_ids) == order.order_id


def marked_by(instance: Instance, store_ids: tuple[str, ...]) -> str | None:
    """The order id that an instance carries, if this ledger made it."""
    return order_of_marker(instance.order_marker, store_ids)
