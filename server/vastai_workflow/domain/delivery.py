"""Is the machine that came the one that was agreed? Compares an instance with its order."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from vastai_workflow.domain.ledger import Order
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.money import Rate

_MEMORY_TOLERANCE: Final = Decimal("0.9")
_PRICE_TOLERANCE: Final = Decimal("0.0005")
"""$/h: list and search round differently; less than this is no difference."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """`faults`: why it can't be kept; `warnings`: what the user should know though it is kept.

    `may_be_new`: the only fault is the price, which may have been as agreed when the machine came.
    """

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    may_be_new: bool = False


def compare(order: Order, instance: Instance) -> Delivery:
    """Other GPU, fewer GPUs, smaller disk or a price above the ceiling can't be kept; dearer than planned is said.

    A row may lack a name or a number (empty, 0): what is not known is no fault; SSH looks at the GPUs later.
    """
    checks = [
        (
            instance.gpu_name.casefold() in {order.gpu_name.casefold(), ""},
            f"got {instance.gpu_name}, agreed {order.gpu_name}",
        ),
        (instance.num_gpus in {order.num_gpus, 0}, f"got {instance.num_gpus} GPUs, agreed {order.num_gpus}"),
        (
            not 0 < instance.gpu_ram_mb < order.gpu_ram_mb * _MEMORY_TOLERANCE,
            f"got {instance.gpu_ram_mb} MB of GPU memory, agreed {order.gpu_ram_mb} MB",
        ),
        (
            not 0 < instance.disk_gb < order.disk_gb,
            f"got {instance.disk_gb} GB of disk, agreed {order.disk_gb} GB",
        ),
    ]
    faults = tuple(why for holds, why in checks if not holds)
    if instance.price.per_hour > order.ceiling_per_hour:
        too_dear = f"got {instance.price}, agreed at most {Rate(order.ceiling_per_hour)}"
        return Delivery((*faults, too_dear), may_be_new=not faults)
    dearer = instance.price.per_hour > order.price_per_hour + _PRICE_TOLERANCE
    warnings = (f"costs {instance.price}, planned {Rate(order.price_per_hour)}",) if dearer and not faults else ()
    return Delivery(faults, warnings)
