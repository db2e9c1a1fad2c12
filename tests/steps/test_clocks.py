"""Settling where clocks are wrong: set in the middle, off against the provider, or begun anew by a restart."""

from typing import Any

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, planned, states
from vastai_workflow.domain.ledger import OrderFacts, OrderState
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.renting import rent
from vastai_workflow.steps.listing import list_instances
from vastai_workflow.steps.settle import settle
from vastai_workflow.store.sqlite import SqliteStore

HOUR_S = 3600.0


class Own:
    """The server's clock, so many seconds ahead of the market's; its machine was started at `booted`."""

    def __init__(self, market: VirtualClock, *, ahead_s: float = 0.0, booted: float = 0.0) -> None:
        self.market = market
        self.ahead_s = ahead_s
        self.booted = booted

    def now(self) -> float:
        return self.market.now() + self.ahead_s

    def steady(self) -> float:
        return self.market.steady() - self.booted

    async def sleep(self, seconds: float) -> None:
        await self.market.sleep(seconds)


def next_process(s: Stack, own: Own) -> Any:
    """A server that was started after the first one died, with a clock of its own."""
    assert isinstance(s.deps.store, SqliteStore)
    return stack(world=s.world, store=s.deps.store, clock=s.clock, own_clock=own)


async def lost(s: Stack, *faults: str) -> str:
    """A create whose answer never came and whose machine lists don't show for a minute; answers its workflow."""
    arm(s, "drop_reply", operation="create")
    for fault in faults:
        arm(s, fault, operation="create")
    asked = await planned(s)
    await s.call("create_instances", **asked)
    [machine] = s.running()[-1:]
    s.world.instances[machine].visible_at = s.clock.now() + 60
    return asked["workflow_id"]


async def order_of(s: Stack) -> tuple[OrderState, int | None]:
    [order] = await s.deps.store.orders()
    return order.state, order.instance_id


@pytest.mark.requirement("SETTLE-9")
@pytest.mark.parametrize("ahead_s", [180.0, HOUR_S])
async def test_a_clock_that_was_set_forward_does_not_settle_an_order_early(ahead_s: float) -> None:
    async with stack() as s:
        workflow_id = await lost(s)
        async with next_process(s, Own(s.clock, ahead_s=ahead_s)) as again:
            waited = await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert not waited["settled"]
            assert "known in 12" in waited["notes"][-1] or "known in 11" in waited["notes"][-1]
            s.clock.advance(65)
            await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert await order_of(s) == (OrderState.RENTED, again.running()[0])
            assert again.creates_sent() == 1


@pytest.mark.requirement("SETTLE-9")
async def test_a_machine_that_began_anew_says_no_more_than_what_passed_since() -> None:
    async with stack() as s:
        workflow_id = await lost(s)
        s.clock.advance(30)
        booted = Own(s.clock, ahead_s=HOUR_S, booted=s.clock.steady() - 10)
        async with next_process(s, booted) as again:
            assert not (await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0))["settled"]
            s.clock.advance(35)
            await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert (await order_of(s))[0] is OrderState.RENTED


@pytest.mark.requirement("SETTLE-9")
async def test_a_clock_that_was_set_back_settles_an_order_two_minutes_after_it_was_sent() -> None:
    async with stack() as s:
        arm(s, "drop_request", operation="create")
        asked = await planned(s)
        await s.call("create_instances", **asked)
        s.clock.advance(60)
        async with next_process(s, Own(s.clock, ahead_s=-HOUR_S)) as again:
            waited = await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
            assert not waited["settled"]
            s.clock.advance(70)
            assert (await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0))["settled"]
            assert (await order_of(s))[0] is OrderState.NOT_RENTED


