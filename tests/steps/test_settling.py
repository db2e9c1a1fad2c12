"""Settling after a crash: a second server on the same ledger stands for the start after it."""

from dataclasses import replace
from typing import Any

import pytest

from tests.stack import Stack, stack, text_of
from tests.tools.acts import arm, planned, states
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.ledger import OrderFacts, OrderState, marker
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.renting import rent
from vastai_workflow.steps.ending import ON_REQUEST
from vastai_workflow.steps.listing import list_instances
from vastai_workflow.steps.reconcile import close_by_hand
from vastai_workflow.steps.settle import settle
from vastai_workflow.store.sqlite import SqliteStore


def after_a_crash(s: Stack) -> Any:
    """Another server on the same market, ledger and clock."""
    return stack(world=s.world, store=history(s), clock=s.clock)


async def orders_of(s: Stack) -> list[tuple[OrderState, int | None]]:
    return [(order.state, order.instance_id) for order in await s.deps.store.orders()]


def history(s: Stack) -> SqliteStore:
    """The store, with what only it has: events."""
    assert isinstance(s.deps.store, SqliteStore)
    return s.deps.store


async def sent_and_died(s: Stack, *, made: bool) -> None:
    """The process died after an order was sent; `made`: the request had its effect."""
    arm(s, "drop_reply" if made else "drop_request", operation="create")
    await s.call("create_instances", **await planned(s))


@pytest.mark.requirement("SETTLE-1")
@pytest.mark.parametrize("tool", ["preflight", "instance_status", "propose_fields", "billing_report"])
async def test_the_first_call_after_a_start_finds_the_machine_of_an_order_without_an_answer(tool: str) -> None:
    async with stack() as s:
        await sent_and_died(s, made=True)
        [machine] = s.running()
        s.clock.advance(5)
        async with after_a_crash(s) as again:
            await again.call(tool)
            assert await orders_of(again) == [(OrderState.RENTED, machine)]
            assert (await again.call("preflight"))["active"][0]["ours"]
            assert again.creates_sent() == 1


@pytest.mark.requirement("SETTLE-1")
@pytest.mark.parametrize("first", ["propose_fields", "billing_report", "find_offers", "destroy_instances"])
async def test_what_a_look_finds_but_once_is_told_by_the_next_answer_that_has_room_for_it(first: str) -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.clock.advance(300)
        s.world.life.end(s.world.instances[machine])
        s.clock.advance(60)
        async with after_a_crash(s) as again:
            named = {"find_offers": {"workflow_id": workflow_id}, "destroy_instances": {"instance_ids": [machine]}}
            await again.client.call_tool(first, named.get(first, {}))
            notes = (await again.call("preflight"))["notes"]
            assert [note for note in notes if f"machine {machine}" in note and "ended elsewhere" in note], notes
            assert (await again.call("preflight"))["notes"] == []


@pytest.mark.requirement("SETTLE-1")
async def test_a_start_whose_list_fails_says_so_and_looks_again_at_the_next_call() -> None:
    async with stack() as s:
        await sent_and_died(s, made=True)
        s.clock.advance(5)
        async with after_a_crash(s) as again:
            arm(again, "truncated_list", times=2, rows=0)
            refused = await again.call("instance_status")
            assert "could not be looked at" in refused["notes"][0]
            await again.call("instance_status")
            assert (await orders_of(again))[0][0] is OrderState.RENTED


@pytest.mark.requirement("SETTLE-5")
async def test_while_an_order_is_unknown_a_proposal_asks_nobody_and_leads_to_the_wait() -> None:
    async with stack() as s:
        await sent_and_died(s, made=False)
        [order] = await s.deps.store.orders()
        async with after_a_crash(s) as again:
            proposal = await again.call("propose_fields")
            assert (proposal["problem"], proposal["questions"]) == ("unsettled_order", [])
            assert proposal["next_call"] == {
                "tool": "wait_until_ready",
                "arguments": {"workflow_id": order.workflow_id},
            }
            waited = await again.call("wait_until_ready", workflow_id=order.workflow_id, timeout_s=0)
            assert not waited["settled"]
            assert "s at the latest" in waited["notes"][-1]
            s.clock.advance(121)
            assert (await again.call("wait_until_ready", workflow_id=order.workflow_id, timeout_s=0))["settled"]
            assert await orders_of(again) == [(OrderState.NOT_RENTED, None)]
            assert (await again.call("propose_fields"))["problem"] is None


