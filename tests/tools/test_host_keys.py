"""Pinned host keys: lost, unusable, and those of machines that end while somebody logs in."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.real_ssh import real_ssh
from tests.stack import QUICK, ShortcutProber, Stack, stack, text_of
from tests.tools.acts import follow
from vastai_workflow.domain.ledger import OrderFacts, OrderState
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.world import World
from vastai_workflow.steps.ports import ProbeReport, ProbeTarget


def rows_of(answer: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(row["readiness"], row["reason"]) for row in answer["instances"]]


async def status(s: Stack) -> list[dict[str, Any]]:
    return (await s.call("instance_status"))["instances"]


@pytest.mark.requirement("SSH-10")
@pytest.mark.requirement("REPORT-3")
async def test_where_the_pins_were_lost_nothing_is_handed_over_until_a_wait_finds_the_same_keys(
    tmp_path: Path,
) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, machines = await s.ready(count=2, fleet="best_effort")
        pins = tmp_path / "known_hosts"
        before = set(pins.read_text().splitlines())
        pins.unlink()
        for row in await status(s):
            assert (row["readiness"], row["ssh"]) == ("running", None)
            assert "not in known_hosts any more" in row["reason"]
        refusal = await s.refusal("export_inventory", format="ssh_config")
        assert refusal["next_call"] == {"tool": "wait_until_ready", "arguments": {"instance_ids": machines}}
        assert "not in known_hosts any more" in refusal["message"]
        await follow(s, refusal)
        assert set(pins.read_text().splitlines()) == before
        exported = await s.call("export_inventory", format="ssh_config", workflow_id=workflow_id)
        assert exported["text"].count("StrictHostKeyChecking yes") == 2
        assert all(row["readiness"] == "gpu_ok" for row in await status(s))


@pytest.mark.requirement("REPORT-3")
async def test_a_machine_whose_pin_alone_was_lost_is_left_out_with_what_helps(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        _, [one, other] = await s.ready(count=2, fleet="best_effort")
        pins = tmp_path / "known_hosts"
        pins.write_text("".join(line for line in pins.read_text().splitlines(True) if f"vast-{one} " in line))
        exported = await s.call("export_inventory", format="ssh_config")
        assert exported["included"] == [one]
        [left] = exported["left_out"]
        assert left["instance_id"] == other
        assert "call wait_until_ready, which pins it again" in left["reason"]


@pytest.mark.requirement("SSH-10")
@pytest.mark.parametrize("changed", ["another", "damaged"])
async def test_a_machine_whose_pin_somebody_changed_is_left_out_and_not_blamed(tmp_path: Path, changed: str) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [one, other] = await s.ready(count=2, fleet="best_effort")
        pins = tmp_path / "known_hosts"
        text = pins.read_text()
        keys = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in text.splitlines()}
        pins.write_text(text.replace(keys[f"vast-{one}"], keys[f"vast-{other}"] if changed == "another" else "garbage"))
        assert (await s.call("export_inventory", format="ssh_config"))["included"] == [other]
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=60)
        assert rows_of(waited) == [("gpu_ok", None)] * 2
        assert set(pins.read_text().splitlines()) == set(text.splitlines())
        assert (await s.call("export_inventory", format="ssh_config"))["included"] == [one, other]


@pytest.mark.requirement("SSH-10")
async def test_a_changed_pin_does_not_hide_that_the_machine_shows_another_key_than_that_on_record(
    tmp_path: Path,
) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [machine] = await s.ready()
        [order] = await s.deps.store.orders()
        pins = tmp_path / "known_hosts"
        pins.write_text(f"vast-{machine} garbage\n")
        s.world.instances[machine].container += 1
        [(readiness, reason)] = rows_of(await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=60))
        assert (readiness, str(reason).split(":")[0]) == ("failed", "host_key_changed")
        assert f"known {order.host_key}" in str(reason)
        assert pins.read_text() == f"vast-{machine} garbage\n"


@pytest.mark.requirement("SSH-10")
async def test_a_recycle_that_can_not_drop_the_host_key_keeps_its_yes(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        _, [machine] = await s.ready()
        pins = tmp_path / "known_hosts"
        text = pins.read_text()
        pins.unlink()
        pins.mkdir()
        recycle = {"instance_ids": [machine], "mode": "recycle"}
        await follow(s, await s.refusal("restart_instances", **recycle))
        [row] = (await s.call("restart_instances", **recycle))["instances"]
        assert row["reason"].startswith("nothing was sent")
        assert s.world.requests["recycle"] == 0
        pins.rmdir()
        pins.write_text(text)
        [row] = (await s.call("restart_instances", **recycle))["instances"]
        assert (row["reason"], s.world.requests["recycle"]) == (None, 1)
        assert (await s.refusal("restart_instances", **recycle))["code"] == "confirmation_spent"


@pytest.mark.requirement("SSH-10")
async def test_another_host_key_is_not_pinned_in_place_of_a_lost_one(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, [machine] = await s.ready()
        (tmp_path / "known_hosts").unlink()
        s.world.instances[machine].container += 1
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=60)
        [(readiness, reason)] = rows_of(waited)
        assert (readiness, str(reason).split(":")[0]) == ("failed", "host_key_changed")
        assert not (tmp_path / "known_hosts").exists()
        await s.refusal("export_inventory", format="ssh_config")


@pytest.mark.requirement("SSH-10")
async def test_a_file_of_host_keys_that_cannot_be_used_is_told_once_and_hides_no_machine(tmp_path: Path) -> None:
    async with real_ssh(tmp_path) as s:
        workflow_id, machines = await s.rented(count=3, fleet="best_effort")
        pins = tmp_path / "known_hosts"
        pins.mkdir()
        s.clock.advance(100)
        began = s.clock.now()
        result = await s.client.call_tool("wait_until_ready", {"workflow_id": workflow_id, "timeout_s": 300})
        assert s.clock.now() - began < 10
        assert not result.is_error
        waited = result.structured_content
        assert waited is not None
        assert [row["instance_id"] for row in waited["instances"]] == machines
        assert {(row["state"], row["readiness"]) for row in waited["instances"]} == {("running", "running")}
        [note] = waited["notes"]
        assert str(pins) in note
        assert "Next: see that it is a file" in note
        assert text_of(result).count(note) == 1
        assert waited["next_call"]["tool"] == "wait_until_ready"
        pins.rmdir()
        assert {readiness for readiness, _ in rows_of(await follow(s, waited))} == {"gpu_ok"}


class Meanwhile(ShortcutProber):
    """While it is logged in, something else happens."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.happens: Callable[[int], Awaitable[Any]] | None = None

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        report = await super().probe(target, timeout_s=timeout_s)
        if self.happens is not None:
            happens, self.happens = self.happens, None
            await happens(target.instance_id)
        return report


