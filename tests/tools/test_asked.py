"""The person is asked through their client: what they see, what counts as a yes, and what a no means."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult

from tests.stack import ERAS, Era, Stack, stack, text_of
from tests.tools.acts import follow, states, stranger, value_of, writes
from tests.tools.person import Person, named_in
from tests.tools.test_purposes import each_case
from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.store.sqlite import SqliteStore

both_eras = pytest.mark.parametrize("era", ERAS)


async def asked_for(s: Stack, **fields: Any) -> dict[str, Any]:
    """A proposal whose next call asks the person."""
    proposal = await s.call("propose_fields", **fields)
    assert proposal["next_call"]["tool"] == "confirm_fields"
    return proposal


def beside(s: Stack, era: Era, approval: Any = "auto") -> AbstractAsyncContextManager[Stack]:
    """Another server on the same ledger, for a client that can't ask."""
    assert isinstance(s.deps.store, SqliteStore)
    return stack(era=era, approval=approval, world=s.world, clock=s.clock, store=s.deps.store)


async def rents(s: Stack, proposal: dict[str, Any]) -> list[str]:
    """What a create comes to, with whatever yes there is."""
    plan = await s.call("find_offers", workflow_id=proposal["workflow_id"])
    made = await s.client.call_tool(
        "create_instances", {"workflow_id": proposal["workflow_id"], "plan_id": plan["plan_id"]}
    )
    return ["refused"] if made.structured_content is None else states(made.structured_content)


