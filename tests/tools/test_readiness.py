"""From rented to a machine that answers, and what does not heal."""

from typing import Any

import pytest

from tests.stack import ERAS, QUICK, Era, ShortcutProber, Stack, stack
from tests.tools.acts import Heard, arm, planned, stranger
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.world import World
from vastai_workflow.steps.ports import ProbeReport, ProbeTarget

SILENT = ProbeReport("none", reason="refused", detail="nothing listens")


async def wait(s: Stack, workflow_id: str, timeout_s: int = 300) -> dict[str, Any]:
    """Wait, and answer the one machine."""
    waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=timeout_s)
    [machine] = waited["instances"]
    return {**machine, "next_call": waited["next_call"]}


async def rented_with(s: Stack, fault: str, **settings: Any) -> str:
    """A machine with a fault; answers its workflow."""
    create = await planned(s)
    arm(s, fault, **settings)
    await s.call("create_instances", **create)
    return create["workflow_id"]


@pytest.mark.requirement("READY-1")
@pytest.mark.parametrize("era", ERAS)
async def test_progress_arrives_and_the_answer_says_how_to_connect(era: Era) -> None:
    heard = Heard()

    async with stack(era=era) as s:
        workflow_id, [machine] = await s.rented()
        result = await s.client.call_tool(
            "wait_until_ready", {"workflow_id": workflow_id, "timeout_s": 120}, progress_callback=heard
        )
        assert any(f"{machine} provisioning" in line for line in heard.lines)
        assert heard.lines[-1] == f"{machine} gpu_ok"
        assert result.structured_content is not None
        [row] = result.structured_content["instances"]
        host, port = s.prober.targets[-1].addresses[0]
        pinned = f"-o HostKeyAlias=vast-{machine} -o UserKnownHostsFile=known_hosts -o StrictHostKeyChecking=yes"
        assert row["ssh"] == {
            "host": host,
            "port": port,
            "user": "root",
            "command": f"ssh -p {port} -i id -o IdentitiesOnly=yes {pinned} root@{host}",
        }
        assert row["workflow_id"] == workflow_id
        assert row["agreed_by"].startswith("relayed by ")


@pytest.mark.requirement("SSH-10")
async def test_the_first_login_to_a_machine_pins_its_host_key_in_the_servers_file() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        s.clock.advance(100)
        s.prober.reports = [ProbeReport("port_open", "h", 22, reason="no_private_key", detail="not here")] * 100
        [row] = (await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=60))["instances"]
        options = (
            f"-o HostKeyAlias=vast-{machine} -o UserKnownHostsFile=known_hosts -o StrictHostKeyChecking=accept-new"
        )
        assert f"{options} -o HashKnownHosts=no root@" in row["ssh"]["command"]


@pytest.mark.requirement("READY-1")
async def test_a_wait_is_bounded_and_the_next_one_goes_on() -> None:
    async with stack(switches=Switches(loading_s=200.0)) as s:
        workflow_id, _ = await s.rented()
        began = s.clock.now()
        first = await wait(s, workflow_id, timeout_s=40)
        assert s.clock.now() - began <= 45
        assert first["readiness"] == "provisioning"
        assert first["next_call"] == {"tool": "wait_until_ready", "arguments": {"workflow_id": workflow_id}}
        assert (await wait(s, workflow_id))["readiness"] == "gpu_ok"


@pytest.mark.requirement("READY-1")
async def test_one_list_serves_all_machines_of_a_workflow() -> None:
    async with stack() as s:
        await s.ready(count=3, fleet="best_effort")
        assert s.world.requests["show"] == 0


@pytest.mark.requirement("READY-2")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("oci_failure", "oci runtime create failed"),
        ("image_missing", "manifest unknown"),
        ("crash", "exited"),
        ("offline", "offline"),
        ("unknown_status", "unknown"),
        ("frozen", "frozen"),
    ],
)
async def test_what_does_not_heal_fails_at_once_with_reason_and_choice(fault: str, reason: str) -> None:
    async with stack() as s:
        workflow_id = await rented_with(s, fault)
        began = s.clock.now()
        machine = await wait(s, workflow_id)
        if fault == "crash" and machine["readiness"] == "gpu_ok":
            machine = await wait(s, workflow_id)
        assert machine["readiness"] == "failed"
        assert reason in machine["reason"].lower()
        assert s.clock.now() - began < 120
        assert machine["next_call"] == {"tool": "read_logs", "arguments": {"instance_id": machine["instance_id"]}}


