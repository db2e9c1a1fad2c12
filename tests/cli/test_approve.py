"""`approve`: a person answers the question of a code on their own terminal, and nobody else does."""

import os
import re
import shlex
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.terminal import environment, on_a_terminal, piped, typed
from tests.stack import ERAS, Era, Stack, stack
from tests.tools.acts import follow, states, stranger, writes
from tests.tools.test_purposes import each_case
from vastai_workflow.cli.approve import approve
from vastai_workflow.cli.clock import SystemClock
from vastai_workflow.cli.wiring import approve_with
from vastai_workflow.domain.audit import Kind
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.settings import default_state
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.steps.approving import answer, by_code
from vastai_workflow.store.sqlite import SqliteStore

both_eras = pytest.mark.parametrize("era", ERAS)
COMMAND = re.compile(r"`(.+? approve (\w{8}).*?)`")
OPEN = re.compile(r"Open (http://127\.0\.0\.1:\d+)/ and type this secret there: (\w+)")
NAMED = re.compile(r"^To agree, type .*: (\S+)$", re.MULTILINE)


def command_in(text: str) -> tuple[str, str]:
    """The only command in a text, and its code."""
    [found] = COMMAND.findall(text)
    return found


class Typist:
    """A person at the terminal, who sees the question and types what it names, or what they are told."""

    def __init__(self, answer: str | None = None) -> None:
        self.answer = answer
        self.seen = ""

    def __call__(self, question: str) -> str:
        self.seen = question
        found = NAMED.search(question)
        assert found is not None
        return found[1] if self.answer is None else self.answer


@both_eras
@pytest.mark.requirement("APPROVE-1")
async def test_the_agent_passes_on_one_command_and_goes_on_with_find_offers(era: Era) -> None:
    async with stack(era=era, approval="human") as s:
        proposal = await s.call("propose_fields")
        [question] = proposal["questions"]
        _, code = command_in(question)
        assert proposal["next_call"]["tool"] == "find_offers"
        refusal = await s.refusal("confirm_fields", workflow_id=proposal["workflow_id"], digest=proposal["digest"])
        assert command_in(refusal["ask_user"])[1] == code
        assert "approve" not in refusal["message"]
        assert refusal["next_call"] == proposal["next_call"]
        person = Typist()
        assert await approve(s.deps, code, person) == 0
        assert "Rent 1 machine" in person.seen
        plan = await follow(s, refusal)
        assert states(await follow(s, plan)) == ["rented"]
        [row] = (await s.call("instance_status"))["instances"]
        assert row["agreed_by"] == "you, on the terminal, 2026-11-18 11:06 UTC"


@both_eras
@pytest.mark.requirement("APPROVE-1")
async def test_after_it_confirm_fields_answers_with_the_yes(era: Era) -> None:
    async with stack(era=era, approval="human") as s:
        proposal = await s.call("propose_fields")
        known = {"workflow_id": proposal["workflow_id"], "digest": proposal["digest"]}
        await approve(s.deps, command_in(proposal["questions"][0])[1], Typist())
        given = await s.call("confirm_fields", **known)
        assert given["confirmation"]["by"] == "you, on the terminal"
        assert given["next_call"]["tool"] == "find_offers"


@both_eras
@each_case
@pytest.mark.requirement("APPROVE-1")
async def test_what_needs_a_yes_of_its_own_is_approved_and_the_refused_call_repeated(
    prepare: Any, tool: str, extra: dict[str, Any], purpose: str, era: Era
) -> None:
    async with stack(era=era) as relayed:
        _, machine = await prepare(relayed)
        assert isinstance(relayed.deps.store, SqliteStore)
        async with stack(
            era=era, approval="human", world=relayed.world, clock=relayed.clock, store=relayed.deps.store
        ) as s:
            before = dict(writes(s))
            refusal = await s.refusal(tool, instance_ids=[machine], **extra)
            person = Typist()
            assert await approve(s.deps, command_in(refusal["ask_user"])[1], person) == 0
            assert str(machine) in person.seen
            assert writes(s) == before
            await follow(s, refusal)
            assert writes(s) != before
            yeses = [item for w in await s.deps.store.workflows("local") for item in w.confirmations]
            assert [item.by for item in yeses if item.purpose == purpose] == ["you, on the terminal"]


