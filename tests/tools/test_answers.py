"""Answers that come twice, late, or to another question, and calls that are cut short while the person is asked."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp.client import ClientRequestContext
from mcp.server import request_state
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, ErrorData, InputRequiredResult

from tests.stack import ERAS, Era, Stack, stack, text_of
from tests.tools.acts import Heard, follow, stranger
from tests.tools.person import Person, reply
from tests.tools.test_asked import beside, rents
from vastai_workflow.domain.audit import Kind
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S, Confirmation
from vastai_workflow.server import REFUSAL_META
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.steps.confirming import agree
from vastai_workflow.store.sqlite import SqliteStore

TURNS = 10_000
"""Turns of the event loop: more than anything here takes."""

both_eras = pytest.mark.parametrize("era", ERAS)


class Slow(Person):
    """Something happens after the question is shown and before its answer."""

    def __init__(self, *answers: str) -> None:
        super().__init__(*answers)
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        if (happens := self.meanwhile) is not None:
            self.meanwhile = None
            await happens()
        return await super().__call__(context, params)


async def yeses(s: Stack) -> list[Confirmation]:
    """Every yes on record."""
    return [item for workflow in await s.deps.store.workflows("local") for item in workflow.confirmations]


async def answered(s: Stack, arguments: dict[str, Any], first: InputRequiredResult, answer: str) -> Any:
    """The second round of a call in the new era: this answer, with the sealed state of the first round."""
    [(key, request)] = (first.input_requests or {}).items()
    return await s.client.session.call_tool(
        "confirm_fields",
        arguments,
        input_responses={key: reply(answer, request.params.message)},  # type: ignore[union-attr]
        request_state=first.request_state,
        allow_input_required=True,
    )


async def first_round(s: Stack, arguments: dict[str, Any]) -> InputRequiredResult:
    """The question of a call in the new era, unanswered."""
    asked = await s.client.session.call_tool("confirm_fields", arguments, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult)
    return asked


@both_eras
@pytest.mark.requirement("ASK-5")
async def test_an_answer_after_half_an_hour_is_none(era: Era) -> None:
    person = Slow()
    async with stack(era=era, person=person) as s:
        proposal = await s.call("propose_fields")

        async def half_an_hour_passes() -> None:
            s.clock.advance(1800)

        person.meanwhile = half_an_hour_passes
        refusal = await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        assert refusal["code"] == "confirmation_expired"
        assert await yeses(s) == []
        await follow(s, await follow(s, refusal))
        assert len(await yeses(s)) == 1


@pytest.mark.requirement("ASK-5")
async def test_a_late_yes_in_rounds_is_told_by_the_server_itself_and_is_on_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stack(person=Person()) as s:
        monkeypatch.setattr(request_state, "time", SimpleNamespace(time=s.clock.now))
        proposal = await s.call("propose_fields")
        call = {"workflow_id": proposal["workflow_id"]}
        first = await first_round(s, call)
        s.clock.advance(CONFIRMATION_LIFE_S + 1)
        late = await answered(s, call, first, "yes")
        assert late.meta[REFUSAL_META]["code"] == "confirmation_expired"
        assert await yeses(s) == []
        [refused] = await s.deps.store.trail()
        assert (refused.code, refused.digest) == ("confirmation_expired", proposal["digest"])


@both_eras
@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.requirement("ASK-5")
async def test_an_answer_after_the_proposal_changed_is_none(era: Era, digest: bool) -> None:  # noqa: FBT001 # a case
    person = Slow()
    async with stack(era=era, person=person) as s:
        proposal = await s.call("propose_fields")
        known = {"workflow_id": proposal["workflow_id"]} | ({"digest": proposal["digest"]} if digest else {})

        async def another_disk() -> None:
            async with beside(s, era) as other:
                await other.call("propose_fields", workflow_id=proposal["workflow_id"], disk_gb=100)

        person.meanwhile = another_disk
        result = await s.client.call_tool("confirm_fields", known)
        kept = [item.values["disk_gb"] for item in await yeses(s)]
        if era == "auto" and not digest:  # asked anew, about what stands now
            assert not result.is_error
            assert "100 GB disk" in person.asked[1]
            assert kept == [100]
        else:
            assert result.is_error
            assert kept == []


@both_eras
@pytest.mark.requirement("ASK-5")
async def test_an_answer_to_a_text_that_was_renewed_is_none(era: Era) -> None:
    person = Slow()
    async with stack(era=era, person=person) as s:
        proposal = await s.call("propose_fields")

        async def the_balance_falls() -> None:
            s.world.account.credit -= 20
            s.clock.advance(60)  # the account is looked at once a while
            async with beside(s, era) as other:
                again = await other.call("propose_fields", workflow_id=proposal["workflow_id"])
                assert again["digest"] == proposal["digest"]

        person.meanwhile = the_balance_falls
        result = await s.client.call_tool("confirm_fields", proposal["next_call"]["arguments"])
        if era == "auto":  # asked anew
            assert ["Balance $5.00" in question for question in person.asked] == [False, True]
            assert len(await yeses(s)) == 1
        else:
            assert result.is_error
            assert "answered or replaced meanwhile" in text_of(result)
            assert await yeses(s) == []


@both_eras
@pytest.mark.requirement("ASK-5")
async def test_an_answer_to_what_was_answered_elsewhere_gives_nothing_more(era: Era) -> None:
    person = Slow()
    async with stack(era=era, person=person) as s:
        proposal = await s.call("propose_fields")

        async def on_the_terminal() -> None:
            workflow = await s.deps.store.workflow(proposal["workflow_id"])
            assert workflow is not None
            [question] = workflow.questions
            await agree(s.deps, workflow.workflow_id, question, question.answer, "you, on the terminal")

        person.meanwhile = on_the_terminal
        given = await follow(s, proposal)
        assert given["confirmation"]["by"] == "you, on the terminal"
        assert len(await yeses(s)) == 1
        assert await rents(s, proposal) == ["rented"]
        assert await rents(s, proposal) == ["refused"]


@both_eras
@pytest.mark.requirement("ASK-5")
async def test_a_yes_after_a_no_to_the_same_asking_is_none(era: Era) -> None:
    person = Slow("decline", "yes")
    async with stack(era=era, person=person) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]

        async def declined_in_another_window() -> None:
            await s.refusal("confirm_fields", **call)

        person.meanwhile = declined_in_another_window
        result = await s.client.call_tool("confirm_fields", call)
        if era == "auto":  # asked anew
            assert len(person.asked) == 3
            assert len({person.asked[0], person.asked[2]}) == 2
        else:
            assert result.is_error
            assert await yeses(s) == []


@both_eras
@pytest.mark.requirement("ASK-5")
async def test_two_answers_at_once_are_one_yes(era: Era) -> None:
    async with stack(era=era, person=Person()) as s:
        proposal = await s.call("propose_fields")
        given = await asyncio.gather(follow(s, proposal), follow(s, proposal), follow(s, proposal))
        assert len({item["confirmation"]["expires_at"] for item in given}) == 1
        assert len(await yeses(s)) == 1


@pytest.mark.requirement("ASK-5")
async def test_a_replayed_answer_gives_its_places_once() -> None:
    async with stack(person=Person()) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]
        first = await first_round(s, call)
        for _ in range(2):
            given = await answered(s, call, first, "yes")
            assert isinstance(given, CallToolResult)
            assert not given.is_error
        assert len(await yeses(s)) == 1
        assert await rents(s, proposal) == ["rented"]
        await answered(s, call, first, "yes")
        assert await rents(s, proposal) == ["refused"]
        assert s.creates_sent() == 1


@pytest.mark.requirement("ASK-5")
async def test_an_old_answer_is_none_to_the_same_proposal_made_again() -> None:
    async with stack(person=Person()) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]
        first = await first_round(s, call)
        await answered(s, call, first, "yes")
        again = await s.call("propose_fields", workflow_id=proposal["workflow_id"])
        assert again["digest"] == proposal["digest"]
        assert isinstance(await answered(s, call, first, "yes"), InputRequiredResult)
        assert len(await yeses(s)) == 1


@pytest.mark.requirement("ASK-5")
async def test_a_spent_yes_of_its_own_is_not_given_anew_by_its_answer() -> None:
    async with stack(person=Person()) as s:
        other = stranger(s)
        restart = {"instance_ids": [other], "mode": "reboot"}
        call = (await s.refusal("restart_instances", **restart))["next_call"]["arguments"]
        first = await first_round(s, call)
        await answered(s, call, first, "yes")
        await s.call("restart_instances", **restart)
        replayed = await answered(s, call, first, "yes")
        assert replayed.is_error
        assert (await s.refusal("restart_instances", **restart))["code"] == "confirmation_spent"
        assert isinstance(await answered(s, call, first, "yes"), InputRequiredResult)
        assert s.world.requests["reboot"] == 1


@pytest.mark.requirement("ASK-5")
async def test_an_answer_to_one_workflow_is_none_to_another() -> None:
    async with stack(person=Person()) as s:
        one, other = await s.call("propose_fields"), await s.call("propose_fields")
        first = await first_round(s, one["next_call"]["arguments"])
        with pytest.raises(MCPError):
            await answered(s, other["next_call"]["arguments"], first, "yes")
        broken = first.model_copy(update={"request_state": (first.request_state or "")[:-4] + "AAAA"})
        with pytest.raises(MCPError):
            await answered(s, one["next_call"]["arguments"], broken, "yes")
        assert await yeses(s) == []


async def never(_: float) -> None:
    """A pause that does not end."""
    await anyio.sleep_forever()


@pytest.mark.requirement("ASK-6")
async def test_the_old_era_hears_every_ten_seconds_that_its_user_is_being_asked() -> None:
    paused: list[float] = []
    heard = Heard()

    async def pause(seconds: float) -> None:
        if len(paused) == 3:
            await anyio.sleep_forever()
        paused.append(seconds)
        await anyio.lowlevel.checkpoint()

    class Thinks(Person):
        async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
            for _ in range(TURNS):
                if len(heard.lines) == 3:
                    break
                await anyio.lowlevel.checkpoint()
            return await super().__call__(context, params)

    async with stack(era="legacy", person=Thinks(), pause=pause) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]
        given = await s.client.call_tool("confirm_fields", call, progress_callback=heard)
        assert not given.is_error
        assert heard.lines == ["waiting for your user's answer"] * 3
        assert paused == [10.0] * 3


@pytest.mark.requirement("ASK-6")
async def test_a_person_who_does_not_answer_in_half_an_hour_agreed_to_nothing() -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        await anyio.lowlevel.checkpoint()

    async def away(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:  # the SDK's
        for _ in range(TURNS):
            await anyio.lowlevel.checkpoint()
        return ElicitResult(action="decline")

    async with stack(era="legacy", person=away, pause=pause) as s:
        proposal = await s.call("propose_fields")
        refusal = await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        assert refusal["code"] == "declined"
        assert "no answer" in refusal["message"]
        assert sum(paused) == 1800
        assert await yeses(s) == []


@pytest.mark.parametrize("tool", ["propose_fields", "destroy_instances"])
@pytest.mark.requirement("ASK-4")
async def test_after_half_an_hour_without_an_answer_the_next_call_asks_anew(tool: str) -> None:
    clock = VirtualClock()
    silent = True

    async def pause(seconds: float) -> None:
        if silent:
            clock.advance(seconds)
        await anyio.lowlevel.checkpoint()

    async def away_at_first(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:  # the SDK's
        for _ in range(TURNS if silent else 0):
            await anyio.lowlevel.checkpoint()
        return reply("yes", params.message)

    async with stack(era="legacy", person=away_at_first, pause=pause, clock=clock) as s:
        known = {"instance_ids": [stranger(s)]} if tool == "destroy_instances" else {}
        asks = _told(await s.client.call_tool(tool, known))
        late = await s.refusal("confirm_fields", **asks["next_call"]["arguments"])
        assert late["code"] == "declined"
        assert "approve " not in late["ask_user"]
        silent = False
        again = _told(await s.client.call_tool(late["next_call"]["tool"], late["next_call"]["arguments"]))
        assert (await follow(s, again))["confirmation"]["by"] == "you, asked by mcp"


def _told(result: CallToolResult) -> dict[str, Any]:
    """What came of a call, be it refused or not."""
    return result.structured_content or (result.meta or {})[REFUSAL_META]


@both_eras
@pytest.mark.requirement("ASK-6")
async def test_a_call_that_is_cut_short_while_the_person_is_asked_confirms_nothing(era: Era) -> None:
    person = Slow()
    async with stack(era=era, person=person, pause=never) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]

        async def the_client_gives_up() -> None:
            scope.cancel()
            await anyio.lowlevel.checkpoint()

        person.meanwhile = the_client_gives_up
        with anyio.CancelScope() as scope:
            await s.client.call_tool("confirm_fields", call)
        assert scope.cancelled_caught
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert await yeses(s) == []
        async with beside(s, era) as mute:
            assert (await mute.refusal("confirm_fields", **call))["code"] == "person_needed"
        noes = [(event.by, event.what) for event in await s.deps.store.trail() if event.kind is Kind.DECLINED]
        # the new era has no call that could be cut short: the answer is a call of its own
        assert noes == ([("nobody, asked by mcp", "no answer")] if era == "legacy" else [])


@pytest.mark.requirement("ASK-4")
async def test_a_client_that_fails_to_ask_is_told_as_a_tool_error_with_the_other_ways() -> None:
    async def broken(context: ClientRequestContext, params: ElicitRequestParams) -> ErrorData:  # the SDK's
        return ErrorData(code=-32603, message="no window to show it in")

    async with stack(era="legacy", person=broken) as s:
        proposal = await s.call("propose_fields")
        refusal = await s.refusal("confirm_fields", **proposal["next_call"]["arguments"])
        assert refusal["code"] == "declined"
        assert "approve " in refusal["ask_user"]


@both_eras
@pytest.mark.requirement("ASK-4")
async def test_a_no_is_still_a_no_after_a_restart(era: Era, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state", clock=VirtualClock())
    async with stack(era=era, person=Person("decline"), store=store) as s:
        proposal = await s.call("propose_fields")
        call = proposal["next_call"]["arguments"]
        await s.refusal("confirm_fields", **call)
    await store.aclose()
    again = SqliteStore(tmp_path / "state", clock=VirtualClock())
    async with stack(era=era, approval="relayed", store=again) as s:
        assert (await s.refusal("confirm_fields", **call))["code"] == "person_needed"
    await again.aclose()
