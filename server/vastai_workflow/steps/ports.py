"""What the steps need from outside, as protocols. `vast`, `access` and `store` implement them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol

from vastai_workflow.domain.audit import AuditEvent
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState
from vastai_workflow.domain.market import (
    Account,
    Charge,
    CreateOutcome,
    CreateRequest,
    Instance,
    KeyEntry,
    Offer,
    OfferQuery,
)
from vastai_workflow.domain.workflow import Workflow


class Clock(Protocol):
    """Time. The store's clock counts: one per deployment."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def steady(self) -> float:
        """Seconds since some start of this machine, the same for all its processes; nobody sets them."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Market(Protocol):
    """The provider's API with one key. Every method raises ProviderError; a list is complete or raises."""

    @property
    def is_local(self) -> bool:
        """True where the API stands on the loopback interface (the simulator)."""
        ...

    @property
    def ahead_s(self) -> float:
        """How far the provider's clock is ahead of ours in seconds, by its newest answer; 0 where none told."""
        ...

    async def account(self) -> Account:
        """Whose key it is, with the balance."""
        ...

    async def instances(self, shown: Callable[[Instance], object] | None = None) -> tuple[Instance, ...]:
        """Every instance of the account, all pages of the v1 list; a partial list is an error.

        `shown` is told of each instance when its page came, some twice, and whether or not the list gets complete.
        """
        ...

    async def instance(self, instance_id: int) -> Instance | None:
        """One instance; None where the provider says null or 404 no_such_instance. A bad key raises."""
        ...

    async def offers(self, query: OfferQuery) -> tuple[Offer, ...]:
        """Offers by price, re-checked against the query."""
        ...

    async def gpu_names(self) -> tuple[str, ...]:
        """The canonical GPU names (no key needed)."""
        ...

    async def create(self, ask_id: int, request: CreateRequest) -> CreateOutcome:
        """Rent. Sent once, never repeated; raises only before the first byte left."""
        ...

    async def start(self, instance_id: int) -> None:
        """Sent once. 200 with `resources_unavailable` raises ProviderError of that code."""
        ...

    async def stop(self, instance_id: int) -> None:
        """Stop the container; its disk goes on costing."""
        ...

    async def reboot(self, instance_id: int) -> None:
        """Stop and start on the same GPU."""
        ...

    async def recycle(self, instance_id: int) -> None:
        """A new container from the image; the old one's data is lost."""
        ...

    async def destroy(self, instance_id: int) -> bool:
        """True when the provider took it or says that it is gone already; proves nothing by itself."""
        ...

    async def account_keys(self) -> tuple[KeyEntry, ...]:
        """The account's SSH keys; the provider's 404 for none is an empty tuple."""
        ...

    async def add_account_key(self, public_key: str) -> None:
        """Add a key to the account (instances rented later get it)."""
        ...

    async def delete_account_key(self, key_id: int) -> None:
        """Take a key from the account; that it is gone already is a success."""
        ...

    async def instance_keys(self, instance_id: int) -> tuple[KeyEntry, ...]:
        """The keys the provider has for an instance."""
        ...

    async def attach_key(self, instance_id: int, public_key: str) -> None:
        """Give an instance a key; that it is there already is a success."""
        ...

    async def detach_key(self, instance_id: int, key_id: int) -> None:
        """Take a key from an instance; that it is gone already is a success. No proof that it lets nobody in."""
        ...

    async def charges(self, start: float, end: float) -> tuple[Charge, ...]:
        """Charges by day, Unix seconds, all pages."""
        ...

    async def invoices(self, start: float, end: float) -> tuple[Charge, ...]:
        """Payments and credits in a span of Unix seconds, all pages."""
        ...

    async def logs(self, instance_id: int, *, tail: int, daemon: bool) -> str:
        """The newest lines of the container's or the daemon's log, untrusted, 256 KB at most."""
        ...


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A call of the provider's API, as a curl line without secrets; `at` in Unix seconds. `changes`: no mere look."""

    at: float
    curl: str
    answer: str
    changes: bool


class Markets(Protocol):
    """Opens the provider's API for a key source (`env:NAME`, `file:/abs/path`, `cli`, `keyring`)."""

    def resolve(self, source: str) -> str:
        """The source in full (absolute path); LocalError `key_file_refused` where it may never be read."""
        ...

    async def open(self, source: str) -> Market:
        """Loads the key (LocalError `key_missing`, `key_file_refused`) and returns the API; sends nothing.

        Clients are kept per key, so that limits hold over calls.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen of an instance over the calls; the store keeps it whole (every field).

    `tried_s`: seconds of trying SSH. Until `grace_until` (Unix seconds; set by start and restart) an exited container
    is one that still comes up. `started_at`: when a start was asked for whose answer is not known (0: none).
    `recycled_at`: when a recycle was asked for, of a container whose host key was `recycled_key`.
    `keyed_at`: when the provider last said that the instance has the agreed key (0: not asked). `unkeyed_at`: when a
    list showed that the agreed key, which was to go, is gone (0: none did). `gpu_s`, `seen_at`, `seen_running`,
    `cost_usd`: the local meter, GPU seconds that were billed, and what it showed when it was read last.
    `reason` is a code, `detail` the sentence that goes with it, with the machine's words cleaned.
    """

    instance_id: int
    tried_s: float = 0.0
    stage: str = "none"
    reason: str | None = None
    detail: str = ""
    host: str | None = None
    port: int | None = None
    grace_until: float = 0.0
    started_at: float = 0.0
    recycled_at: float = 0.0
    recycled_key: str = ""
    keyed_at: float = 0.0
    unkeyed_at: float = 0.0
    probed_at: float = 0.0
    gpu_s: float = 0.0
    seen_at: float = 0.0
    seen_running: bool = False
    cost_usd: Decimal | None = None


