"""What the operator decides: where the provider's API and the ledger are, whose yes counts, the caps."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Self, get_args
from urllib.parse import urlsplit

from vastai_workflow.domain.caps import Caps, caps_from
from vastai_workflow.domain.errors import Refusal

Approval = Literal["human", "relayed", "auto"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

VAST_URL: Final = "VAST_URL"
STATE: Final = "VASTAI_WORKFLOW_STATE"
APPROVAL: Final = "VASTAI_WORKFLOW_APPROVAL"
LOG_LEVEL: Final = "VASTAI_WORKFLOW_LOG_LEVEL"

DEFAULT_URL: Final = "https://console.vast.ai"
"""Where the official command line client sends its requests too."""

_DATABASE_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NOT_IN_A_URL: Final = re.compile(r"[\s\\\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Settings:
    """One operator's decisions; read once, at start. `state` is an absolute folder, which need not exist yet."""

    vast_url: str
    state: Path
    approval: Approval
    caps: Caps
    log_level: LogLevel

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str],
        *,
        vast_url: str | None = None,
        state: str | None = None,
        approval: str | None = None,
        read_only: bool = False,
        default_approval: Approval = "auto",
    ) -> Self:
        """The environment's settings, with the command line's before them; Refusal `invalid_argument`.

        `read_only` only adds to what the environment says. An empty URL, state or log level counts as unset; an empty
        approval or cap is refused, since somebody meant to restrict something. `default_approval` holds where neither
        the command line nor the environment names one.
        """
        caps = caps_from(environment)
        return cls(
            vast_url=_url(vast_url or environment.get(VAST_URL) or DEFAULT_URL),
            state=_folder(state or environment.get(STATE) or None),
            approval=_approval(environment.get(APPROVAL, default_approval) if approval is None else approval),
            caps=replace(caps, read_only=caps.read_only or read_only),
            log_level=_log_level(environment.get(LOG_LEVEL) or "WARNING"),
        )


def default_state() -> Path:
    """The platform's folder for a user's state."""
    from platformdirs import user_state_path  # noqa: PLC0415  # costs start-up time, and most deployments name one

    return user_state_path("vastai-workflow")


def _url(value: str) -> str:
    """A base URL without its last slash. The value is not repeated in errors: it could hold a key."""
    value = value.strip()
    try:
        parts = urlsplit(value)
        _ = parts.port  # a port that is no number raises here
    except ValueError:
        parts = urlsplit("")
    host = parts.hostname or ""
    shown = f"{parts.scheme}://{host}" if host else "no URL"
    if parts.scheme not in {"https", "http"} or not host or _NOT_IN_A_URL.search(value):
        raise _refused(VAST_URL, shown, f"an address such as {DEFAULT_URL}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise _refused(VAST_URL, f"{shown} with a user name, query or fragment", "a plain address")
    if parts.scheme == "http" and not _is_loopback(host):
        raise _refused(VAST_URL, shown, "https, or http to this very machine: the key travels there")
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _folder(value: str | None) -> Path:
    if value is None:
        return default_state()
    if found := _DATABASE_URL.match(value):
        # only the scheme is repeated: a database URL may hold a password
        raise _refused(STATE, f"a {found[1].lower()} URL", "a folder: this version keeps its ledger in SQLite")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:  # `~name` of a user that this machine does not have
        raise _refused(STATE, repr(value[:40]), "a folder") from error


def _approval(value: str) -> Approval:
    for allowed in get_args(Approval):
        if value.strip().lower() == allowed:
            return allowed
    raise _refused(APPROVAL, repr(value[:40]), " | ".join(get_args(Approval)))


def _log_level(value: str) -> LogLevel:
    for allowed in get_args(LogLevel):
        if value.strip().upper() == allowed:
            return allowed
    raise _refused(LOG_LEVEL, repr(value[:40]), " | ".join(get_args(LogLevel)))


def _refused(name: str, got: str, allowed: str) -> Refusal:
    return Refusal(
        "invalid_argument",
        f"{name}: got {got}, allowed {allowed}",
        next_step="correct the setting, then start the server again",
    )