@pytest.mark.requirement("SETTLE-2")
async def test_a_double_that_a_crash_left_is_named_at_once_and_released_by_the_wait() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        first = s.world.instances[machine]
        twin = rent(s.world, s.world.account, s.world.market.free_asks()[0].id, {"image": "x", "env": first.env})
        s.clock.advance(5)
        async with after_a_crash(s) as again:
            proposal = await again.call("propose_fields")
            assert proposal["problem"] == "unsettled_order"
            assert proposal["next_call"]["tool"] == "wait_until_ready"
            seen = await again.call("preflight")
            assert any(f"second machine {twin.id}" in note for note in seen["notes"])
            assert again.world.requests["destroy"] == 0  # neither of them says that it may end anything
            waited = await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert any("released: gone" in note for note in waited["notes"])
            assert again.running() == [machine]
            assert (await again.call("propose_fields"))["problem"] is None


async def with_a_twin_that_lists_hide(s: Stack, hidden_s: float) -> tuple[str, int, int]:
    """A machine that is ready, and a second one of its order that no list shows yet: workflow and both ids."""
    arm(s, "double_effect", operation="create")
    workflow_id, [machine] = await s.rented()
    [twin] = {one.id for one in s.world.everything(s.world.account)} - {machine}
    s.world.instances[twin].visible_at = s.clock.now() + hidden_s
    waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=120)
    assert waited["settled"]
    assert waited["instances"][0]["readiness"] == "gpu_ok"
    return workflow_id, machine, twin


@pytest.mark.requirement("SETTLE-2")
async def test_a_second_machine_that_lists_show_after_the_wait_is_named_by_the_next_call_and_released() -> None:
    async with stack() as s:
        workflow_id, machine, twin = await with_a_twin_that_lists_hide(s, 50)
        s.clock.advance(200)
        seen = await s.call("preflight")
        assert any(f"second machine {twin}" in note for note in seen["notes"])
        assert (await s.call("propose_fields"))["problem"] == "unsettled_order"
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any("released: gone" in note for note in waited["notes"])
        assert s.running() == [machine]


@pytest.mark.requirement("SETTLE-2")
async def test_a_second_machine_that_is_found_after_hours_is_the_users_to_end_and_named_in_each_look() -> None:
    async with stack() as s:
        workflow_id, machine, twin = await with_a_twin_that_lists_hide(s, 50)
        s.clock.advance(8 * 3600)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any(f"{twin}" in note and "keep it or destroy it?" in note for note in waited["notes"])
        assert s.running() == [machine, twin]
        for tool in ("preflight", "propose_fields"):
            assert "beside the machine that it was to make" in text_of(await s.client.call_tool(tool, {})), tool


@pytest.mark.requirement("SETTLE-2")
async def test_a_late_machine_beyond_its_places_is_released_also_when_a_crash_came_between() -> None:
    async with stack() as s:
        arm(s, "late_effect", operation="create", seconds=165)
        asked = await planned(s)
        await s.call("create_instances", **asked)
        s.clock.advance(61)
        await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert await orders_of(s) == [(OrderState.NOT_RENTED, None)]
        found = await s.call("find_offers", workflow_id=asked["workflow_id"], limit=9)
        other = next(offer["offer_id"] for offer in found["offers"] if offer["offer_id"] not in found["chosen"])
        plan = await s.call("find_offers", workflow_id=asked["workflow_id"], offer_ids=[other])
        made = await s.call("create_instances", workflow_id=asked["workflow_id"], plan_id=plan["plan_id"])
        [machine] = [order["instance_id"] for order in made["orders"]]
        s.clock.advance(40)
        s.world.settle()
        [late] = [i for i in s.running() if i != machine]
        s.clock.advance(5)
        async with after_a_crash(s) as again:
            await again.call("preflight")  # adopts it, and ends nothing
            assert sorted(again.running()) == sorted([machine, late])
            waited = await again.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
            assert any("beyond the 1 agreed" in note for note in waited["notes"])
            assert again.running() == [machine]


