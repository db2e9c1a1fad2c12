"""What a create is refused for, and that nothing is sent then."""

from decimal import Decimal

import pytest

from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import arm, follow, planned, states, stranger, writes
from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.money import Rate


@pytest.mark.requirement("GATE-1")
@pytest.mark.parametrize("era", ERAS)
async def test_nothing_is_rented_before_anything_was_confirmed(era: Era) -> None:
    async with stack(era=era) as s:
        proposal = await s.call("propose_fields")
        plan = await s.call("find_offers", workflow_id=proposal["workflow_id"])
        refusal = await s.refusal("create_instances", workflow_id=proposal["workflow_id"], plan_id=plan["plan_id"])
        assert refusal["code"] == "not_confirmed"
        assert {"gpu_name", "image", "disk_gb", "count", "ssh_key", "max_price_per_hour"} <= set(refusal["missing"])
        assert refusal["ask_user"]
        assert refusal["next_call"]["tool"] == "propose_fields"
        assert writes(s) == {}


@pytest.mark.requirement("GATE-1")
async def test_a_yes_to_some_fields_is_no_yes_to_rent() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        known = {"workflow_id": proposal["workflow_id"]}
        noted = await s.call("confirm_fields", **known, digest=proposal["digest"], fields=["gpu_name"])
        assert noted["confirmation"] is None
        assert "gpu_name" not in noted["missing"]
        plan = await s.call("find_offers", **known)
        refusal = await s.refusal("create_instances", **known, plan_id=plan["plan_id"])
        assert refusal["code"] == "not_confirmed"
        assert "image" in refusal["missing"]


@pytest.mark.requirement("GATE-1")
async def test_yeses_to_all_fields_one_by_one_are_a_yes() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        known = {"workflow_id": proposal["workflow_id"]}
        names = [row["name"] for row in proposal["fields"]]
        await s.call("confirm_fields", **known, digest=proposal["digest"], fields=names[:4])
        last = await s.call("confirm_fields", **known, digest=proposal["digest"], fields=names[4:])
        assert last["confirmation"]["purpose"] == "rent"
        assert last["next_call"]["tool"] == "find_offers"


@pytest.mark.requirement("GATE-2")
@pytest.mark.parametrize("era", ERAS)
async def test_a_changed_field_needs_a_new_yes(era: Era) -> None:
    async with stack(era=era) as s:
        create = await planned(s)
        await s.call("propose_fields", workflow_id=create["workflow_id"], disk_gb=100)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "not_confirmed"
        assert "disk_gb" in refusal["missing"]
        assert "image" not in refusal["missing"]
        assert writes(s) == {}


@pytest.mark.requirement("GATE-2")
async def test_a_price_that_hung_on_a_changed_field_is_proposed_again() -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        changed = await s.call("propose_fields", workflow_id=workflow_id, gpu_name="RTX 3090")
        assert {"gpu_name", "max_price_per_hour"} <= set(changed["missing"])


@pytest.mark.requirement("GATE-2")
async def test_an_old_plan_is_refused_after_a_new_yes_to_other_fields() -> None:
    async with stack() as s:
        create = await planned(s)
        changed = await s.call("propose_fields", workflow_id=create["workflow_id"], disk_gb=100)
        await s.call("confirm_fields", workflow_id=create["workflow_id"], digest=changed["digest"])
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] in {"digest_mismatch", "plan_unknown"}
        assert refusal["next_call"]["tool"] == "find_offers"
        assert writes(s) == {}


@pytest.mark.requirement("GATE-2")
async def test_a_market_that_moved_needs_no_new_yes_while_the_plan_stays_under_the_ceiling() -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        for machine in s.world.market.machines:
            machine.price *= Decimal("1.1")
        again = await s.call("propose_fields", workflow_id=workflow_id)
        assert again["missing"] == []
        plan = await s.call("find_offers", workflow_id=workflow_id)
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert states(made) == ["rented"]