@both_eras
@pytest.mark.requirement("APPROVE-1")
async def test_a_new_key_file_and_then_the_plan_are_approved(era: Era, tmp_path: Path) -> None:
    async with stack(era=era, approval="human", folder=tmp_path) as s:
        file = tmp_path / "vast_env"
        file.write_text(f"VAST_API_KEY={s.world.api_key}\n")
        file.chmod(0o600)
        proposal = await s.call("propose_fields", api_key_source="file:vast_env")
        person = Typist()
        await approve(s.deps, command_in(proposal["questions"][0])[1], person)
        assert "To agree, type the name of the key source: vast_env" in person.seen
        priced = await follow(s, proposal)
        assert "Rent 1 machine" in priced["questions"][0]
        await approve(s.deps, command_in(priced["questions"][0])[1], Typist())
        assert (await s.call("confirm_fields", workflow_id=proposal["workflow_id"]))["confirmation"] is not None


@pytest.mark.parametrize("name", ["no", "NO", "n"])
@pytest.mark.requirement("APPROVE-2")
async def test_a_key_file_with_the_name_of_a_no_is_agreed_to_by_its_name(name: str, tmp_path: Path) -> None:
    async with stack(approval="human", folder=tmp_path) as s:
        file = tmp_path / name
        file.write_text(f"VAST_API_KEY={s.world.api_key}\n")
        file.chmod(0o600)
        proposal = await s.call("propose_fields", api_key_source=f"file:{name}")
        code = command_in(proposal["questions"][0])[1]
        person = Typist("")
        assert await approve(s.deps, code, person) == 1
        assert "\nNothing declines." in person.seen
        renewed = await s.call("propose_fields", workflow_id=proposal["workflow_id"])
        assert await approve(s.deps, command_in(renewed["questions"][0])[1], Typist()) == 0
        assert "Rent 1 machine" in (await follow(s, proposal))["questions"][0]


@both_eras
@pytest.mark.requirement("APPROVE-1")
async def test_a_later_machine_is_approved_too(era: Era) -> None:
    async with stack(era=era, approval="human") as s:
        proposal = await s.call("propose_fields")
        await approve(s.deps, command_in(proposal["questions"][0])[1], Typist())
        other = stranger(s)
        plan = await follow(s, proposal)
        refusal = await s.refusal("create_instances", **plan["next_call"]["arguments"])
        assert refusal["code"] == "unacknowledged_instances"
        await approve(s.deps, command_in(refusal["ask_user"])[1], Typist(str(other)))
        assert states(await follow(s, refusal)) == ["rented"]