@pytest.mark.requirement("READY-2")
async def test_a_failed_machine_is_put_to_the_user_as_a_choice() -> None:
    async with stack() as s:
        workflow_id = await rented_with(s, "oci_failure")
        result = await s.client.call_tool("wait_until_ready", {"workflow_id": workflow_id, "timeout_s": 120})
        text = " ".join(block.text for block in result.content if block.type == "text")
        assert "Ask the user" in text
        assert "logs, destroy, or try the next offer" in text
        assert "status text (untrusted)" in text


@pytest.mark.requirement("READY-2")
async def test_an_outbid_machine_fails_with_that_reason() -> None:
    async with stack() as s:
        create = await planned(s, interruptible=True, bid_per_hour=0.6)
        arm(s, "outbid", after_s=5.0)
        await s.call("create_instances", **create)
        machine = await wait(s, create["workflow_id"])
        assert (machine["readiness"], machine["state"]) == ("failed", "outbid")
        assert "bid" in machine["reason"]


@pytest.mark.requirement("READY-2")
async def test_a_machine_that_never_gets_past_loading_is_still_provisioning() -> None:
    async with stack() as s:
        workflow_id = await rented_with(s, "stuck_loading")
        machine = await wait(s, workflow_id)
        assert machine["readiness"] == "provisioning"
        assert machine["next_call"]["tool"] == "wait_until_ready"


@pytest.mark.requirement("READY-3")
async def test_ssh_that_never_answers_fails_after_two_minutes_of_trying_kept_over_calls() -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        s.clock.advance(100)
        s.prober.reports = [SILENT] * 1000
        first = await wait(s, workflow_id, timeout_s=60)
        assert first["readiness"] == "running"
        s.clock.advance(3600)
        began = s.clock.now()
        last = await wait(s, workflow_id)
        assert last["readiness"] == "failed"
        assert "120 s" in last["reason"]
        assert s.clock.now() - began < 90


async def _given_up(s: Stack) -> tuple[str, int]:
    """A machine whose SSH was called failed; it answers from now on."""
    workflow_id, [machine] = await s.rented()
    s.clock.advance(100)
    s.prober.reports = [SILENT] * 1000
    assert (await wait(s, workflow_id))["readiness"] == "failed"
    return workflow_id, machine


@pytest.mark.requirement("READY-3")
async def test_a_later_call_probes_a_given_up_machine_once_more() -> None:
    async with stack() as s:
        workflow_id, _ = await _given_up(s)
        before = len(s.prober.targets)
        assert (await wait(s, workflow_id))["readiness"] == "failed"
        assert len(s.prober.targets) == before + 1
        s.prober.reports.clear()
        assert (await wait(s, workflow_id))["readiness"] == "gpu_ok"


@pytest.mark.requirement("READY-3")
@pytest.mark.parametrize("tool", ["attach_ssh_key", "restart_instances"])
async def test_attach_and_restart_give_ssh_its_two_minutes_again(tool: str) -> None:
    async with stack() as s:
        workflow_id, machine = await _given_up(s)
        mode = {"mode": "reboot"} if tool == "restart_instances" else {}
        await s.call(tool, instance_ids=[machine], **mode)
        s.clock.advance(30)
        assert (await wait(s, workflow_id, timeout_s=20))["readiness"] == "running"


@pytest.mark.requirement("READY-3")
async def test_a_start_gives_ssh_its_two_minutes_again() -> None:
    async with stack() as s:
        workflow_id, machine = await _given_up(s)
        await s.call("stop_instances", instance_ids=[machine])
        refusal = await s.refusal("start_instances", instance_ids=[machine])
        await s.call("confirm_fields", **refusal["next_call"]["arguments"])
        await s.call("start_instances", instance_ids=[machine])
        s.clock.advance(30)
        assert (await wait(s, workflow_id, timeout_s=20))["readiness"] == "running"


