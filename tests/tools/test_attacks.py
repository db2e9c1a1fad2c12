"""Ways to get more, or other, than the user said yes to; each one is refused, dropped or released."""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest

from tests.stack import PUBLIC_KEY, Stack, stack
from tests.tools.acts import arm, follow, planned, states, stranger, value_of, writes
from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.domain.money import Rate
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.store.sqlite import SqliteStore

LATER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIAAAAAAArm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl later"


def _keys(entries: Any) -> set[str]:
    return {key.public_key for key in entries.values()}


@pytest.mark.requirement("ONCE-4")
@pytest.mark.parametrize("how", ["all", "no fields", "acknowledging"])
async def test_a_yes_told_again_after_half_an_hour_rents_no_second_machine(how: str) -> None:
    async with stack() as s:
        other = stranger(s)
        proposal = await s.call("propose_fields")
        known = {"workflow_id": proposal["workflow_id"]}
        given = {**known, "digest": proposal["digest"]}
        await s.call("confirm_fields", **given)
        plan = await s.call("find_offers", **known)
        await s.call("create_instances", **known, plan_id=plan["plan_id"])
        s.clock.advance(1801)
        ways: dict[str, dict[str, Any]] = {
            "all": {},
            "no fields": {"fields": []},
            "acknowledging": {"acknowledge_instances": [other]},
        }
        refusal = await s.refusal("confirm_fields", **given, **ways[how])
        assert refusal["code"] == "confirmation_expired"
        plan = await s.call("find_offers", **known)
        await s.refusal("create_instances", **known, plan_id=plan["plan_id"])
        assert s.creates_sent() == 1


async def _stopped(s: Stack) -> int:
    _, [machine] = await s.ready()
    await s.call("stop_instances", instance_ids=[machine])
    return machine


async def _ready(s: Stack) -> int:
    _, [machine] = await s.ready()
    return machine


async def _others(s: Stack) -> int:
    return stranger(s)


Prepare = Callable[[Stack], Awaitable[int]]
OWN_YESES: dict[str, tuple[Prepare, str, dict[str, Any]]] = {
    "start": (_stopped, "start_instances", {}),
    "recycle": (_ready, "restart_instances", {"mode": "recycle"}),
    "attach": (_ready, "attach_ssh_key", {"public_key": LATER_KEY}),
    "end": (_others, "stop_instances", {}),
}
each_own_yes = pytest.mark.parametrize(("prepare", "tool", "extra"), OWN_YESES.values(), ids=OWN_YESES)


@pytest.mark.requirement("PURPOSE-1")
@each_own_yes
async def test_a_spent_yes_of_its_own_told_again_is_refused(prepare: Prepare, tool: str, extra: dict[str, Any]) -> None:
    async with stack() as s:
        call = {"instance_ids": [await prepare(s)], **extra}
        question = await s.refusal(tool, **call)
        await follow(s, question)
        await s.call(tool, **call)
        if tool == "start_instances":
            s.clock.advance(60)
            await s.call("stop_instances", **call)
        for wait_s in (0, 86400):
            s.clock.advance(wait_s)
            told_again = await s.refusal("confirm_fields", **question["next_call"]["arguments"])
            assert told_again["code"] == "digest_mismatch"
        sent = dict(writes(s))
        await s.refusal(tool, **call)
        assert writes(s) == sent


@pytest.mark.requirement("PURPOSE-2")
@each_own_yes
async def test_a_question_is_not_answered_half_an_hour_later(
    prepare: Prepare, tool: str, extra: dict[str, Any]
) -> None:
    async with stack() as s:
        question = await s.refusal(tool, instance_ids=[await prepare(s)], **extra)
        s.clock.advance(1801)
        late = await s.refusal("confirm_fields", **question["next_call"]["arguments"])
        assert late["code"] == "digest_mismatch"


