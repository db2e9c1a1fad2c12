"""Every ambiguous end of a create: what is sent, what is on record, what it blocks, and how lists settle it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from mcp.types import CallToolResult

from tests.stack import ERAS, Era, Stack, stack, text_of
from tests.tools.acts import arm, planned, states, stranger
from vastai_workflow.domain.ledger import CREATE_TIMEOUT_S, UNSETTLED, VISIBILITY_S, Order, OrderState
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.app import simulator_of
from vastai_workflow.simulator.faults import Schedule
from vastai_workflow.simulator.switches import Switches

SETTLES_S: Final = CREATE_TIMEOUT_S + VISIBILITY_S
NEVER: Final = 1e6
SEEN_AFTER_S: Final = {"shown": 2.0, "hidden": 50.0}
"""How long a new machine is missing from reads."""
ERA_OF: Final[Mapping[str, Era]] = {"shown": "auto", "hidden": "legacy"}

Armed = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class End:
    """A create's end. `made`: machines that the market makes of it; `at_once`: the order right after the call.

    `told`: what the user reads then.
    """

    name: str
    faults: Sequence[Armed]
    made: int
    at_once: str = "unknown"
    told: str = "may have rented"

    @property
    def settled(self) -> str:
        """The order once it is settled."""
        return "rented" if self.made else "not_rented"


def lost(name: str, made: int, fault: str, told: str = "may have rented", **settings: Any) -> End:
    return End(name, [(fault, settings)], made, told=told)


BODIES: Final = ("text", "html", "json", "empty")
STATUSES: Final = (500, 502, 503, 504, 408, 409, 425)

ENDS: Final = [
    lost("the request is lost", 0, "drop_request", "no answer to create"),
    lost("no answer and never an effect", 0, "late_effect", "no answer to create", seconds=NEVER),
    lost("an answer after the time-out", 1, "delay", "no answer to create", seconds=61.0),
    lost("an effect within the window, after the time-out", 1, "late_effect", "no answer to create", seconds=100.0),
    lost("an effect when it is given up already", 1, "late_effect", "no answer to create", seconds=150.0),
    lost("cut before the reply", 1, "drop_reply", "no answer to create"),
    lost("cut in the reply", 1, "cut_body", "no answer to create"),
    *(
        lost(f"{status} without effect", 0, "http_error", str(status), status=status, body=BODIES[at % 4])
        for at, status in enumerate(STATUSES)
    ),
    *(
        lost(f"{status} after effect", 1, "http_error_after_effect", str(status), status=status, body=BODIES[at % 4])
        for at, status in enumerate(STATUSES, 1)
    ),
    lost("an empty body", 1, "empty_body", "an empty body"),
    lost("an empty body without effect", 0, "http_error", "an empty body", status=200, body="empty"),
    lost("half a body", 1, "truncated_json", "no JSON"),
    lost("a web page", 1, "html_body", "no JSON"),
    lost("a web page without effect", 0, "http_error", "no JSON", status=200, body="html"),
    lost("success false", 0, "success_false", "unexpected"),
    lost("success false after effect", 1, "success_false_after_effect", "unexpected"),
    lost("200 with the code of a gone offer", 1, "success_false_after_effect", "no_such_ask", code="no_such_ask"),
    lost("200 with the code of no credit", 1, "success_false_after_effect", "lacks credit", code="insufficient_credit"),
    lost("a code that nobody knows", 0, "refuse", "never_heard_of", code="never_heard_of", status=400),
    *(
        End(
            f"{status} {code} that names a machine",
            [("error_with_contract", {"status": status, "code": code})],
            1,
            at_once="rented",
            told="came with an error",
        )
        for status, code in ((400, "invalid_args"), (410, "no_such_ask"), (429, "rate"), (500, "oops"), (200, "oops"))
    ),
    End("another id", [("other_id", {})], 1, at_once="rented", told="rented"),
    End("two machines", [("double_effect", {})], 2, at_once="rented", told="rented"),
    End("two machines and no reply", [("drop_reply", {}), ("double_effect", {})], 2, told="no answer to create"),
]


def at_most_agreed(s: Stack, end: End, more: int = 0) -> bool:
    """Only a fault may make more than one machine of one order, and then not more than it makes."""
    return s.creates_sent() == 1 + more and len(s.running()) <= max(end.made, 1) + more


def marks(s: Stack) -> dict[str, int]:
    """The market's machines by the order that they carry."""
    return {s.world.instances[i].env[ORDER_VARIABLE].partition(".")[2]: i for i in s.running()}


async def orders_of(s: Stack, create: Mapping[str, Any]) -> tuple[Order, ...]:
    return await s.deps.store.orders(workflow_id=create["workflow_id"])


async def create_now(s: Stack, create: Mapping[str, Any]) -> CallToolResult:
    return await s.client.call_tool("create_instances", dict(create))