@pytest.mark.requirement("GATE-3")
@pytest.mark.parametrize("era", ERAS)
async def test_another_workflows_plan_is_refused(era: Era) -> None:
    async with stack(era=era) as s:
        first = await planned(s)
        second = await planned(s)
        refusal = await s.refusal("create_instances", workflow_id=second["workflow_id"], plan_id=first["plan_id"])
        assert refusal["code"] == "plan_unknown"
        assert refusal["next_call"] == {"tool": "find_offers", "arguments": {"workflow_id": second["workflow_id"]}}
        assert writes(s) == {}


async def test_a_plan_nobody_made_and_a_workflow_nobody_started_are_refused() -> None:
    async with stack() as s:
        create = await planned(s)
        no_plan = await s.refusal("create_instances", workflow_id=create["workflow_id"], plan_id="p_none")
        no_workflow = await s.refusal("create_instances", workflow_id="wf_none", plan_id=create["plan_id"])
        assert (no_plan["code"], no_workflow["code"]) == ("plan_unknown", "workflow_unknown")


@pytest.mark.requirement("GATE-4")
@pytest.mark.parametrize("era", ERAS)
async def test_a_yes_is_worth_nothing_after_half_an_hour(era: Era) -> None:
    async with stack(era=era) as s:
        create = await planned(s)
        s.clock.advance(30 * 60)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "confirmation_expired"
        assert refusal["next_call"]["tool"] == "propose_fields"
        assert writes(s) == {}


@pytest.mark.requirement("GATE-4")
async def test_a_yes_of_29_minutes_rents_a_new_plan() -> None:
    async with stack() as s:
        create = await planned(s)
        s.clock.advance(29 * 60)
        stale = await s.refusal("create_instances", **create)
        assert stale["code"] in {"plan_expired", "plan_unknown"}
        plan = await follow(s, stale)
        made = await s.call("create_instances", workflow_id=create["workflow_id"], plan_id=plan["plan_id"])
        assert states(made) == ["rented"]


