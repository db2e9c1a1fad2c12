"""What runs now: the account's machines as a user sees them, with whose they are and what they cost."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from vastai_workflow.domain.ledger import SETTLES_S, Order, OrderState, is_marker, order_of_marker
from vastai_workflow.domain.lifecycle import BILLS_GPU, State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.meter import burn_rate
from vastai_workflow.domain.money import ZERO, Rate, total
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.steps.deps import Deps

LABEL_CAP = 60


class Origin(StrEnum):
    """Where a machine comes from, as far as its mark tells. Only `ours` is ever ended without being asked."""

    OURS = "ours"
    """From one of our requests; more than was agreed where it is not the machine of its order."""

    COPIED_MARK = "copied mark"
    """Of an order on record that can't have made it: a template or a re-rent copied the mark."""

    NOT_ON_RECORD = "not on record"
    """Our ledger's mark without an order here: a restored older copy, or another copy of the ledger at work."""

    ANOTHER_LEDGER = "another ledger"
    """A colleague's, or one of ours that was lost."""

    UNMARKED = "unmarked"


@dataclass(frozen=True, slots=True)
class ActiveInstance:
    """One machine of the account. `order` is its order where this server's ledger has one, also after its end.

    `listed`: False for one of ours so new that the provider's lists may still lack it.
    """

    instance: Instance
    state: State
    burn: Rate
    order: Order | None
    origin: Origin = Origin.UNMARKED
    listed: bool = True

    @property
    def label(self) -> str:
        """The label, cleaned."""
        return clean(self.instance.label, LABEL_CAP)

    @property
    def ours(self) -> bool:
        """Whether this server rented it."""
        return self.order is not None


_WHOSE: Final = {
    Origin.OURS: " (made by a request of this server, beside the machine that it was to make)",
    Origin.ANOTHER_LEDGER: " (rented through another ledger of vastai-workflow: a colleague's, or one that was lost)",
    Origin.NOT_ON_RECORD: " (carries our mark, but this ledger has no such order: it is an older copy)",
    Origin.COPIED_MARK: " (carries a copy of our mark)",
}


def whose_words(active: ActiveInstance) -> str:
    """Where a machine that is not ours comes from, as far as its mark tells; mostly nothing."""
    return "" if active.ours else _WHOSE.get(active.origin, "")


def in_words(active: Iterable[ActiveInstance]) -> list[str]:
    """Each machine for a question: id, label, what it costs, and whose it is if its mark tells."""
    return [f"{item.instance.id} {_called(item)} at {item.burn}{whose_words(item)}" for item in active]


def _called(item: ActiveInstance) -> str:
    return repr(item.label) if item.listed else "(just rented here, not listed yet)"


async def with_orders(deps: Deps, account_id: int, instances: Iterable[Instance]) -> tuple[ActiveInstance, ...]:
    """Join a complete list with the ledger."""
    orders = {order.order_id: order for order in await deps.store.orders(account_id=account_id)}
    return tuple(_active(item, orders, deps.store.store_ids) for item in instances)


async def all_active(deps: Deps, account_id: int, instances: Iterable[Instance]) -> tuple[ActiveInstance, ...]:
    """The same, and beside it what was rented here and no list shows yet, at its order's price."""
    seen = await with_orders(deps, account_id, instances)
    listed = {item.instance.id for item in seen}
    rented = await deps.store.orders(account_id=account_id, states=(OrderState.RENTED,))
    return (*seen, *[_as_ordered(order) for order in rented if await _is_to_come(deps, order, listed)])


async def _is_to_come(deps: Deps, order: Order, listed: Collection[int]) -> bool:
    """Whether a machine is missing from a list that may not have it yet."""
    if order.instance_id is None or order.instance_id in listed or order.age(deps.moment()) >= SETTLES_S:
        return False
    return (await deps.store.window(order.instance_id)).seen_at == 0


def _as_ordered(order: Order) -> ActiveInstance:
    if order.instance_id is None:
        raise AssertionError
    instance = Instance(
        id=order.instance_id,
        label="",
        machine_id=order.machine_id,
        gpu_name=order.gpu_name,
        num_gpus=order.num_gpus,
        gpu_ram_mb=order.gpu_ram_mb,
        disk_gb=Decimal(order.disk_gb),
        price=order.price,
        actual_status=None,
        intended_status=None,
        cur_state=None,
        next_state=None,
    )
    return ActiveInstance(instance, State.PROVISIONING, order.price, order, Origin.OURS, listed=False)


def _active(instance: Instance, orders: Mapping[str, Order], store_ids: tuple[str, ...]) -> ActiveInstance:
    order = orders.get(marked_by(instance, store_ids) or "")
    state = condition(instance).state
    burn = burn_rate(instance, gpu_billed=state in BILLS_GPU)
    mine = order if order is not None and order.instance_id == instance.id else None
    return ActiveInstance(instance, state, burn, mine, origin(instance, orders, store_ids))


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


def origin(instance: Instance, orders: Mapping[str, Order], store_ids: tuple[str, ...]) -> Origin:
    """Where a machine comes from. `orders`: all of its account by order id."""
    order_id = marked_by(instance, store_ids)
    if order_id is None:
        return Origin.ANOTHER_LEDGER if is_marker(instance.order_marker) else Origin.UNMARKED
    order = orders.get(order_id)
    if order is None:
        return Origin.NOT_ON_RECORD
    made = order.instance_id == instance.id or order.can_have_made(instance.started_there)
    return Origin.OURS if made else Origin.COPIED_MARK
