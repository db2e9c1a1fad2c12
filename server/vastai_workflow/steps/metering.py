"""The local meter over calls: what was seen of a machine, kept in its window."""

from dataclasses import replace
from decimal import Decimal

from vastai_workflow.domain import meter
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.money import Usd
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ports import Window


async def metered(deps: Deps, instance: Instance) -> Usd:
    """Read the meter on: a time between two looks counts where the GPU ran at either of them."""
    now = deps.clock.now()
    running = condition(instance).state in {State.RUNNING, State.REBOOTING}

    def read_on(window: Window) -> Window:
        since = window.seen_at or instance.start_date or now
        gpu_s = window.gpu_s + (max(now - since, 0.0) if running or window.seen_running else 0.0)
        cost = meter.cost(instance, gpu_s, now)
        return replace(window, gpu_s=gpu_s, seen_at=now, seen_running=running, cost_usd=cost.amount)

    window = await deps.store.change_window(instance.id, read_on)
    return Usd(window.cost_usd or Decimal(0))
