"""What needs a yes of its own: start, recycle, another key, and what is not ours. Refused, asked, done, once."""

import re
from typing import Any

import pytest

from tests.stack import ERAS, Era, FixedKeys, Stack, stack, text_of
from tests.tools.acts import follow, stranger, writes
from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.money import Rate
from vastai_workflow.simulator.accounts import SshKey

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnotherKeyThatNobodyHasSeenBeforeNowxxxxx other"


async def _stopped(s: Stack) -> tuple[str, int]:
    _, [machine] = await s.ready()
    await s.call("stop_instances", instance_ids=[machine])
    return "start", machine


async def _ready(s: Stack) -> tuple[str, int]:
    _, [machine] = await s.ready()
    return "", machine


async def _others(s: Stack) -> tuple[str, int]:
    return "", stranger(s)


async def _with_another_key(s: Stack) -> tuple[str, int]:
    _, [machine] = await s.ready()
    s.world.instances[machine].ssh_keys[7] = SshKey(7, OTHER_KEY, s.world.time)
    return "", machine


CASES: dict[str, tuple[Any, str, dict[str, Any], str]] = {
    "start": (_stopped, "start_instances", {}, "start"),
    "recycle": (_ready, "restart_instances", {"mode": "recycle"}, "recycle"),
    "another public key": (_ready, "attach_ssh_key", {"public_key": OTHER_KEY}, "attach"),
    "stop of another's": (_others, "stop_instances", {}, "end"),
    "reboot of another's": (_others, "restart_instances", {"mode": "reboot"}, "end"),
    "destroy of another's": (_others, "destroy_instances", {}, "end"),
    "key for another's": (_others, "attach_ssh_key", {}, "attach"),
    "another key on ours taken away": (_with_another_key, "remove_ssh_key", {"public_key": OTHER_KEY}, "detach"),
}

each_case = pytest.mark.parametrize(("prepare", "tool", "extra", "purpose"), CASES.values(), ids=CASES)


@pytest.mark.requirement("PURPOSE-1")
@pytest.mark.parametrize("era", ERAS)
@each_case
async def test_without_its_own_yes_nothing_is_sent_and_with_it_it_works_once(
    prepare: Any, tool: str, extra: dict[str, Any], purpose: str, era: Era
) -> None:
    async with stack(era=era) as s:
        _, machine = await prepare(s)
        call = {"instance_ids": [machine], **extra}
        before = dict(writes(s))
        refusal = await s.refusal(tool, **call)
        assert refusal["code"] == "purpose_not_confirmed"
        assert re.fullmatch(
            rf"no yes yet to (\w+|attach this SSH key to|take this SSH key from) {machine}", refusal["message"]
        )
        assert str(machine) in refusal["ask_user"]
        assert writes(s) == before
        given = await follow(s, refusal)
        assert given["confirmation"]["purpose"] == purpose
        await s.call(tool, **call)
        assert writes(s) != before
        if tool in {"start_instances", "destroy_instances", "remove_ssh_key"}:
            return  # a machine that runs, or is gone, needs no second one, nor does a key that is gone
        after = dict(writes(s))
        assert (await s.refusal(tool, **call))["code"] == "confirmation_spent"
        assert writes(s) == after


@pytest.mark.requirement("PURPOSE-1")
@pytest.mark.parametrize("era", ERAS)
@each_case
async def test_a_yes_of_its_own_leads_to_the_call_that_it_is_for_also_when_it_is_told_twice(
    prepare: Any, tool: str, extra: dict[str, Any], purpose: str, era: Era
) -> None:
    async with stack(era=era) as s:
        _, machine = await prepare(s)
        call = {"instance_ids": [machine], **extra}
        refusal = await s.refusal(tool, **call)
        for _ in range(2):
            told = await s.client.call_tool("confirm_fields", refusal["next_call"]["arguments"])
            assert told.structured_content is not None
            assert told.structured_content["confirmation"]["purpose"] == purpose
            assert told.structured_content["next_call"] == {"tool": tool, "arguments": call}
            assert f"Next: {tool}(instance_ids=[{machine}]" in text_of(told)


@pytest.mark.requirement("PURPOSE-2")
@pytest.mark.parametrize(
    ("purpose", "leads_to"), [("start", "start_instances"), ("recycle", "restart_instances"), ("end", None)]
)
async def test_a_yes_to_nothing_is_told_which_call_asks(purpose: str, leads_to: str | None) -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        refusal = await s.refusal(
            "confirm_fields", workflow_id=workflow_id, purpose=purpose, instance_ids=[machine], digest="0" * 16
        )
        if leads_to is None:
            assert refusal["next_call"] is None
        else:
            assert refusal["next_call"]["tool"] == leads_to
            assert refusal["next_call"]["arguments"]["instance_ids"] == [machine]