@pytest.mark.requirement("SSH-10")
async def test_a_machine_that_another_process_ended_while_it_was_tried_leaves_no_host_key() -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, offers=40, switches=QUICK)
    prober = Meanwhile(world)
    async with stack(world=world, clock=clock, real_prober=prober) as s:
        workflow_id, [machine] = await s.rented()
        [order] = await s.deps.store.orders()

        async def ended(instance_id: int) -> None:
            s.world.life.end(s.world.instances[instance_id])
            await s.deps.store.move_order(order.order_id, OrderState.RELEASED, OrderFacts(final_state="gone"))
            prober.forgotten.clear()

        prober.happens = ended
        s.clock.advance(60)
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=10)
        assert prober.forgotten == [machine]


@pytest.mark.requirement("READY-3")
async def test_what_a_login_saw_of_a_machine_that_was_restarted_meanwhile_does_not_count() -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, offers=40, switches=QUICK)
    prober = Meanwhile(world)
    async with stack(world=world, clock=clock, real_prober=prober) as s:
        workflow_id, [machine] = await s.rented()

        async def restarted(instance_id: int) -> None:
            await s.call("restart_instances", instance_ids=[instance_id], mode="reboot")

        prober.happens = restarted
        s.clock.advance(60)
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        assert (await s.deps.store.window(machine)).stage == "none"
