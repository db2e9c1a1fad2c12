"""An order of another process on the same ledger that is not settled yet: each look says so, from its first second."""

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import last_order, looked_at_before
from vastai_workflow.domain.ledger import OrderState

LOOKS = pytest.mark.parametrize("tool", ["preflight", "instance_status"])


async def sent_by_another_process(s: Stack) -> str:
    """What a process that was killed right after it put its order down as sent leaves; answers the order's id."""
    before = await last_order(s)
    fresh = {"order_id": "o_killed", "state": OrderState.SENT, "sent_at": s.clock.now(), "instance_id": None}
    unseen = {"rented_price_per_hour": None, "final_state": None, "reason": None, "cost_usd": None, "ended_at": None}
    await s.deps.store.add_orders([before.model_copy(update={**fresh, **unseen, "created_at": s.clock.now()})])
    return "o_killed"


@LOOKS
@pytest.mark.requirement("STATUS-2")
async def test_an_order_whose_process_died_in_its_create_is_told_at_once(tool: str) -> None:
    async with stack() as s:
        await looked_at_before(s)
        order_id = await sent_by_another_process(s)
        for seconds in (0, 10, 60):
            s.clock.advance(seconds)
            notes = (await s.call(tool))["notes"]
            assert any(
                f"order {order_id} of 1x RTX 4090 is being settled: it may have rented" in note for note in notes
            )
        s.clock.advance(180)
        assert "being settled" not in str((await s.call(tool))["notes"])
        assert (await last_order(s)).state is OrderState.NOT_RENTED


@LOOKS
@pytest.mark.requirement("STATUS-2")
async def test_an_order_that_another_process_is_sending_just_now_is_told(tool: str) -> None:
    async with stack() as s:
        await looked_at_before(s)
        order_id = await sent_by_another_process(s)
        order = await last_order(s)
        async with s.deps.store.account_lock(order.account_id):
            notes = (await s.call(tool))["notes"]
        assert any(f"order {order_id}" in note and "is being settled" in note for note in notes)
        assert (await last_order(s)).state is OrderState.SENT
