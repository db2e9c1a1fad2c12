"""Taking an SSH key away: from our machines at once, anything else by a yes to its fingerprint, and told as it is."""

from pathlib import Path
from typing import Any

import pytest

from tests.real_ssh import real_ssh
from tests.stack import ERAS, PUBLIC_KEY, Era, Stack, stack, text_of
from tests.tools.acts import Heard, arm, follow, stranger, writes
from tests.tools.person import Person, named_in
from vastai_workflow.access.keys import SshKeys, own_key_pair
from vastai_workflow.cli.log import table
from vastai_workflow.domain.audit import Kind
from vastai_workflow.domain.caps import Caps
from vastai_workflow.simulator.accounts import SshKey
from vastai_workflow.simulator.world import World
from vastai_workflow.steps.probing import target_of
from vastai_workflow.store.sqlite import SqliteStore
from vastai_workflow.vast.limits import MAX_TRIES

BOBS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnotherKeyThatNobodyHasSeenBeforeNowxxxxx bob@elsewhere"

both_eras = pytest.mark.parametrize("era", ERAS)


def fingerprint(s: Stack, public_key: str = PUBLIC_KEY) -> str:
    named = s.deps.keys.fingerprint(public_key)
    assert named is not None
    return named


def put_on_account(world: World, public_key: str) -> int:
    key = SshKey(world.new_id(), public_key, world.time)
    world.account.ssh_keys[key.id] = key
    return key.id


def on_account(s: Stack) -> set[str]:
    return {key.public_key.split()[1] for key in s.world.account.ssh_keys.values()}


def on_machine(s: Stack, machine: int) -> set[str]:
    return {key.public_key.split()[1] for key in s.world.instances[machine].ssh_keys.values()}


def put_on_machine(s: Stack, machine: int, public_key: str) -> None:
    key = SshKey(s.world.new_id(), public_key, s.world.time)
    s.world.instances[machine].ssh_keys[key.id] = key


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def blob(public_key: str) -> str:
    return public_key.split()[1]


def states(answer: dict[str, Any]) -> list[tuple[int | None, str]]:
    return [(row["instance_id"], row["state"]) for row in answer["keys"]]


@both_eras
@pytest.mark.requirement("UNKEY-1")
async def test_the_agreed_key_goes_from_our_machine_at_once_and_twice_is_no_more_than_once(era: Era) -> None:
    async with stack(era=era) as s:
        _, [machine] = await s.ready()
        first = await s.call("remove_ssh_key", instance_ids=[machine])
        again = await s.call("remove_ssh_key", instance_ids=[machine])
        assert (states(first), states(again)) == ([(machine, "gone")], [(machine, "was not there")])
        assert on_machine(s, machine) == set()
        assert s.world.requests["detach"] == 1
        assert blob(PUBLIC_KEY) in on_account(s)


@pytest.mark.requirement("UNKEY-1")
@pytest.mark.parametrize("name", [PUBLIC_KEY.replace("tester", "renamed"), None, ""], ids=["text", "none", "empty"])
async def test_keys_are_compared_by_their_blob_and_every_copy_goes(name: str | None) -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        put_on_machine(s, machine, PUBLIC_KEY.replace("tester", "laptop"))
        put_on_machine(s, machine, BOBS)
        done = await s.call("remove_ssh_key", instance_ids=[machine], public_key=name)
        assert states(done) == [(machine, "gone")]
        assert on_machine(s, machine) == {blob(BOBS)}


@both_eras
@pytest.mark.requirement("UNKEY-2")
async def test_a_key_that_was_taken_away_is_given_back_by_no_wait_and_by_no_call_without_a_yes(era: Era) -> None:
    async with stack(era=era) as s:
        workflow_id, [machine] = await s.ready()
        await s.call("remove_ssh_key", instance_ids=[machine])
        s.clock.advance(120)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
        [row] = waited["instances"]
        assert (row["readiness"], row["ssh"], waited["next_call"]) == ("running", None, None)
        assert "taken away" in row["reason"]
        assert on_machine(s, machine) == set()
        refusal = await s.refusal("attach_ssh_key", instance_ids=[machine])
        assert refusal["code"] == "purpose_not_confirmed"
        await follow(s, refusal)
        await s.call("attach_ssh_key", instance_ids=[machine])
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
        assert [item["readiness"] for item in waited["instances"]] == ["gpu_ok"]


