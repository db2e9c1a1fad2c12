"""What was found and no answer told yet: kept for an account until one does, also over calls that fail."""

from collections.abc import Iterable

from vastai_workflow.steps.deps import Deps


def keep(deps: Deps, account_id: int, notes: Iterable[str]) -> None:
    """Something the user should know, for the next answer that has room for it."""
    if kept := tuple(dict.fromkeys((*deps.untold.get(account_id, ()), *notes))):
        deps.untold[account_id] = kept


def take(deps: Deps, account_id: int) -> tuple[str, ...]:
    """All of it, for an answer that is made now."""
    return deps.untold.pop(account_id, ())