class Store(Protocol):
    """Workflows and the ledger. Everything it says it kept is on disk."""

    @property
    def store_id(self) -> str:
        """Random, the newest of `store_ids`; half of the marker of new orders."""
        ...

    @property
    def store_ids(self) -> tuple[str, ...]:
        """All ids that this ledger ever had, newest last: machines of its orders may carry any of them."""
        ...

    async def add_workflow(self, workflow: Workflow) -> None:
        """Keep a new workflow."""
        ...

    async def workflow(self, workflow_id: str) -> Workflow | None:
        """A workflow by its id, whoever owns it."""
        ...

    async def workflows(self, owner: str) -> tuple[Workflow, ...]:
        """An owner's workflows, the newest first."""
        ...

    async def change_workflow(self, workflow_id: str, change: Callable[[Workflow], Workflow]) -> Workflow:
        """Read, change and write in one transaction; `change` is pure and may raise (then nothing is written).

        A yes that the change gives or spends is on the audit trail with it (`domain.audit.noticed`).
        """
        ...

    async def add_orders(self, orders: Sequence[Order]) -> None:
        """Keep new orders, all or none."""
        ...

    async def move_order(self, order_id: str, to: OrderState, facts: OrderFacts | None = None) -> Order:
        """One legal move (`domain.ledger`), flushed to disk before this returns; an illegal one raises."""
        ...

    async def note_order(self, order_id: str, facts: OrderFacts) -> Order:
        """New facts on an order in its state."""
        ...

    async def orders(
        self,
        *,
        workflow_id: str | None = None,
        account_id: int | None = None,
        instance_ids: Sequence[int] | None = None,
        states: Sequence[OrderState] | None = None,
    ) -> tuple[Order, ...]:
        """Orders that fit every given condition, oldest first."""
        ...

    async def window(self, instance_id: int) -> Window:
        """The readiness window of an instance; a fresh one where none is kept."""
        ...

    async def change_window(self, instance_id: int, change: Callable[[Window], Window]) -> Window:
        """Read, change and write a readiness window in one transaction; `change` is pure. Answers the new one."""
        ...

    async def record(self, events: Sequence[AuditEvent]) -> None:
        """Add to the audit trail, from which nothing is ever taken."""
        ...

    async def trail(self, workflow_id: str | None = None) -> tuple[AuditEvent, ...]:
        """The audit trail with the orders' own events in it, all or a workflow's, oldest first."""
        ...

    def account_lock(self, account_id: int, *, wait_s: float = 10.0) -> AbstractAsyncContextManager[None]:
        """One renter per account over all processes on this store; Refusal `account_busy` after the wait."""
        ...


@dataclass(frozen=True, slots=True)
class LocalKey:
    """An SSH public key and where its private half is (None: only the public text is known)."""

    public_key: str
    fingerprint: str
    private_key_path: Path | None = None


class Keys(Protocol):
    """SSH keys on this machine."""

    async def resolve(self, value: str | None) -> LocalKey:
        """None: the first usual key, else a pair of our own; else a path or a public key as text."""
        ...

    def fingerprint(self, public_key: str) -> str | None:
        """SHA256 of a public key line's blob, as OpenSSH shows it; None where the line holds no key."""
        ...

    def same(self, one: str, other: str) -> bool:
        """Whether two public key lines hold the same key (comments do not count)."""
        ...


ProbeStage = Literal["none", "port_open", "ssh_ok", "gpu_ok"]


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """How far a probe came. `reason` is a code, `detail` one clean sentence; never raised."""

    stage: ProbeStage
    host: str | None = None
    port: int | None = None
    reason: str | None = None
    detail: str = ""
    host_key_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """What to probe: addresses the API gave for this very instance, direct first, and what was agreed.

    `host_key`: the fingerprint that the ledger has from an earlier login, which holds where the pin itself was lost.
    """

    instance_id: int
    addresses: tuple[tuple[str, int], ...]
    key: LocalKey
    gpu_name: str
    num_gpus: int
    gpu_ram_mb: int
    local_market: bool = False
    host_key: str | None = None


class Prober(Protocol):
    """Real SSH log-ins."""

    @property
    def known_hosts_file(self) -> Path:
        """Where the machines' host keys are pinned, one alias `vast-ID` each."""
        ...

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        """Try the addresses; says how far it came, never raises for the network."""
        ...

    async def is_pinned(self, instance_id: int, fingerprint: str | None) -> bool:
        """Whether the host key with this fingerprint (None: any) is pinned; False too where the file can't be read."""
        ...

    async def forget(self, instance_id: int) -> bool:
        """Drop the pinned host key: the instance is gone, or makes a new one. False where the file can't be written.

        A probe that is under way pins none after it.
        """
        ...
