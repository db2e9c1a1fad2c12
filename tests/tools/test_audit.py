"""The audit trail of real dialogs: who said yes to what, what was refused and ended, and no secret in it."""

from collections.abc import Sequence

import pytest

from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import arm, follow, planned, stranger
from tests.tools.person import Person
from vastai_workflow.cli.approve import approve
from vastai_workflow.domain.audit import THIS_SERVER, AuditEvent, Kind
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.store.sqlite import SqliteStore

TOKEN = "hf_a_secret_value_of_the_user"


async def of_kind(s: Stack, *kinds: Kind) -> list[AuditEvent]:
    return [event for event in await s.deps.store.trail() if event.kind in kinds]


@pytest.mark.requirement("AUDIT-1")
@pytest.mark.parametrize("era", ERAS)
async def test_from_the_first_refusal_to_the_end_everything_is_on_the_trail_with_who_and_digest(era: Era) -> None:
    async with stack(era=era) as s:
        await s.refusal("create_instances", workflow_id="wf_none", plan_id="p_none")
        proposal = await s.call("propose_fields")
        workflow_id, digest = proposal["workflow_id"], proposal["digest"]
        await s.refusal("confirm_fields", workflow_id=workflow_id, digest="0" * 16)
        await s.call("confirm_fields", workflow_id=workflow_id, digest=digest)
        plan = await s.call("find_offers", workflow_id=workflow_id)
        made = await s.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        machine = made["orders"][0]["instance_id"]
        await s.call("destroy_instances", instance_ids=[machine])
        trail = await s.deps.store.trail()
        first, mismatch, confirmed, *orders = [event for event in trail if event.kind is not Kind.ENDED]
        [ended] = [event for event in trail if event.kind is Kind.ENDED]
        assert (first.kind, first.code, first.workflow_id) == (Kind.REFUSED, "workflow_unknown", "wf_none")
        assert (first.purpose, first.by, first.owner) == ("create_instances", "called by mcp", "local")
        assert (mismatch.code, mismatch.digest, mismatch.workflow_id) == ("digest_mismatch", "0" * 16, workflow_id)
        assert (confirmed.digest, confirmed.by, confirmed.purpose) == (digest, "relayed by mcp", "rent")
        assert {event.digest for event in (*orders, ended)} == {digest}
        assert [event.code or event.kind for event in orders if "noted" not in event.code] == [
            *("planned", "planned -> sent", "sent -> rented", "destroy", "rented -> released"),
        ]
        assert (ended.instance_ids, ended.by, ended.what, ended.workflow_id) == (
            *((machine,), "called by mcp", "gone"),
            workflow_id,
        )
        assert trail[1:] == await s.deps.store.trail(workflow_id)


@pytest.mark.requirement("AUDIT-1")
@pytest.mark.parametrize("era", ERAS)
async def test_a_persons_own_yes_and_no_are_told_from_a_relayed_one(era: Era) -> None:
    person = Person("decline")
    async with stack(era=era, person=person) as s:
        proposal = await s.call("propose_fields")
        confirm = proposal["next_call"]
        assert (await s.client.call_tool(confirm["tool"], confirm["arguments"])).is_error
        await follow(s, proposal)
        declined, refused, confirmed = await s.deps.store.trail(proposal["workflow_id"])
        assert (declined.kind, declined.by, declined.digest) == (Kind.DECLINED, "you, asked by mcp", proposal["digest"])
        assert declined.purpose == "rent"
        assert (refused.kind, refused.code) == (Kind.REFUSED, "declined")
        assert (confirmed.kind, confirmed.by) == (Kind.CONFIRMED, "you, asked by mcp")
        assert confirmed.digest == proposal["digest"]


