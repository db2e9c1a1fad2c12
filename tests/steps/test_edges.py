"""Edges of the steps that no usual dialog reaches: clocks that go back, lost marks, closed doors."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack import Stack, stack
from tests.tools.acts import Heard, arm, follow, planned, states, stranger, writes
from vastai_workflow.domain.errors import ProviderError, Refusal
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState, marker
from vastai_workflow.domain.market import ORDER_VARIABLE, Instance
from vastai_workflow.domain.money import Rate
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.steps.create import create_instances
from vastai_workflow.steps.ending import end_order
from vastai_workflow.steps.inventory import export_inventory
from vastai_workflow.steps.login import addresses
from vastai_workflow.vast.key_sources import VastMarkets


class ClosedDoor(httpx.AsyncBaseTransport):
    """Lets everything through but a create, whose connection is refused before a byte leaves."""

    def __init__(self, app: Any) -> None:
        self._inner = SimulatedTransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse or pass on."""
        if request.method == "PUT" and "/asks/" in request.url.path:
            raise httpx.ConnectError("refused", request=request)
        return await self._inner.handle_async_request(request)


@pytest.mark.requirement("ONCE-2")
async def test_a_create_whose_connection_was_refused_rented_nothing_and_gives_its_place_back() -> None:
    async with stack() as s:
        create = await planned(s)
        markets = VastMarkets(
            environment=s.environment,
            cwd=Path("/nonexistent"),
            home=Path("/nonexistent"),
            clock=s.clock,
            base_url="http://127.0.0.1:1",
            transport=lambda: ClosedDoor(s.app),
        )
        with pytest.raises(ProviderError, match="nothing was sent"):
            await create_instances(replace(s.deps, markets=markets), s.caller, **create, progress=Heard())
        await markets.aclose()
        [order] = await s.deps.store.orders()
        assert order.state is OrderState.REFUSED
        assert not order.holds_place


@pytest.mark.requirement("READY-6")
async def test_a_key_that_the_account_refuses_stops_the_create_before_anything_is_sent() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "refuse", operation="add_ssh_key", code="invalid_args")
        assert (await s.refusal("create_instances", **create))["code"] == "request_rejected"
        assert s.creates_sent() == 0
        assert states(await s.call("create_instances", **create)) == ["rented"]


async def _unknown(s: Stack) -> tuple[str, Order]:
    create = await planned(s)
    arm(s, "drop_request")
    await s.call("create_instances", **create)
    [order] = await s.deps.store.orders()
    return create["workflow_id"], order


@pytest.mark.requirement("ONCE-3")
async def test_an_order_that_was_sent_in_the_future_is_counted_from_now() -> None:
    async with stack() as s:
        workflow_id, order = await _unknown(s)
        await s.deps.store.note_order(order.order_id, OrderFacts(sent_at=s.clock.now() + 86_400))
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        s.clock.advance(121)
        assert (await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0))["settled"]


@pytest.mark.requirement("ONCE-3")
@pytest.mark.parametrize("state", [OrderState.PLANNED, OrderState.DROPPED])
async def test_a_machine_with_the_mark_of_an_order_that_was_never_seen_sent_is_on_record(state: OrderState) -> None:
    async with stack() as s:
        workflow_id, order = await _unknown(s)
        s.clock.advance(121)
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        later = order.model_copy(
            update={"order_id": "o_later", "state": state, "created_at": s.clock.now(), "sent_at": None}
        )
        await s.deps.store.add_orders([later])
        machine = stranger(s, env={ORDER_VARIABLE: marker(s.deps.store.store_id, "o_later")}, disk=64)
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        found = {item.order_id: item for item in await s.deps.store.orders()}["o_later"]
        assert found.instance_id == machine
        assert found.state in {OrderState.RENTED, OrderState.RELEASED}


@pytest.mark.requirement("ONCE-5")
async def test_a_machine_that_lost_our_mark_is_neither_ours_nor_ended_for_us() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.world.instances[machine].env.clear()
        s.clock.advance(120)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id)
        assert any("no mark" in note for note in waited["notes"])
        assert (await s.refusal("stop_instances", instance_ids=[machine]))["code"] == "purpose_not_confirmed"
        [order] = await s.deps.store.orders()
        market = await s.deps.markets.open("env:VAST_API_KEY")
        assert await end_order(s.deps, market, order, reason="a test") == "unknown"
        assert s.world.requests["destroy"] == 0


@pytest.mark.requirement("PURPOSE-2")
async def test_the_same_yes_to_a_purpose_told_twice_is_one_yes() -> None:
    async with stack() as s:
        other = stranger(s)
        refusal = await s.refusal("stop_instances", instance_ids=[other])
        assert await follow(s, refusal) == await follow(s, refusal)
        await s.call("stop_instances", instance_ids=[other])
        assert (await s.refusal("stop_instances", instance_ids=[other]))["code"] == "confirmation_spent"


@pytest.mark.requirement("GATE-5")
async def test_only_machines_that_the_user_was_asked_about_can_be_acknowledged() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        given = {"workflow_id": proposal["workflow_id"], "digest": proposal["digest"]}
        refusal = await s.refusal("confirm_fields", **given, acknowledge_instances=[4711])
        assert refusal["code"] == "invalid_argument"
        odd = await s.refusal("confirm_fields", **given, fields=["nonsense"])
        assert "got 'nonsense'" in odd["message"]


async def test_an_unknown_format_of_an_inventory_is_refused_by_the_step_too() -> None:
    async with stack() as s:
        with pytest.raises(Refusal, match="ssh_config"):
            await export_inventory(s.deps, s.caller, "terraform", (), None)
        assert writes(s) == {}


def _instance(**given: Any) -> Instance:
    return Instance(
        id=1,
        label="",
        machine_id=1,
        gpu_name="RTX 4090",
        num_gpus=1,
        gpu_ram_mb=24_564,
        disk_gb=Decimal(64),
        price=Rate.of("0.3"),
        actual_status="running",
        intended_status="running",
        cur_state="running",
        next_state="running",
        **given,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ()),
        ({"public_ip": "203.0.113.1", "direct_ssh_port": 40_000}, (("203.0.113.1", 40_000),)),
        ({"ssh_host": "ssh4.vast.ai", "ssh_port": 10_000}, (("ssh4.vast.ai", 10_000),)),
        ({"ssh_host": "ssh4.vast.ai", "ssh_port": 10_000, "runtype": "jupyter"}, (("ssh4.vast.ai", 10_001),)),
    ],
    ids=str,
)
def test_ssh_is_tried_directly_first_and_by_the_proxy_as_the_official_client_does(
    given: dict[str, Any], expected: tuple[tuple[str, int], ...]
) -> None:
    assert addresses(_instance(**given)) == expected