async def let_in_when_settled(s: Stack, other: Mapping[str, Any], end: End) -> str:
    """Another workflow of the account asks again and again; only what settled lets it in. All that it is told."""
    told = ""
    [order] = await s.deps.store.orders()
    while order.state in UNSETTLED:
        assert at_most_agreed(s, end)
        s.clock.advance(20)
        result = await create_now(s, other)
        told += text_of(result)
        order = (await s.deps.store.orders())[0]
        if order.state in UNSETTLED:
            assert "unsettled_order" in text_of(result)
        else:
            assert order.state is OrderState.RENTED or s.clock.now() >= (order.sent_at or 0.0) + SETTLES_S
    return told


@pytest.mark.requirement("ONCE-2")
@pytest.mark.requirement("ONCE-3")
@pytest.mark.requirement("ONCE-5")
@pytest.mark.parametrize("reads", SEEN_AFTER_S)
@pytest.mark.parametrize("end", ENDS, ids=[end.name for end in ENDS])
async def test_an_ambiguous_end_is_sent_once_blocks_the_account_and_is_settled(end: End, reads: str) -> None:
    switches = Switches(loading_s=6.0, visibility_delay_s=SEEN_AFTER_S[reads])
    async with stack(era=ERA_OF[reads], switches=switches) as s:
        create, other = await planned(s), await planned(s, policy="second_cheapest")
        for fault, settings in end.faults:
            arm(s, fault, **settings)

        result = await create_now(s, create)
        made = result.structured_content
        assert made is not None
        assert states(made) == [end.at_once]
        assert end.told in text_of(result)
        assert made["next_call"] == {"tool": "wait_until_ready", "arguments": {"workflow_id": create["workflow_id"]}}
        [order] = await s.deps.store.orders()

        told = text_of(result) + await let_in_when_settled(s, other, end)
        more = len(await orders_of(s, other))
        s.clock.advance(100 if end.made else 0)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=120)
        told += " ".join(waited["notes"])
        s.clock.advance(10)
        s.world.settle()

        assert waited["settled"]
        again = await s.call("create_instances", **create)
        assert [(row["order_id"], row["state"]) for row in again["orders"]] == [(order.order_id, end.settled)]
        assert s.creates_sent() == 1 + more
        shown = [row["instance_id"] for row in waited["instances"]]
        assert shown == [machine for carried, machine in marks(s).items() if carried == order.order_id]
        assert len(s.running()) == min(end.made, 1) + more
        if not end.made:
            assert waited["next_call"]["tool"] == "find_offers"
        if end.made and more:
            assert "showed up after it was given up" in told
        if end.made > 1:
            assert "made a second machine" in told


REPEATED: Final[Sequence[Armed]] = [
    ("proxy_repeats", {}),
    ("proxy_repeats", {"status": 404, "place": "msg"}),
    ("http_error_after_effect", {"status": 429, "body": "text"}),
]
"""Answers that prove that nothing was rented, and lie."""


@pytest.mark.requirement("ONCE-2")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("fault", "settings"), REPEATED, ids=str)
async def test_a_refusal_that_lies_is_seen_through_by_the_list_before_another_try(
    era: Era, fault: str, settings: dict[str, Any]
) -> None:
    async with stack(era=era, switches=Switches(visibility_delay_s=0.0)) as s:
        create = await planned(s)
        arm(s, fault, **settings)
        result = await create_now(s, create)
        assert result.structured_content is not None
        [row] = result.structured_content["orders"]
        assert (row["state"], [row["instance_id"]]) == ("rented", s.running())
        assert "showed up after it was given up" in text_of(result)
        assert s.creates_sent() == 1
        assert result.structured_content["next_call"]["tool"] == "wait_until_ready"


@pytest.mark.requirement("ONCE-2")
@pytest.mark.requirement("ONCE-5")
@pytest.mark.parametrize(("fault", "settings"), REPEATED, ids=str)
async def test_what_a_lying_refusal_hid_from_the_list_is_released_when_it_shows_up(
    fault: str, settings: dict[str, Any]
) -> None:
    async with stack(switches=Switches(loading_s=6.0, visibility_delay_s=50.0)) as s:
        create, other = await planned(s), await planned(s)
        arm(s, fault, **settings)
        made = await s.call("create_instances", **create)
        assert set(states(made)[:-1]) == {"refused"}
        began = s.clock.now()
        kept = made["orders"][-1]["instance_id"]
        [late] = [machine for machine in s.running() if machine != kept]
        s.clock.advance(50)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        assert any(
            f"machine {late}" in note and "beyond the 1 agreed; released: gone" in note for note in waited["notes"]
        )
        s.clock.advance(5)
        s.world.settle()
        assert s.running() == [kept]
        assert s.clock.now() - began < 120
        assert s.creates_sent() == len(made["orders"])
        again = states(await s.call("create_instances", **create))
        assert (again[0], again[-1]) == ("released", "rented")
        refusal = await s.refusal("create_instances", **other)
        assert str(late) not in refusal["message"]


