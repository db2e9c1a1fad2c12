"""More than one machine by one yes: all or nothing, or as many as come."""

from decimal import Decimal

import pytest

from tests.stack import ERAS, Era, stack
from tests.tools.acts import Heard, arm, planned, settled, states
from vastai_workflow.domain.caps import Caps
from vastai_workflow.steps.ports import ProbeReport
from vastai_workflow.steps.releases import IN_USE_AFTER_S


@pytest.mark.requirement("FLEET-1")
async def test_above_one_machine_the_fleet_policy_is_asked_before_a_yes() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", count=2)
        assert "fleet" in proposal["missing"]
        noted = await s.call("confirm_fields", workflow_id=proposal["workflow_id"], digest=proposal["digest"])
        assert noted["confirmation"] is None
        assert noted["missing"] == ["fleet"]


@pytest.mark.requirement("FLEET-1")
@pytest.mark.parametrize("fleet", ["all_or_nothing", "best_effort"])
async def test_one_yes_rents_the_whole_count_on_distinct_machines(fleet: str) -> None:
    async with stack() as s:
        _, machines = await s.ready(count=3, fleet=fleet)
        assert s.running() == machines
        assert len({s.world.instances[one].machine.id for one in machines}) == 3


@pytest.mark.requirement("FLEET-5")
@pytest.mark.parametrize("era", ERAS)
async def test_a_create_of_many_tells_how_far_it_is(era: Era) -> None:
    heard = Heard()
    async with stack(era=era) as s:
        create = await planned(s, count=3, fleet="best_effort")
        made = await s.client.call_tool("create_instances", create, progress_callback=heard)
        assert not made.is_error
        assert heard.lines == [f"{done} of 3 machines rented" for done in range(3)]


@pytest.mark.requirement("FLEET-2")
async def test_best_effort_keeps_what_came() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="best_effort")
        arm(s, "refuse", nth=2, code="insufficient_credit")
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented", "refused"]
        assert len(s.running()) == 1
        assert made["notes"][0] == (
            "1 of 2 machines rented, $0.30/h while it runs; 1 did not come (the account lacks credit). "
            "Best effort was agreed, so it runs on. Ask the user: keep it, or release it with destroy_instances?"
        )


@pytest.mark.requirement("FLEET-2")
async def test_all_or_nothing_releases_what_came_when_the_rest_is_refused() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        arm(s, "refuse", nth=2, code="insufficient_credit")
        made = await s.call("create_instances", **create)
        assert states(made) == ["released", "refused"]
        assert made["notes"][0] == (
            "0 of 2 machines rented; 1 came and ended; 1 did not come (the account lacks credit). "
            "All or nothing was agreed: nothing runs on."
        )
        assert any("all or nothing" in note for note in made["notes"])
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("FLEET-2")
async def test_all_or_nothing_releases_what_came_once_an_unclear_order_is_seen_not_to_have_rented() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        arm(s, "drop_request", nth=2)
        s.prober.reports = [ProbeReport("none", reason="refused")] * 1000
        assert states(await s.call("create_instances", **create)) == ["rented", "unknown"]
        waited = await settled(s, create["workflow_id"])
        assert any("all or nothing" in note for note in waited["notes"])
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("FLEET-3")
async def test_a_wait_that_learns_that_a_machine_did_not_come_says_what_is_there_and_asks() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="best_effort")
        arm(s, "drop_request", nth=2)
        made = await s.call("create_instances", **create)
        assert made["notes"][0] == "1 of 2 machines rented, $0.30/h while it runs; 1 may be rented (not known yet)"
        waited = await settled(s, create["workflow_id"])
        assert waited["notes"][0] == (
            "1 of 2 machines rented, $0.30/h while it runs; "
            "1 did not come (its create got no good answer, and no list shows it). "
            "Best effort was agreed, so it runs on. Ask the user: keep it, or release it with destroy_instances?"
        )
        again = await s.call("wait_until_ready", workflow_id=create["workflow_id"])
        assert again["notes"] == []


