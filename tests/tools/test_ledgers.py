"""A ledger that was lost, restored or copied, a colleague's beside it, and marks that were copied."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, stack, text_of
from tests.tools.acts import arm, follow, planned, states, stranger, writes
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.steps.fleet_view import Origin, origin
from vastai_workflow.store.sqlite import SqliteStore


@asynccontextmanager
async def on_ledger(folder: Path, beside: Stack | None = None) -> AsyncGenerator[Stack]:
    """A server whose ledger is a file; `beside` another one on the same market and clock."""
    async with stack() as first:  # only for its market, where there is none yet
        where = beside or first
        store = SqliteStore(folder, clock=where.clock)
        async with stack(store=store, world=where.world, clock=where.clock) as s:
            yield s
        await store.aclose()


@asynccontextmanager
async def colleague(s: Stack) -> AsyncGenerator[Stack]:
    """Another server on the account, with a ledger that never saw this one's."""
    ledger = SqliteStore(":memory:", clock=s.clock)
    async with stack(store=ledger, world=s.world, clock=s.clock) as other:
        yield other


def copied(folder: Path) -> Path:
    elsewhere = folder.with_name("copy")
    shutil.copytree(folder, elsewhere)
    return elsewhere


def written_over(folder: Path, backup: Path) -> None:
    (folder / "ledger.db").write_bytes((backup / "ledger.db").read_bytes())


async def origins(s: Stack) -> dict[int, Origin]:
    """Where each machine of the account comes from, for this server."""
    market = await s.deps.markets.open("env:VAST_API_KEY")
    orders = {order.order_id: order for order in await s.deps.store.orders()}
    return {item.id: origin(item, orders, s.deps.store.store_ids) for item in await market.instances()}


async def looked_at_for_a_day(s: Stack, workflow_id: str) -> list[str]:
    """All that a server may do by itself, over a day; what it told."""
    notes: list[str] = []
    for seconds in (0, 65, 125, 700, 86_400):
        s.clock.advance(seconds)
        s.world.settle()
        notes += (await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0))["notes"]
        await s.call("instance_status")
        await s.call("preflight")
    return notes


async def ours(s: Stack) -> dict[int, bool]:
    return {row["instance_id"]: row["ours"] for row in (await s.call("preflight"))["active"]}


@pytest.mark.requirement("ONCE-10")
async def test_after_a_lost_ledger_its_machine_is_shown_and_agreed_to_before_more_is_rented_and_never_ended() -> None:
    async with stack() as lost:
        _, [machine] = await lost.ready()
        async with colleague(lost) as s:
            assert await origins(s) == {machine: Origin.ANOTHER_LEDGER}
            proposal = await s.call("propose_fields")
            assert [row["instance_id"] for row in proposal["active"]] == [machine]
            assert await ours(s) == {machine: False}
            workflow_id, [second] = await s.rented()
            await looked_at_for_a_day(s, workflow_id)
            assert s.running() == [machine, second]
            assert writes(s).get("destroy", 0) == 0