@pytest.mark.requirement("READY-4")
@pytest.mark.parametrize("reason", ["host_key_changed", "wrong_gpu"])
async def test_a_changed_host_key_and_another_gpu_inside_fail_at_once(reason: str) -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        s.prober.reports = [ProbeReport("ssh_ok", "h", 22, reason=reason, detail="not what it was")]
        machine = await wait(s, workflow_id)
        assert (machine["readiness"], machine["reason"]) == ("failed", f"{reason}: not what it was")
        assert len(s.prober.targets) == 1


@pytest.mark.requirement("READY-5")
async def test_a_key_without_a_private_half_is_ready_at_the_open_port() -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        s.clock.advance(100)
        s.prober.reports = [ProbeReport("port_open", "h", 22, reason="no_private_key", detail="run: ssh-add id")]
        machine = await wait(s, workflow_id)
        assert (machine["readiness"], machine["reason"]) == ("port_open", "no_private_key: run: ssh-add id")
        assert machine["next_call"] is None


@pytest.mark.requirement("READY-6")
async def test_a_key_that_got_lost_on_the_machine_is_attached_there() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        s.world.instances[machine].ssh_keys.clear()
        assert (await wait(s, workflow_id))["readiness"] == "gpu_ok"
        assert s.world.requests["attach"] == 1


@pytest.mark.requirement("READY-6")
async def test_a_key_that_is_there_is_not_attached_again() -> None:
    async with stack() as s:
        await s.ready()
        await s.rented()
        assert s.world.requests["add_ssh_key"] == 1
        assert s.world.requests["attach"] == 0


@pytest.mark.requirement("READY-6")
async def test_a_team_without_account_keys_still_gets_a_machine_that_answers() -> None:
    async with stack() as s:
        s.world.account.team = True
        workflow_id, _ = await s.rented()
        assert (await wait(s, workflow_id))["readiness"] == "gpu_ok"
        assert s.world.requests["attach"] == 1


@pytest.mark.requirement("READY-6")
async def test_a_key_that_can_not_be_attached_is_told_and_tried_again() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        s.world.instances[machine].ssh_keys.clear()
        arm(s, "refuse", operation="attach", code="invalid_args", times=1)
        assert (await wait(s, workflow_id))["readiness"] == "gpu_ok"
        assert s.world.requests["attach"] == 2


async def test_a_wait_on_ids_that_nobody_knows_fails_and_waits_for_nothing() -> None:
    async with stack() as s:
        began = s.clock.now()
        waited = await s.call("wait_until_ready", instance_ids=[4711])
        [row] = waited["instances"]
        assert (row["state"], row["readiness"]) == ("unknown", "failed")
        assert "no machine with this id" in row["reason"]
        assert s.clock.now() - began < 10


async def test_a_wait_on_a_machine_that_is_not_ours_does_not_wait_in_vain() -> None:
    async with stack() as s:
        other = stranger(s)
        began = s.clock.now()
        waited = await s.call("wait_until_ready", instance_ids=[other])
        assert waited["instances"][0]["state"] == "running"
        assert s.clock.now() - began < 10
        assert s.prober.targets == []


async def test_a_wait_on_some_ids_of_a_workflow_is_about_those() -> None:
    async with stack() as s:
        workflow_id, [one, _] = await s.ready(count=2, fleet="best_effort")
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, instance_ids=[one])
        assert [row["instance_id"] for row in waited["instances"]] == [one]


async def test_a_wait_for_nothing_is_refused() -> None:
    async with stack() as s:
        assert (await s.refusal("wait_until_ready"))["code"] == "invalid_argument"


async def test_a_wait_of_a_workflow_that_rented_nothing_points_to_offers() -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        waited = await s.call("wait_until_ready", workflow_id=workflow_id)
        assert waited["instances"] == []
        assert waited["next_call"]["tool"] == "find_offers"