@both_eras
@pytest.mark.requirement("ASK-1")
async def test_one_question_to_the_person_leads_to_a_machine_and_the_agent_asks_nothing(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        proposal = await asked_for(s)
        assert proposal["questions"] == []
        assert person.asked == []
        agreed = await follow(s, proposal)
        assert (agreed["missing"], agreed["questions"]) == ([], [])
        assert agreed["next_call"]["tool"] == "find_offers"
        plan = await follow(s, agreed)
        assert states(await follow(s, plan)) == ["rented"]
        assert len(person.asked) == 1


@both_eras
@pytest.mark.requirement("ASK-2")
async def test_the_question_shows_all_that_is_agreed_and_no_secret(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        other = stranger(s)
        fields = {"count": 2, "fleet": "best_effort", "disk_gb": 80, "env": {"HF_TOKEN": "hf_sesame"}}
        proposal = await asked_for(s, **fields, image="ubuntu:24.04", min_cuda=12.0, label="job-7")
        await follow(s, proposal)
        [question] = person.asked
        outlook = proposal["outlook"]
        for said in (
            *("2 machines", "RTX 4090", "as many as there are", "CUDA 12 or more", "ubuntu:24.04", "80 GB disk"),
            f"{Rate.of(outlook['total_per_hour'])} in all ({Usd.of(outlook['per_day'])} a day)",
            f"never above ${value_of(proposal, 'max_price_per_hour'):.2f}/h each",
            *("Traffic is extra ($0.0", "Balance $24.99 lasts", "SHA256:", "'job-7'", "HF_TOKEN"),
            *(f"{other} 'mine' at $", "1 runs already, this makes 3", "(question "),
        ):
            assert said in question
        assert "hf_sesame" not in question
        assert s.world.api_key not in question


@both_eras
@pytest.mark.requirement("ASK-3")
async def test_the_form_has_one_typed_value_without_a_default(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        await follow(s, await asked_for(s))
        [form] = person.forms
        assert form["required"] == ["value"]
        assert list(form["properties"]) == ["value"]
        assert form["properties"]["value"]["type"] == "string"
        assert "default" not in form["properties"]["value"]


@both_eras
@pytest.mark.parametrize("around", ["{}", "${}", " {} ", "{}0"])
@pytest.mark.requirement("ASK-3")
async def test_the_ceiling_is_read_as_a_person_writes_it(era: Era, around: str) -> None:
    async with stack(era=era) as plain:
        ceiling = value_of(await plain.call("propose_fields"), "max_price_per_hour")
    async with stack(era=era, person=Person(around.format(f"{ceiling:.2f}"))) as s:
        given = await follow(s, await asked_for(s))
        assert given["confirmation"]["ceiling_per_hour"] == ceiling


@both_eras
@pytest.mark.parametrize(
    "answer", ["empty", "nothing", "", "yes.", "9.99", "0,38", "0.38.0", "-0.38", "\uff10.38", "true"]
)
@pytest.mark.requirement("ASK-3")
async def test_another_value_confirms_nothing_and_is_asked_again(era: Era, answer: str) -> None:
    person = Person(answer)
    async with stack(era=era, person=person) as s:
        proposal = await asked_for(s)
        refusal = await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        assert refusal["code"] == "wrong_answer"
        assert "nothing was spent" in refusal["message"]
        assert await rents(s, proposal) == ["refused"]
        given = await follow(s, proposal)
        assert given["confirmation"]["purpose"] == "rent"
        assert person.asked[0] == person.asked[1]


@both_eras
@pytest.mark.parametrize("more", [{"approve": True}, {"value": None}, {"value": 0.38}, {"value": ["{}"]}])
@pytest.mark.requirement("ASK-3")
async def test_a_form_with_anything_but_the_one_typed_text_is_no_yes(era: Era, more: dict[str, Any]) -> None:
    async def fills_in(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:  # the SDK's
        return ElicitResult(action="accept", content={"value": named_in(params.message), **more})

    async with stack(era=era, person=fills_in) as s:
        proposal = await asked_for(s)
        refusal = await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        assert refusal["code"] == "wrong_answer"
        assert refusal["message"].startswith("the form came back as something else than one typed value; nothing was")
        assert await rents(s, proposal) == ["refused"]


@both_eras
@pytest.mark.parametrize("answer", ["decline", "cancel"])
@pytest.mark.requirement("ASK-4")
async def test_a_no_confirms_nothing_and_says_so_with_the_other_ways(era: Era, answer: str) -> None:
    async with stack(era=era, person=Person(answer)) as s:
        proposal = await asked_for(s)
        refusal = await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        assert refusal["code"] == "declined"
        assert "nothing was spent" in refusal["message"]
        assert "approve " in refusal["ask_user"]
        assert refusal["next_call"] is None
        assert await rents(s, proposal) == ["refused"]
        assert writes(s) == {}


@both_eras
@pytest.mark.requirement("ASK-4")
async def test_after_a_no_the_person_may_be_asked_again(era: Era) -> None:
    person = Person("decline")
    async with stack(era=era, person=person) as s:
        proposal = await asked_for(s)
        await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        await follow(s, proposal)
        assert await rents(s, proposal) == ["rented"]
        assert person.asked[0] != person.asked[1], "a late answer to the first is none to the second"


@both_eras
@pytest.mark.parametrize("approval", ["auto", "relayed"])
@pytest.mark.requirement("ASK-4")
async def test_after_a_no_no_agent_reports_a_yes_from_whatever_client(era: Era, approval: Any) -> None:
    async with stack(era=era, person=Person("decline")) as s:
        proposal = await asked_for(s)
        known = {"workflow_id": proposal["workflow_id"], "digest": proposal["digest"]}
        await s.refusal("confirm_fields", **known)
        async with beside(s, era, approval) as mute:
            refusal = await mute.refusal("confirm_fields", **known)
            assert refusal["code"] == "person_needed"
            assert "approve " in refusal["ask_user"]
            part = await mute.refusal("confirm_fields", **known, fields=["gpu_name"])
            assert "the user is asked about all" in part["message"]
            again = await mute.call("propose_fields", workflow_id=proposal["workflow_id"])
            assert again["digest"] == proposal["digest"]
            assert (await mute.refusal("confirm_fields", **known))["code"] == "person_needed"
            assert await rents(mute, proposal) == ["refused"]


@both_eras
@pytest.mark.requirement("ASK-4")
async def test_a_no_ends_an_earlier_yes_to_the_very_same(era: Era) -> None:
    async with stack(era=era, person=Person("yes", "decline")) as s:
        proposal = await asked_for(s)
        await follow(s, proposal)
        again = await asked_for(s, workflow_id=proposal["workflow_id"])
        await s.refusal("confirm_fields", **again["next_call"]["arguments"])
        assert await rents(s, proposal) == ["refused"]


@both_eras
@pytest.mark.requirement("ASK-1")
async def test_a_change_after_a_no_is_a_new_question(era: Era) -> None:
    person = Person("decline")
    async with stack(era=era, person=person) as s:
        proposal = await asked_for(s)
        await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        changed = await asked_for(s, workflow_id=proposal["workflow_id"], disk_gb=100)
        await follow(s, changed)
        assert "100 GB disk" in person.asked[1]
        assert await rents(s, changed) == ["rented"]


@both_eras
@pytest.mark.requirement("ASK-1")
async def test_no_digest_is_needed_but_another_one_is_refused_before_anybody_is_asked(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        proposal = await asked_for(s)
        known = {"workflow_id": proposal["workflow_id"]}
        refusal = await s.refusal("confirm_fields", **known, digest="0" * 16)
        assert (refusal["code"], refusal["ask_user"]) == ("digest_mismatch", None)
        part = await s.refusal("confirm_fields", **known, fields=["gpu_name"])
        assert "the user is asked about all" in part["message"]
        assert person.asked == []
        given = await s.call("confirm_fields", **known)
        assert given["confirmation"]["digest"] == proposal["digest"]


@both_eras
@pytest.mark.requirement("ASK-1")
async def test_where_nothing_can_be_agreed_yet_nobody_is_asked(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        missing = await s.call("propose_fields", count=2)
        assert missing["questions"] == ["All machines or none, or as many as there are?"]
        refusal = await s.refusal("confirm_fields", workflow_id=missing["workflow_id"])
        assert (refusal["code"], refusal["missing"]) == ("not_confirmed", ["fleet"])
        too_cheap = await s.call("propose_fields", max_price_per_hour=0.01)
        refusal = await s.refusal("confirm_fields", workflow_id=too_cheap["workflow_id"])
        assert refusal["code"] == "price_not_shown"
        assert person.asked == []


@both_eras
@pytest.mark.parametrize(
    ("caps", "fields"),
    [
        (Caps(max_instances=0), {}),
        (Caps(max_total_per_hour=Rate.of("0.05")), {}),
        (Caps(max_instances=1), {"count": 2, "fleet": "all_or_nothing"}),
    ],
    ids=["machines", "total", "fleet"],
)
@pytest.mark.requirement("GATE-6")
async def test_where_an_operators_cap_will_refuse_the_person_is_told_before_a_question(
    era: Era, caps: Caps, fields: dict[str, Any]
) -> None:
    person = Person()
    async with stack(era=era, person=person, caps=caps) as s:
        proposal = await s.call("propose_fields", **fields)
        assert (proposal["problem"], proposal["next_call"]) == ("cap_exceeded", None)
        assert "by the operator" in proposal["questions"][0]
        await s.refusal("confirm_fields", workflow_id=proposal["workflow_id"])
        assert person.asked == []


@both_eras
@pytest.mark.requirement("GATE-6")
async def test_of_a_fleet_that_may_stay_smaller_one_machine_has_to_fit_under_the_caps(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person, caps=Caps(max_instances=1)) as s:
        proposal = await s.call("propose_fields", count=2, fleet="best_effort")
        assert (await follow(s, proposal))["confirmation"] is not None


@both_eras
@pytest.mark.requirement("ASK-1")
@each_case
async def test_what_needs_a_yes_of_its_own_asks_the_person_and_goes_on(
    prepare: Any, tool: str, extra: dict[str, Any], purpose: str, era: Era
) -> None:
    person = Person("yes")
    async with stack(era=era, person=person) as s:
        _, machine = await prepare(s)
        person.asked.clear()
        call = {"instance_ids": [machine], **extra}
        before = dict(writes(s))
        refusal = await s.refusal(tool, **call)
        assert (refusal["code"], refusal["ask_user"]) == ("purpose_not_confirmed", None)
        given = await follow(s, refusal)
        assert given["confirmation"]["purpose"] == purpose
        assert given["confirmation"]["by"].startswith("you, asked by ")
        assert given["next_call"] == {"tool": tool, "arguments": call}
        assert writes(s) == before
        await follow(s, given)
        assert writes(s) != before
        [question] = person.asked
        assert str(machine) in question
        assert named_in(question) == _typed(question, purpose, machine)


def _typed(question: str, purpose: str, machine: int) -> str:
    """What the person has to type for a purpose: read from the question's own sentences."""
    if purpose == "start":
        return question.partition("Never above $")[2].partition("/h each")[0]
    if purpose in {"attach", "detach"}:
        return question.partition("SSH key ")[2].partition(" ")[0][-4:]
    return str(machine)


@both_eras
@each_case
@pytest.mark.parametrize("answer", ["decline", "empty", "4711"])
@pytest.mark.requirement("ASK-4")
async def test_without_the_persons_yes_nothing_is_done_to_a_machine(  # the cases
    prepare: Any, tool: str, extra: dict[str, Any], purpose: str, era: Era, answer: str
) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        _, machine = await prepare(s)
        person.then(answer)
        call = {"instance_ids": [machine], **extra}
        before = dict(writes(s))
        asked = (await s.refusal(tool, **call))["next_call"]["arguments"]
        assert asked["purpose"] == purpose
        refusal = await s.refusal("confirm_fields", **asked)
        assert refusal["code"] == ("declined" if answer == "decline" else "wrong_answer")
        assert (await s.refusal(tool, **call))["code"] == "purpose_not_confirmed"
        assert writes(s) == before
        if answer != "decline":
            return
        async with beside(s, era) as mute:
            told = await mute.refusal("confirm_fields", **asked)
            assert told["code"] == "person_needed"
            again = await mute.refusal(tool, **call)
            assert "approve " in again["ask_user"]
            assert again["next_call"] == {"tool": tool, "arguments": call}
            assert writes(mute) == before


@both_eras
@pytest.mark.requirement("ASK-1")
async def test_a_yes_acknowledges_the_machines_shown_and_a_later_one_is_asked_about(era: Era) -> None:
    person = Person()
    async with stack(era=era, person=person) as s:
        known_one = stranger(s)
        proposal = await asked_for(s)
        agreed = await follow(s, proposal)
        later_one = stranger(s)
        plan = await follow(s, agreed)
        refusal = await s.refusal("create_instances", **plan["next_call"]["arguments"])
        assert (refusal["code"], refusal["ask_user"]) == ("unacknowledged_instances", None)
        kept = await follow(s, refusal)
        assert str(known_one) in person.asked[0]
        assert str(later_one) in person.asked[1]
        assert str(known_one) not in person.asked[1]
        assert "2 run already, this makes 3" in person.asked[1]
        assert named_in(person.asked[1]) == str(later_one)
        assert kept["confirmation"]["expires_at"] == agreed["confirmation"]["expires_at"]
        assert states(await follow(s, kept)) == ["rented"]


@both_eras
@pytest.mark.requirement("ASK-4")
async def test_a_machine_that_the_person_does_not_want_beside_is_not_kept(era: Era) -> None:
    async with stack(era=era, person=Person("yes", "decline")) as s:
        agreed = await follow(s, await asked_for(s))
        stranger(s)
        plan = await follow(s, agreed)
        create = plan["next_call"]["arguments"]
        asked = (await s.refusal("create_instances", **create))["next_call"]["arguments"]
        assert (await s.refusal("confirm_fields", **asked))["code"] == "declined"
        async with beside(s, era) as mute:
            assert (await mute.refusal("confirm_fields", **asked))["code"] == "person_needed"
            assert (await mute.refusal("create_instances", **create))["code"] == "unacknowledged_instances"
        assert s.creates_sent() == 0


async def test_the_text_says_that_the_user_is_asked_by_the_call() -> None:
    async with stack(person=Person()) as s:
        text = text_of(await s.client.call_tool("propose_fields", {}))
        assert "confirm_fields asks the user itself" in text
        assert "Ask the user:" not in text


@both_eras
@pytest.mark.requirement("POLICY-2")
async def test_status_says_who_agreed_which_way_and_when(era: Era) -> None:
    async with stack(era=era, person=Person()) as s:
        _, [machine] = await s.rented()
        [row] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        assert row["agreed_by"] == "you, asked by mcp, 2026-11-18 11:06 UTC"
        other = stranger(s)
        text = text_of(await s.client.call_tool("instance_status", {"instance_ids": [machine, other]}))
        assert text.splitlines()[1] == "  yes: you, asked by mcp, 2026-11-18 11:06 UTC"
        assert text.splitlines()[-1] == "  not rented by this server"


@both_eras
@pytest.mark.parametrize("approval", ["auto", "relayed"])
@pytest.mark.requirement("ONCE-4")
async def test_a_yes_that_is_used_up_is_told_as_that_when_it_is_given_again(era: Era, approval: Any) -> None:
    async with stack(era=era, person=Person(), approval=approval) as s:
        proposal = await s.call("propose_fields")
        await follow(s, proposal)
        assert await rents(s, proposal) == ["rented"]
        told = await s.client.call_tool("confirm_fields", proposal["next_call"]["arguments"])
        assert "Agreed before, and used up: 1 machine" in text_of(told)
        assert "Agreed for 30 minutes" not in text_of(told)
        assert told.structured_content is not None
        assert told.structured_content["next_call"]["tool"] == "wait_until_ready"


@both_eras
@pytest.mark.requirement("POLICY-1")
async def test_with_approval_human_a_client_that_can_ask_asks(era: Era) -> None:
    person = Person()
    async with stack(era=era, approval="human", person=person) as s:
        await s.rented()
        assert len(person.asked) == 1


@both_eras
@pytest.mark.requirement("POLICY-1")
async def test_with_approval_relayed_the_agent_asks_though_the_client_could(era: Era) -> None:
    person = Person()
    async with stack(era=era, approval="relayed", person=person) as s:
        proposal = await s.call("propose_fields")
        assert proposal["questions"][0].startswith("Rent 1 machine")
        given = await follow(s, proposal)
        assert given["confirmation"]["by"] == "relayed by mcp"
        assert person.asked == []


@both_eras
@pytest.mark.requirement("POLICY-1")
async def test_with_approval_auto_a_client_that_cannot_ask_relays(era: Era) -> None:
    async with stack(era=era) as s:
        proposal = await s.call("propose_fields")
        assert (await follow(s, proposal))["confirmation"]["by"] == "relayed by mcp"
