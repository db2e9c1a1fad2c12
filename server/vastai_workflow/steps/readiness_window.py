"""The window in which SSH is tried: two minutes of trying, kept over calls, fresh after start, restart and attach."""

from dataclasses import replace
from typing import Final

from vastai_workflow.steps.deps import Deps

SSH_WINDOW_S: Final = 120.0
"""Seconds of trying before SSH is called failed."""

START_GRACE_S: Final = 300.0
"""After a start the old `exited` may stand for minutes (reported)."""


async def reset_window(deps: Deps, instance_id: int, *, starting: bool = False, started: bool = False) -> None:
    """Try anew; `starting`: an exited container is expected for a while; `started`: a start is about to be sent."""
    window = await deps.store.window(instance_id)
    grace = deps.clock.now() + START_GRACE_S if starting else window.grace_until
    fresh = replace(
        window, tried_s=0.0, stage="none", reason=None, host=None, port=None, grace_until=grace, keyed=False
    )
    await deps.store.keep_window(replace(fresh, started_at=deps.clock.now()) if started else fresh)


async def start_is_known(deps: Deps, instance_id: int) -> None:
    """What became of a start that was sent is known: settling need not look for it."""
    window = await deps.store.window(instance_id)
    if window.started_at:
        await deps.store.keep_window(replace(window, started_at=0.0))
