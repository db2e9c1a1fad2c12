"""What becomes of a create's answer: rented once, refused, or unknown until a list settles it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal

import anyio
import pytest

from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import arm, follow, planned, settled, states, stranger, writes
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.store.sqlite import SqliteStore


class WatchedClock(VirtualClock):
    """Looks into the ledger while a reply that takes 20 s is under way."""

    watched: Stack | None = None
    seen: tuple[OrderState, ...] | list[OrderState] = ()

    async def sleep(self, seconds: float) -> None:
        """As usual, after a look."""
        if self.watched is not None and seconds == 20.0:
            self.seen = [order.state for order in await self.watched.deps.store.orders()]
        await super().sleep(seconds)


@asynccontextmanager
async def two_servers() -> AsyncGenerator[tuple[Stack, Stack]]:
    """Two servers with their clients on one ledger and one market."""
    clock = VirtualClock()
    store = SqliteStore(":memory:", clock=clock)
    async with stack(store=store, clock=clock) as one, stack(store=store, world=one.world, clock=clock) as two:
        yield one, two


GONE = [(status, place) for status in (400, 404, 410) for place in ("error", "msg")]


@pytest.mark.requirement("ONCE-4")
@pytest.mark.parametrize("era", ERAS)
async def test_the_same_plan_again_answers_what_is_recorded(era: Era) -> None:
    async with stack(era=era) as s:
        create = await planned(s)
        first = await s.call("create_instances", **create)
        s.clock.advance(3600)
        again = await s.call("create_instances", **create)
        assert [order["order_id"] for order in again["orders"]] == [order["order_id"] for order in first["orders"]]
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-1")
async def test_an_order_is_on_record_as_sent_while_its_request_is_under_way() -> None:
    clock = WatchedClock()
    async with stack(clock=clock) as s:
        create = await planned(s)
        arm(s, "delay", seconds=20.0)
        clock.watched = s
        made = await s.call("create_instances", **create)
        assert clock.seen == [OrderState.SENT]
        assert states(made) == ["rented"]


@pytest.mark.requirement("ONCE-1")
async def test_the_order_rides_in_the_machines_environment_and_the_label_is_the_users() -> None:
    async with stack() as s:
        _, [machine] = await s.rented()
        [order] = await s.deps.store.orders()
        rented = s.world.instances[machine]
        assert rented.env[ORDER_VARIABLE] == f"{s.deps.store.store_id}.{order.order_id}"
        assert rented.label == "tester"


@pytest.mark.requirement("ONCE-2")
@pytest.mark.parametrize(("status", "place"), GONE)
async def test_a_gone_offer_gives_its_turn_to_the_next_one_under_the_ceiling(status: int, place: str) -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "refuse", code="no_such_ask", status=status, place=place)
        made = await s.call("create_instances", **create)
        assert states(made) == ["refused", "rented"]
        assert any("was gone; trying" in note for note in made["notes"])
        assert s.creates_sent() == 2
        first, second = await s.deps.store.orders()
        assert second.replaces == first.order_id
        assert second.ask_id != first.ask_id  # the search still shows it
        assert second.price <= second.price.of(second.ceiling_per_hour)


@pytest.mark.requirement("ONCE-2")
async def test_an_offer_that_somebody_else_took_first_is_replaced() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "sold_out")
        assert states(await s.call("create_instances", **create)) == ["refused", "rented"]


@pytest.mark.requirement("ONCE-2")
async def test_a_replacement_that_is_gone_too_is_not_replaced_again() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "refuse", code="no_such_ask", times=0)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "no_such_ask"
        assert s.creates_sent() == 2
        again = await s.call("create_instances", **create)
        assert states(again) == ["refused", "refused"]
        assert again["next_call"]["tool"] == "find_offers"
        assert s.creates_sent() == 2


@pytest.mark.requirement("ONCE-2")
async def test_a_replacement_that_had_to_wait_and_is_gone_then_is_not_replaced_again() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "refuse", code="no_such_ask", nth=1)
        arm(s, "too_many_requests", operation="create", nth=2)
        arm(s, "refuse", code="no_such_ask", nth=3, times=0)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "no_such_ask"
        assert s.creates_sent() == 3


@pytest.mark.requirement("ONCE-2")
async def test_no_candidate_above_the_ceiling_replaces_a_gone_offer() -> None:
    async with stack() as s:
        create = await planned(s)
        [order] = (await s.call("find_offers", workflow_id=create["workflow_id"]))["chosen"]
        for machine in s.world.market.machines:
            machine.price *= 1 if machine is s.world.market.asks[order].machine else 3
        arm(s, "refuse", code="no_such_ask")
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "no_offers"
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-2")
async def test_a_place_that_a_gone_offer_gave_back_may_be_used_by_another_plan() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "refuse", code="no_such_ask", times=2)
        await s.refusal("create_instances", **create)
        plan = await s.call("find_offers", workflow_id=create["workflow_id"])
        made = await s.call("create_instances", workflow_id=create["workflow_id"], plan_id=plan["plan_id"])
        assert states(made) == ["rented"]


@pytest.mark.requirement("ONCE-2")
async def test_too_many_requests_waits_and_tries_the_same_offer_as_a_new_order() -> None:
    async with stack() as s:
        create = await planned(s)
        before = s.clock.now()
        arm(s, "too_many_requests", operation="create")
        made = await s.call("create_instances", **create)
        assert states(made) == ["refused", "rented"]
        first, second = await s.deps.store.orders()
        assert (second.ask_id, second.replaces) == (first.ask_id, first.order_id)
        assert s.clock.now() - before >= 4.5


@pytest.mark.requirement("ONCE-8")
async def test_a_wait_longer_than_the_call_is_gone_on_with_by_the_next_call() -> None:
    async with stack(switches=Switches(retry_after="body")) as s:
        create = await planned(s)
        arm(s, "too_many_requests", operation="create", threshold=50.0)
        made = await s.call("create_instances", **create)
        assert states(made) == ["refused", "planned"]
        assert made["next_call"] == {"tool": "create_instances", "arguments": create}
        s.clock.advance(50)
        assert states(await s.call("create_instances", **create)) == ["refused", "rented"]


@pytest.mark.requirement("ONCE-2")
@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("insufficient_credit", 400, "insufficient_credit"),
        ("spend_rate_limit", 403, "spend_rate_limit"),
        ("invalid_args", 400, "request_rejected"),
        ("invalid_price", 400, "request_rejected"),
        ("no_ssh_key_for_vm", 400, "request_rejected"),
        ("auth_error", 404, "key_rejected"),
    ],
)
async def test_a_known_refusal_rents_nothing_and_sends_nothing_more(code: str, status: int, told: str) -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="best_effort")
        arm(s, "refuse", code=code, status=status)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == told
        assert s.creates_sent() == 1
        assert [order.state for order in await s.deps.store.orders()] == [OrderState.REFUSED, OrderState.DROPPED]


@pytest.mark.requirement("INPUT-7")
async def test_a_key_without_the_scope_to_rent_is_told_which_scope_it_lacks() -> None:
    async with stack() as s:
        reader = s.world.add_key(s.world.account, {"user_read", "user_write", "instance_read", "misc"})
        s.environment["VAST_API_KEY"] = reader.secret
        create = await planned(s)
        made = await s.call("create_instances", **create)
        assert "lacks a permission, instance_write" in made["notes"][0]
        await settled(s, create["workflow_id"])
        assert s.running() == []


@pytest.mark.requirement("ONCE-3")
async def test_an_order_is_not_called_not_rented_before_its_time_out_and_the_lists_delay() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "drop_request")
        await s.call("create_instances", **create)
        s.clock.advance(100)
        assert not (await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0))["settled"]
        s.clock.advance(20)
        after = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        assert after["settled"]
        assert after["next_call"]["tool"] == "find_offers"


@pytest.mark.requirement("ONCE-3")
async def test_a_machine_that_shows_up_after_all_is_taken_on_record() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "hidden", seconds=200.0)
        arm(s, "drop_reply")
        await s.call("create_instances", **create)
        assert (await settled(s, create["workflow_id"]))["instances"] == []
        assert states(await s.call("create_instances", **create)) == ["not_rented"]
        s.clock.advance(120)
        shown = await s.call("wait_until_ready", workflow_id=create["workflow_id"])
        assert [item["instance_id"] for item in shown["instances"]] == s.running()
        assert states(await s.call("create_instances", **create)) == ["rented"]


@pytest.mark.requirement("ONCE-5")
async def test_a_machine_that_came_with_an_error_and_cannot_serve_is_released() -> None:
    async with stack(switches=Switches(low_bid="contract_in_error")) as s:
        create = await planned(s)
        arm(s, "oci_failure")
        arm(s, "error_with_contract")
        await s.call("create_instances", **create)
        s.clock.advance(100)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        assert any("released: gone" in note for note in waited["notes"])
        assert s.running() == []


@pytest.mark.requirement("ONCE-1")
async def test_a_machine_with_a_copy_of_our_mark_is_reported_and_left_alone() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.clock.advance(3600)
        copy = stranger(s, env=dict(s.world.instances[machine].env))
        waited = await s.call("wait_until_ready", workflow_id=workflow_id)
        assert any(f"machine {copy} carries our order" in note and "left alone" in note for note in waited["notes"])
        assert s.running() == [machine, copy]
        seen = await s.call("preflight")
        assert {item["instance_id"]: item["ours"] for item in seen["active"]} == {machine: True, copy: False}


@pytest.mark.requirement("ONCE-3")
async def test_an_order_of_a_lost_process_is_settled_before_anything_more_is_rented() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "drop_request")
        await s.call("create_instances", **create)
        [order] = await s.deps.store.orders()
        lost = order.model_copy(update={"order_id": "o_lost", "state": OrderState.SENT, "sent_at": s.clock.now()})
        await settled(s, create["workflow_id"])
        await s.deps.store.add_orders([lost.model_copy(update={"sent_at": s.clock.now()})])
        next_one = await planned(s)
        assert (await s.refusal("create_instances", **next_one))["code"] == "unsettled_order"
        s.clock.advance(70)
        await s.call("preflight")  # what was sent before is looked at here: the create's own look has to do the rest
        s.clock.advance(51)
        assert states(await s.call("create_instances", **next_one)) == ["rented"]
        assert (await s.deps.store.orders(workflow_id=create["workflow_id"]))[-1].state is OrderState.NOT_RENTED


@pytest.mark.requirement("ONCE-7")
async def test_a_second_server_on_the_same_ledger_never_rents_the_same_plan_again() -> None:
    async with two_servers() as (one, two):
        create = await planned(one)
        first = await one.call("create_instances", **create)
        second = await two.call("create_instances", **create)
        assert first["orders"] == second["orders"]
        assert len(one.running()) == 1


@pytest.mark.requirement("ONCE-7")
async def test_two_servers_at_the_same_plan_at_once_rent_one_machine() -> None:
    async with two_servers() as (one, two):
        create = await planned(one)
        async with anyio.create_task_group() as both:
            for s in (one, two):
                both.start_soon(s.client.call_tool, "create_instances", create)
        assert len(one.running()) == 1
        assert one.creates_sent() == 1


@pytest.mark.requirement("ONCE-7")
async def test_while_another_process_rents_for_the_account_a_create_is_refused() -> None:
    async with stack() as s:
        create = await planned(s)
        async with s.deps.store.account_lock(s.world.account.id):
            refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "account_busy"
        assert writes(s) == {}


@pytest.mark.requirement("ONCE-3")
async def test_a_list_that_fails_after_the_rent_hides_no_machine() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "http_error", operation="list", nth=2, times=0, status=500)
        made = await s.call("create_instances", **create)
        assert made["orders"][0]["instance_id"] == s.running()[0]
        assert any("500" in note for note in made["notes"])


async def test_a_market_without_credit_says_so_and_rents_nothing() -> None:
    async with stack() as s:
        s.world.account.credit = Decimal(0)
        refusal = await s.refusal("create_instances", **await planned(s))
        assert refusal["code"] == "insufficient_credit"
        assert s.running() == []


@pytest.mark.requirement("GATE-9")
async def test_an_offer_of_the_plan_that_left_the_market_is_not_sent() -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        plan = await s.call("find_offers", workflow_id=workflow_id)
        [gone] = plan["chosen"]
        ask = s.world.market.asks[gone]
        s.world.market.take(ask.machine, ask.gpu_ids, "other:1")
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert states(made) == ["rented"]
        assert any("is not free any more; taking" in note for note in made["notes"])
        assert s.creates_sent() == 1


async def test_a_refused_create_is_followed_by_a_call_that_helps() -> None:
    async with stack() as s:
        create = await planned(s)
        s.clock.advance(1900)
        again = await follow(s, await s.refusal("create_instances", **create))
        assert again["workflow_id"] == create["workflow_id"]


def take_all(s: Stack, *, but: int = 0) -> None:
    """Somebody else rents every free RTX 4090 but some."""
    asks = [ask for ask in s.world.market.free_asks() if ask.machine.model.name == "RTX 4090"]
    for ask in asks[but:]:
        if ask.machine.is_free(ask.gpu_ids):
            s.world.market.take(ask.machine, ask.gpu_ids, "other:1")


@pytest.mark.requirement("GATE-9")
async def test_a_market_that_is_sold_out_since_the_plan_rents_nothing() -> None:
    async with stack() as s:
        create = await planned(s)
        take_all(s)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "no_offers"
        assert s.creates_sent() == 0


@pytest.mark.requirement("FLEET-2")
async def test_all_or_nothing_is_not_begun_where_too_few_are_left() -> None:
    async with stack() as s:
        create = await planned(s, count=3, fleet="all_or_nothing", max_price_per_hour=100)
        take_all(s, but=2)
        refusal = await s.refusal("create_instances", **create)
        assert (refusal["code"], s.creates_sent()) == ("no_offers", 0)


@pytest.mark.requirement("GATE-4")
async def test_a_plan_of_more_than_ten_minutes_is_made_anew_also_while_machines_run() -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        plan = await s.call("find_offers", workflow_id=workflow_id)
        s.clock.advance(600)
        refusal = await s.refusal("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert refusal["code"] == "plan_expired"
        assert refusal["next_call"]["tool"] == "find_offers"


@pytest.mark.requirement("GATE-2")
async def test_a_plan_for_other_fields_is_refused_also_while_machines_run() -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        plan = await s.call("find_offers", workflow_id=workflow_id)
        await s.call("propose_fields", workflow_id=workflow_id, disk_gb=100)
        refusal = await s.refusal("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert refusal["code"] == "digest_mismatch"
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-2")
async def test_a_search_that_fails_for_a_replacement_ends_the_call_with_its_reason() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "refuse", code="no_such_ask")
        arm(s, "http_error", operation="search", nth=2, times=0)
        assert (await s.refusal("create_instances", **create))["code"] == "provider_down"
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-8")
async def test_an_order_whose_offer_left_the_market_between_two_calls_is_dropped() -> None:
    async with stack() as s:
        create = await planned(s, count=4, fleet="best_effort")
        arm(s, "delay", seconds=25.0, times=0)
        first = await s.call("create_instances", **create)
        take_all(s)
        made = await s.call("create_instances", **create)
        assert states(made).count("dropped") == states(first).count("planned") > 0
        assert s.creates_sent() == states(first).count("rented")


@pytest.mark.requirement("ONCE-8")
async def test_what_is_planned_behind_an_order_without_an_answer_stays_planned_and_is_gone_on_with() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="best_effort")
        arm(s, "drop_reply", operation="create")
        assert states(await s.call("create_instances", **create)) == ["unknown", "planned"]
        s.clock.advance(10)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        assert waited["settled"]
        assert states(await s.call("create_instances", **create)) == ["rented", "rented"]
        assert s.creates_sent() == len(s.running()) == 2