@pytest.mark.requirement("SETTLE-3")
async def test_a_destroy_that_was_on_its_way_when_the_server_died_is_told() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        [order] = await s.deps.store.orders()
        await s.deps.store.note_order(order.order_id, OrderFacts(final_state="unknown", reason=ON_REQUEST))
        async with after_a_crash(s) as again:
            waited = await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert any("was to be destroyed and is still there" in note for note in waited["notes"])
            s.world.life.end(s.world.instances[machine])
            s.clock.advance(120)
            waited = await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert waited["instances"][0]["reason"] == ON_REQUEST


@pytest.mark.requirement("SETTLE-3")
async def test_the_wish_to_destroy_is_on_record_before_the_request_leaves() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        arm(s, "drop_reply", operation="destroy")
        await s.call("destroy_instances", instance_ids=[machine])
        [order] = await s.deps.store.orders()
        noted = [event for event in await history(s).events(order.order_id) if event.facts.final_state == "unknown"]
        assert noted
        assert noted[0].facts.reason == ON_REQUEST


@pytest.mark.requirement("SETTLE-3")
async def test_a_start_that_got_no_answer_and_waits_for_its_gpu_is_cancelled_by_settling() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        instance = s.world.instances[machine]
        for gpu in instance.gpu_ids:
            instance.machine.holders[gpu] = "somebody else"
        refusal = await s.refusal("start_instances", instance_ids=[machine])
        await s.call(refusal["next_call"]["tool"], **refusal["next_call"]["arguments"])
        arm(s, "drop_reply", operation="start")
        await s.call("start_instances", instance_ids=[machine])
        assert instance.queued
        async with after_a_crash(s) as again:
            s.clock.advance(400)
            waited = await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert any("waited for its GPU and was cancelled" in note for note in waited["notes"])
            assert not instance.queued
            again_waited = await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert not any("cancelled" in note for note in again_waited["notes"])


@pytest.mark.requirement("SETTLE-2")
async def test_a_machine_that_was_gone_and_is_listed_again_is_ended_again() -> None:
    async with stack() as s:
        workflow_id, _ = await s.ready()
        [order] = await s.deps.store.orders()
        gone = OrderFacts(final_state="gone", reason=ON_REQUEST, ended_at=s.clock.now())
        await s.deps.store.move_order(order.order_id, OrderState.RELEASED, gone)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any("is listed again; released: gone" in note for note in waited["notes"])
        assert s.running() == []


@pytest.mark.requirement("SETTLE-2")
async def test_an_order_whose_reply_named_a_strangers_machine_is_over_when_none_of_its_own_came() -> None:
    async with stack() as s:
        arm(s, "drop_request", operation="create")
        asked = await planned(s)
        await s.call("create_instances", **asked)
        stranger = rent(s.world, s.world.account, s.world.market.free_asks()[0].id, {"image": "x"})
        [order] = await s.deps.store.orders()
        await s.deps.store.move_order(order.order_id, OrderState.RENTED, OrderFacts(instance_id=stranger.id))
        s.clock.advance(121)
        waited = await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert any("which is not ours" in note for note in waited["notes"])
        assert (await orders_of(s))[0][0] is OrderState.RELEASED
        assert s.running() == [stranger.id]


@pytest.mark.requirement("SETTLE-6")
async def test_an_offer_that_the_account_holds_is_not_chosen_again_though_a_search_shows_it() -> None:
    async with stack() as s:
        s.world.settle()
        before = dict(s.world.market.asks)
        await s.rented()
        [first] = await s.deps.store.orders()
        lagging = before[first.ask_id]  # the search lags: it shows what was just taken
        for gpu in lagging.gpu_ids:
            lagging.machine.holders.pop(gpu)
        s.world.market.asks[first.ask_id] = lagging
        second = await s.agreed()
        plan = await s.call("find_offers", workflow_id=second)
        assert first.ask_id not in [offer["offer_id"] for offer in plan["offers"]]
        made = await s.call("create_instances", workflow_id=second, plan_id=plan["plan_id"])
        assert states(made) == ["rented"]


@pytest.mark.requirement("SETTLE-1")
async def test_a_create_that_answers_late_is_not_called_ended_before_a_list_can_show_its_machine() -> None:
    async with stack() as s:
        arm(s, "late_effect", operation="create", seconds=59)
        asked = await planned(s)
        made = await s.call("create_instances", **asked)
        assert states(made) == ["rented"]
        waited = await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=300)
        assert [item["readiness"] for item in waited["instances"]] == ["gpu_ok"]