@pytest.mark.requirement("AUDIT-1")
@pytest.mark.parametrize("era", ERAS)
async def test_what_an_agent_relayed_is_not_on_the_trail_as_a_persons_word(era: Era) -> None:
    async with stack(era=era, person=Person()) as s:
        arguments = await planned(s)
        machine = stranger(s)
        assert isinstance(s.deps.store, SqliteStore)
        async with stack(era=era, world=s.world, clock=s.clock, store=s.deps.store) as mute:
            await follow(mute, await mute.refusal("create_instances", **arguments))
        [kept] = await of_kind(s, Kind.ACKNOWLEDGED)
        assert (kept.by, kept.instance_ids) == ("relayed by mcp", (machine,))
        later = stranger(s)
        await follow(s, await s.refusal("create_instances", **arguments))
        [_, kept] = await of_kind(s, Kind.ACKNOWLEDGED)
        assert (kept.by, kept.instance_ids) == ("you, asked by mcp", (later,))


@pytest.mark.requirement("AUDIT-1")
async def test_each_no_and_each_yes_that_it_takes_back_is_on_the_trail_with_who_said_it() -> None:
    async with stack(approval="human") as s:
        proposal = await s.call("propose_fields")
        workflow_id = proposal["workflow_id"]
        for said in ("no", "yes", "no", "no"):
            await s.call("propose_fields", workflow_id=workflow_id)
            kept = await s.deps.store.workflow(workflow_id)
            assert kept is not None
            question = kept.questions[-1]
            await approve(
                s.deps, question.code, lambda _, said=said, value=question.answer: {"yes": value}.get(said, said)
            )
        trail = await s.deps.store.trail(workflow_id)
        assert [event.kind for event in trail] == ["declined", "confirmed", "withdrawn", "declined", "declined"]
        assert {(event.by, event.digest) for event in trail} == {("you, on the terminal", proposal["digest"])}


@pytest.mark.requirement("AUDIT-1")
@pytest.mark.parametrize("era", ERAS)
async def test_a_form_that_nobody_answered_is_no_persons_no_on_the_trail(era: Era) -> None:
    async with stack(era=era, person=Person("cancel")) as s:
        proposal = await s.call("propose_fields")
        await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        [declined] = await of_kind(s, Kind.DECLINED)
        assert (declined.by, declined.what) == ("nobody, asked by mcp", "no answer")


@pytest.mark.requirement("AUDIT-1")
async def test_a_yes_on_the_terminal_and_the_order_that_it_leads_to_are_told_as_that() -> None:
    async with stack(approval="human") as s:
        proposal = await s.call("propose_fields")
        kept = await s.deps.store.workflow(proposal["workflow_id"])
        assert kept is not None
        [question] = kept.questions
        assert await approve(s.deps, question.code, lambda _: question.answer) == 0
        plan = await follow(s, proposal)
        await follow(s, plan)
        trail = await s.deps.store.trail(proposal["workflow_id"])
        assert {event.by for event in trail} == {"you, on the terminal"}
        assert [event.code or event.kind for event in trail[:3]] == ["confirmed", "planned", "planned -> sent"]


@pytest.mark.requirement("AUDIT-1")
async def test_a_refusal_that_sends_the_user_to_a_terminal_is_on_record_with_its_digest() -> None:
    async with stack(approval="human") as s:
        machine = stranger(s)
        await s.refusal("destroy_instances", instance_ids=[machine])
        [home] = await s.deps.store.workflows("local")
        [question] = home.questions
        [refused] = await s.deps.store.trail()
        assert (refused.digest, refused.workflow_id) == (question.digest, home.workflow_id)
        await approve(s.deps, question.code, lambda _: "no")
        declined = (await s.deps.store.trail())[-1]
        assert (declined.kind, declined.purpose, declined.instance_ids) == (Kind.DECLINED, "end", (machine,))


@pytest.mark.requirement("AUDIT-1")
async def test_a_machine_that_is_not_ours_is_on_the_trail_from_the_question_to_its_end() -> None:
    async with stack() as s:
        machine = stranger(s)
        await follow(s, await s.refusal("destroy_instances", instance_ids=[machine]))
        await s.call("destroy_instances", instance_ids=[machine])
        trail = await s.deps.store.trail()
        assert [event.code or event.kind for event in trail] == [
            *("purpose_not_confirmed", "confirmed", "used", "destroy", "ended"),
        ]
        assert {event.instance_ids for event in trail} == {(machine,)}
        assert len({event.digest for event in trail[:3]}) == 1
        assert len({event.workflow_id for event in trail[:3]}) == 1


