"""A machine that was rented here and that no list shows yet counts wherever machines and money are told."""

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, looked_at_before, planned


async def _rented_unseen(s: Stack) -> int:
    """One machine that the provider's lists lack for 50 s more."""
    await looked_at_before(s)
    create = await planned(s)
    arm(s, "hidden", operation="create", seconds=50.0)
    [order] = (await s.call("create_instances", **create))["orders"]
    return order["instance_id"]


@pytest.mark.requirement("STATUS-3")
async def test_status_preflight_and_billing_name_and_price_a_machine_that_no_list_shows_yet() -> None:
    async with stack() as s:
        machine = await _rented_unseen(s)
        [shown] = (await s.call("instance_status"))["instances"]
        assert (shown["instance_id"], shown["state"], shown["reason"]) == (machine, "provisioning", "not listed yet")
        seen = await s.call("preflight")
        [active] = seen["active"]
        assert (active["instance_id"], active["ours"]) == (machine, True)
        assert seen["burn_per_hour"] == active["price_per_hour"] == shown["price_per_hour"] > 0
        assert (await s.call("billing_report"))["burn_per_hour"] == seen["burn_per_hour"]


@pytest.mark.requirement("GATE-5")
async def test_the_next_question_names_a_machine_that_no_list_shows_yet() -> None:
    async with stack() as s:
        machine = await _rented_unseen(s)
        proposal = await s.call("propose_fields")
        assert [item["instance_id"] for item in proposal["active"]] == [machine]
        assert f"{machine} (just rented here, not listed yet) at $" in proposal["questions"][0]


@pytest.mark.requirement("GATE-5")
async def test_a_yes_that_did_not_know_of_a_machine_rents_nothing_beside_it_before_a_list_shows_it() -> None:
    async with stack() as s:
        await looked_at_before(s)
        earlier = await planned(s)
        create = await planned(s)
        arm(s, "hidden", operation="create", seconds=50.0)
        [order] = (await s.call("create_instances", **create))["orders"]
        refusal = await s.refusal("create_instances", **earlier)
        assert refusal["code"] == "unacknowledged_instances"
        assert str(order["instance_id"]) in refusal["message"]
        assert len(s.running()) == 1


@pytest.mark.requirement("STATUS-3")
async def test_a_machine_that_ended_elsewhere_unseen_is_not_called_new_for_ever() -> None:
    async with stack() as s:
        await looked_at_before(s)
        create = await planned(s)
        arm(s, "hidden", operation="create", seconds=500.0)
        await s.call("create_instances", **create)
        s.clock.advance(121)
        assert (await s.call("preflight"))["active"] == []