@pytest.mark.requirement("ONCE-10")
async def test_a_colleagues_machine_has_to_be_agreed_to_is_left_alone_and_ends_only_with_a_yes() -> None:
    async with stack() as s:
        create = await planned(s)
        async with colleague(s) as other:
            _, [machine] = await other.ready()
            assert (await origins(other))[machine] is Origin.OURS
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "unacknowledged_instances"
        assert str(machine) in refusal["ask_user"]
        await follow(s, refusal)
        assert states(await s.call("create_instances", **create)) == ["rented"]
        await looked_at_for_a_day(s, create["workflow_id"])
        assert writes(s).get("destroy", 0) == 0
        asked = await s.refusal("destroy_instances", instance_ids=[machine])
        assert asked["code"] == "purpose_not_confirmed"
        assert machine in s.running()
        await follow(s, asked)
        [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
        assert end["final_state"] == "gone"


@pytest.mark.requirement("ONCE-10")
@pytest.mark.parametrize("over_the_file", [True, False], ids=["over the file", "elsewhere"])
async def test_after_a_restore_a_machine_of_an_order_that_is_not_on_record_is_told_and_never_ended(
    tmp_path: Path,
    over_the_file: bool,  # noqa: FBT001 # a parameter of the test
) -> None:
    folder = tmp_path / "state"
    async with stack() as first:
        async with on_ledger(folder, first) as s:
            await planned(s)
        backup = copied(folder)
        async with on_ledger(folder, first) as s:
            _, [machine] = await s.ready()
        if over_the_file:
            written_over(folder, backup)
        else:
            folder = backup
        async with on_ledger(folder, first) as s:
            assert await origins(s) == {machine: Origin.NOT_ON_RECORD}
            assert await ours(s) == {machine: False}
            proposal = await s.call("propose_fields")
            assert [row["instance_id"] for row in proposal["active"]] == [machine]
            workflow_id, [second] = await s.rented()
            notes = await looked_at_for_a_day(s, workflow_id)
            assert any(f"machine {machine} carries our mark, but this ledger has no order" in note for note in notes)
            assert s.running() == [machine, second]
            assert writes(s).get("destroy", 0) == 0
            assert (await s.refusal("destroy_instances", instance_ids=[machine]))["code"] == "purpose_not_confirmed"


@pytest.mark.requirement("ONCE-10")
async def test_machines_of_orders_on_record_stay_ours_after_a_restore(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with stack() as first:
        async with on_ledger(folder, first) as s:
            workflow_id, [machine] = await s.ready()
        elsewhere = copied(folder)
        async with on_ledger(elsewhere, first) as s:
            assert len(s.deps.store.store_ids) == 2
            assert await origins(s) == {machine: Origin.OURS}
            assert await ours(s) == {machine: True}
            waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=60)
            assert [row["readiness"] for row in waited["instances"]] == ["gpu_ok"]
            [end] = (await s.call("destroy_instances", instance_ids=[machine]))["instances"]
            assert end["final_state"] == "gone"
            assert [order.state for order in await s.deps.store.orders()] == [OrderState.RELEASED]


@pytest.mark.requirement("ONCE-10")
async def test_a_restored_ledger_gives_the_yes_of_its_backup_no_second_machine(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with stack() as first:
        async with on_ledger(folder, first) as s:
            create = await planned(s)
        backup = copied(folder)
        async with on_ledger(folder, first) as s:
            [order] = (await s.call("create_instances", **create))["orders"]
            await s.call("destroy_instances", instance_ids=[order["instance_id"]])
        written_over(folder, backup)
        async with on_ledger(folder, first) as s:
            assert (await s.refusal("create_instances", **create))["code"] == "confirmation_expired"
            assert s.creates_sent() == 1


async def half_rented(s: Stack, fleet: str) -> dict[str, Any]:
    """A plan of two, of which one is rented and one is still to be sent."""
    create = await planned(s, count=2, fleet=fleet)
    arm(s, "delay", seconds=45.0)
    assert states(await s.call("create_instances", **create)) == ["rented", "planned"]
    return create


@pytest.mark.requirement("ONCE-10")
@pytest.mark.parametrize("fleet", ["best_effort", "all_or_nothing"])
async def test_a_copy_sends_nothing_that_the_original_planned_and_ends_nothing_that_the_original_made(
    tmp_path: Path, fleet: str
) -> None:
    folder = tmp_path / "state"
    async with on_ledger(folder) as s:
        create = await half_rented(s, fleet)
        elsewhere = copied(folder)
        async with on_ledger(elsewhere, s) as copy:
            assert states(await copy.call("create_instances", **create)) == ["rented", "dropped"]
            await copy.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
            assert s.creates_sent() == 1
            assert len(s.running()) == 1
            made = await s.call("create_instances", **create)  # the original goes on
            assert states(made) == ["rented", "rented"]
            s.clock.advance(5)
            _, [third] = await s.rented()
            assert (await origins(copy))[third] is Origin.NOT_ON_RECORD
            await looked_at_for_a_day(copy, create["workflow_id"])
            assert sorted(s.running()) == sorted([*(row["instance_id"] for row in made["orders"]), third])
            assert writes(s).get("destroy", 0) == 0


@pytest.mark.requirement("ONCE-10")
async def test_what_a_copy_at_work_elsewhere_rents_blocks_renting_until_it_is_agreed_to(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with on_ledger(folder) as s:
        await s.agreed()
        elsewhere = copied(folder)
        create = await planned(s)
        async with on_ledger(elsewhere, s) as copy:
            _, [machine] = await copy.ready()
        assert await origins(s) == {machine: Origin.ANOTHER_LEDGER}
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "unacknowledged_instances"
        assert s.creates_sent() == 1
        await follow(s, refusal)
        assert states(await s.call("create_instances", **create)) == ["rented"]


@pytest.mark.requirement("ONCE-10")
async def test_a_mark_that_a_template_or_a_rerent_copied_makes_no_machine_ours() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.clock.advance(1_000)
        copy = stranger(s, env={ORDER_VARIABLE: s.world.instances[machine].env[ORDER_VARIABLE]}, disk=64)
        assert await origins(s) == {machine: Origin.OURS, copy: Origin.COPIED_MARK}
        assert await ours(s) == {machine: True, copy: False}
        notes = await looked_at_for_a_day(s, workflow_id)
        assert any(f"machine {copy} carries our order" in note and "left alone" in note for note in notes)
        await s.call("destroy_instances", instance_ids=[machine])
        await looked_at_for_a_day(s, workflow_id)
        assert s.running() == [copy]
        assert (await s.refusal("destroy_instances", instance_ids=[copy]))["code"] == "purpose_not_confirmed"


@pytest.mark.requirement("ONCE-10")
async def test_a_machine_without_a_mark_comes_from_elsewhere() -> None:
    async with stack() as s:
        bare = stranger(s)
        odd = stranger(s, env={ORDER_VARIABLE: "no mark of ours"})
        assert await origins(s) == {bare: Origin.UNMARKED, odd: Origin.UNMARKED}


@pytest.mark.requirement("ONCE-10")
async def test_the_question_and_the_preflight_say_where_a_marked_machine_comes_from() -> None:
    async with stack() as lost:
        _, [machine] = await lost.ready()
        env = lost.world.instances[machine].env
        lost.clock.advance(3600)
        copy = stranger(lost, env=dict(env))
        async with colleague(lost) as s:
            for words in (text_of(await s.client.call_tool("preflight", {})), await question(s)):
                assert words.count("another ledger of vastai-workflow") == 2
        for words in (text_of(await lost.client.call_tool("preflight", {})), await question(lost)):
            assert f"{copy} 'mine'" in words
            assert words.count("a copy of our mark") == 1


async def question(s: Stack) -> str:
    [asked] = (await s.call("propose_fields"))["questions"]
    return asked