@pytest.mark.requirement("SETTLE-9")
async def test_a_rented_order_of_a_future_time_is_closed_once_its_machine_is_gone() -> None:
    async with stack() as s:
        _, [machine] = await s.rented()
        [order] = await s.deps.store.orders()
        future = OrderFacts(sent_at=s.clock.now() + 10**7, sent_steady=s.clock.steady() + 10**7)
        await s.deps.store.note_order(order.order_id, future)
        s.world.life.end(s.world.instances[machine])
        s.clock.advance(30)
        await s.call("wait_until_ready", workflow_id=order.workflow_id, timeout_s=0)
        assert (await order_of(s))[0] is OrderState.RENTED
        s.clock.advance(125)
        await s.call("wait_until_ready", workflow_id=order.workflow_id, timeout_s=0)
        assert (await order_of(s))[0] is OrderState.RELEASED


@pytest.mark.requirement("SETTLE-9")
@pytest.mark.parametrize("ahead_s", [-HOUR_S, -150.0, 300.0, 30 * HOUR_S])
async def test_a_clock_that_is_off_against_the_providers_loses_no_machine_and_keeps_no_double(ahead_s: float) -> None:
    market = VirtualClock()
    async with stack(clock=market, own_clock=Own(market, ahead_s=ahead_s)) as s:
        arm(s, "double_effect", operation="create")
        workflow_id = await lost(s)
        s.clock.advance(65)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert [note for note in waited["notes"] if "made a second machine" in note]
        assert await order_of(s) == (OrderState.RENTED, s.running()[0])
        assert len(s.running()) == 1


@pytest.mark.requirement("SETTLE-9")
async def test_a_machine_that_is_not_as_agreed_is_released_though_the_clocks_differ() -> None:
    market = VirtualClock()
    async with stack(clock=market, own_clock=Own(market, ahead_s=HOUR_S)) as s:
        arm(s, "other_gpu", operation="create")
        workflow_id = await lost(s)
        s.clock.advance(65)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any("not as agreed" in note for note in waited["notes"]), waited["notes"]
        assert s.running() == []


@pytest.mark.requirement("SETTLE-9")
async def test_a_list_says_what_was_true_when_it_was_asked_for_however_long_it_takes() -> None:
    async with stack() as s:
        await lost(s)
        s.clock.advance(50)
        market = await s.deps.markets.open("env:VAST_API_KEY")
        account = await market.account()
        arm(s, "delay", operation="list", seconds=50)
        before = s.clock.now()
        listed = await list_instances(s.deps, market)
        assert (listed.instances, s.clock.now()) == ((), before + 50)
        s.clock.advance(25)  # and the account's lock was held by another for a while
        await settle(s.deps, market, account.id, listed)
        assert (await order_of(s))[0] is OrderState.UNKNOWN


@pytest.mark.requirement("SETTLE-2")
async def test_a_copy_that_a_person_made_after_ours_ended_elsewhere_is_neither_taken_nor_ended() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        ours = s.world.instances[machine]
        s.clock.advance(HOUR_S)
        s.world.life.end(ours)
        s.world.settle()
        alike = [o for o in s.world.market.free_asks() if o.num_gpus == 1 and o.machine.model.name == "RTX 4090"]
        ask = min(alike, key=lambda one: one.machine.base_price(1))
        copy = rent(s.world, s.world.account, ask.id, {"image": "x", "env": dict(ours.env), "disk": 64})
        s.clock.advance(5)
        keys = set(copy.ssh_keys)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any("most likely a copy" in note for note in waited["notes"])
        assert await order_of(s) == (OrderState.RELEASED, machine)
        assert s.running() == [copy.id]
        assert set(copy.ssh_keys) == keys
        assert not (await s.call("preflight"))["active"][0]["ours"]
        refused = await s.refusal("destroy_instances", instance_ids=[copy.id])
        assert refused["code"] == "purpose_not_confirmed", refused