@pytest.mark.parametrize("answer", ["9.99", "yes", "y"])
@pytest.mark.requirement("APPROVE-2")
async def test_another_value_says_so_and_confirms_nothing(answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with stack(approval="human") as s:
        code = command_in((await s.call("propose_fields"))["questions"][0])[1]
        assert await approve(s.deps, code, Typist(answer)) == 1
        assert "nothing was confirmed, nothing was spent. Run the command again" in capsys.readouterr().out
        assert await approve(s.deps, code, Typist()) == 0


@pytest.mark.requirement("AUDIT-1")
@pytest.mark.requirement("AUDIT-3")
async def test_what_was_not_taken_is_on_the_audit_trail_without_what_was_typed() -> None:
    async with stack(approval="human") as s:
        proposal = await s.call("propose_fields")
        code = command_in(proposal["questions"][0])[1]
        await approve(s.deps, code, Typist("hf_sesame"))
        with pytest.raises(Refusal):
            await approve(s.deps, "my-other-secret", Typist())
        s.clock.advance(1800)
        with pytest.raises(Refusal):
            await approve(s.deps, code, Typist())
        trail = [event for event in await s.deps.store.trail() if event.kind is Kind.REFUSED]
        known = ("rent", proposal["digest"], proposal["workflow_id"])
        assert [(event.code, event.purpose, event.digest, event.workflow_id) for event in trail] == [
            ("wrong_answer", *known),
            ("no_such_question", "", "", None),
            ("confirmation_expired", *known),
        ]
        assert {event.by for event in trail} == {"you, on the terminal"}
        written = "".join(event.model_dump_json() for event in trail)
        assert "got another value than the price limit in $/h" in written
        assert "sesame" not in written
        assert "secret" not in written


@pytest.mark.parametrize("answer", ["", "no", "N"])
@pytest.mark.requirement("APPROVE-2")
async def test_nothing_and_no_decline_and_then_no_agent_says_yes(
    answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stack(approval="human") as s, _relaying(s) as other:
        proposal = await s.call("propose_fields")
        code = command_in(proposal["questions"][0])[1]
        assert await approve(s.deps, code, Typist(answer)) == 1
        assert "declined: nothing was confirmed" in capsys.readouterr().out
        known = {"workflow_id": proposal["workflow_id"], "digest": proposal["digest"]}
        refusal = await other.refusal("confirm_fields", **known)
        assert refusal["code"] == "person_needed"
        again = command_in(refusal["ask_user"])[1]
        assert again != code
        assert [event.digest for event in await s.deps.store.trail() if event.kind is Kind.DECLINED] == [
            known["digest"]
        ]
        assert await approve(s.deps, again, Typist()) == 0


def _relaying(s: Stack) -> Any:
    assert isinstance(s.deps.store, SqliteStore)
    return stack(approval="relayed", world=s.world, clock=s.clock, store=s.deps.store)


@pytest.mark.requirement("APPROVE-2")
async def test_a_code_is_good_for_its_own_question_while_that_stands() -> None:
    async with stack(approval="human") as s:
        proposal = await s.call("propose_fields")
        code = command_in(proposal["questions"][0])[1]
        same = await s.call("propose_fields", workflow_id=proposal["workflow_id"])
        assert command_in(same["questions"][0])[1] == code
        changed = await s.call("propose_fields", workflow_id=proposal["workflow_id"], disk_gb=100)
        other = command_in(changed["questions"][0])[1]
        assert other != code
        for unknown in (code, "aaaaaaaa", "", proposal["digest"]):
            with pytest.raises(Refusal) as refused:
                await approve(s.deps, unknown, Typist())
            assert refused.value.code == "no_such_question"
        assert await approve(s.deps, f" {other[:4].upper()}-{other[4:]} ", Typist()) == 0
        with pytest.raises(Refusal):
            await approve(s.deps, other, Typist())


@pytest.mark.requirement("APPROVE-2")
async def test_a_code_is_not_good_for_a_machine_that_came_after_its_question() -> None:
    async with stack(approval="human") as s:
        proposal = await s.call("propose_fields")
        await approve(s.deps, command_in(proposal["questions"][0])[1], Typist())
        create = (await follow(s, proposal))["next_call"]["arguments"]
        stranger(s)
        first = command_in((await s.refusal("create_instances", **create))["ask_user"])[1]
        stranger(s)
        second = command_in((await s.refusal("create_instances", **create))["ask_user"])[1]
        assert first != second
        with pytest.raises(Refusal):
            await approve(s.deps, first, Typist())
        assert await approve(s.deps, second, Typist()) == 0
        assert states(await s.call("create_instances", **create)) == ["rented"]


@pytest.mark.requirement("APPROVE-2")
async def test_a_code_is_good_for_half_an_hour() -> None:
    async with stack(approval="human") as s:
        proposal = await s.call("propose_fields")
        code = command_in(proposal["questions"][0])[1]
        s.clock.advance(1800)
        with pytest.raises(Refusal) as refused:
            await approve(s.deps, code, Typist())
        assert refused.value.code == "confirmation_expired"
        late = await s.refusal("confirm_fields", workflow_id=proposal["workflow_id"])
        assert late["code"] == "confirmation_expired"


@pytest.mark.parametrize("what", ["expired before", "expired while read", "replaced while read", "unknown"])
@pytest.mark.requirement("APPROVE-2")
async def test_a_person_is_told_in_their_own_words_that_a_code_is_good_no_more(what: str) -> None:
    async with stack(approval="human") as s:
        workflow_id, code = await _waiting(s)
        workflow, question = await by_code(s.deps, "local", code, "you, on the terminal")
        if what.startswith("expired"):
            s.clock.advance(1800)
        else:
            await s.call("propose_fields", workflow_id=workflow_id, disk_gb=100)

        async def answers() -> None:
            if what.endswith("while read"):
                await answer(s.deps, workflow, question, question.answer, "you, on the terminal")
            else:
                await approve(s.deps, code, Typist())

        with pytest.raises(Refusal) as refused:
            await answers()
        assert "_fields" not in refused.value.sentence
        assert " your agent " in refused.value.sentence
        assert " code" in refused.value.sentence


@both_eras
@pytest.mark.requirement("APPROVE-2")
async def test_a_question_that_is_shown_again_is_as_old_as_before(era: Era) -> None:
    async with stack(era=era, approval="human") as s:
        workflow_id, code = await _waiting(s)
        workflow, question = await by_code(s.deps, "local", code, "you, on the terminal")
        s.clock.advance(1500)
        again = await s.call("propose_fields", workflow_id=workflow_id)
        assert command_in(again["questions"][0])[1] == code
        s.clock.advance(300)
        with pytest.raises(Refusal) as refused:
            await answer(s.deps, workflow, question, question.answer, "you, on the terminal")
        assert refused.value.code == "confirmation_expired"
        renewed = await s.call("propose_fields", workflow_id=workflow_id)
        assert command_in(renewed["questions"][0])[1] != code
        with pytest.raises(Refusal):
            await answer(s.deps, workflow, question, question.answer, "you, on the terminal")
        assert await approve(s.deps, command_in(renewed["questions"][0])[1], Typist()) == 0


@both_eras
@pytest.mark.requirement("APPROVE-2")
async def test_a_code_stands_for_one_text(era: Era) -> None:
    async with stack(era=era, approval="human") as s:
        workflow_id, code = await _waiting(s)
        workflow, question = await by_code(s.deps, "local", code, "you, on the terminal")
        s.world.account.credit -= 20
        s.clock.advance(60)  # the account is looked at once a while
        again = await s.call("propose_fields", workflow_id=workflow_id)
        assert again["digest"] == question.digest
        assert command_in(again["questions"][0])[1] != code
        with pytest.raises(Refusal) as refused:
            await answer(s.deps, workflow, question, question.answer, "you, on the terminal")
        assert refused.value.code == "digest_mismatch"
        with pytest.raises(Refusal) as refused:
            await approve(s.deps, code, Typist())
        assert refused.value.code == "no_such_question"
        person = Typist()
        assert await approve(s.deps, command_in(again["questions"][0])[1], person) == 0
        assert "Balance $5.00" in person.seen


@both_eras
@pytest.mark.requirement("APPROVE-2")
async def test_a_code_stays_while_only_what_runs_goes_on_costing(era: Era) -> None:
    async with stack(era=era) as relayed:
        await relayed.ready()
        assert isinstance(relayed.deps.store, SqliteStore)
        async with stack(
            era=era, approval="human", world=relayed.world, clock=relayed.clock, store=relayed.deps.store
        ) as s:
            proposal = await s.call("propose_fields")
            [question] = proposal["questions"]
            for _ in range(5):
                s.clock.advance(300)
                again = await s.call("propose_fields", workflow_id=proposal["workflow_id"])
                assert again["questions"] == [question]
            assert s.world.account.credit < Decimal("24.9")
            person = Typist()
            assert await approve(s.deps, command_in(question)[1], person) == 0
            assert person.seen.partition("\n")[0] in question


@both_eras
@pytest.mark.requirement("APPROVE-2")
async def test_an_earlier_yes_is_no_answer_to_a_later_question_that_was_replaced(era: Era) -> None:
    async with stack(era=era, approval="human") as s:
        workflow_id, code = await _waiting(s)
        assert await approve(s.deps, code, Typist()) == 0
        s.clock.advance(60)
        later = await s.call("propose_fields", workflow_id=workflow_id)
        workflow, question = await by_code(
            s.deps, "local", command_in(later["questions"][0])[1], "you, on the terminal"
        )
        s.world.account.credit -= 20
        s.clock.advance(60)
        await s.call("propose_fields", workflow_id=workflow_id)
        with pytest.raises(Refusal) as refused:
            await answer(s.deps, workflow, question, question.answer, "you, on the terminal")
        assert refused.value.code == "digest_mismatch"


@pytest.mark.requirement("APPROVE-2")
async def test_a_simulated_market_is_as_late_as_its_newest_question(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().now())
    store = SqliteStore(tmp_path / "state", clock=clock)
    command = approve_with(tmp_path / "state", "--simulated")
    around = {**environment(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}  # the program under test
    async with stack(approval="human", store=store, clock=clock, approve_with=command) as s:
        older = await s.call("propose_fields")
        clock.advance(2400)
        newer = await s.call("propose_fields")
        said = [
            typed(
                shlex.split(command_in(proposal["questions"][0])[0]),
                f"{next(row['value'] for row in proposal['fields'] if row['name'] == 'max_price_per_hour'):.2f}",
                around,
            )
            for proposal in (older, newer)
        ]
        assert [code for code, _ in said] == [2, 0]
        assert "the question is older than 30 minutes" in said[0][1]
    await store.aclose()


async def _waiting(s: Stack) -> tuple[str, str]:
    """A workflow whose question waits, and that question's code."""
    proposal = await s.call("propose_fields")
    return proposal["workflow_id"], command_in(proposal["questions"][0])[1]


@pytest.mark.requirement("APPROVE-2")
async def test_a_proposal_that_changes_while_the_person_reads_is_not_approved() -> None:
    async with stack(approval="human") as s:
        proposal = await s.call("propose_fields")
        code = command_in(proposal["questions"][0])[1]
        workflow = await s.deps.store.workflow(proposal["workflow_id"])
        assert workflow is not None
        question = workflow.question(code)
        assert question is not None
        await s.call("propose_fields", workflow_id=proposal["workflow_id"], image="ubuntu:24.04")
        with pytest.raises(Refusal) as refused:
            await answer(s.deps, workflow, question, question.answer, "you, on the terminal")
        assert refused.value.code == "digest_mismatch"


@pytest.mark.requirement("APPROVE-2")
async def test_the_whole_command_works_as_it_stands_on_a_terminal_and_not_from_a_pipe(tmp_path: Path) -> None:
    folder = tmp_path / "the user's state"
    clock = VirtualClock(SystemClock().now())
    around = {name: value for name, value in environment(tmp_path).items() if name != "VASTAI_WORKFLOW_STATE"}
    store = SqliteStore(folder, clock=clock)
    async with stack(approval="human", store=store, clock=clock, approve_with=approve_with(folder)) as s:
        proposal = await s.call("propose_fields")
        command, _ = command_in(proposal["questions"][0])
        words = shlex.split(command)
        ceiling = f"{next(row['value'] for row in proposal['fields'] if row['name'] == 'max_price_per_hour'):.2f}"
        refused = piped(words, ceiling, around)
        assert refused.returncode == 2
        assert "needed one to ask a person" in refused.stderr
        code, said = typed(words, "9.99", around)
        assert (code, "nothing was confirmed" in said) == (1, True)
        code, said = typed(words, ceiling, around)
        assert "Rent 1 machine (RTX 4090)" in said
        assert (code, "agreed: tell your agent to go on" in said) == (0, True)
        s.clock.advance(60)
        plan = await follow(s, proposal)
        assert states(await follow(s, plan)) == ["rented"]
    await store.aclose()


@pytest.mark.requirement("APPROVE-2")
def test_nothing_in_a_question_moves_the_cursor_of_the_terminal(tmp_path: Path) -> None:
    asks = "from vastai_workflow.cli.terminal import ask; ask('Rent?\\x1b[2J\\x1b[H\\x07\\u202e no\\nIt costs $1:')"
    around = {**environment(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}  # the program under test
    assert typed([sys.executable, "-c", asks], "x", around) == (0, "Rent? no\nIt costs $1: x\n")


@pytest.mark.requirement("APPROVE-2")
def test_what_was_typed_before_the_question_stood_there_answers_nothing(tmp_path: Path) -> None:
    asks = "from vastai_workflow.cli.terminal import ask; print(ask('Type 1:'))"
    around = {**environment(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}  # the program under test
    code, said = typed([sys.executable, "-c", asks], "no", around, before="1\n1\n1")
    assert code == 0
    assert said.endswith("Type 1: no\nno\n")


@pytest.mark.requirement("APPROVE-2")
def test_a_question_stands_whole_on_the_terminal_or_is_refused(tmp_path: Path) -> None:
    around = {**environment(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}  # the program under test

    def asked(length: int) -> str:
        asks = f"from vastai_workflow.cli.terminal import ask; ask('y' * {length - 1} + ':')"
        return typed([sys.executable, "-c", asks], "no", around)[1]

    assert asked(20_000) == f"{'y' * 19_999}: no\n"
    refused = asked(20_001)
    assert "yyy" not in refused
    assert "got a question of 20001 characters" in refused


@pytest.mark.requirement("APPROVE-1")
def test_the_command_names_the_store_only_where_it_is_not_the_usual_one() -> None:
    assert approve_with(default_state())("abcd2345").endswith(" -m vastai_workflow approve abcd2345")
    assert approve_with(Path("/a b"))("abcd2345").endswith(" approve abcd2345 --store '/a b'")


@pytest.mark.requirement("APPROVE-3")
def test_the_page_is_on_loopback_and_its_secret_on_the_terminal_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vastai_workflow", "approve", "--page"]
    assert piped(command, "", environment(tmp_path)).returncode == 2
    with on_a_terminal(command, environment(tmp_path), output=tmp_path / "output") as terminal:
        address, secret = re.findall(
            r"Open (http://127\.0\.0\.1:\d+)/ and type this secret there: (\w+)", terminal.line()
        )[0]
        entered = httpx.post(f"{address}/enter", data={"secret": secret}, follow_redirects=True)
        assert "No question is open." in entered.text
        terminal.interrupt()
    assert (tmp_path / "output").read_text() == ""


@pytest.mark.requirement("APPROVE-2")
def test_a_code_or_the_page_is_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vastai_workflow", "approve"]
    for more in ([], ["abcd2345", "--page"]):
        done = piped([*command, *more], "", environment(tmp_path))
        assert done.returncode == 2
        assert "--page" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.requirement("APPROVE-1")
def test_where_no_ledger_is_the_command_says_so_names_the_folder_and_makes_none(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    command = [sys.executable, "-m", "vastai_workflow", "approve", "abcd", "--store", str(elsewhere)]
    code, said = typed(command, "no", environment(tmp_path))
    assert code == 2
    assert f"no ledger is in {elsewhere}" in said
    assert "--store FOLDER" in said
    assert not elsewhere.exists()
