"""A ledger that can't be written right after a create was answered: what the user is told, and how it is settled."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, follow, last_order, looked_at_before, planned, states
from vastai_workflow.domain.audit import AuditEvent
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.steps.ports import Window
from vastai_workflow.store.sqlite import SqliteStore


class Disk(SqliteStore):
    """A ledger on a disk that is full from the time on when the `fills_at`-th order was put down as sent."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(":memory:", clock=clock)
        self.fills_at = 0
        self.full = False
        self.goes = False
        """Whether the full disk can't be read either."""

    def _room(self) -> None:
        if self.full:
            raise LocalError("store_unavailable", "the disk is full", next_step="free some space, then call again")

    async def move_order(self, order_id: str, to: OrderState, facts: OrderFacts | None = None) -> Order:
        self._room()
        moved = await super().move_order(order_id, to, facts)
        if to is OrderState.SENT:
            self.fills_at -= 1
            self.full = self.fills_at == 0
        return moved

    async def orders(
        self,
        *,
        workflow_id: str | None = None,
        account_id: int | None = None,
        instance_ids: Sequence[int] | None = None,
        states: Sequence[OrderState] | None = None,
    ) -> tuple[Order, ...]:
        if self.goes:
            self._room()
        return await super().orders(
            workflow_id=workflow_id, account_id=account_id, instance_ids=instance_ids, states=states
        )

    async def note_order(self, order_id: str, facts: OrderFacts) -> Order:
        self._room()
        return await super().note_order(order_id, facts)

    async def add_orders(self, orders: Sequence[Order]) -> None:
        self._room()
        await super().add_orders(orders)

    async def add_workflow(self, workflow: Workflow) -> None:
        self._room()
        await super().add_workflow(workflow)

    async def change_workflow(self, workflow_id: str, change: Callable[[Workflow], Workflow]) -> Workflow:
        self._room()
        return await super().change_workflow(workflow_id, change)

    async def change_window(self, instance_id: int, change: Callable[[Window], Window]) -> Window:
        self._room()
        return await super().change_window(instance_id, change)

    async def record(self, events: Sequence[AuditEvent]) -> None:
        self._room()
        await super().record(events)


@asynccontextmanager
async def on_disk() -> AsyncGenerator[tuple[Stack, Disk]]:
    clock = VirtualClock()
    disk = Disk(clock)
    async with stack(clock=clock, store=disk) as s:
        await looked_at_before(s)
        yield s, disk


async def made_on_a_full_disk(s: Stack, disk: Disk, create: dict[str, Any], *, at: int = 1) -> dict[str, Any]:
    disk.fills_at = at
    made = await s.call("create_instances", **create)
    assert "the disk is full. Next: free some space, then call again." in made["notes"]
    s.world.settle()
    return made


@pytest.mark.requirement("ONCE-15")
async def test_a_machine_that_could_not_be_put_on_record_is_told_with_its_id_and_how_to_end_it() -> None:
    async with on_disk() as (s, disk):
        made = await made_on_a_full_disk(s, disk, await planned(s))
        [machine] = s.running()
        assert states(made) == ["sent"]
        assert f"machine {machine} was rented" in made["notes"][0]
        assert f"vastai destroy instance {machine}" in made["notes"][0]
        seen = await s.call("preflight")
        assert [row["instance_id"] for row in seen["active"]] == [machine]


@pytest.mark.requirement("ONCE-15")
async def test_a_ledger_that_can_not_be_read_either_hides_no_machine() -> None:
    async with on_disk() as (s, disk):
        create = await planned(s)
        disk.fills_at, disk.goes = 1, True
        refusal = await s.refusal("create_instances", **create)
        [machine] = s.running()
        assert refusal["code"] == "store_unavailable"
        assert f"machine {machine} was rented" in refusal["message"]


@pytest.mark.requirement("ONCE-15")
async def test_without_an_answer_and_without_a_ledger_it_is_told_that_a_machine_may_have_been_rented() -> None:
    async with on_disk() as (s, disk):
        arm(s, "drop_reply", operation="create")
        made = await made_on_a_full_disk(s, disk, await planned(s))
        assert "may have rented a machine" in made["notes"][0]
        assert "console" in made["notes"][0]


@pytest.mark.requirement("ONCE-15")
async def test_of_a_fleet_those_on_record_are_told_too() -> None:
    async with on_disk() as (s, disk):
        made = await made_on_a_full_disk(s, disk, await planned(s, count=2, fleet="best_effort"), at=2)
        first, second = s.running()
        assert [(row["state"], row["instance_id"]) for row in made["orders"]] == [("rented", first), ("sent", None)]
        assert any(f"machine {second} was rented" in note for note in made["notes"])


@pytest.mark.requirement("ONCE-15")
async def test_a_refused_create_without_a_ledger_is_no_machine() -> None:
    async with on_disk() as (s, disk):
        arm(s, "refuse", operation="create", code="insufficient_credit", status=400)
        made = await made_on_a_full_disk(s, disk, await planned(s))
        assert "made no machine" in made["notes"][0]


@pytest.mark.requirement("ONCE-15")
async def test_without_a_ledger_nothing_is_sent() -> None:
    async with on_disk() as (s, disk):
        create = await planned(s)
        disk.full = True
        assert (await s.refusal("create_instances", **create))["code"] == "store_unavailable"
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-15")
@pytest.mark.parametrize("tool", ["wait_until_ready", "instance_status", "preflight", "destroy_instances"])
async def test_once_the_ledger_can_be_written_the_next_call_puts_the_machine_on_record(tool: str) -> None:
    async with on_disk() as (s, disk):
        create = await planned(s)
        made = await made_on_a_full_disk(s, disk, create)
        [machine] = s.running()
        disk.full = False
        s.clock.advance(5)
        if tool == "wait_until_ready":
            await follow(s, made)
        elif tool == "destroy_instances":
            await s.call(tool, instance_ids=[machine])
        else:
            await s.call(tool)
        order = await last_order(s)
        became = OrderState.RELEASED if tool == "destroy_instances" else OrderState.RENTED
        assert (order.state, order.instance_id) == (became, machine)
        assert states(await s.call("create_instances", **create)) == [became]
        assert s.creates_sent() == 2


@pytest.mark.requirement("SETTLE-1")
async def test_another_server_that_looked_before_finds_at_once_what_a_create_cut_short_has_made() -> None:
    async with on_disk() as (s, disk), stack(world=s.world, clock=s.clock, store=disk) as beside:
        await beside.call("preflight")
        await made_on_a_full_disk(s, disk, await planned(s))
        disk.full = False
        s.clock.advance(5)
        [row] = (await beside.call("preflight"))["active"]
        assert row["ours"]
        assert (await last_order(beside)).state is OrderState.RENTED
