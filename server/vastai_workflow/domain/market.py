"""The provider's things as values: offers, instances, the account, SSH keys, charges.

Units: GB, MB (GPU memory), Mb/s, $/h, Unix seconds. What the provider calls these fields stands in the adapter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import SecretStr

from vastai_workflow.domain.money import Rate, Usd

ORDER_VARIABLE = "VASTAI_WORKFLOW_ORDER"
"""The variable in an instance's environment that proves whose order it is: `STORE_ID.ORDER_ID`."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A rentable ask. `ask_id` is the provider's `ask_contract_id`; prices include the disk that was asked for."""

    ask_id: int
    machine_id: int
    host_id: int
    gpu_name: str
    num_gpus: int
    gpu_ram_mb: int
    price: Rate
    disk_space_gb: Decimal
    verified: bool
    rentable: bool
    rented: bool
    min_bid: Rate | None = None
    reliability: Decimal | None = None
    cuda: Decimal | None = None
    inet_down_mbps: Decimal | None = None
    inet_up_mbps: Decimal | None = None
    down_price_per_gb: Usd | None = None
    up_price_per_gb: Usd | None = None
    region: str = ""
    country: str = ""
    dlperf: Decimal | None = None
    max_rental_s: float | None = None
    direct_ports: int = 0
    datacenter: bool = False


@dataclass(frozen=True, slots=True)
class OfferQuery:
    """What to search for. `rentable=true` and `rented=false` are always sent and are no choice."""

    disk_gb: int
    gpu_name: str | None = None
    num_gpus: int | None = None
    verified: bool = True
    min_vram_mb: int | None = None
    regions: tuple[str, ...] = ()
    max_price: Rate | None = None
    min_reliability: Decimal | None = None
    min_cuda: Decimal | None = None
    min_inet_down_mbps: int | None = None
    min_direct_ports: int | None = None
    interruptible: bool = False
    ask_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine of this account. The four status words are the provider's own, None where it gives null."""

    id: int
    label: str
    machine_id: int
    gpu_name: str
    num_gpus: int
    gpu_ram_mb: int
    disk_gb: Decimal
    price: Rate
    actual_status: str | None
    intended_status: str | None
    cur_state: str | None
    next_state: str | None
    status_msg: str = ""
    image: str = ""
    runtype: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    start_date: float | None = None
    started_there: float | None = None
    end_date: float | None = None
    is_bid: bool = False
    storage_price: Rate | None = None
    ssh_host: str | None = None
    ssh_port: int | None = None
    public_ip: str | None = None
    direct_ssh_port: int | None = None

    @property
    def order_marker(self) -> str | None:
        """`STORE_ID.ORDER_ID` if this machine was ordered by a server of this kind."""
        return self.env.get(ORDER_VARIABLE)


@dataclass(frozen=True, slots=True)
class Account:
    """Whose key it is. `label` names are in `domain.label`; the credit is the spendable balance."""

    id: int
    credit: Usd
    nickname: str | None = None
    username: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A public SSH key that the provider keeps, at account or instance level."""

    id: int
    public_key: str


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """All that goes into the create's body, besides the offer: agreed fields and the order marker.

    `env` values are the user's secrets. `bid` makes it interruptible ($/h per machine).
    """

    image: str
    disk_gb: int
    label: str
    order_marker: str
    env: Mapping[str, SecretStr] = field(default_factory=dict[str, SecretStr])
    ports: tuple[str, ...] = ()
    onstart: str | None = None
    bid: Rate | None = None
    template_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Rented:
    """The create was accepted and named an instance."""

    instance_id: int


@dataclass(frozen=True, slots=True)
class NotRented:
    """A known refusal or 429: nothing was rented. `retry_after` in seconds where the provider said so."""

    code: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class RentedWithError:
    """An error reply that still names an instance: it exists and has to be looked at."""

    instance_id: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class MaybeRented:
    """Nobody knows yet: time-out, broken connection, 5xx, 408/409/425, unreadable or unknown answer."""

    reason: str


CreateOutcome = Rented | NotRented | RentedWithError | MaybeRented


@dataclass(frozen=True, slots=True)
class Charge:
    """One row of charges or invoices; times in Unix seconds; negative amounts were paid in."""

    kind: str
    source: str
    description: str
    amount: Usd
    start: float | None = None
    end: float | None = None

    @property
    def instance_id(self) -> int | None:
        """The instance that a charge is for (`instance-123`)."""
        prefix, _, number = self.source.partition("-")
        return int(number) if prefix == "instance" and number.isdecimal() else None