@pytest.mark.requirement("ONCE-8")
async def test_what_an_expired_yes_left_planned_is_not_sent_under_a_newer_one() -> None:
    async with stack() as s:
        workflow_id = await s.agreed(count=2, fleet="best_effort")
        s.clock.advance(1700)
        old = await s.call("find_offers", workflow_id=workflow_id)
        arm(s, "delay", seconds=45.0)
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=old["plan_id"])
        assert states(made) == ["rented", "planned"]
        s.clock.advance(200)
        proposal = await s.call("propose_fields", workflow_id=workflow_id)
        await s.call("confirm_fields", workflow_id=workflow_id, digest=proposal["digest"])
        new = await s.call("find_offers", workflow_id=workflow_id)
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=old["plan_id"])
        assert states(made) == ["rented", "dropped"]
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=new["plan_id"])
        assert states(made) == ["rented", "rented"]
        assert len(s.running()) == 3


@pytest.mark.requirement("FLEET-2")
async def test_all_or_nothing_does_not_rent_one_on_the_place_that_is_left() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        arm(s, "refuse", code="no_such_ask", nth=2, times=2)
        assert "rented" not in states(await s.call("create_instances", **create))
        plan = await s.call("find_offers", workflow_id=create["workflow_id"])
        refusal = await s.refusal("create_instances", **{**create, "plan_id": plan["plan_id"]})
        assert refusal["code"] == "confirmation_spent"
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("FLEET-2")
@pytest.mark.parametrize("tool", ["propose_fields", "find_offers"])
async def test_all_or_nothing_holds_after_many_proposals_and_plans(tool: str) -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        arm(s, "drop_request", nth=2)
        assert states(await s.call("create_instances", **create)) == ["rented", "unknown"]
        for number in range(9):
            changes = {"disk_gb": 70 + number} if tool == "propose_fields" else {}
            await s.call(tool, workflow_id=create["workflow_id"], **changes)
            s.clock.advance(10)
        s.clock.advance(200)
        await s.call("wait_until_ready", workflow_id=create["workflow_id"], timeout_s=0)
        s.clock.advance(10)
        s.world.settle()
        assert s.running() == []


@pytest.mark.requirement("PURPOSE-1")
async def test_a_key_proposed_after_the_yes_is_put_on_no_machine() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        await s.call("propose_fields", workflow_id=workflow_id, ssh_key=LATER_KEY)
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
        s.world.instances[machine].ssh_keys.clear()
        await s.call("attach_ssh_key", instance_ids=[machine], workflow_id=workflow_id)
        assert _keys(s.world.instances[machine].ssh_keys) == {PUBLIC_KEY}


@pytest.mark.requirement("PURPOSE-1")
async def test_a_key_proposed_after_the_yes_is_not_put_on_the_account() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="best_effort")
        arm(s, "delay", seconds=45.0)
        assert states(await s.call("create_instances", **create)) == ["rented", "planned"]
        await s.call("propose_fields", workflow_id=create["workflow_id"], ssh_key=LATER_KEY)
        assert states(await s.call("create_instances", **create)) == ["rented", "dropped"]
        assert _keys(s.world.account.ssh_keys) == {PUBLIC_KEY}