@both_eras
@pytest.mark.requirement("UNKEY-7")
async def test_a_key_is_told_as_taken_away_once_a_list_shows_it_gone_and_not_before(era: Era) -> None:
    async with stack(era=era) as s:
        workflow_id, [one, other] = await s.ready(count=2, fleet="best_effort")
        arm(s, "http_error", operation="detach", status=403)
        assert states(await s.call("remove_ssh_key", instance_ids=[one])) == [(one, "unknown")]
        wait = {"workflow_id": workflow_id, "timeout_s": 30}
        for tool, arguments in (("instance_status", {"workflow_id": workflow_id}), ("wait_until_ready", wait)):
            row, _ = (await s.call(tool, **arguments))["instances"]
            assert row["reason"].startswith("the agreed SSH key is to be taken away")
            assert row["reason"].endswith("call remove_ssh_key")
        assert on_machine(s, one) == {blob(PUBLIC_KEY)}
        assert states(await s.call("remove_ssh_key", instance_ids=[one])) == [(one, "gone")]
        row, _ = (await s.call("wait_until_ready", **wait))["instances"]
        assert row["reason"].startswith("the agreed SSH key was taken away")
        assert (await s.call("remove_ssh_key", instance_ids=[other]))["keys"][0]["state"] == "gone"
        s.world.instances[one].ssh_keys = {1: SshKey(1, PUBLIC_KEY, s.world.time)}
        arm(s, "destroy_ignored", operation="detach")
        assert states(await s.call("remove_ssh_key", instance_ids=[one])) == [(one, "still there")]
        row, row_of_other = (await s.call("instance_status", workflow_id=workflow_id))["instances"]
        assert "is to be taken away" in row["reason"]
        assert "was taken away" in row_of_other["reason"]


@pytest.mark.requirement("UNKEY-2")
async def test_machines_without_their_key_are_not_counted_as_ready() -> None:
    async with stack() as s:
        workflow_id, [one, other] = await s.ready(count=2, fleet="best_effort")
        heard = Heard()
        wait = {"workflow_id": workflow_id, "timeout_s": 30}
        await s.call("remove_ssh_key", instance_ids=[one])
        first = await s.client.call_tool("wait_until_ready", wait, progress_callback=heard)
        await s.call("remove_ssh_key", instance_ids=[other])
        second = await s.client.call_tool("wait_until_ready", wait, progress_callback=heard)
        told = ["2 machines: 1 ready, 1 without a login", "2 machines: 2 without a login"]
        assert [text_of(answer).splitlines()[0] for answer in (first, second)] == told
        assert heard.lines == told


@both_eras
@pytest.mark.requirement("UNKEY-2")
async def test_a_key_that_is_attached_again_is_that_of_the_machines_yes_and_not_the_usual_one(era: Era) -> None:
    async with stack(era=era) as s:
        workflow_id, [machine] = await s.ready(ssh_key=BOBS)
        await s.call("remove_ssh_key", instance_ids=[machine])
        exported = await s.refusal("export_inventory", format="ssh_config")
        refusal = await s.refusal("attach_ssh_key", **exported["next_call"]["arguments"])
        assert fingerprint(s, BOBS) in refusal["ask_user"]
        await follow(s, refusal)
        await follow(s, exported)
        assert on_machine(s, machine) == {blob(BOBS)}
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
        assert [row["readiness"] for row in waited["instances"]] == ["gpu_ok"]
        assert (await s.call("export_inventory", format="ssh_config"))["included"] == [machine]


@both_eras
@pytest.mark.requirement("UNKEY-3")
async def test_another_key_on_our_machine_and_any_key_on_anothers_take_a_yes_each(era: Era) -> None:
    async with stack(era=era) as s:
        _, [machine] = await s.ready()
        other = stranger(s)
        put_on_machine(s, machine, BOBS)
        put_on_machine(s, other, PUBLIC_KEY)
        for call in (
            {"instance_ids": [machine], "public_key": BOBS},
            {"instance_ids": [other], "public_key": fingerprint(s)},
        ):
            before = dict(writes(s))
            refusal = await s.refusal("remove_ssh_key", **call)
            assert refusal["code"] == "purpose_not_confirmed"
            assert fingerprint(s, BOBS if call["public_key"] == BOBS else PUBLIC_KEY) in refusal["ask_user"]
            assert writes(s) == before
            assert (await follow(s, refusal))["confirmation"]["purpose"] == "detach"
            assert states(await s.call("remove_ssh_key", **call)) == [(call["instance_ids"][0], "gone")]
        assert on_machine(s, machine) == {blob(PUBLIC_KEY)}
        assert on_machine(s, other) == set()


