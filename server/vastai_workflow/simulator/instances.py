"""One rented machine: its contract, its container and what is known of it."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from vastai_workflow.simulator.accounts import Account, ApiKey, SshKey
from vastai_workflow.simulator.billing import Meter
from vastai_workflow.simulator.exchange import JsonObject
from vastai_workflow.simulator.market import Machine

DIRECT_SSH = frozenset({"ssh_direc", "ssh_direct", "jupyter_direc", "jupyter_direct"})
"""Run types with a direct SSH port; the official CLI writes them without the last letter."""

FateKind = Literal["stuck", "oci", "image", "crash", "offline", "unknown", "frozen", "outbid"]


@dataclass(frozen=True, slots=True)
class Fate:
    """What will go wrong with an instance: in its boot, or `after_s` seconds later."""

    kind: FateKind
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Address:
    """Real loopback ports of an instance's SSH host: the direct one and the proxy's."""

    direct_port: int
    proxy_port: int


@dataclass(slots=True, eq=False)
class Instance:
    """A contract and its container; prices in $/h and $/GB/month, disk in GB, times in Unix seconds."""

    id: int
    account: Account
    machine: Machine
    gpu_ids: tuple[int, ...]
    image: str
    runtype: str
    env: dict[str, str]
    onstart: str | None
    args: list[str]
    label: str | None
    disk_gb: Decimal
    dph_base: Decimal
    bid: Decimal | None
    created_at: float
    visible_at: float
    end_date: float
    first_port: int
    load_factor: float
    api_key: ApiKey = field(repr=False)
    jupyter_token: str = field(repr=False)
    template: JsonObject | None = None
    volume_info: list[JsonObject] = field(default_factory=list[JsonObject])

    actual: str | None = None
    intended: str = "running"
    cur: str = "running"
    next: str = "running"
    status_msg: str | None = None
    running_since: float | None = None
    queued: bool = False
    """A start that waits for free cards."""
    lost_bid: bool = False
    unloaded: bool = False
    gone: bool = False
    ended_at: float | None = None
    linger_s: float | None = None
    """How long it is shown after its end; None is the market's usual time."""
    fate: Fate | None = None
    epoch: int = 0
    """Counts changes of course, so that steps planned before one do not happen."""
    ssh_keys: dict[int, SshKey] = field(default_factory=dict[int, SshKey])
    meter: Meter = field(default_factory=Meter)
    log: list[str] = field(default_factory=list[str])
    prepaid: Decimal = Decimal(0)
    disguise: JsonObject = field(default_factory=dict[str, object])
    """Fields that reads show in place of the truth."""
    cards: list[tuple[str, int]] | None = None
    """The cards that the container sees, with MB each; None is the contract's."""
    ssh_behaviour: str = "normal"
    container: int = 0
    """Counts containers; another one has another host key."""
    address: Address | None = None

    @property
    def holder(self) -> str:
        """The name under which it holds its cards."""
        return f"instance:{self.id}"

    @property
    def is_bid(self) -> bool:
        """Whether it is interruptible."""
        return self.bid is not None

    @property
    def holds_cards(self) -> bool:
        """Whether its cards are its own now."""
        return any(holder == self.holder for holder in self.machine.holders.values())

    @property
    def gpu_rate(self) -> Decimal:
        """$/h for the cards at this moment: only while running."""
        return self.dph_base if self.actual == "running" and not self.unloaded else Decimal(0)

    @property
    def disk_rate(self) -> Decimal:
        """$/h for the disk at this moment: from creation to the end, except while offline."""
        if self.unloaded or self.actual == "offline":
            return Decimal(0)
        return self.machine.storage_price(self.disk_gb)

    @property
    def has_direct_ssh(self) -> bool:
        """Whether its run type opens SSH on the machine itself."""
        return bool(DIRECT_SSH & set(self.runtype.split()))

    @property
    def has_ssh(self) -> bool:
        """Whether its run type has SSH at all."""
        return "ssh" in self.runtype or "jupyter" in self.runtype

    @property
    def is_jupyter(self) -> bool:
        """Whether its run type serves notebooks."""
        return "jupyter" in self.runtype