@pytest.mark.requirement("SETTLE-2")
async def test_a_late_machine_that_began_long_ago_is_the_users_to_end() -> None:
    async with stack() as s:
        arm(s, "late_effect", operation="create", seconds=165)
        asked = await planned(s)
        await s.call("create_instances", **asked)
        s.clock.advance(61)
        await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert (await order_of(s))[0] is OrderState.NOT_RENTED
        found = await s.call("find_offers", workflow_id=asked["workflow_id"], limit=9)
        other = next(offer["offer_id"] for offer in found["offers"] if offer["offer_id"] not in found["chosen"])
        plan = await s.call("find_offers", workflow_id=asked["workflow_id"], offer_ids=[other])
        made = await s.call("create_instances", workflow_id=asked["workflow_id"], plan_id=plan["plan_id"])
        assert states(made) == ["rented"]
        s.clock.advance(4 * HOUR_S)
        waited = await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        told = [note for note in waited["notes"] if "late" in note]
        assert told, waited["notes"]
        assert all("Ask the user: keep it or destroy it?" in note for note in told)
        assert len(s.running()) == 2


@pytest.mark.requirement("SETTLE-2")
async def test_a_machine_that_is_first_compared_after_hours_is_not_ended_for_its_price() -> None:
    async with stack() as s:
        arm(s, "dearer", operation="create", factor=3.0)
        arm(s, "drop_reply", operation="create")
        asked = await planned(s)
        await s.call("create_instances", **asked)
        s.clock.advance(2 * HOUR_S)
        waited = await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert any("is not as agreed" in n and "keep it or destroy it?" in n for n in waited["notes"]), waited["notes"]
        assert len(s.running()) == 1


@pytest.mark.requirement("SETTLE-9")
async def test_a_copy_made_after_the_clock_was_put_right_is_not_ended() -> None:
    async with stack() as s:
        async with next_process(s, Own(s.clock, ahead_s=HOUR_S)) as first:
            workflow_id, [machine] = await first.ready()
        s.clock.advance(HOUR_S)
        s.world.settle()
        env = dict(s.world.instances[machine].env)
        ask = next(one for one in s.world.market.free_asks() if one.num_gpus == 1)
        copy = rent(s.world, s.world.account, ask.id, {"image": "x", "disk": 64, "env": env})
        s.clock.advance(120)
        async with next_process(s, Own(s.clock)) as again:
            waited = await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert any("most likely a copy" in note for note in waited["notes"])
        assert s.running() == [machine, copy.id]


@pytest.mark.requirement("SETTLE-9")
async def test_a_double_is_released_after_the_clock_was_put_right() -> None:
    async with stack() as s:
        async with next_process(s, Own(s.clock, ahead_s=-HOUR_S)) as first:
            arm(first, "double_effect", operation="create")
            asked = await planned(first)
            made = await first.call("create_instances", **asked)
        s.clock.advance(30)
        async with next_process(s, Own(s.clock)) as again:
            await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert s.running() == [order["instance_id"] for order in made["orders"]]


@pytest.mark.requirement("SETTLE-9")
@pytest.mark.parametrize("ahead_s", [0.0, -HOUR_S])
async def test_a_fleet_in_use_is_not_released_because_the_clock_was_set_back(ahead_s: float) -> None:
    async with stack() as s:
        arm(s, "drop_request", operation="create", nth=2)
        asked = await planned(s, count=2, fleet="all_or_nothing")
        await s.call("create_instances", **asked)
        [machine] = s.running()
        s.clock.advance(HOUR_S)
        async with next_process(s, Own(s.clock, ahead_s=ahead_s)) as again:
            await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
            s.clock.advance(130)
            waited = await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
            assert any("keep or destroy?" in note for note in waited["notes"])
        assert s.running() == [machine]


@pytest.mark.requirement("SETTLE-9")
async def test_what_came_with_an_error_and_ran_is_not_ended_after_our_machine_began_anew() -> None:
    async with stack() as s:
        arm(s, "error_with_contract", operation="create", status=400)
        asked = await planned(s)
        await s.client.call_tool("create_instances", asked)
        [machine] = s.running()
        s.clock.advance(2 * HOUR_S)
        s.world.settle()
        s.world.instances[machine].actual = "exited"
        async with next_process(s, Own(s.clock, booted=s.clock.steady() - 60)) as again:
            await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert s.running() == [machine]