@pytest.mark.requirement("UNKEY-3")
async def test_a_yes_to_take_one_key_is_none_to_another_key_machine_or_purpose() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        other = stranger(s)
        third = BOBS.replace("Another", "Athird0")
        for key in (BOBS, third):
            put_on_machine(s, machine, key)
            put_on_machine(s, other, key)
            put_on_account(s.world, key)
        await follow(s, await s.refusal("remove_ssh_key", instance_ids=[machine], public_key=BOBS))
        refused = [
            await s.refusal("remove_ssh_key", instance_ids=[machine], public_key=third),
            await s.refusal("remove_ssh_key", instance_ids=[other], public_key=BOBS),
            await s.refusal("remove_ssh_key", public_key=BOBS),
            await s.refusal("attach_ssh_key", instance_ids=[machine], public_key=BOBS),
        ]
        await follow(s, await s.refusal("remove_ssh_key", public_key=BOBS))
        refused.append(await s.refusal("remove_ssh_key", public_key=third))
        codes = [refusal["code"] for refusal in refused]
        assert codes == ["digest_mismatch", *["purpose_not_confirmed"] * 3, "digest_mismatch"]
        assert (s.world.requests["detach"], s.world.requests["delete_ssh_key"]) == (0, 0)


@pytest.mark.requirement("UNKEY-3")
async def test_without_a_name_a_machine_that_was_not_rented_here_keeps_its_keys_and_they_are_listed() -> None:
    async with stack() as s:
        other = stranger(s)
        put_on_machine(s, other, BOBS)
        refusal = await s.refusal("remove_ssh_key", instance_ids=[other])
        assert refusal["code"] == "invalid_argument"
        assert f"{fingerprint(s, BOBS)} ('bob@elsewhere')" in refusal["message"]
        assert s.world.requests["detach"] == 0


@both_eras
@pytest.mark.requirement("UNKEY-4")
async def test_from_the_account_a_key_goes_by_a_yes_of_its_own_and_the_machines_that_keep_it_are_named(
    era: Era,
) -> None:
    async with stack(era=era) as s:
        workflow_id, [machine] = await s.ready()
        refusal = await s.refusal("remove_ssh_key", workflow_id=workflow_id)
        assert refusal["code"] == "purpose_not_confirmed"
        for said in (fingerprint(s), "from the account", "agreed to here", f"keep it: {machine}."):
            assert said in refusal["ask_user"]
        assert s.world.requests["delete_ssh_key"] == 0
        await follow(s, refusal)
        done = await s.call("remove_ssh_key", workflow_id=workflow_id)
        assert (states(done), done["still_on"]) == ([(None, "gone")], [machine])
        assert (on_account(s), on_machine(s, machine)) == (set(), {blob(PUBLIC_KEY)})
        again = await s.call("remove_ssh_key", workflow_id=workflow_id)
        assert states(again) == [(None, "was not there")]
        assert "no key" in again["keys"][0]["reason"]


@pytest.mark.requirement("UNKEY-4")
async def test_a_yes_to_take_a_key_from_the_account_is_spent_by_one_call() -> None:
    async with stack() as s:
        put_on_account(s.world, BOBS)
        await follow(s, await s.refusal("remove_ssh_key", public_key=BOBS))
        await s.call("remove_ssh_key", public_key=BOBS)
        put_on_account(s.world, BOBS)
        assert (await s.refusal("remove_ssh_key", public_key=BOBS))["code"] == "confirmation_spent"
        assert s.world.requests["delete_ssh_key"] == 1


@pytest.mark.requirement("UNKEY-4")
async def test_a_machine_that_lost_the_key_before_is_not_named_as_one_that_keeps_it() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        await s.call("remove_ssh_key", instance_ids=[machine])
        refusal = await s.refusal("remove_ssh_key", workflow_id=workflow_id)
        assert "keep it: none of ours." in refusal["ask_user"]
        await follow(s, refusal)
        assert (await s.call("remove_ssh_key", workflow_id=workflow_id))["still_on"] == []


@pytest.mark.requirement("UNKEY-4")
async def test_a_machine_that_got_the_key_from_the_account_or_can_not_be_read_is_named_too() -> None:
    async with stack() as s:
        put_on_account(s.world, BOBS)
        _, [machine] = await s.ready()
        arm(s, "http_error", operation="instance_keys", times=MAX_TRIES, status=500)
        refusal = await s.refusal("remove_ssh_key", public_key=BOBS)
        assert f"Not known: {machine}" in refusal["ask_user"]
        s.clock.advance(5)
        refusal = await s.refusal("remove_ssh_key", public_key=BOBS)
        assert f"keep it: {machine}" in refusal["ask_user"]


