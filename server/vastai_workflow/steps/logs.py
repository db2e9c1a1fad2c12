"""Logs: the container's or the daemon's last lines, as untrusted text."""

from typing import Final

from vastai_workflow.domain.untrusted import clean_lines
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.deps import Caller, Deps

LOG_CAP: Final = 8000
"""Characters that a model gets to read."""


async def read_logs(
    deps: Deps, caller: Caller, instance_id: int, *, tail: int, daemon: bool, workflow_id: str | None
) -> str:
    """Clean lines of one machine's log, the newest last."""
    opened = await open_market(deps, caller, workflow_id, (instance_id,))
    return clean_lines(await opened.market.logs(instance_id, tail=tail, daemon=daemon), LOG_CAP)
