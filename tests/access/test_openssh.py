"""OpenSSH itself, against the simulated host and our files."""

import asyncio
import shutil
from pathlib import Path

import asyncssh
import pytest

from tests.access.conftest import StartHost, new_key
from vastai_workflow.access.keys import own_key_pair, parse_public_key, resolve
from vastai_workflow.access.known_hosts import KnownHosts, alias
from vastai_workflow.access.probe import SshProber
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.simulator.ssh_host import WELCOME
from vastai_workflow.steps.ports import LocalKey, ProbeTarget

pytestmark = pytest.mark.interop


def program(name: str) -> str:
    """Where OpenSSH's program is; a machine without it fails these tests."""
    path = shutil.which(name)
    assert path is not None, f"OpenSSH's {name} is not installed"
    return path


async def run(*command: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


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


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_key_of_ssh_keygen_with_a_passphrase_works_through_ssh_agent(
    kind: str, start_host: StartHost, hosts: KnownHosts, tmp_path: Path
) -> None:
    path, socket = tmp_path / "lab", tmp_path / "agent"
    made = await run(program("ssh-keygen"), "-q", "-t", kind, "-N", "a long secret", "-C", "lab", "-f", str(path))
    assert made[0] == 0
    key = resolve(str(path), home=tmp_path, state_dir=tmp_path)
    assert key.private_key_path == path
    address = await start_host(keys=lambda: [key.public_key])
    target = ProbeTarget(7, (address,), key, "RTX 4090", 1, 24564, local_market=True)
    assert (await SshProber(hosts).probe(target, timeout_s=20)).reason == "no_private_key"
    agent = await asyncio.create_subprocess_exec(
        program("ssh-agent"), "-D", "-a", str(socket), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert agent.stdout is not None
        await agent.stdout.readline()
        await run(program("ssh-keygen"), "-q", "-p", "-P", "a long secret", "-N", "", "-f", str(path))
        async with asyncssh.SSHAgentClient(str(socket)) as client:
            await client.add_keys([asyncssh.read_private_key(path)])
        path.unlink()
        report = await SshProber(hosts, agent_path=str(socket)).probe(target, timeout_s=20)
        assert report.stage == "gpu_ok"
    finally:
        agent.terminate()
        await agent.communicate()


async def test_the_other_format_of_ssh_keygen_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    key = own_key_pair(tmp_path / "state")
    public = str(key.private_key_path) + ".pub"
    _, other, _ = await run(program("ssh-keygen"), "-e", "-f", public)
    with pytest.raises(LocalError, match="RFC 4716") as refusal:
        parse_public_key(other)
    assert "ssh-keygen -i" in refusal.value.next_step