@pytest.mark.requirement("AUDIT-1")
async def test_what_this_server_takes_back_by_itself_is_on_the_trail_as_its_own_act() -> None:
    async with stack() as s:
        arm(s, "double_effect", operation="create")
        arguments = await planned(s)
        await s.call("create_instances", **arguments)
        s.clock.advance(10)
        await s.call("wait_until_ready", workflow_id=arguments["workflow_id"])
        asked, ended = await of_kind(s, Kind.DESTROY, Kind.ENDED)
        assert (asked.by, asked.workflow_id, ended.by) == (THIS_SERVER, arguments["workflow_id"], THIS_SERVER)
        assert "more than was agreed" in asked.what
        assert ended.what == "gone"
        assert asked.instance_ids == ended.instance_ids
        assert asked.instance_ids[0] not in s.running()


@pytest.mark.requirement("AUDIT-1")
async def test_an_end_that_was_not_seen_is_not_called_gone() -> None:
    async with stack() as s:
        _, machines = await s.rented()
        arm(s, "destroy_ignored", operation="destroy", times=30)
        await s.call("destroy_instances", instance_ids=machines)
        assert [event.what for event in await of_kind(s, Kind.ENDED)] == ["still there"]


@pytest.mark.requirement("AUDIT-1")
async def test_a_machine_that_is_kept_by_a_later_word_is_on_the_trail() -> None:
    async with stack() as s:
        arguments = await planned(s)
        machine = stranger(s)
        await s.refusal("create_instances", **arguments)
        await s.call(
            "confirm_fields",
            workflow_id=arguments["workflow_id"],
            digest=(await s.call("propose_fields", workflow_id=arguments["workflow_id"]))["digest"],
        )
        events = await s.deps.store.trail(arguments["workflow_id"])
        assert [event.code or event.kind for event in events] == [
            *("confirmed", "unacknowledged_instances", "confirmed"),
        ]
        assert f"besides {machine}" in events[-1].what


@pytest.mark.requirement("AUDIT-1")
async def test_another_clients_guess_at_a_workflow_is_on_its_trail_under_the_guesser() -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        kept = await s.deps.store.workflow(workflow_id)
        assert kept is not None
        await s.deps.store.change_workflow(workflow_id, lambda w: w.with_(owner="ada"))
        await s.refusal("find_offers", workflow_id=workflow_id)
        last = (await s.deps.store.trail(workflow_id))[-1]
        assert (last.owner, last.code) == ("local", "workflow_unknown")


@pytest.mark.requirement("AUDIT-3")
@pytest.mark.parametrize("era", ERAS)
async def test_no_key_and_no_secret_value_is_on_the_trail_wherever_an_agent_puts_it(era: Era) -> None:
    async with stack(era=era) as s:
        key = s.world.api_key
        wrong: Sequence[tuple[str, dict[str, object]]] = (
            ("propose_fields", {"api_key_source": key}),
            ("propose_fields", {"api_key_source": f"file:{key}"}),
            ("propose_fields", {"gpu_name": {"key": key}}),
            ("propose_fields", {"workflow_id": key}),
            ("propose_fields", {key: key}),
            ("propose_fields", {"env": f"TOKEN={TOKEN}"}),
            ("propose_fields", {"env": {"VASTAI_WORKFLOW_X": TOKEN}}),
            ("propose_fields", {"count": key}),
            ("confirm_fields", {"workflow_id": "wf_x", "digest": key}),
            ("destroy_instances", {"instance_ids": [key]}),
            ("create_instances", {"workflow_id": key[:40], "plan_id": key}),
            (key, {}),
        )
        for tool, arguments in wrong:
            assert (await s.client.call_tool(tool, arguments)).is_error
        arguments = await planned(s, env={"HF_TOKEN": TOKEN}, onstart=f"export T={TOKEN}")
        await s.refusal("confirm_fields", workflow_id=arguments["workflow_id"], digest=key)
        await s.refusal("create_instances", workflow_id=arguments["workflow_id"], plan_id=key)
        arm(s, "html_body")
        await s.call("create_instances", **arguments)
        trail = await s.deps.store.trail()
        assert len(trail) >= len(wrong) + 4
        text = "".join(event.model_dump_json() for event in trail)
        assert key[:32] not in text
        assert TOKEN not in text


