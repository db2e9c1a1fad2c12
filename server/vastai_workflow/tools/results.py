"""What the tools answer, as schemas. Prices in $/h, amounts in $, sizes in GB, times in Unix seconds."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PerHour = Annotated[float, Field(description="$/h")]
Dollars = Annotated[float, Field(description="$")]


class Result(BaseModel):
    """Strict base of every answer."""

    model_config = ConfigDict(extra="forbid")


class NextCall(Result):
    """The call that goes on from here."""

    tool: str
    arguments: dict[str, Any]


class FieldRow(Result):
    """One field of the proposal."""

    name: str
    value: bool | int | float | str | list[str] | dict[str, str]
    status: Literal["proposed", "confirmed"]
    source: Literal["default", "given", "account", "plan"]


class ActiveRow(Result):
    """One machine that runs now; `label` is untrusted text."""

    instance_id: int
    label: str
    status: str
    price_per_hour: PerHour
    ours: bool


class OutlookRow(Result):
    """What the plan would cost now, disk included, traffic not."""

    price_per_hour: PerHour
    total_per_hour: PerHour
    per_day: Dollars
    runway_hours: float | None


class ConfirmationRow(Result):
    """A yes as it was recorded."""

    purpose: str
    digest: str
    by: str
    ceiling_per_hour: float | None
    expires_at: float


class Proposal(Result):
    """Answer of propose_fields."""

    workflow_id: str
    digest: str
    fields: list[FieldRow]
    missing: list[str]
    questions: list[str]
    active: list[ActiveRow]
    outlook: OutlookRow | None
    problem: str | None
    next_call: NextCall | None


class Confirmed(Result):
    """Answer of confirm_fields."""

    workflow_id: str
    confirmed: list[str]
    missing: list[str]
    digest: str
    questions: list[str]
    active: list[ActiveRow]
    outlook: OutlookRow | None
    problem: str | None
    confirmation: ConfirmationRow | None
    next_call: NextCall | None


class PreflightResult(Result):
    """Answer of preflight."""

    account: str
    credit: Dollars
    active: list[ActiveRow]
    burn_per_hour: PerHour
    notes: list[str]


class OfferRow(Result):
    """One offer; the price includes the disk that was asked for."""

    offer_id: int
    machine_id: int
    gpu: str
    num_gpus: int
    vram_gb: float
    price_per_hour: PerHour
    region: str
    reliability: float | None
    down_mbps: float | None
    traffic_per_gb: float | None


class Offers(Result):
    """Answer of find_offers; `chosen` are the offers of the plan."""

    plan_id: str
    offers: list[OfferRow]
    matches: int
    chosen: list[int]
    total_per_hour: PerHour
    runway_hours: float | None
    expires_at: float
    notes: list[str]
    next_call: NextCall | None


class OrderRow(Result):
    """One order of the ledger."""

    order_id: str
    state: str
    instance_id: int | None
    price_per_hour: PerHour
    reason: str | None


class CreatedResult(Result):
    """Answer of create_instances."""

    orders: list[OrderRow]
    notes: list[str]
    next_call: NextCall | None


class SshRow(Result):
    """How to log in."""

    host: str
    port: int
    user: str
    command: str


class InstanceRow(Result):
    """One machine; `label`, `reason` and `warnings` may hold untrusted text."""

    instance_id: int
    workflow_id: str | None
    label: str
    state: str
    readiness: str
    ssh: SshRow | None
    price_per_hour: float | None
    cost_usd: float | None
    agreed_by: str | None
    host_key: str | None
    reason: str | None
    warnings: list[str]


class Instances(Result):
    """Answer of wait_until_ready and instance_status. `settled`: no order may have rented unseen."""

    instances: list[InstanceRow]
    settled: bool
    notes: list[str]
    next_call: NextCall | None


class ChangedRow(Result):
    """One machine after a start, stop, restart or destroy."""

    instance_id: int
    state: str
    final_state: Literal["gone", "still there", "unknown"] | None
    cost_usd: float | None
    reason: str | None


class Changes(Result):
    """Answer of start, stop, restart and destroy."""

    instances: list[ChangedRow]
    notes: list[str]


class KeyRow(Result):
    """One machine's key."""

    instance_id: int
    fingerprint: str
    added: bool
    reason: str | None


class Attached(Result):
    """Answer of attach_ssh_key."""

    keys: list[KeyRow]


class RemovedRow(Result):
    """A key in one place; without an instance id that is the account."""

    instance_id: int | None
    fingerprint: str
    state: Literal["gone", "was not there", "still there", "unknown"]
    reason: str | None


class RemovedResult(Result):
    """Answer of remove_ssh_key. After the account: `still_on` our machines that keep the key, `maybe_on` unclear."""

    keys: list[RemovedRow]
    still_on: list[int]
    maybe_on: list[int]


class ChargeRow(Result):
    """One charge or payment; the description is untrusted text."""

    kind: str
    source: str
    description: str
    amount_usd: Dollars
    instance_id: int | None


class MeterRow(Result):
    """One machine by the local meter."""

    instance_id: int
    cost_usd: Dollars


class BillingResult(Result):
    """Answer of billing_report."""

    start: float
    end: float
    charged_usd: Dollars
    charges: list[ChargeRow]
    invoices: list[ChargeRow]
    credit: Dollars
    burn_per_hour: PerHour
    meter: list[MeterRow]


class Log(Result):
    """Answer of read_logs; `text` is untrusted, framed."""

    instance_id: int
    text: str


class LeftOutRow(Result):
    """A machine that is in no inventory, and what helps."""

    instance_id: int
    reason: str


class InventoryResult(Result):
    """Answer of export_inventory."""

    format: str
    text: str
    included: list[int]
    left_out: list[LeftOutRow]
    notes: list[str]