@pytest.mark.requirement("ONCE-2")
@pytest.mark.parametrize("fault", ["http_error", "truncated_list", "null_list", "bad_token", "looping_token"])
async def test_a_gone_offer_is_not_replaced_where_the_list_fails_or_is_incomplete(fault: str) -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "hidden", seconds=1.0)
        arm(s, "proxy_repeats")
        arm(s, fault, operation="list", nth=2, times=0)
        made = await create_now(s, create)
        assert s.creates_sent() == 1
        assert made.is_error
        simulator_of(s.app).schedule = Schedule()
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        assert [row["instance_id"] for row in waited["instances"]] == s.running()
        assert states(await s.call("create_instances", **create)) == ["rented"]
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-2")
async def test_a_gone_offer_is_searched_for_anew_and_replaced_once_per_order() -> None:
    async with stack() as s:
        create = await planned(s, count=3, fleet="best_effort", max_price_per_hour=100)
        arm(s, "refuse", code="no_such_ask", nth=1)
        arm(s, "refuse", code="no_such_ask", nth=3, times=2)
        searched = s.world.requests["search"]
        made = await s.call("create_instances", **create)
        orders = await s.deps.store.orders()
        replaced = [order for order in orders if order.replaces]
        assert s.world.requests["search"] - searched == 1 + len(replaced)
        assert len({order.replaces for order in replaced}) == len(replaced)
        assert states(made).count("rented") == len(s.running()) <= 3
        assert all(order.price_per_hour <= order.ceiling_per_hour for order in orders)


@pytest.mark.requirement("ONCE-5")
async def test_a_twin_that_shows_up_first_leaves_one_machine_and_one_order() -> None:
    async with stack() as s:
        create = await planned(s, max_price_per_hour=2.0)
        arm(s, "hidden", seconds=50.0)
        arm(s, "double_effect")
        await s.call("create_instances", **create)
        assert len(s.running()) == 2
        s.clock.advance(5)
        await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        s.clock.advance(50)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        assert any("made a second machine" in note for note in waited["notes"])
        s.clock.advance(5)
        s.world.settle()
        [order] = await s.deps.store.orders()
        assert s.running() == [order.instance_id] == [row["instance_id"] for row in waited["instances"]]


@pytest.mark.requirement("ONCE-5")
async def test_a_reply_that_names_a_strangers_machine_touches_it_not() -> None:
    async with stack() as s:
        other = stranger(s)
        create = await planned(s)
        arm(s, "other_id", id=other)
        await s.call("create_instances", **create)
        s.clock.advance(5)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        [order] = await s.deps.store.orders()
        assert [row["instance_id"] for row in waited["instances"]] == [order.instance_id]
        assert sorted(s.running()) == sorted([other, order.instance_id or 0])
        assert s.world.requests["destroy"] == 0


@pytest.mark.requirement("ONCE-3")
@pytest.mark.parametrize("given_up", [True, False])
async def test_an_effect_long_after_the_window_still_finds_its_order(given_up: bool) -> None:  # noqa: FBT001 # a case
    async with stack() as s:
        create = await planned(s)
        arm(s, "late_effect", seconds=400.0)
        await s.call("create_instances", **create)
        s.clock.advance(121)
        if given_up:
            await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
            [order] = await s.deps.store.orders()
            assert order.state is OrderState.NOT_RENTED
        s.clock.advance(230)
        s.world.settle()
        [machine] = s.running()
        s.clock.advance(5)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        assert [row["instance_id"] for row in waited["instances"]] == [machine]
        assert given_up == any("showed up after it was given up" in note for note in waited["notes"])
        [order] = await s.deps.store.orders()
        assert (order.state, order.instance_id, s.creates_sent()) == (OrderState.RENTED, machine, 1)


@pytest.mark.requirement("ONCE-5")
async def test_a_fleet_stops_at_an_error_that_names_a_machine() -> None:
    async with stack() as s:
        create = await planned(s, count=3, fleet="best_effort")
        arm(s, "error_with_contract")
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented", "dropped", "dropped"]
        assert s.creates_sent() == len(s.running()) == 1


@pytest.mark.requirement("ONCE-4")
async def test_what_is_planned_fits_the_places_that_are_left() -> None:
    async with stack() as s:
        create = await planned(s, count=3, fleet="best_effort", max_price_per_hour=100)
        plan = await s.call("find_offers", workflow_id=create["workflow_id"])  # of as many, made before places went
        arm(s, "refuse", code="no_such_ask", nth=2, times=3)
        made = await s.call("create_instances", **create)
        left = 3 - states(made).count("rented")
        assert left
        again = await s.call("create_instances", workflow_id=create["workflow_id"], plan_id=plan["plan_id"])
        assert states(again) == ["rented"] * left
        assert len(s.running()) == 3