@pytest.mark.requirement("PURPOSE-1")
async def test_a_yes_to_start_is_spent_by_one_start() -> None:
    async with stack() as s:
        _, machine = await _stopped(s)
        await follow(s, await s.refusal("start_instances", instance_ids=[machine]))
        await s.call("start_instances", instance_ids=[machine])
        s.clock.advance(60)
        await s.call("stop_instances", instance_ids=[machine])
        assert (await s.refusal("start_instances", instance_ids=[machine]))["code"] == "confirmation_spent"


@pytest.mark.requirement("PURPOSE-2")
async def test_a_yes_to_one_machine_is_none_to_another() -> None:
    async with stack() as s:
        one, other = stranger(s), stranger(s)
        await follow(s, await s.refusal("destroy_instances", instance_ids=[one]))
        refusal = await s.refusal("destroy_instances", instance_ids=[one, other])
        assert refusal["code"] == "purpose_not_confirmed"
        assert writes(s) == {}


@pytest.mark.requirement("PURPOSE-2")
async def test_a_yes_to_stop_is_none_to_destroy() -> None:
    async with stack() as s:
        other = stranger(s)
        await follow(s, await s.refusal("stop_instances", instance_ids=[other]))
        refusal = await s.refusal("destroy_instances", instance_ids=[other])
        assert refusal["code"] == "digest_mismatch"
        assert writes(s) == {}


@pytest.mark.parametrize("unused", [True, False])
@pytest.mark.requirement("PURPOSE-2")
async def test_a_yes_to_something_else_is_told_by_what_it_is_to_while_it_is_open(*, unused: bool) -> None:
    async with stack() as s:
        other = stranger(s)
        reboot = {"instance_ids": [other], "mode": "reboot"}
        await follow(s, await s.refusal("restart_instances", **reboot))
        if not unused:
            await s.call("restart_instances", **reboot)
        refusal = await s.refusal("stop_instances", instance_ids=[other])
        assert (refusal["code"], refusal["message"]) == (
            ("digest_mismatch", f"got a yes to reboot {other}, needed one to stop {other}")
            if unused
            else ("purpose_not_confirmed", f"no yes yet to stop {other}")
        )
        assert refusal["ask_user"].startswith(f"Stop {other}")
        await follow(s, await follow(s, refusal))
        assert s.world.requests["stop"] == 1


@pytest.mark.requirement("PURPOSE-2")
async def test_a_yes_to_one_key_is_none_to_another() -> None:
    async with stack() as s:
        _, machine = await _ready(s)
        call = {"instance_ids": [machine], "public_key": OTHER_KEY}
        await follow(s, await s.refusal("attach_ssh_key", **call))
        third = OTHER_KEY.replace("Another", "Athird0")
        refusal = await s.refusal("attach_ssh_key", **{**call, "public_key": third})
        got, needed = FixedKeys().fingerprint(OTHER_KEY), FixedKeys().fingerprint(third)
        to = f"attach this SSH key to {machine}"
        assert refusal["code"] == "digest_mismatch"
        assert refusal["message"] == f"got a yes to {to} ({got}), needed one to {to} ({needed})"
        assert s.world.requests["attach"] == 0


@pytest.mark.requirement("PURPOSE-2")
async def test_the_question_of_a_key_names_the_machines_and_those_not_rented_here() -> None:
    async with stack() as s:
        _, machine = await _ready(s)
        other = stranger(s, label="theirs")
        refusal = await s.refusal("attach_ssh_key", instance_ids=[machine, other], public_key=OTHER_KEY)
        mine = s.world.instances[machine].label
        assert refusal["ask_user"] == (
            f"Let the SSH key {FixedKeys().fingerprint(OTHER_KEY)} log in as root on {machine} ({mine!r}), "
            f"{other} ('theirs')? This server did not rent {other}."
        )


@pytest.mark.requirement("PURPOSE-2")
async def test_a_yes_of_its_own_expires_after_half_an_hour() -> None:
    async with stack() as s:
        other = stranger(s)
        await follow(s, await s.refusal("destroy_instances", instance_ids=[other]))
        s.clock.advance(1800)
        refusal = await s.refusal("destroy_instances", instance_ids=[other])
        assert refusal["code"] == "confirmation_expired"
        await follow(s, refusal)
        await s.call("destroy_instances", instance_ids=[other])
        assert s.world.requests["destroy"] >= 1


@pytest.mark.requirement("PURPOSE-2")
async def test_a_yes_to_a_question_that_was_not_asked_is_refused() -> None:
    async with stack() as s:
        other = stranger(s)
        refusal = await s.refusal("destroy_instances", instance_ids=[other])
        arguments = refusal["next_call"]["arguments"]
        wrong: list[dict[str, Any]] = [
            {"digest": "0" * 16},
            {"digest": None},
            {"purpose": "recycle"},
            {"instance_ids": [other + 1]},
        ]
        for change in wrong:
            given = {name: value for name, value in {**arguments, **change}.items() if value is not None}
            assert (await s.refusal("confirm_fields", **given))["code"] == "digest_mismatch"