@both_eras
@pytest.mark.requirement("UNKEY-5")
async def test_another_persons_key_goes_only_by_the_end_of_its_fingerprint_typed_by_the_person(era: Era) -> None:
    person = Person("ours", "decline")
    async with stack(era=era, person=person) as s:
        put_on_account(s.world, PUBLIC_KEY)
        put_on_account(s.world, BOBS)
        refusal = await s.refusal("remove_ssh_key", public_key=fingerprint(s, BOBS))
        asking = refusal["next_call"]
        for code in ("wrong_answer", "declined"):
            assert (await s.refusal(asking["tool"], **asking["arguments"]))["code"] == code
        assert on_account(s) == {blob(PUBLIC_KEY), blob(BOBS)}
        await follow(s, await s.refusal("remove_ssh_key", public_key=fingerprint(s, BOBS)))
        await s.call("remove_ssh_key", public_key=fingerprint(s, BOBS))
        assert on_account(s) == {blob(PUBLIC_KEY)}
        assert named_in(person.asked[0]) == fingerprint(s, BOBS)[-4:]
        for said in (fingerprint(s, BOBS), "'bob@elsewhere'", "may be another person's"):
            assert said in person.asked[0]


@pytest.mark.requirement("UNKEY-5")
async def test_without_a_name_no_key_is_taken_from_the_account_and_all_are_listed() -> None:
    async with stack() as s:
        put_on_account(s.world, PUBLIC_KEY)
        put_on_account(s.world, BOBS)
        refusal = await s.refusal("remove_ssh_key")
        assert refusal["code"] == "invalid_argument"
        for key in (PUBLIC_KEY, BOBS):
            assert fingerprint(s, key) in refusal["message"]
        absent = await s.call("remove_ssh_key", public_key=BOBS.replace("Another", "Athird0"))
        assert states(absent) == [(None, "was not there")]
        assert len(s.world.account.ssh_keys) == 2


@pytest.mark.requirement("UNKEY-5")
async def test_an_account_without_keys_answers_404_and_there_is_nothing_to_take() -> None:
    async with stack() as s:
        done = await s.call("remove_ssh_key", public_key=BOBS)
        assert (states(done), done["keys"][0]["reason"]) == ([(None, "was not there")], "the account has no key")
        assert writes(s) == {}


@both_eras
@pytest.mark.requirement("UNKEY-6")
async def test_in_a_team_a_key_goes_from_the_machine_and_the_account_is_said_to_have_none(era: Era) -> None:
    async with stack(era=era) as s:
        s.world.account.team = True
        workflow_id, [machine] = await s.ready()
        refusal = await s.refusal("remove_ssh_key", workflow_id=workflow_id)
        assert refusal["code"] == "team_ssh_keys_not_supported"
        assert s.world.requests["delete_ssh_key"] == 0
        assert states(await s.call("remove_ssh_key", instance_ids=[machine])) == [(machine, "gone")]


@pytest.mark.requirement("UNKEY-7")
async def test_a_success_that_took_nothing_away_is_called_still_there() -> None:
    async with stack() as s:
        put_on_account(s.world, BOBS)
        _, [machine] = await s.ready()
        arm(s, "destroy_ignored", operation="detach")
        arm(s, "destroy_ignored", operation="delete_ssh_key")
        assert states(await s.call("remove_ssh_key", instance_ids=[machine])) == [(machine, "still there")]
        await follow(s, await s.refusal("remove_ssh_key", public_key=BOBS))
        assert states(await s.call("remove_ssh_key", public_key=BOBS)) == [(None, "still there")]


@pytest.mark.requirement("UNKEY-7")
async def test_one_machine_that_refuses_hides_no_other_and_what_is_not_known_is_said() -> None:
    async with stack() as s:
        _, machines = await s.ready(count=2, fleet="best_effort")
        arm(s, "http_error", operation="detach", times=MAX_TRIES, status=500)
        one, other = (await s.call("remove_ssh_key", instance_ids=machines))["keys"]
        assert (one["state"], other["state"]) == ("unknown", "gone")
        assert "provider_down" in one["reason"]