class Interrupted(SqliteStore):
    """A store that lets something happen right after one of the reads of a workflow."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(":memory:", clock=clock)
        self.reads_left = 0
        self.act: Callable[[], Awaitable[object]] | None = None

    async def workflow(self, workflow_id: str) -> Workflow | None:
        """The workflow as it was before the act."""
        found = await super().workflow(workflow_id)
        self.reads_left -= 1
        if self.reads_left == 0 and self.act is not None:
            act, self.act = self.act, None
            await act()
        return found


@pytest.mark.requirement("FIELD-6")
async def test_whenever_the_draft_changes_what_is_rented_is_what_was_agreed() -> None:
    for read in count(1):
        clock = VirtualClock()
        store = Interrupted(clock)
        async with stack(store=store, clock=clock) as s:
            create = await planned(s)
            other = {"workflow_id": create["workflow_id"], "image": "other/image:latest", "disk_gb": 200}
            store.act, store.reads_left = partial(s.call, "propose_fields", **other), read
            await s.client.call_tool("create_instances", create)
            rented = [(machine.image, machine.disk_gb) for machine in s.world.instances.values()]
            assert rented in ([], [("pytorch/pytorch:latest", 64)])
        if store.reads_left > 0:  # there are no more reads to come in between
            assert rented
            break


@pytest.mark.requirement("GATE-12")
async def test_a_yes_to_a_proposal_without_the_running_machine_does_not_cover_it() -> None:
    async with stack() as s:
        seen = await s.call("propose_fields")
        other = stranger(s)
        known = {"workflow_id": seen["workflow_id"]}
        await s.call("propose_fields", **known)
        refusal = await s.refusal("confirm_fields", **known, digest=seen["digest"])
        assert refusal["code"] == "digest_mismatch"
        assert str(other) in refusal["ask_user"]


@pytest.mark.requirement("GATE-12")
async def test_a_yes_to_one_workflow_is_none_to_another_with_the_same_fields() -> None:
    async with stack() as s:
        same = {"max_price_per_hour": 0.5}
        one, other = await s.call("propose_fields", **same), await s.call("propose_fields", **same)
        assert value_of(one, "label") == value_of(other, "label")
        refusal = await s.refusal("confirm_fields", workflow_id=other["workflow_id"], digest=one["digest"])
        assert refusal["code"] == "digest_mismatch"


@pytest.mark.requirement("GATE-5")
async def test_machines_that_nobody_was_asked_about_are_not_acknowledged_beforehand() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        known = {"workflow_id": proposal["workflow_id"]}
        guessed = {"acknowledge_instances": [stranger(s)]}
        refusal = await s.refusal("confirm_fields", **known, digest=proposal["digest"], **guessed)
        assert "asked about" in refusal["message"]
        await s.call("confirm_fields", **known, digest=proposal["digest"])
        await s.refusal("confirm_fields", **known, digest=proposal["digest"], **guessed)
        plan = await s.call("find_offers", **known)
        refused = await s.refusal("create_instances", **known, plan_id=plan["plan_id"])
        assert refused["code"] == "unacknowledged_instances"


@pytest.mark.requirement("GATE-6")
async def test_two_starts_at_once_do_not_pass_the_operators_total_together() -> None:
    async with stack(caps=Caps(max_total_per_hour=Rate.of("0.45"))) as s:
        machines: list[int] = []
        for gpu_name in ("RTX 4090", "RTX 3090"):
            _, [machine] = await s.ready(gpu_name=gpu_name)
            await s.call("stop_instances", instance_ids=[machine])
            machines.append(machine)
        s.clock.advance(60)
        for machine in machines:
            await follow(s, await s.refusal("start_instances", instance_ids=[machine]))
        async with anyio.create_task_group() as group:
            for machine in machines:
                group.start_soon(s.client.call_tool, "start_instances", {"instance_ids": [machine]})
        assert s.world.requests["start"] == 1


@pytest.mark.requirement("INPUT-9")
async def test_an_interruptible_machine_costs_what_was_shown_with_its_disk() -> None:
    async with stack() as s:
        workflow_id = await s.agreed(interruptible=True, bid_per_hour=0.25)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        assert plan["total_per_hour"] > 0.25
        await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
        [machine] = waited["instances"]
        assert machine["price_per_hour"] == pytest.approx(plan["total_per_hour"], abs=1e-6)
        assert (machine["readiness"], machine["warnings"]) == ("gpu_ok", [])


@pytest.mark.requirement("INPUT-9")
async def test_a_bid_that_with_the_disk_is_above_the_ceiling_rents_nothing() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", interruptible=True, bid_per_hour=0.25, max_price_per_hour=0.25)
        assert proposal["outlook"] is None
        await s.refusal("find_offers", workflow_id=proposal["workflow_id"])


@pytest.mark.requirement("ONCE-2")
async def test_a_gone_second_cheapest_is_not_replaced_by_the_one_that_was_skipped() -> None:
    async with stack() as s:
        create = await planned(s, policy="second_cheapest")
        listed = await s.call("find_offers", workflow_id=create["workflow_id"])
        skipped = listed["offers"][1]["offer_id"]
        assert listed["chosen"] == [listed["offers"][0]["offer_id"]]
        assert listed["offers"][1]["price_per_hour"] <= listed["offers"][0]["price_per_hour"]
        arm(s, "sold_out")
        await s.call("create_instances", **create)
        orders = await s.deps.store.orders()
        assert [order.state for order in orders] == [OrderState.REFUSED, OrderState.RENTED]
        assert skipped not in [order.ask_id for order in orders]
