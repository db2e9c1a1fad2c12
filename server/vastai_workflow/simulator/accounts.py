"""Accounts, their API keys with permissions, and their SSH keys."""

from dataclasses import dataclass, field
from decimal import Decimal

SCOPES = frozenset(
    f"{area}_{kind}" for area in ("instance", "user", "billing", "machine", "team") for kind in ("read", "write")
) | {"misc"}
"""The permission categories of an API key."""


@dataclass(slots=True)
class ApiKey:
    """One API key; an instance key may only start, stop or destroy its one instance."""

    id: int
    secret: str = field(repr=False)
    scopes: frozenset[str] = SCOPES
    instance_id: int | None = None
    revoked: bool = False
    name: str = "key"


@dataclass(slots=True)
class SshKey:
    """A public key; `ready_at` is when containers have it."""

    id: int
    public_key: str
    created_at: float
    ready_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that came in, in $."""

    id: int
    at: float
    amount: Decimal
    service: str = "stripe_payments"


@dataclass(slots=True, eq=False)
class Account:
    """A user, or a team with its own balance."""

    id: int
    username: str
    email: str
    credit: Decimal
    has_card: bool = True
    team: bool = False
    keys: dict[str, ApiKey] = field(default_factory=dict[str, ApiKey], repr=False)
    ssh_keys: dict[int, SshKey] = field(default_factory=dict[int, SshKey])
    secrets: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    payments: list[Payment] = field(default_factory=list[Payment])
    templates: dict[int, dict[str, object]] = field(default_factory=dict[int, dict[str, object]])
    volumes: dict[int, dict[str, object]] = field(default_factory=dict[int, dict[str, object]])
