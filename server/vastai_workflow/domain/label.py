"""The label of a machine: asked of nobody, taken from the account."""

from typing import Final

from vastai_workflow.domain.market import Account
from vastai_workflow.domain.untrusted import clean

FALLBACK: Final = "vast-user"
_CAP: Final = 60


def label_for(account: Account | None) -> str:
    """The nickname (a username that is no e-mail address), else the e-mail's local part, else `vast-user`."""
    if account is None:
        return FALLBACK
    name = account.nickname or account.username
    if name and "@" not in name and (shown := clean(name, _CAP)):
        return shown
    local, at, _ = (account.email or "").partition("@")
    return (clean(local, _CAP) if at else "") or FALLBACK