@pytest.mark.requirement("PURPOSE-2")
async def test_a_start_that_became_dearer_than_the_yes_is_asked_again() -> None:
    async with stack() as s:
        _, machine = await _stopped(s)
        await follow(s, await s.refusal("start_instances", instance_ids=[machine]))
        s.world.instances[machine].dph_base *= 2
        refusal = await s.refusal("start_instances", instance_ids=[machine])
        assert refusal["code"] == "price_above_ceiling"
        await follow(s, refusal)
        await s.call("start_instances", instance_ids=[machine])
        assert s.world.requests["start"] == 1


@pytest.mark.requirement("PURPOSE-1")
@pytest.mark.parametrize("era", ERAS)
async def test_a_machine_is_asked_about_with_its_label_and_whose_it_is(era: Era) -> None:
    async with stack(era=era) as s:
        machine = stranger(s)
        costs = (await s.call("preflight"))["active"][0]["price_per_hour"]
        recycle = await s.refusal("restart_instances", instance_ids=[machine], mode="recycle")
        assert recycle["ask_user"] == (
            f"Recycle {machine} ('mine')? The data in its container is lost. "
            f"It goes on costing {Rate.of(costs)}. This server did not rent {machine}."
        )
        s.world.life.stop(s.world.instances[machine])
        s.clock.advance(60)
        start = await s.refusal("start_instances", instance_ids=[machine])
        assert start["ask_user"].startswith(f"Start {machine} ('mine') at $")


@pytest.mark.requirement("PURPOSE-1")
@pytest.mark.parametrize("era", ERAS)
async def test_a_yes_to_destroy_counts_after_a_newer_one_to_stop(era: Era) -> None:
    async with stack(era=era) as s:
        known = {"instance_ids": [stranger(s)]}
        await follow(s, await s.refusal("destroy_instances", **known))
        s.clock.advance(10)
        await follow(s, await s.refusal("stop_instances", **known))
        ended = await s.call("destroy_instances", **known)
        assert ended["instances"][0]["final_state"] == "gone"


@pytest.mark.requirement("GATE-6")
async def test_the_operators_caps_bind_a_start() -> None:
    async with stack(caps=Caps(max_total_per_hour=Rate.of("0.50"))) as s:
        one, other = stranger(s), stranger(s)
        s.world.life.stop(s.world.instances[one])
        s.world.instances[other].dph_base *= 2
        s.clock.advance(60)
        refusal = await s.refusal("start_instances", instance_ids=[one])
        assert (refusal["code"], refusal["next_call"]) == ("cap_exceeded", None)
        assert await s.deps.store.workflows("local") == ()
        assert writes(s) == {}


@pytest.mark.requirement("PURPOSE-3")
async def test_our_own_machine_is_stopped_rebooted_and_destroyed_at_once() -> None:
    async with stack() as s:
        _, machine = await _ready(s)
        await s.call("restart_instances", instance_ids=[machine], mode="reboot")
        await s.call("stop_instances", instance_ids=[machine])
        ended = await s.call("destroy_instances", instance_ids=[machine])
        assert ended["instances"][0]["final_state"] == "gone"


@pytest.mark.requirement("PURPOSE-3")
async def test_the_agreed_key_is_attached_to_our_own_machine_freely() -> None:
    async with stack() as s:
        _, machine = await _ready(s)
        there = await s.call("attach_ssh_key", instance_ids=[machine])
        s.world.instances[machine].ssh_keys.clear()
        added = await s.call("attach_ssh_key", instance_ids=[machine])
        assert (there["keys"][0]["added"], added["keys"][0]["added"]) == (False, True)


async def test_a_key_for_an_id_that_nobody_knows_is_refused() -> None:
    async with stack() as s:
        refusal = await s.refusal("attach_ssh_key", instance_ids=[4711])
        assert refusal["code"] == "not_yours"


async def test_an_unknown_purpose_is_refused_with_the_known_ones() -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        refusal = await s.refusal("confirm_fields", workflow_id=workflow_id, purpose="everything")
        assert "recycle" in refusal["message"]


async def test_the_yes_may_be_given_in_the_workflow_that_the_call_names() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        call = {"instance_ids": [machine], "mode": "recycle", "workflow_id": workflow_id}
        refusal = await s.refusal("restart_instances", **call)
        assert refusal["next_call"]["arguments"]["workflow_id"] == workflow_id
        await follow(s, refusal)
        await s.call("restart_instances", **call)
        assert s.world.requests["recycle"] == 1