@pytest.mark.requirement("ONCE-4")
@pytest.mark.parametrize("era", ERAS)
async def test_another_plan_on_a_spent_yes_lists_what_exists_and_points_to_it(era: Era) -> None:
    async with stack(era=era) as s:
        workflow_id, machines = await s.rented()
        plan = await s.call("find_offers", workflow_id=workflow_id)
        refusal = await s.refusal("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert refusal["code"] == "confirmation_spent"
        assert str(machines[0]) in refusal["message"]
        assert refusal["next_call"] == {"tool": "wait_until_ready", "arguments": {"workflow_id": workflow_id}}
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-4")
async def test_a_spent_yes_whose_machines_are_gone_points_to_a_new_proposal() -> None:
    async with stack() as s:
        workflow_id, machines = await s.ready()
        await s.call("destroy_instances", instance_ids=machines)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        refusal = await s.refusal("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        assert refusal["code"] == "confirmation_spent"
        assert refusal["next_call"]["tool"] == "propose_fields"
        assert s.creates_sent() == 1


@pytest.mark.requirement("ONCE-4")
async def test_the_same_yes_told_twice_gives_its_places_once() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        known = {"workflow_id": proposal["workflow_id"]}
        for _ in range(2):
            await s.call("confirm_fields", **known, digest=proposal["digest"])
            plan = await s.call("find_offers", **known)
            await s.client.call_tool("create_instances", {**known, "plan_id": plan["plan_id"]})
        assert s.creates_sent() == 1


@pytest.mark.requirement("GATE-12")
@pytest.mark.parametrize("era", ERAS)
async def test_another_digest_than_the_user_saw_is_refused_with_what_changed(era: Era) -> None:
    async with stack(era=era) as s:
        seen = await s.call("propose_fields")
        known = {"workflow_id": seen["workflow_id"]}
        now = await s.call("propose_fields", **known, disk_gb=128)
        refusal = await s.refusal("confirm_fields", **known, digest=seen["digest"])
        assert refusal["code"] == "digest_mismatch"
        assert "disk_gb: 64 is now 128" in refusal["message"]
        assert "image" not in refusal["message"]
        assert refusal["ask_user"]
        assert refusal["next_call"]["arguments"]["digest"] == now["digest"]


@pytest.mark.requirement("GATE-12")
async def test_a_relayed_yes_without_a_digest_is_no_yes() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        refusal = await s.refusal("confirm_fields", workflow_id=proposal["workflow_id"])
        assert refusal["code"] == "digest_mismatch"
        assert refusal["next_call"]["arguments"]["digest"] == proposal["digest"]


@pytest.mark.requirement("GATE-11")
async def test_a_yes_before_a_price_was_shown_is_no_yes() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", max_price_per_hour=0.01)
        assert proposal["outlook"] is None
        known = {"workflow_id": proposal["workflow_id"], "digest": proposal["digest"]}
        whole = await s.refusal("confirm_fields", **known)
        each = await s.refusal("confirm_fields", **known, fields=[row["name"] for row in proposal["fields"]])
        assert [whole["code"], each["code"]] == ["price_not_shown", "price_not_shown"]


@pytest.mark.requirement("GATE-5")
@pytest.mark.parametrize("era", ERAS)
async def test_a_machine_that_appears_after_the_yes_is_refused_until_acknowledged(era: Era) -> None:
    async with stack(era=era) as s:
        create = await planned(s)
        other = stranger(s)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "unacknowledged_instances"
        assert str(other) in refusal["ask_user"]
        assert s.creates_sent() == 0
        await follow(s, refusal)
        assert states(await s.call("create_instances", **create)) == ["rented"]


@pytest.mark.requirement("GATE-5")
async def test_acknowledging_amends_the_yes_and_gives_no_new_one() -> None:
    async with stack() as s:
        create = await planned(s)
        stranger(s)
        first = await _yeses(s, create["workflow_id"])
        await follow(s, await s.refusal("create_instances", **create))
        assert await _yeses(s, create["workflow_id"]) == first


async def _yeses(s: Stack, workflow_id: str) -> list[tuple[str, float]]:
    workflow = await s.deps.store.workflow(workflow_id)
    assert workflow is not None
    return [(given.confirmation_id, given.expires_at) for given in workflow.confirmations]


@pytest.mark.requirement("GATE-5")
async def test_the_rent_yes_acknowledges_exactly_the_machines_it_listed() -> None:
    async with stack() as s:
        known_one = stranger(s)
        proposal = await s.call("propose_fields")
        assert [item["instance_id"] for item in proposal["active"]] == [known_one]
        assert str(known_one) in proposal["questions"][-1]
        assert "this makes 2" in proposal["questions"][-1]
        known = {"workflow_id": proposal["workflow_id"]}
        await s.call("confirm_fields", **known, digest=proposal["digest"])
        later_one = stranger(s)
        plan = await s.call("find_offers", **known)
        refusal = await s.refusal("create_instances", **known, plan_id=plan["plan_id"])
        assert refusal["next_call"]["arguments"]["acknowledge_instances"] == [later_one]


@pytest.mark.requirement("GATE-5")
async def test_an_incomplete_list_rents_nothing() -> None:
    async with stack() as s:
        stranger(s)
        create = await planned(s)
        for name in ("truncated_list", "null_list"):
            arm(s, name, times=2)
            refusal = await s.refusal("create_instances", **create)
            assert refusal["code"] == "incomplete_list"
        assert s.creates_sent() == 0


@pytest.mark.requirement("GATE-6")
async def test_the_operators_price_cap_bounds_every_offer() -> None:
    async with stack(caps=Caps(max_price_per_hour=Rate.of("0.01"))) as s:
        proposal = await s.call("propose_fields")
        assert proposal["outlook"] is None
        assert "$0.01/h" in proposal["questions"][0]
        over = await s.refusal("propose_fields", max_price_per_hour=0.5)
        assert "operator" in over["message"]


@pytest.mark.requirement("GATE-6")
async def test_the_operators_total_cap_counts_what_runs_already() -> None:
    async with stack(caps=Caps(max_total_per_hour=Rate.of("0.60"))) as s:
        stranger(s)
        create = await planned(s)
        refusal = await _capped(s, create)
        assert "in all" in refusal["message"]


@pytest.mark.requirement("GATE-6")
async def test_the_operators_total_cap_counts_what_was_rented_since_the_list_was_read() -> None:
    async with stack() as s:
        await s.call("create_instances", **await planned(s))
        [first] = await s.deps.store.orders()
    room = Rate(first.price_per_hour * Decimal("1.9"))
    async with stack(caps=Caps(max_total_per_hour=room)) as s:
        made = await s.call("create_instances", **await planned(s, count=2, fleet="best_effort"))
        assert states(made) == ["rented", "dropped"]
        assert s.creates_sent() == 1


async def _capped(s: Stack, create: dict[str, str]) -> dict[str, str]:
    refusal = await s.refusal("create_instances", **create)
    assert refusal["code"] == "cap_exceeded"
    assert s.creates_sent() == 0
    return refusal


@pytest.mark.requirement("GATE-6")
async def test_the_operators_cap_on_machines_counts_all_of_the_account() -> None:
    async with stack(caps=Caps(max_instances=1)) as s:
        stranger(s)
        await _capped(s, await planned(s))


@pytest.mark.requirement("GATE-6")
async def test_a_read_only_server_reads_and_sends_no_write() -> None:
    async with stack(caps=Caps(read_only=True)) as s:
        other = stranger(s)
        workflow_id = await s.agreed()
        plan = await s.call("find_offers", workflow_id=workflow_id)
        ids = {"instance_ids": [other]}
        calls = [
            ("create_instances", {"workflow_id": workflow_id, "plan_id": plan["plan_id"]}),
            ("start_instances", ids),
            ("stop_instances", ids),
            ("restart_instances", {**ids, "mode": "reboot"}),
            ("destroy_instances", ids),
            ("attach_ssh_key", ids),
            ("remove_ssh_key", ids),
            ("wait_until_ready", ids),
        ]
        codes = [(await s.refusal(tool, **arguments))["code"] for tool, arguments in calls]
        assert codes == ["read_only"] * len(calls)
        assert writes(s) == {}


@pytest.mark.requirement("GATE-7")
async def test_another_accounts_key_rents_nothing_on_the_first_ones_yes() -> None:
    async with stack() as s:
        create = await planned(s)
        other = s.world.add_account("other")
        s.environment["VAST_API_KEY"] = next(iter(other.keys))
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "account_changed"
        await s.call("propose_fields", workflow_id=create["workflow_id"])
        refusal = await s.refusal("create_instances", **create)
        assert (refusal["code"], refusal["missing"]) == ("not_confirmed", ["label"])
        assert s.creates_sent() == 0


@pytest.mark.requirement("GATE-7")
async def test_another_accounts_key_ends_none_of_our_machines() -> None:
    async with stack() as s:
        _, machines = await s.ready()
        other = s.world.add_account("other")
        s.environment["VAST_API_KEY"] = next(iter(other.keys))
        refusal = await s.refusal("destroy_instances", instance_ids=machines)
        assert refusal["code"] == "account_changed"
        assert s.running() == machines


@pytest.mark.requirement("GATE-10")
async def test_with_approval_human_an_agents_word_is_no_yes() -> None:
    async with stack(approval="human") as s:
        other = stranger(s)
        proposal = await s.call("propose_fields")
        known = {"workflow_id": proposal["workflow_id"], "digest": proposal["digest"]}
        assert (await s.refusal("confirm_fields", **known))["code"] == "person_needed"
        asked = await s.refusal("destroy_instances", instance_ids=[other])
        assert asked["next_call"]["tool"] == "destroy_instances", "once the person has agreed elsewhere"
        [workflow] = [w for w in await s.deps.store.workflows("local") if w.workflow_id != proposal["workflow_id"]]
        told = {"workflow_id": workflow.workflow_id, "purpose": "end", "digest": workflow.questions[0].digest}
        assert (await s.refusal("confirm_fields", **told))["code"] == "person_needed"
        assert writes(s) == {}


@pytest.mark.requirement("GATE-9")
async def test_prices_that_rose_above_the_ceiling_since_the_plan_rent_nothing() -> None:
    async with stack() as s:
        create = await planned(s)
        for machine in s.world.market.machines:
            machine.price *= 2
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "no_offers"
        assert s.creates_sent() == 0
