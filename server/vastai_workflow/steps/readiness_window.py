"""The window in which SSH is tried: two minutes of trying, kept over calls, fresh after start, restart and attach."""

from dataclasses import replace
from typing import Final

from vastai_workflow.steps.deps import Deps

SSH_WINDOW_S: Final = 120.0
"""Seconds of trying before SSH is called failed."""

START_GRACE_S: Final = 300.0
"""After a start the old `exited` may stand for minutes (reported)."""


async def reset_window(deps: Deps, instance_id: int, *, starting: bool = False) -> None:
    """Try anew; `starting`: an exited container is expected for a while."""
    window = await deps.store.window(instance_id)
    grace = deps.clock.now() + START_GRACE_S if starting else window.grace_until
    fresh = replace(
        window, tried_s=0.0, stage="none", reason=None, host=None, port=None, grace_until=grace, keyed=False
    )
    await deps.store.keep_window(fresh)
