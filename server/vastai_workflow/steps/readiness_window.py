"""The window in which SSH is tried: two minutes of trying, kept over calls, fresh after start, restart and attach."""

from dataclasses import replace
from typing import Final

from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.ports import Window

SSH_WINDOW_S: Final = 120.0
"""Seconds of trying before SSH is called failed."""

START_GRACE_S: Final = 300.0
"""After a start the old `exited` may stand for minutes (reported)."""


RECYCLE_S: Final = 60.0
"""For so long after a recycle the old host key may be the old container's: the provider answers before it is gone."""


async def reset_window(deps: Deps, instance_id: int, *, starting: bool = False, started: bool = False) -> None:
    """Try anew; `starting`: an exited container is expected for a while; `started`: a start is about to be sent."""
    now = deps.clock.now()

    def fresh(window: Window) -> Window:
        return replace(
            window,
            tried_s=0.0,
            stage="none",
            reason=None,
            detail="",
            host=None,
            port=None,
            grace_until=now + START_GRACE_S if starting else window.grace_until,
            keyed_at=0.0,
            started_at=now if started else window.started_at,
        )

    await deps.store.change_window(instance_id, fresh)


async def recycle_is_asked_for(deps: Deps, instance_id: int, host_key: str) -> None:
    """What answers with this host key may be the old container for a while."""
    now = deps.clock.now()
    await deps.store.change_window(instance_id, lambda window: replace(window, recycled_at=now, recycled_key=host_key))


def is_replaced(window: Window, host_key: str | None, now: float) -> bool:
    """Whether it is, or may still be, the container that a recycle replaces."""
    return bool(host_key) and host_key == window.recycled_key and now - window.recycled_at < RECYCLE_S


async def start_is_known(deps: Deps, instance_id: int) -> None:
    """What became of a start that was sent is known: settling need not look for it."""
    if (await deps.store.window(instance_id)).started_at:
        await deps.store.change_window(instance_id, lambda window: replace(window, started_at=0.0))
