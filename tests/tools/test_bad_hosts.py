"""Bad hosts from end to end: real logins to the simulator's SSH servers, told truly by `wait_until_ready`."""

from pathlib import Path
from typing import Any

import pytest

from tests.real_ssh import real_ssh
from tests.stack import Stack
from tests.tools.acts import arm, planned


async def seen(s: Stack, workflow_id: str, timeout_s: int = 300) -> dict[str, Any]:
    """The one machine after a wait."""
    [row] = (await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=timeout_s))["instances"]
    return row


async def rented_with(s: Stack, fault: str, **settings: Any) -> str:
    """A machine with a fault that runs by now; answers its workflow."""
    create = await planned(s)
    arm(s, fault, operation="create", **settings)
    await s.call("create_instances", **create)
    s.clock.advance(100)
    return create["workflow_id"]


@pytest.mark.requirement("SSH-5")
async def test_a_good_machine_is_ready_by_a_real_login_and_ends_with_its_pin(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        _, [machine] = await s.ready()
        pins = tmp_path / "known_hosts"
        assert pins.read_text().startswith(f"vast-{machine} ssh-ed25519 ")
        await s.call("destroy_instances", instance_ids=[machine])
        assert pins.read_text() == ""


@pytest.mark.requirement("SSH-5")
@pytest.mark.parametrize(
    ("behaviour", "readiness", "reason"),
    [
        ("slow_banner", "running", "timeout"),
        ("accepts_then_closes", "running", "closed"),
        ("huge_banner", "port_open", "too_much_output"),
        ("huge_stderr", "ssh_ok", "too_much_output"),
        ("endless_output", "ssh_ok", "too_much_output"),
        ("nvidia_smi_missing", "ssh_ok", "nvidia_smi_missing"),
        ("no_gpu", "ssh_ok", "no_gpu"),
        ("driver_error", "ssh_ok", "driver_error"),
    ],
)
async def test_a_wait_tells_how_far_a_bad_machine_came_and_why(
    behaviour: str, readiness: str, reason: str, tmp_path: Path
) -> None:
    async with real_ssh(tmp_path) as s:
        silent = behaviour == "slow_banner"  # that one is waited for in real seconds
        row = await seen(s, await rented_with(s, "ssh", behaviour=behaviour), timeout_s=1 if silent else 10)
        code, _, sentence = row["reason"].partition(": ")
        assert (row["readiness"], code) == (readiness, reason)
        assert sentence


@pytest.mark.requirement("SSH-5")
async def test_a_machine_that_stays_bad_fails_with_what_was_seen(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        row = await seen(s, await rented_with(s, "ssh", behaviour="accepts_then_closes"))
        assert row["readiness"] == "failed"
        assert row["reason"].startswith("SSH was tried for 120 s: closed")


@pytest.mark.requirement("SSH-5")
async def test_keys_that_arrive_late_make_a_machine_ready_late(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id = await rented_with(s, "late_keys", seconds=150.0)
        early = await seen(s, workflow_id, timeout_s=10)
        assert (early["readiness"], early["reason"].split(":")[0]) == ("port_open", "auth_refused")
        assert (await seen(s, workflow_id))["readiness"] == "gpu_ok"


@pytest.mark.requirement("SSH-5")
async def test_other_cards_inside_fail_at_once(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [machine] = await s.rented()
        s.world.instances[machine].cards = [("RTX 3090", 24576)]
        row = await seen(s, workflow_id)
        assert (row["readiness"], row["reason"].split(":")[0]) == ("failed", "wrong_gpu")


async def host_key_on_record(s: Stack) -> str | None:
    """The fingerprint in the ledger of the one order."""
    [order] = await s.deps.store.orders()
    return order.host_key


async def rebooted_with_another_key(s: Stack, machine: int) -> None:
    """The machine comes back and shows another host key."""
    arm(s, "host_key_change")
    await s.call("restart_instances", instance_ids=[machine], mode="reboot")
    s.clock.advance(100)


@pytest.mark.requirement("SSH-4")
@pytest.mark.requirement("SSH-10")
async def test_another_host_key_after_a_reboot_fails_and_a_recycle_takes_the_new_one(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [machine] = await s.ready()
        first = await host_key_on_record(s)
        await rebooted_with_another_key(s, machine)
        row = await seen(s, workflow_id)
        assert (row["readiness"], row["reason"].split(":")[0]) == ("failed", "host_key_changed")
        assert row["host_key"] == first == await host_key_on_record(s)
        assert f"known {first}" in row["reason"]
        assert "Warning" in row["reason"]
        assert "got SHA256:" in row["reason"]
        assert row["ssh"] is None
        refusal = await s.refusal("restart_instances", instance_ids=[machine], mode="recycle")
        await s.call("confirm_fields", **refusal["next_call"]["arguments"])
        await s.call("restart_instances", instance_ids=[machine], mode="recycle")
        s.clock.advance(100)
        anew = await seen(s, workflow_id)
        assert anew["readiness"] == "gpu_ok"
        assert anew["host_key"] == await host_key_on_record(s) != first


@pytest.mark.requirement("SSH-10")
@pytest.mark.parametrize(
    "settings", [{"code": "scope_missing", "status": 403}, {"code": "insufficient_credit", "status": 400}]
)
async def test_a_recycle_that_the_provider_refuses_renews_no_host_key(settings: dict[str, Any], tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [machine] = await s.ready()
        first = await host_key_on_record(s)
        refusal = await s.refusal("restart_instances", instance_ids=[machine], mode="recycle")
        await s.call("confirm_fields", **refusal["next_call"]["arguments"])
        arm(s, "refuse", operation="recycle", **settings)
        [row] = (await s.call("restart_instances", instance_ids=[machine], mode="recycle"))["instances"]
        assert row["reason"]
        assert await host_key_on_record(s) == first
        s.world.instances[machine].container += 1
        s.clock.advance(100)
        told = await seen(s, workflow_id)
        assert (told["readiness"], told["reason"].split(":")[0]) == ("failed", "host_key_changed")


@pytest.mark.requirement("SSH-10")
@pytest.mark.parametrize("same_key", [False, True], ids=["new key", "key of the image"])
async def test_after_a_recycle_the_old_container_is_not_taken_for_the_new_one(
    *, same_key: bool, tmp_path: Path
) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [machine] = await s.ready()
        first = await host_key_on_record(s)
        refusal = await s.refusal("restart_instances", instance_ids=[machine], mode="recycle")
        await s.call("confirm_fields", **refusal["next_call"]["arguments"])
        arm(s, "destroy_ignored", operation="recycle")
        await s.call("restart_instances", instance_ids=[machine], mode="recycle")
        early = await seen(s, workflow_id, timeout_s=10)
        assert (early["readiness"], early["reason"].split(":")[0]) == ("port_open", "recycling")
        assert not await host_key_on_record(s)
        if not same_key:
            s.world.instances[machine].container += 1
        anew = await seen(s, workflow_id)
        assert anew["readiness"] == "gpu_ok"
        assert (await host_key_on_record(s) == first) is same_key


@pytest.mark.requirement("SSH-10")
async def test_machines_end_whatever_is_wrong_with_the_file_of_host_keys_and_no_recycle_is_sent(
    tmp_path: Path,
) -> None:
    async with real_ssh(tmp_path) as s:
        _, machines = await s.ready(count=2, fleet="best_effort")
        pins = tmp_path / "known_hosts"
        pins.unlink()
        pins.mkdir()
        refusal = await s.refusal("restart_instances", instance_ids=machines, mode="recycle")
        await s.call("confirm_fields", **refusal["next_call"]["arguments"])
        kept = (await s.call("restart_instances", instance_ids=machines, mode="recycle"))["instances"]
        assert all("nothing was sent" in row["reason"] and str(pins) in row["reason"] for row in kept)
        assert s.world.requests["recycle"] == 0
        ended = (await s.call("destroy_instances", instance_ids=machines))["instances"]
        assert [row["final_state"] for row in ended] == ["gone", "gone"]
        assert s.running() == []


@pytest.mark.requirement("SSH-10")
async def test_the_ledgers_fingerprint_holds_where_the_file_of_host_keys_was_lost(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [machine] = await s.ready()
        first = await host_key_on_record(s)
        [shown] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        assert shown["host_key"] == first
        (tmp_path / "known_hosts").unlink()
        await rebooted_with_another_key(s, machine)
        row = await seen(s, workflow_id)
        assert row["readiness"] == "failed"
        assert f"known {first}" in row["reason"]
        assert not (tmp_path / "known_hosts").exists()


@pytest.mark.requirement("SSH-12")
async def test_the_pin_of_a_machine_that_ended_elsewhere_goes_when_that_is_seen(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [machine] = await s.ready()
        pins = tmp_path / "known_hosts"
        assert pins.read_text().startswith(f"vast-{machine} ")
        s.world.life.end(s.world.instances[machine])
        s.clock.advance(200)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=5)
        assert waited["instances"][0]["readiness"] == "gone"
        assert pins.read_text() == ""
