"""Offers, machines, orders and workflows for the domain's tests; each test names only what it is about."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import settings

from vastai_workflow.domain.fields import FIELDS, defaults
from vastai_workflow.domain.ledger import Order
from vastai_workflow.domain.market import Account, Instance, Offer
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.domain.workflow import Confirmation, FieldState, Plan, PlannedOffer, Purpose, Workflow

THOROUGH = settings(deadline=None, database=None, derandomize=True, max_examples=150)
"""For properties: no deadline on a busy machine, no files, the same examples each time."""

NOW = 1_000_000.0
DIGEST = "0123456789abcdef"
MICRO = Decimal("0.000001")
ACCOUNT = Account(id=7, credit=Usd.of(10), nickname="ada")


def an_offer(ask_id: int = 11, machine_id: int = 12, price: str = "0.4", **changes: Any) -> Offer:
    offer = Offer(
        ask_id=ask_id,
        machine_id=machine_id,
        host_id=13,
        gpu_name="RTX 4090",
        num_gpus=1,
        gpu_ram_mb=24564,
        price=Rate.of(price),
        disk_space_gb=Decimal(100),
        verified=True,
        rentable=True,
        rented=False,
        reliability=Decimal("0.99"),
        cuda=Decimal("12.4"),
        inet_down_mbps=Decimal(800),
        country="SE",
        dlperf=Decimal(90),
        direct_ports=8,
    )
    return replace(offer, **changes)


def an_instance(**changes: Any) -> Instance:
    instance = Instance(
        id=31,
        label="ada",
        machine_id=12,
        gpu_name="RTX 4090",
        num_gpus=1,
        gpu_ram_mb=24564,
        disk_gb=Decimal(64),
        price=Rate.of("0.4"),
        actual_status="running",
        intended_status="running",
        cur_state="running",
        next_state="running",
    )
    return replace(instance, **changes)


def an_order(**changes: Any) -> Order:
    order = Order(
        order_id="o1",
        workflow_id="w1",
        owner="ada",
        plan_id="p1",
        confirmation_id="c1",
        account_id=7,
        key_source="env:VAST_API_KEY",
        ask_id=11,
        machine_id=12,
        gpu_name="RTX 4090",
        num_gpus=1,
        gpu_ram_mb=24564,
        disk_gb=64,
        price_per_hour=Decimal("0.4"),
        ceiling_per_hour=Decimal("0.5"),
        agreed_by="relayed by tests",
        created_at=NOW,
    )
    return order.model_copy(update=changes)


def a_yes(purpose: Purpose = Purpose.RENT, **changes: Any) -> Confirmation:
    confirmation = Confirmation(
        confirmation_id="c1",
        purpose=purpose,
        digest=DIGEST,
        account_id=7,
        by="relayed by tests",
        at=NOW - 60,
        expires_at=NOW + 1740,
        ceiling_per_hour=Decimal("0.5"),
    )
    return confirmation.model_copy(update=changes)


def a_plan(**changes: Any) -> Plan:
    chosen = PlannedOffer(
        ask_id=11, machine_id=12, gpu_name="RTX 4090", num_gpus=1, gpu_ram_mb=24564, price_per_hour=Decimal("0.4")
    )
    plan = Plan(plan_id="p1", digest=DIGEST, chosen=(chosen,), created_at=NOW - 30, expires_at=NOW + 570)
    return plan.model_copy(update=changes)


def agreed_values(**given: Any) -> dict[str, Any]:
    """The defaults, what a look at the market adds, and what is given, all in canonical form."""
    looked = {"ssh_key": "SHA256:abc", "label": "ada", "max_price_per_hour": "0.5"}
    parsed = {name: FIELDS[name].parse(name, value) for name, value in given.items()}
    return {**defaults(), **looked, **parsed}


def a_workflow(*, status: str = "confirmed", values: dict[str, Any] | None = None, **changes: Any) -> Workflow:
    states = {
        name: FieldState.model_validate({"value": value, "status": status})
        for name, value in (agreed_values() if values is None else values).items()
    }
    return Workflow(workflow_id="w1", owner="ada", created_at=NOW - 120, digest=DIGEST, fields=states).with_(**changes)
