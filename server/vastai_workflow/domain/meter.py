"""The local meter: what a machine cost so far, from what was seen; charges of the provider lag behind use."""

from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.money import ZERO, Rate, Usd


def cost(instance: Instance, gpu_s: float, now: float) -> Usd:
    """GPU while running and the disk since creation, to `now` (Unix seconds); traffic is not in it."""
    storage = storage_rate(instance)
    gpu = Rate(max(instance.price.per_hour - storage.per_hour, ZERO.per_hour))
    since = now - instance.start_date if instance.start_date is not None else gpu_s
    return gpu.over(gpu_s) + storage.over(since)


def storage_rate(instance: Instance) -> Rate:
    """The disk's part of the price, in $/h; the provider's price includes it."""
    return instance.storage_price or ZERO


def burn_rate(instance: Instance, *, gpu_billed: bool) -> Rate:
    """What it costs per hour now: all of it while the GPU is billed, else the disk."""
    return instance.price if gpu_billed else storage_rate(instance)