class Unwritable(SqliteStore):
    """A ledger whose audit trail can't be written, each time for another reason."""

    def __init__(self, clock: VirtualClock, error: Exception) -> None:
        super().__init__(":memory:", clock=clock)
        self.error = error
        self.tried = 0

    async def record(self, events: Sequence[AuditEvent]) -> None:  # noqa: ARG002 # the port's
        self.tried += 1
        raise self.error


@pytest.mark.requirement("AUDIT-4")
@pytest.mark.parametrize("error", [LocalError("store_unavailable", "the disk is full"), OSError("no space")], ids=str)
async def test_a_trail_that_can_not_be_written_leaves_a_refusal_as_it_is(error: Exception) -> None:
    clock = VirtualClock()
    store = Unwritable(clock, error)
    async with stack(clock=clock, store=store) as s:
        refusal = await s.refusal("create_instances", workflow_id="wf_none", plan_id="p_none")
        assert refusal["code"] == "workflow_unknown"
        assert store.tried == 1


@pytest.mark.requirement("AUDIT-4")
async def test_a_trail_that_can_not_be_written_stops_no_release_and_no_destroy() -> None:
    clock = VirtualClock()
    store = Unwritable(clock, LocalError("store_unavailable", "the disk is full"))
    async with stack(clock=clock, store=store) as s:
        arm(s, "double_effect", operation="create")
        workflow_id, machines = await s.rented()
        s.clock.advance(10)
        await s.call("wait_until_ready", workflow_id=workflow_id)
        assert s.running() == machines
        ended = await s.call("destroy_instances", instance_ids=machines)
        assert [row["final_state"] for row in ended["instances"]] == ["gone"]
        assert s.running() == []
        assert store.tried == 4


@pytest.mark.requirement("AUDIT-1")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("said", "code"), [("0.01", "wrong_answer"), ("decline", "declined")])
async def test_what_was_no_yes_is_on_the_trail_with_its_digest_though_the_call_named_none(
    era: Era, said: str, code: str
) -> None:
    async with stack(era=era, person=Person(said)) as s:
        proposal = await s.call("propose_fields")
        await s.refusal("confirm_fields", workflow_id=proposal["workflow_id"])
        [refused] = await of_kind(s, Kind.REFUSED)
        assert (refused.code, refused.digest) == (code, proposal["digest"])


@pytest.mark.requirement("AUDIT-1")
async def test_a_no_to_stop_a_machine_is_told_from_a_no_to_destroy_it() -> None:
    async with stack(person=Person("decline", "decline")) as s:
        machine = stranger(s)
        for tool in ("stop_instances", "destroy_instances"):
            asked = (await s.refusal(tool, instance_ids=[machine]))["next_call"]["arguments"]
            await s.refusal("confirm_fields", **asked)
        assert [event.what for event in await of_kind(s, Kind.DECLINED)] == ["stop", "destroy"]


@pytest.mark.requirement("AUDIT-1")
async def test_a_yes_to_rent_is_on_the_trail_with_all_that_it_was_to() -> None:
    async with stack() as s:
        await s.agreed(
            interruptible=True,
            bid_per_hour=0.2,
            template_hash="abcdef123456",
            onstart="echo of the script",
            env={"HF_TOKEN": TOKEN, "MODE": "fast"},
            ports=["8080", "53:53/udp"],
        )
        [confirmed] = await of_kind(s, Kind.CONFIRMED)
        assert (
            "interruptible, a bid of $0.20/h, template abcdef123456, a start script, env HF_TOKEN MODE, "
            "ports 53:53/udp 8080:8080, at most "
        ) in confirmed.what
        assert "fast" not in confirmed.what
