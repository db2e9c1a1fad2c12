"""OpenSSH itself, against the simulated host and our files."""

import shlex
from pathlib import Path

import pytest

from tests.access.conftest import StartHost, new_key
from tests.access.openssh import program, run
from tests.real_ssh import real_ssh
from vastai_workflow.access.keys import own_key_pair, parse_public_key
from vastai_workflow.access.known_hosts import KnownHosts, alias
from vastai_workflow.access.probe import SshProber
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.simulator.ssh_host import WELCOME
from vastai_workflow.steps.ports import LocalKey, ProbeTarget

pytestmark = pytest.mark.interop


async def ssh(hosts: KnownHosts, key: LocalKey, address: tuple[str, int], command: str) -> tuple[int | None, str, str]:
    host, port = address
    return await run(
        *(program("ssh"), "-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
        *("-o", f"HostKeyAlias={alias(7)}", "-o", f"UserKnownHostsFile={hosts.path}", "-o", "IdentitiesOnly=yes"),
        *("-i", str(key.private_key_path), "-p", str(port), f"root@{host}", command),
    )


async def test_ssh_accepts_our_pair_and_our_known_hosts_and_refuses_a_stranger(
    start_host: StartHost, hosts: KnownHosts, tmp_path: Path
) -> None:
    key = own_key_pair(tmp_path / "state")
    address = await start_host(keys=lambda: [key.public_key])
    unknown = await ssh(hosts, key, address, "true")
    assert unknown[0] == 255
    target = ProbeTarget(7, (address,), key, "RTX 4090", 1, 24564, local_market=True)
    report = await SshProber(hosts).probe(target, timeout_s=20)
    assert report.stage == "gpu_ok"
    status, stdout, stderr = await ssh(hosts, key, address, "nvidia-smi --query-gpu=name --format=csv,noheader")
    assert (status, stdout, WELCOME in stderr) == (0, "NVIDIA GeForce RTX 4090\n", True)
    stranger = await start_host(keys=lambda: [key.public_key], host_key=new_key())
    status, _, stderr = await ssh(hosts, key, stranger, "true")
    assert status == 255
    assert "IDENTIFICATION HAS CHANGED" in stderr


async def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    key = own_key_pair(tmp_path / "state")
    _, stdout, _ = await run(program("ssh-keygen"), "-l", "-f", str(key.private_key_path) + ".pub")
    assert stdout.split()[1] == key.fingerprint


async def test_the_other_format_of_ssh_keygen_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    key = own_key_pair(tmp_path / "state")
    public = str(key.private_key_path) + ".pub"
    _, other, _ = await run(program("ssh-keygen"), "-e", "-f", public)
    with pytest.raises(LocalError, match="RFC 4716") as refusal:
        parse_public_key(other)
    assert "ssh-keygen -i" in refusal.value.next_step


@pytest.mark.requirement("READY-9")
@pytest.mark.parametrize("folder", ["plain", "Application Support", "it's", 'a "b"', "100%d", "back\\slash", "a # b"])
async def test_the_command_that_is_shown_logs_in_and_holds_to_the_pin_wherever_the_state_folder_is(
    folder: str, tmp_path: Path
) -> None:
    home = tmp_path / folder
    home.mkdir()
    async with real_ssh(home) as s:
        _, [machine] = await s.ready()
        [row] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        name, *words = shlex.split(row["ssh"]["command"])
        query = "nvidia-smi --query-gpu=name --format=csv,noheader"
        login = (program(name), "-F", "none", "-o", "BatchMode=yes", *words, query)
        status, stdout, stderr = await run(*login)
        assert (status, stdout) == (0, "NVIDIA GeForce RTX 4090\n"), stderr
        pins = home / "known_hosts"
        kept = pins.read_text()
        pins.write_text(kept.replace(kept.split()[2], new_key().export_public_key().decode().split()[1]))
        status, _, stderr = await run(*login)
        assert status == 255
        assert "IDENTIFICATION HAS CHANGED" in stderr
        pins.unlink()
        status, _, stderr = await run(*login)
        assert status == 255
        assert "Host key verification failed" in stderr
        assert not pins.exists()