@pytest.mark.requirement("FLEET-3")
async def test_machines_for_which_no_offer_is_left_are_told_as_not_come() -> None:
    async with stack() as s:
        create = await planned(s, count=3, fleet="best_effort")
        for ask in s.world.market.free_asks():
            if ask.machine.price > Decimal("0.30"):
                ask.machine.price *= 3
        made = await s.call("create_instances", **create)
        assert made["notes"][0].startswith(
            "1 of 3 machines rented, $0.30/h while it runs; 2 did not come (no fitting offer"
        )


@pytest.mark.requirement("FLEET-3")
async def test_one_machine_by_one_yes_has_no_word_about_a_fleet() -> None:
    async with stack() as s:
        made = await s.call("create_instances", **await planned(s))
        assert made["notes"] == []


@pytest.mark.requirement("FLEET-2")
async def test_all_or_nothing_asks_the_user_about_a_machine_that_may_be_in_use_by_now() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        arm(s, "drop_request", nth=2)
        await s.call("create_instances", **create)
        await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        s.clock.advance(IN_USE_AFTER_S)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"])
        assert any("Ask the user: keep or destroy?" in note for note in waited["notes"])
        assert len(s.running()) == 1


@pytest.mark.requirement("FLEET-2")
async def test_all_or_nothing_leaves_the_others_when_the_user_ends_one() -> None:
    async with stack() as s:
        workflow_id, [one, other] = await s.ready(count=2, fleet="all_or_nothing")
        await s.call("destroy_instances", instance_ids=[one])
        s.clock.advance(600)
        await s.call("wait_until_ready", workflow_id=workflow_id)
        assert s.running() == [other]


@pytest.mark.requirement("FLEET-2")
async def test_all_or_nothing_sends_nothing_when_too_few_offers_are_left() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        for ask in s.world.market.free_asks()[1:]:
            ask.machine.price *= 3
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "no_offers"
        assert s.creates_sent() == 0


@pytest.mark.requirement("GATE-6")
async def test_a_cap_that_is_reached_in_the_middle_drops_the_rest() -> None:
    async with stack(caps=Caps(max_instances=1)) as s:
        create = await planned(s, count=2, fleet="best_effort")
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented", "dropped"]
        assert any("operator" in note for note in made["notes"])
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-8")
async def test_a_fleet_too_big_for_one_call_is_gone_on_with_and_sends_no_order_twice() -> None:
    async with stack() as s:
        create = await planned(s, count=4, fleet="best_effort")
        arm(s, "delay", seconds=25.0, times=0)
        first = await s.call("create_instances", **create)
        assert "planned" in states(first)
        assert first["notes"] == ["2 of 4 machines rented, $0.6369/h while all run; 2 still to be sent"]
        assert first["next_call"]["tool"] == "create_instances"
        made = await s.call("create_instances", **create)
        assert states(made) == ["rented"] * 4
        assert s.creates_sent() == len(s.running()) == 4


@pytest.mark.requirement("ONCE-8")
async def test_what_was_not_sent_when_the_yes_expired_is_dropped_and_reported() -> None:
    async with stack() as s:
        create = await planned(s, count=4, fleet="best_effort")
        arm(s, "delay", seconds=25.0, times=0)
        first = await s.call("create_instances", **create)
        s.clock.advance(1800)
        made = await s.call("create_instances", **create)
        assert states(made).count("dropped") == states(first).count("planned") > 0
        assert s.creates_sent() == states(first).count("rented")


@pytest.mark.requirement("FLEET-2")
async def test_all_or_nothing_releases_the_others_when_one_came_that_is_not_as_agreed() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        arm(s, "smaller_disk", nth=2, factor=0.5)
        await s.call("create_instances", **create)
        waited = await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=60)
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []
        assert [row["readiness"] for row in waited["instances"]] == ["gone", "gone"]
