"""`settle`: what it says of each order, its exit code, and that only a person at a terminal closes one."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.terminal import environment, piped, typed
from tests.stack import Stack, stack
from tests.tools.acts import arm, planned, writes
from vastai_workflow.cli.clock import SystemClock
from vastai_workflow.cli.settle import settle_all
from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.store.sqlite import SqliteStore

COMMAND = (sys.executable, "-m", "vastai_workflow", "settle")


async def no_answer(s: Stack) -> None:
    arm(s, "drop_request", operation="create")
    await s.call("create_instances", **await planned(s))


@pytest.mark.requirement("SETTLE-4")
async def test_a_ledger_without_orders_is_settled(capsys: pytest.CaptureFixture[str]) -> None:
    async with stack() as s:
        assert await settle_all(s.deps) == 0
        assert capsys.readouterr().out == "settled: this ledger has no orders\n"


@pytest.mark.requirement("SETTLE-4")
async def test_an_unknown_order_is_1_with_the_time_until_it_is_known_and_then_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with stack() as s:
        await no_answer(s)
        assert await settle_all(s.deps) == 1
        assert "s at the latest: run this again then" in capsys.readouterr().out
        s.clock.advance(121)
        assert await settle_all(s.deps) == 0
        assert capsys.readouterr().out.endswith("settled\n")
        assert s.creates_sent() == 1


@pytest.mark.requirement("SETTLE-4")
async def test_what_it_adopts_and_releases_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async with stack() as s:
        arm(s, "double_effect", operation="create")
        await s.call("create_instances", **await planned(s))
        s.clock.advance(10)
        assert await settle_all(s.deps) == 0
        assert "made a second machine" in capsys.readouterr().out
        assert len(s.running()) == 1


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.requirement("SETTLE-4")
async def test_without_a_list_it_is_1_and_says_what_the_person_can_do(
    made: bool,  # noqa: FBT001 # a case
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with stack() as s:
        if made:
            await s.rented()
        else:
            await no_answer(s)
        arm(s, "http_error", operation="list", times=0, status=503, body="text")
        assert await settle_all(s.deps) == 1
        said = capsys.readouterr().out
        assert "can't be looked at" in said
        assert ("it may be running" if made else "settle --not-rented o_") in said


@pytest.mark.requirement("SETTLE-4")
async def test_a_release_that_is_not_seen_and_an_account_that_is_held_are_1(capsys: pytest.CaptureFixture[str]) -> None:
    async with stack() as s:
        arm(s, "double_effect", operation="create")
        await s.call("create_instances", **await planned(s))
        s.clock.advance(10)
        [order] = await s.deps.store.orders()
        async with s.deps.store.account_lock(order.account_id):
            assert await settle_all(s.deps) == 1
        arm(s, "destroy_ignored", operation="destroy", times=30)
        assert await settle_all(s.deps) == 1
        assert capsys.readouterr().out.count("not settled yet: run this again") == 2


@pytest.mark.requirement("SETTLE-7")
@pytest.mark.parametrize("what", ["a second machine", "a short fleet", "a machine that is not as agreed"])
async def test_read_only_it_sends_nothing_and_says_what_is_to_be_released(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stack() as s:
        if what == "a second machine":
            arm(s, "double_effect", operation="create")
        if what == "a short fleet":
            arm(s, "drop_request", operation="create", nth=2)
        if what == "a machine that is not as agreed":
            arm(s, "other_gpu")
            arm(s, "drop_reply", operation="create")
        fleet = {"count": 2, "fleet": "all_or_nothing"} if what == "a short fleet" else {}
        await s.call("create_instances", **await planned(s, **fleet))
        s.clock.advance(200)
        sent, ran = dict(writes(s)), s.running()
        assert await settle_all(replace(s.deps, caps=Caps(read_only=True))) == 1
        assert dict(writes(s)) == sent
        said = capsys.readouterr().out
        assert "to be released" in said or "runs without its fleet" in said
        assert "read only: nothing was sent" in said
        assert await settle_all(s.deps) == 0
        assert len(s.running()) < len(ran)


@pytest.mark.requirement("SETTLE-4")
async def test_another_accounts_key_settles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async with stack() as s:
        await no_answer(s)
        [order] = await s.deps.store.orders()
        await s.deps.store.add_orders(
            [order.model_copy(update={"order_id": "o_other", "account_id": order.account_id + 1})]
        )
        s.clock.advance(121)
        assert await settle_all(s.deps) == 1
        assert f"needed {order.account_id + 1}" in capsys.readouterr().out
        states = {item.order_id: item.state for item in await s.deps.store.orders()}
        assert states == {order.order_id: OrderState.NOT_RENTED, "o_other": OrderState.UNKNOWN}


@pytest.mark.parametrize("gone", ["missing", "revoked", "of another account"])
@pytest.mark.requirement("SETTLE-8")
async def test_where_the_newest_key_of_an_account_does_not_work_an_older_one_settles(
    gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stack() as s:
        await no_answer(s)
        [order] = await s.deps.store.orders()
        newest = {"order_id": "o_newest", "key_source": "env:NEWEST", "state": OrderState.REFUSED}
        await s.deps.store.add_orders([order.model_copy(update=newest)])
        if gone == "revoked":
            s.environment["NEWEST"] = "x" * 64
        if gone == "of another account":
            s.environment["NEWEST"] = next(iter(s.world.add_account("other").keys))
        s.clock.advance(121)
        assert await settle_all(s.deps) == 0
        assert capsys.readouterr().out == f"account {order.account_id}: settled\n"
        assert {item.state for item in await s.deps.store.orders()} == {OrderState.NOT_RENTED, OrderState.REFUSED}


@pytest.mark.requirement("SETTLE-8")
async def test_where_no_key_of_an_account_works_each_is_told_with_why(capsys: pytest.CaptureFixture[str]) -> None:
    async with stack() as s:
        await no_answer(s)
        [order] = await s.deps.store.orders()
        newest = {"order_id": "o_newest", "key_source": "env:NEWEST", "state": OrderState.REFUSED}
        await s.deps.store.add_orders([order.model_copy(update=newest)])
        s.environment["VAST_API_KEY"] = "x" * 64
        assert await settle_all(s.deps) == 1
        said = capsys.readouterr().out
        assert said.index("env:NEWEST") < said.index("env:VAST_API_KEY") < said.index("settle --not-rented o_")


async def ledger_with_an_unknown_order(folder: Path, *, age_s: float = 1000.0) -> str:
    """A ledger on disk with an order whose create got no answer; answers its id."""
    async with stack() as s:
        await no_answer(s)
        [order] = await s.deps.store.orders()
        [workflow] = await s.deps.store.workflows(order.owner)
    store = SqliteStore(folder, clock=SystemClock())
    sent_at = SystemClock().now() - age_s
    await store.add_workflow(workflow)
    await store.add_orders([order.model_copy(update={"created_at": sent_at, "sent_at": sent_at})])
    await store.aclose()
    return order.order_id


async def state_in(folder: Path) -> OrderState:
    store = SqliteStore(folder, clock=SystemClock())
    [order] = await store.orders()
    await store.aclose()
    return order.state


@pytest.mark.requirement("SETTLE-4")
async def test_a_person_at_a_terminal_closes_an_order_by_typing_its_id(tmp_path: Path) -> None:
    order_id = await ledger_with_an_unknown_order(tmp_path / "state")
    code, said = typed([*COMMAND, "--not-rented", order_id], order_id, environment(tmp_path))
    assert "closed as not rented" in said
    assert code == 0
    assert await state_in(tmp_path / "state") is OrderState.NOT_RENTED


@pytest.mark.requirement("SETTLE-4")
async def test_another_answer_closes_nothing(tmp_path: Path) -> None:
    order_id = await ledger_with_an_unknown_order(tmp_path / "state")
    code, said = typed([*COMMAND, "--not-rented", order_id], "yes", environment(tmp_path))
    assert "nothing was changed" in said
    assert code == 1
    assert await state_in(tmp_path / "state") is OrderState.UNKNOWN


@pytest.mark.requirement("SETTLE-4")
async def test_an_id_that_was_typed_before_the_question_stood_there_closes_nothing(tmp_path: Path) -> None:
    order_id = await ledger_with_an_unknown_order(tmp_path / "state")
    code, said = typed([*COMMAND, "--not-rented", order_id], "", environment(tmp_path), before=f"{order_id}\n")
    assert "nothing was changed" in said
    assert code == 1
    assert await state_in(tmp_path / "state") is OrderState.UNKNOWN


@pytest.mark.requirement("SETTLE-4")
async def test_a_pipe_closes_nothing(tmp_path: Path) -> None:
    order_id = await ledger_with_an_unknown_order(tmp_path / "state")
    done = piped([*COMMAND, "--not-rented", order_id], order_id, environment(tmp_path))
    assert done.returncode == 2
    assert "needed one to ask a person" in done.stderr
    assert await state_in(tmp_path / "state") is OrderState.UNKNOWN


@pytest.mark.parametrize(
    ("order", "age_s", "said"),
    [(None, 30.0, "may be under way for"), ("o_none", 1000.0, "allowed one that the ledger holds")],
)
@pytest.mark.requirement("SETTLE-4")
async def test_an_order_that_may_be_under_way_or_does_not_exist_is_not_closed(
    tmp_path: Path, order: str | None, age_s: float, said: str
) -> None:
    order_id = await ledger_with_an_unknown_order(tmp_path / "state", age_s=age_s)
    code, shown = typed([*COMMAND, "--not-rented", order or order_id], order_id, environment(tmp_path))
    assert code == 2
    assert said in shown
    assert await state_in(tmp_path / "state") is OrderState.UNKNOWN