@pytest.mark.requirement("ONCE-6")
async def test_a_machine_that_a_list_forgets_is_not_given_up() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.clock.advance(600)
        arm(s, "empty_list")
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert await orders_of(s) == [(OrderState.RENTED, machine)]


@pytest.mark.requirement("SETTLE-4")
async def test_an_order_whose_request_may_be_under_way_is_not_closed_by_hand() -> None:
    async with stack() as s:
        await sent_and_died(s, made=False)
        [order] = await s.deps.store.orders()
        at = order.sent_at or 0.0
        assert at + 60 > s.clock.now()
        with pytest.raises(Refusal, match="may be under way"):
            await close_by_hand(s.deps, order.order_id)
        s.clock.advance(61)
        assert (await close_by_hand(s.deps, order.order_id)).state is OrderState.NOT_RENTED


def copied(s: Stack, env: dict[str, str]) -> int:
    """A machine that somebody rented with our variables copied; answers its id."""
    s.world.settle()
    fitting = [o for o in s.world.market.free_asks() if o.num_gpus == 1 and o.machine.model.name == "RTX 4090"]
    ask = min(fitting, key=lambda one: one.machine.base_price(1))
    machine = rent(s.world, s.world.account, ask.id, {"image": "x", "env": dict(env), "disk": 64})
    s.clock.advance(5)
    return machine.id


@pytest.mark.requirement("SETTLE-2")
async def test_a_copy_that_is_the_first_machine_seen_of_an_order_is_not_ended_for_being_another_gpu() -> None:
    async with stack() as s:
        await sent_and_died(s, made=True)
        [ours] = s.running()
        env = s.world.instances[ours].env
        s.world.life.end(s.world.instances[ours])
        s.clock.advance(86_400)
        copy = copied(s, env)
        s.world.instances[copy].disguise["gpu_name"] = "RTX 3090"
        async with after_a_crash(s) as again:
            [order] = await again.deps.store.orders()
            waited = await again.call("wait_until_ready", workflow_id=order.workflow_id, timeout_s=0)
            assert any("left alone" in note for note in waited["notes"])
            assert again.running() == [copy]
            assert not (await again.call("preflight"))["active"][0]["ours"]


@pytest.mark.requirement("SETTLE-2")
async def test_a_second_machine_whose_age_is_not_known_is_left_to_the_user() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.clock.advance(5000)
        copy = copied(s, s.world.instances[machine].env)
        s.world.instances[copy].disguise["start_date"] = None
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any("left alone" in note for note in waited["notes"])
        assert s.running() == [machine, copy]


@pytest.mark.requirement("SETTLE-2")
async def test_a_late_machine_that_may_be_in_use_is_left_to_the_user_when_another_comes() -> None:
    async with stack() as s:
        asked = await planned(s)
        await s.call("create_instances", **asked)
        [first] = await s.deps.store.orders()
        second = first.model_copy(update={"order_id": "o_second", "state": OrderState.NOT_RENTED, "instance_id": None})
        await s.deps.store.add_orders([second])
        s.clock.advance(900)
        late = copied(s, {ORDER_VARIABLE: marker(s.deps.store.store_id, "o_second")})
        s.world.instances[late].disguise["gpu_name"] = first.gpu_name
        waited = await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert any("Ask the user: keep it or destroy it?" in note for note in waited["notes"]), waited["notes"]
        assert s.running() == [first.instance_id, late]


@pytest.mark.requirement("SETTLE-2")
async def test_a_fleet_whose_first_machine_was_taken_back_does_not_keep_a_late_one_alone() -> None:
    async with stack() as s:
        arm(s, "refuse", operation="create", nth=2, times=2, code="no_such_ask")
        asked = await planned(s, count=2, fleet="all_or_nothing")
        await s.client.call_tool("create_instances", asked)
        assert s.running() == []
        refused = (await s.deps.store.orders())[1]
        copied(s, {ORDER_VARIABLE: marker(s.deps.store.store_id, refused.order_id)})
        await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert (await orders_of(s))[1][0] is OrderState.RELEASED
        assert s.running() == []