@pytest.mark.requirement("UNKEY-7")
async def test_one_call_is_bounded_and_the_next_takes_the_rest() -> None:
    async with stack() as s:
        _, machines = await s.ready(count=5, fleet="best_effort")
        arm(s, "delay", operation="detach", times=4, seconds=15.0)
        began = s.clock.now()
        first = await s.call("remove_ssh_key", instance_ids=machines)
        assert s.clock.now() - began < 60
        left = [row["instance_id"] for row in first["keys"] if row["state"] == "unknown"]
        assert len(left) == 2
        assert all("call again" in row["reason"] for row in first["keys"] if row["state"] == "unknown")
        second = await s.call("remove_ssh_key", instance_ids=left)
        assert {row["state"] for row in second["keys"]} == {"gone"}
        assert not any(on_machine(s, machine) for machine in machines)


@pytest.mark.requirement("UNKEY-7")
async def test_a_read_only_server_takes_no_key() -> None:
    async with stack(caps=Caps(read_only=True)) as s:
        put_on_account(s.world, BOBS)
        for call in ({"public_key": BOBS}, {"instance_ids": [1]}):
            assert (await s.refusal("remove_ssh_key", **call))["code"] == "read_only"


@pytest.mark.requirement("UNKEY-8")
async def test_no_file_of_a_key_is_touched_and_none_is_made(tmp_path: Path) -> None:
    own_key_pair(tmp_path / "state")
    files = contents(tmp_path)
    keys = SshKeys(home=tmp_path / "home", state_dir=tmp_path / "state")
    async with stack(keys=keys) as s:
        workflow_id, [machine] = await s.ready()
        await s.call("remove_ssh_key", instance_ids=[machine])
        await follow(s, await s.refusal("remove_ssh_key", workflow_id=workflow_id))
        assert states(await s.call("remove_ssh_key", workflow_id=workflow_id)) == [(None, "gone")]
    assert contents(tmp_path) == files
    empty = SshKeys(home=tmp_path / "home", state_dir=tmp_path / "none")
    async with stack(keys=empty) as s:
        put_on_account(s.world, PUBLIC_KEY)
        await s.refusal("remove_ssh_key")
        await s.refusal("remove_ssh_key", public_key=PUBLIC_KEY)
    assert not (tmp_path / "none").exists()


@pytest.mark.requirement("AUDIT-1")
async def test_the_trail_and_log_tell_of_each_key_that_was_taken_and_whose_yes_it_was() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        await s.call("remove_ssh_key", instance_ids=[machine])
        await follow(s, await s.refusal("remove_ssh_key", workflow_id=workflow_id))
        await s.call("remove_ssh_key", workflow_id=workflow_id)
        trail = await s.deps.store.trail(workflow_id)
        noted, first, *_, used, second = trail[-6:]
        assert (noted.code, noted.what) == ("rented, noted", "its SSH key goes")
        assert (first.kind, first.instance_ids, first.by) == (Kind.KEY, (machine,), "called by mcp")
        assert (used.kind, used.purpose, used.what, used.by) == (Kind.USED, "detach", fingerprint(s), "relayed by mcp")
        assert second.what == f"{fingerprint(s)} taken from the account, gone"
        shown = "".join("".join(line.split()) for line in table(trail))
        assert f"detachmachine{machine}:{fingerprint(s)}" in shown, "cells are wrapped"


@both_eras
@pytest.mark.requirement("UNKEY-2")
async def test_after_a_restart_the_key_is_still_known_to_have_been_taken_away(era: Era) -> None:
    async with stack(era=era) as s:
        workflow_id, [machine] = await s.ready()
        await s.call("remove_ssh_key", instance_ids=[machine])
        assert isinstance(s.deps.store, SqliteStore)
        async with stack(era=era, world=s.world, clock=s.clock, store=s.deps.store) as next_one:
            told = await next_one.client.call_tool("instance_status", {"workflow_id": workflow_id})
            assert "taken away" in text_of(told)
            await next_one.call("wait_until_ready", workflow_id=workflow_id)
            assert on_machine(next_one, machine) == set()


@pytest.mark.requirement("UNKEY-1")
async def test_a_real_login_is_refused_once_the_key_was_taken_away(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        _, [machine] = await s.ready()
        [order] = await s.deps.store.orders()
        assert order.ssh_key is not None
        [instance] = await (await s.deps.markets.open(order.key_source)).instances()
        target = target_of(order, order.ssh_key, instance, local_market=True)
        assert (await s.deps.prober.probe(target, timeout_s=30)).stage == "gpu_ok"
        await s.call("remove_ssh_key", instance_ids=[machine])
        after = await s.deps.prober.probe(target, timeout_s=30)
        assert (after.stage, after.reason) == ("port_open", "auth_refused")
