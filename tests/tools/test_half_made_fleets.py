"""Fleets that take more calls than one: what is still planned when something changes in between."""

from typing import Any

import pytest

from tests.stack import Stack, stack
from tests.tools.acts import arm, planned, settled, states

FIRST_CALL = 10
"""Machines that one call rents at the provider's pace."""


async def begun(s: Stack, count: int, fleet: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A fleet of which a first call rented a part; the create's arguments and its answer."""
    create = await planned(s, count=count, fleet=fleet)
    made = await s.call("create_instances", **create)
    assert made["next_call"]["tool"] == "create_instances"
    assert states(made).count("rented") == FIRST_CALL
    return create, made


@pytest.mark.requirement("FLEET-6")
async def test_all_or_nothing_rents_no_more_once_an_unclear_order_is_seen_not_to_have_rented() -> None:
    async with stack() as s:
        create = await planned(s, count=20, fleet="all_or_nothing")
        arm(s, "http_error", operation="create", nth=2, status=503)
        assert states(await s.call("create_instances", **create)) == ["rented", "unknown"] + ["planned"] * 18
        waited = await settled(s, create["workflow_id"])
        assert any(note.startswith("18 more of an all-or-nothing fleet will not be rented") for note in waited["notes"])
        assert any("released machine" in note and "all or nothing" in note for note in waited["notes"])
        assert waited["next_call"]["tool"] == "propose_fields"
        assert s.creates_sent() == 2
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("FLEET-6")
async def test_all_or_nothing_rents_no_more_once_a_machine_came_that_is_not_as_agreed() -> None:
    async with stack() as s:
        create = await planned(s, count=20, fleet="all_or_nothing")
        arm(s, "smaller_disk", nth=2, factor=0.5)
        made = await s.call("create_instances", **create)
        sent = s.creates_sent()
        assert sent <= FIRST_CALL
        assert states(made).count("dropped") == 20 - sent
        while made["next_call"]["tool"] == "wait_until_ready":
            made = await s.call("wait_until_ready", workflow_id=create["workflow_id"])
        assert s.creates_sent() == sent
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("FLEET-6")
async def test_a_create_that_goes_on_with_a_fleet_that_can_not_be_whole_sends_nothing_and_says_so() -> None:
    async with stack() as s:
        create = await planned(s, count=20, fleet="all_or_nothing")
        arm(s, "http_error", operation="create", nth=2, status=503)
        await s.call("create_instances", **create)
        s.clock.advance(200)
        await s.call("instance_status", workflow_id=create["workflow_id"])
        made = await s.call("create_instances", **create)
        assert s.creates_sent() == 2
        assert states(made) == ["released", "not_rented"] + ["dropped"] * 18
        assert "18 did not come (all or nothing: the others did not come)" in made["notes"][0]