@pytest.mark.requirement("SETTLE-1")
async def test_a_fleet_that_a_crash_left_short_is_named_by_the_first_call_and_released_by_the_wait() -> None:
    async with stack() as s:
        workflow_id, [one, _] = await s.rented(count=2, fleet="all_or_nothing")
        last = (await s.deps.store.orders())[-1]
        s.clock.advance(5)
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        unfit = OrderFacts(reason="not as agreed: a test", final_state="gone", ended_at=s.clock.now())
        s.world.life.end(s.world.instances[last.instance_id or 0])
        await s.deps.store.move_order(last.order_id, OrderState.RELEASED, unfit)
        s.clock.advance(5)
        async with after_a_crash(s) as again:
            assert (await again.call("propose_fields"))["problem"] == "unsettled_order"
            assert any(f"machine {one} runs without its fleet" in n for n in (await again.call("preflight"))["notes"])
            await again.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
            assert again.running() == []


@pytest.mark.requirement("SETTLE-3")
async def test_a_start_that_worked_without_an_answer_is_not_cancelled_days_later() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        await s.call("stop_instances", instance_ids=[machine])
        refusal = await s.refusal("start_instances", instance_ids=[machine])
        await s.call(refusal["next_call"]["tool"], **refusal["next_call"]["arguments"])
        arm(s, "drop_reply", operation="start")
        await s.call("start_instances", instance_ids=[machine])
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=120)
        assert waited["instances"][0]["readiness"] == "gpu_ok"
        assert (await s.deps.store.window(machine)).started_at == 0


@pytest.mark.requirement("SETTLE-2")
async def test_a_list_that_forgets_a_machine_and_shows_its_double_does_not_swap_the_two() -> None:
    async with stack() as s:
        arm(s, "double_effect", operation="create")
        asked = await planned(s)
        made = await s.call("create_instances", **asked)
        machine = made["orders"][0]["instance_id"]
        s.clock.advance(30)
        double = next(i for i in s.running() if i != machine)
        s.world.instances[double].visible_at = s.clock.now() + 60
        await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        s.clock.advance(61)
        s.world.settle()
        market = await s.deps.markets.open("env:VAST_API_KEY")
        listed = await list_instances(s.deps, market)
        shown = replace(listed, instances=tuple(item for item in listed.instances if item.id != machine))
        await settle(s.deps, market, (await market.account()).id, shown)
        assert s.running() == [machine]


@pytest.mark.requirement("SETTLE-2")
async def test_the_double_of_a_machine_that_was_to_be_destroyed_does_not_take_its_place() -> None:
    async with stack() as s:
        arm(s, "double_effect", operation="create")
        asked = await planned(s)
        made = await s.call("create_instances", **asked)
        [order] = await s.deps.store.orders()
        await s.deps.store.note_order(order.order_id, OrderFacts(final_state="unknown", reason=ON_REQUEST))
        s.world.life.end(s.world.instances[made["orders"][0]["instance_id"]])  # and there the process died
        s.clock.advance(130)
        waited = await s.call("wait_until_ready", workflow_id=asked["workflow_id"], timeout_s=0)
        assert s.running() == []
        assert any("made a second machine" in note for note in waited["notes"])


@pytest.mark.requirement("SETTLE-2")
async def test_a_release_that_is_not_seen_yet_stays_a_problem_until_it_is() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        copied(s, s.world.instances[machine].env)
        arm(s, "destroy_ignored", operation="destroy", times=30)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert any("it may cost money" in note for note in waited["notes"])
        assert (await s.call("propose_fields"))["problem"] == "unsettled_order"


@pytest.mark.requirement("SETTLE-4")
async def test_after_a_clock_went_back_an_order_can_be_closed_by_hand_a_minute_later() -> None:
    async with stack() as s:
        await sent_and_died(s, made=False)
        [order] = await s.deps.store.orders()
        await s.deps.store.note_order(order.order_id, OrderFacts(sent_at=s.clock.now() + 10**7))
        with pytest.raises(Refusal, match="under way for 60 s"):
            await close_by_hand(s.deps, order.order_id)
        s.clock.advance(61)
        assert (await close_by_hand(s.deps, order.order_id)).state is OrderState.NOT_RENTED
