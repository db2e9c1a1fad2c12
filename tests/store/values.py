"""Workflows, orders and a clock for the store's tests."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

from vastai_workflow.domain.ledger import Order
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.store.database import Database


class SteppedClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def steady(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


def a_database(folder: Path) -> Database:
    return Database(folder, now=SteppedClock().now)


def a_workflow(workflow_id: str = "w1", **changes: Any) -> Workflow:
    return Workflow(workflow_id=workflow_id, owner="ada", created_at=1.0).with_(**changes)


def an_order(order_id: str = "o1", **changes: Any) -> Order:
    order = Order(
        order_id=order_id,
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
        price_per_hour=Decimal("0.42"),
        ceiling_per_hour=Decimal("0.53"),
        agreed_by="relayed by tests",
        created_at=2.0,
    )
    return order.model_copy(update=changes)