async def test_a_machine_that_somebody_else_ended_is_reported_gone() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.world.life.end(s.world.instances[machine])
        s.clock.advance(120)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id)
        assert waited["instances"][0]["state"] == "gone"
        assert any("not by this server" in note for note in waited["notes"])


async def test_while_another_call_rents_a_wait_goes_on_without_settling() -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        async with s.deps.store.account_lock(s.world.account.id):
            waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=120)
        assert waited["instances"][0]["readiness"] == "gpu_ok"
        assert "another call is renting for this account" in waited["notes"]


@pytest.mark.requirement("READY-7")
async def test_the_progress_of_a_fleet_counts_its_machines_by_stage() -> None:
    heard = Heard()

    async with stack() as s:
        workflow_id, _ = await s.rented(count=6, fleet="best_effort")
        await s.client.call_tool("wait_until_ready", {"workflow_id": workflow_id}, progress_callback=heard)
        assert any(line.startswith("6 machines: ") and "provisioning, " in line for line in heard.lines)
        assert heard.lines[-1] == "6 machines: 6 ready"


class FarAway(ShortcutProber):
    """Machines without `nvidia-smi`, so far away that a look with less than three seconds left is cut off."""

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        """What such a look sees."""
        self.targets.append(target)
        if timeout_s < 3:
            return ProbeReport("none", reason="timeout", detail="it did not answer in time")
        return ProbeReport("ssh_ok", *target.addresses[0], reason="nvidia_smi_missing", detail="there is none")


@pytest.mark.requirement("READY-1")
@pytest.mark.parametrize("timeout_s", [6, 10, 40])
async def test_a_look_that_the_end_of_a_call_would_cut_off_does_not_hide_what_was_seen(timeout_s: int) -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, offers=40, switches=QUICK)
    prober = FarAway(world)
    async with stack(world=world, clock=clock, real_prober=prober) as s:
        workflow_id, _ = await s.rented()
        s.clock.advance(60)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=timeout_s)
        assert waited["instances"][0]["reason"].startswith("nvidia_smi_missing")
        prober.targets.clear()
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert len(prober.targets) == 1


class Hurried(ShortcutProber):
    """Notes how long each look may take; nothing answers."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.given: list[float] = []

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        """The time, and no answer."""
        self.given.append(timeout_s)
        return ProbeReport("none", *target.addresses[0], reason="refused", detail="nothing listens")


@pytest.mark.requirement("READY-1")
@pytest.mark.parametrize(("timeout_s", "most"), [(0, 1.0), (5, 5.0), (60, 10.0)])
async def test_a_look_has_no_more_time_than_the_call_has_left(timeout_s: int, most: float) -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, offers=40, switches=QUICK)
    prober = Hurried(world)
    async with stack(world=world, clock=clock, real_prober=prober) as s:
        workflow_id, _ = await s.rented()
        s.clock.advance(60)
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=timeout_s)
        assert max(prober.given) <= most
        assert min(prober.given) >= 1.0


@pytest.mark.requirement("READY-6")
async def test_a_key_that_a_machine_refuses_is_looked_for_every_half_minute_and_not_at_each_look() -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        s.clock.advance(60)
        s.prober.reports = [ProbeReport("port_open", "h", 22, reason="auth_refused", detail="not accepted")] * 1000
        await wait(s, workflow_id, timeout_s=100)
        assert s.world.requests["instance_keys"] in {3, 4}
        assert s.world.requests["attach"] == 0


@pytest.mark.requirement("READY-3")
@pytest.mark.parametrize("reason", [None, "wrong_gpu"])
async def test_a_machine_that_was_judged_within_the_last_minute_is_not_tried_again(reason: str | None) -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        if reason is not None:
            s.prober.reports = [ProbeReport("ssh_ok", "h", 22, reason=reason, detail="not what it was")] * 100
        await wait(s, workflow_id)
        tried = len(s.prober.targets)
        s.clock.advance(30)
        await wait(s, workflow_id, timeout_s=20)
        assert len(s.prober.targets) == tried
