"""Where the API key comes from: asked for where it is new, read only then, and never shown."""

from pathlib import Path
from typing import Any

import pytest

from tests.stack import ERAS, Era, Stack, stack, text_of
from tests.tools.acts import follow, value_of
from tests.tools.person import Person, named_in
from vastai_workflow.store.sqlite import SqliteStore

MARK = "tell-tale-content"


def key_file(folder: Path, text: str, *, name: str = "keys/.vast_env", mode: int = 0o600) -> Path:
    """A key file."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


async def proposed(s: Stack, source: str) -> dict[str, Any]:
    """A proposal with a key source."""
    return await s.call("propose_fields", api_key_source=source)


@pytest.mark.requirement("KEY-1")
async def test_a_new_key_file_is_confirmed_first_and_prices_come_after(tmp_path: Path) -> None:
    async with stack(folder=tmp_path) as s:
        path = key_file(tmp_path, f"VAST_API_KEY={s.world.api_key}\n")
        proposal = await proposed(s, "file:keys/.vast_env")
        assert value_of(proposal, "api_key_source") == f"file:{path}"
        assert proposal["questions"] == [f"May the API key be read from file:{path}? Prices come after."]
        assert (proposal["outlook"], proposal["active"]) == (None, [])
        assert sum(s.world.requests.values()) == 0
        after = await follow(s, proposal)
        assert after["outlook"] is not None
        assert "Rent 1 machine" in after["questions"][0]
        assert after["next_call"]["arguments"]["digest"] == after["digest"]


@pytest.mark.requirement("KEY-1")
async def test_a_yes_to_everything_is_no_yes_to_a_key_file_that_was_not_read_yet(tmp_path: Path) -> None:
    async with stack(folder=tmp_path) as s:
        key_file(tmp_path, f"VAST_API_KEY={s.world.api_key}\n")
        proposal = await proposed(s, "file:keys/.vast_env")
        refusal = await s.refusal("confirm_fields", workflow_id=proposal["workflow_id"], digest=proposal["digest"])
        assert refusal["code"] == "key_source_not_confirmed"
        assert sum(s.world.requests.values()) == 0
        assert (await follow(s, refusal))["outlook"] is not None


@pytest.mark.requirement("KEY-1")
@pytest.mark.parametrize("tool", ["preflight", "find_offers", "instance_status", "billing_report"])
async def test_no_tool_reads_a_key_file_before_the_yes_to_it(tool: str, tmp_path: Path) -> None:
    async with stack(folder=tmp_path) as s:
        key_file(tmp_path, f"VAST_API_KEY={s.world.api_key}\n")
        proposal = await proposed(s, "file:keys/.vast_env")
        refusal = await s.refusal(tool, workflow_id=proposal["workflow_id"])
        assert refusal["code"] == "key_source_not_confirmed"
        assert "May the API key be read" in refusal["ask_user"]
        assert sum(s.world.requests.values()) == 0


@pytest.mark.requirement("ASK-1")
@pytest.mark.parametrize("era", ERAS)
async def test_the_person_is_asked_for_a_new_key_file_and_then_for_the_plan(era: Era, tmp_path: Path) -> None:
    person = Person()
    async with stack(era=era, folder=tmp_path, person=person) as s:
        path = key_file(tmp_path, f"VAST_API_KEY={s.world.api_key}\n")
        proposal = await proposed(s, "file:keys/.vast_env")
        assert proposal["questions"] == []
        refusal = await s.refusal("confirm_fields", workflow_id=proposal["workflow_id"])
        assert (refusal["code"], refusal["ask_user"]) == ("key_source_not_confirmed", None)
        refusal = await s.refusal("preflight", workflow_id=proposal["workflow_id"])
        assert (refusal["code"], refusal["ask_user"]) == ("key_source_not_confirmed", None)
        assert person.asked == []
        after = await follow(s, refusal)
        assert after["questions"] == []
        assert after["outlook"] is not None
        assert (await follow(s, after))["confirmation"]["purpose"] == "rent"
        assert named_in(person.asked[0]) == ".vast_env"
        assert f"May the API key be read from file:{path}?" in person.asked[0]
        assert f"API key from file:{path}." in person.asked[1]


@pytest.mark.requirement("ASK-4")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("answer", ["decline", "empty", "vast_env", ".vast_env.old"])
async def test_a_key_file_is_read_for_nobody_elses_yes(era: Era, answer: str, tmp_path: Path) -> None:
    async with stack(era=era, folder=tmp_path, person=Person(answer)) as s:
        key_file(tmp_path, f"VAST_API_KEY={s.world.api_key}\n")
        proposal = await proposed(s, "file:keys/.vast_env")
        call = proposal["next_call"]["arguments"]
        await s.refusal("confirm_fields", **call)
        assert isinstance(s.deps.store, SqliteStore)
        if answer == "decline":
            async with stack(era=era, folder=tmp_path, world=s.world, clock=s.clock, store=s.deps.store) as mute:
                assert (await mute.refusal("confirm_fields", **call))["code"] == "person_needed"
                again = await mute.call("propose_fields", workflow_id=proposal["workflow_id"], disk_gb=100)
                told = await mute.refusal(
                    "confirm_fields", **{**call, "digest": again["digest"]}
                )  # another field is changed: it is still the same file
                assert told["code"] == "person_needed"
        assert sum(s.world.requests.values()) == 0


@pytest.mark.requirement("KEY-2")
async def test_a_path_that_was_confirmed_before_is_the_default_and_is_read_at_once(tmp_path: Path) -> None:
    async with stack(folder=tmp_path) as s:
        path = key_file(tmp_path, f"export VAST_API_KEY='{s.world.api_key}'\n")
        del s.environment["VAST_API_KEY"]
        await follow(s, await proposed(s, "file:keys/.vast_env"))
        again = await s.call("propose_fields")
        assert value_of(again, "api_key_source") == f"file:{path}"
        assert again["outlook"] is not None
        assert (await s.call("preflight"))["account"] == "tester"


@pytest.mark.requirement("KEY-2")
async def test_the_last_confirmed_source_is_the_default(tmp_path: Path) -> None:
    async with stack(folder=tmp_path) as s:
        for name in ("b", "a"):
            key_file(tmp_path, s.world.api_key, name=name)
            await follow(s, await proposed(s, f"file:{name}"))
        assert value_of(await s.call("propose_fields"), "api_key_source") == f"file:{tmp_path / 'a'}"


@pytest.mark.requirement("KEY-3")
@pytest.mark.parametrize("source", ["env:OTHER", "cli"])
async def test_another_variable_and_the_official_clients_file_need_a_yes(source: str, tmp_path: Path) -> None:
    async with stack(folder=tmp_path) as s:
        s.environment["OTHER"] = s.world.api_key
        key_file(tmp_path, s.world.api_key, name=".vast_api_key")
        proposal = await proposed(s, source)
        assert proposal["outlook"] is None
        assert proposal["missing"][0] == "ssh_key" or "api_key_source" in proposal["missing"]
        assert sum(s.world.requests.values()) == 0
        assert (await follow(s, proposal))["outlook"] is not None


@pytest.mark.requirement("KEY-3")
async def test_the_usual_variable_needs_no_yes_to_be_read() -> None:
    async with stack() as s:
        assert (await s.call("propose_fields"))["outlook"] is not None


BAD: dict[str, tuple[str, str]] = {
    "missing": ("key_missing", "does not exist"),
    "world-readable": ("key_file_refused", "chmod 600"),
    "a directory": ("key_file_refused", "regular file"),
    "binary": ("key_file_refused", "no text"),
    "10 MB": ("key_file_refused", "too large"),
    "without the variable": ("key_file_refused", "VAST_API_KEY="),
    "empty variable": ("key_missing", "empty VAST_API_KEY"),
}


def _make_bad(kind: str, path: Path) -> None:
    if kind == "missing":
        return
    if kind == "a directory":
        path.mkdir()
        return
    content = {
        "world-readable": f"VAST_API_KEY={MARK}".encode(),
        "binary": b"VAST_API_KEY=" + MARK.encode() + b"\0\xff",
        "10 MB": MARK.encode() * 600_000,
        "without the variable": f"AWS_SECRET={MARK} more words\nTOKEN={MARK}".encode(),
        "empty variable": f"# {MARK}\nVAST_API_KEY=".encode(),
    }[kind]
    path.write_bytes(content)
    path.chmod(0o644 if kind == "world-readable" else 0o600)


@pytest.mark.requirement("INPUT-8")
@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_key_file_is_told_with_the_next_step_and_without_its_content(kind: str, tmp_path: Path) -> None:
    code, words = BAD[kind]
    async with stack(folder=tmp_path) as s:
        _make_bad(kind, tmp_path / "key")
        proposal = await proposed(s, "file:key")
        known = {"workflow_id": proposal["workflow_id"]}
        told = await s.client.call_tool("confirm_fields", proposal["next_call"]["arguments"])
        refusal = await s.refusal("find_offers", **known)
        assert refusal["code"] == code
        result = await s.client.call_tool("find_offers", known)
        assert words in text_of(told)
        assert words in text_of(result)
        assert "Next: " in text_of(result)
        assert MARK not in repr(told) + repr(result)
        assert sum(s.world.requests.values()) == 0


@pytest.mark.requirement("INPUT-8")
async def test_a_file_outside_the_working_folder_and_home_is_refused_at_once(tmp_path: Path) -> None:
    inside = tmp_path / "home"
    inside.mkdir()
    outside = key_file(tmp_path, f"VAST_API_KEY={MARK}", name="outside")
    (inside / "link").symlink_to(outside)
    async with stack(folder=inside) as s:
        for source in (f"file:{outside}", "file:../outside", "file:link"):
            refusal = await s.refusal("propose_fields", api_key_source=source)
            assert refusal["code"] == "key_file_refused"
            assert MARK not in str(refusal)


@pytest.mark.requirement("INPUT-8")
@pytest.mark.parametrize(
    "name", ["x\x1b[2J\x1b[Hy", "x\nTo agree, type the name of the key source: yes", "x\u202ey", "x\u200by"], ids=ascii
)
@pytest.mark.parametrize("era", ERAS)
async def test_a_path_that_would_show_as_another_is_refused_where_it_is_resolved(
    era: Era, name: str, tmp_path: Path
) -> None:
    async with stack(era=era, folder=tmp_path) as s:
        (tmp_path / "key").symlink_to(key_file(tmp_path, s.world.api_key, name=name))
        result = await s.client.call_tool("propose_fields", {"api_key_source": "file:key"})
        assert result.is_error
        assert "characters that do not show" in text_of(result)
        assert name not in text_of(result)
        assert not await s.deps.store.workflows("local")


@pytest.mark.requirement("INPUT-8")
async def test_a_missing_key_is_told_with_the_next_step_and_the_dialog_goes_on() -> None:
    async with stack() as s:
        del s.environment["VAST_API_KEY"]
        proposal = await s.call("propose_fields")
        assert "VAST_API_KEY holds no key" in proposal["questions"][0]
        assert proposal["outlook"] is None
        for tool in ("preflight", "instance_status", "billing_report"):
            assert (await s.refusal(tool))["code"] == "key_missing"
        s.environment["VAST_API_KEY"] = s.world.api_key
        assert proposal["problem"] == "key_missing"
        assert "file:PATH" in proposal["questions"][0]
        again = await s.call("propose_fields", workflow_id=proposal["workflow_id"])
        assert again["outlook"] is not None


@pytest.mark.requirement("INPUT-8")
async def test_a_key_given_in_the_place_of_its_source_is_refused_and_not_repeated() -> None:
    async with stack() as s:
        result = await s.client.call_tool("propose_fields", {"api_key_source": s.world.api_key})
        assert result.is_error
        assert s.world.api_key not in repr(result)


@pytest.mark.requirement("KEY-4")
@pytest.mark.parametrize("action", ["status", "ssh", "destroy", "billing"])
async def test_for_another_action_nothing_is_asked_where_the_key_is_in_the_environment(action: str) -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", action=action)
        assert proposal["questions"] == []
        assert s.world.requests["search"] == 0
        after = "billing_report" if action == "billing" else "instance_status"
        assert proposal["next_call"] == {"tool": after, "arguments": {}}, "of all machines, not of this new dialog"


@pytest.mark.requirement("KEY-4")
async def test_for_another_action_only_the_key_source_is_asked(tmp_path: Path) -> None:
    async with stack(folder=tmp_path) as s:
        key_file(tmp_path, s.world.api_key, name="key")
        proposal = await s.call("propose_fields", action="status", api_key_source="file:key")
        assert len(proposal["questions"]) == 1
        confirmed = await follow(s, proposal)
        assert confirmed["questions"] == []
        assert (await follow(s, confirmed))["instances"] == []
