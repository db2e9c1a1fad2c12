"""Debian's sshd on loopback, behind what images do at a login: the prober's judgement of a real server."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.access.openssh import program, run, ssh_add, ssh_agent, sshd
from vastai_workflow.access.keys import own_key_pair, resolve
from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.access.probe import SshProber
from vastai_workflow.steps.ports import LocalKey, ProbeTarget

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets in root only where root runs it"),
]

PLENTY_S = 20.0
ONE_4090 = "echo 'NVIDIA GeForce RTX 4090, 24564'"


@pytest.fixture
def key(tmp_path: Path) -> LocalKey:
    return own_key_pair(tmp_path / "state")


@pytest.fixture
def prober(hosts: KnownHosts) -> SshProber:
    return SshProber(hosts)


def target(key: LocalKey, *addresses: tuple[str, int]) -> ProbeTarget:
    return ProbeTarget(7, addresses, key, "RTX 4090", 1, 24564, local_market=True)


def own_files() -> dict[Path, float]:
    """The user's own SSH files, with when each was written."""
    return {path: path.stat().st_mtime for path in (Path.home() / ".ssh").rglob("*")}


@pytest.mark.requirement("SSH-8")
async def test_a_real_server_is_gpu_ok_behind_banner_and_talking_login_and_the_users_own_files_stay(
    tmp_path: Path, key: LocalKey, prober: SshProber, hosts: KnownHosts, unused_tcp_port: int
) -> None:
    before = own_files()
    async with sshd(tmp_path / "sshd", [unused_tcp_port]) as server:
        server.nvidia_smi(ONE_4090)
        late = await prober.probe(target(key, *server.addresses), timeout_s=PLENTY_S)
        assert (late.stage, late.reason) == ("port_open", "auth_refused")
        server.let_in(key.public_key)
        first = await prober.probe(target(key, *server.addresses), timeout_s=PLENTY_S)
        again = await prober.probe(target(key, *server.addresses), timeout_s=PLENTY_S)
        assert (first.stage, first.reason, again.stage) == ("gpu_ok", None, "gpu_ok")
        _, shown, _ = await run(program("ssh-keygen"), "-l", "-f", str(server.folder / "host_key.pub"))
        assert again.host_key_fingerprint == shown.split()[1]
    assert hosts.path.read_text().startswith("vast-7 ssh-ed25519 ")
    assert own_files() == before


ANSWERS = [
    (None, "ssh_ok", "nvidia_smi_missing", "no nvidia-smi"),
    ("echo 'No devices were found'; exit 6", "ssh_ok", "no_gpu", "shows no GPU"),
    ("echo 'NVIDIA GeForce RTX 3090, 24576'", "ssh_ok", "wrong_gpu", "got NVIDIA GeForce RTX 3090"),
    (f"{ONE_4090}; {ONE_4090}", "ssh_ok", "wrong_gpu", "got 2 x NVIDIA GeForce RTX 4090, agreed 1"),
    ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "ssh_ok", "driver_error", "NVML"),
    ("kill -9 $$", "ssh_ok", "driver_error", "was killed"),
    ("exec yes 'NVIDIA GeForce RTX 4090, 24564'", "ssh_ok", "too_much_output", "more than 64 KB"),
]


@pytest.mark.requirement("SSH-8")
@pytest.mark.parametrize(("body", "stage", "reason", "says"), ANSWERS, ids=[reason for _, _, reason, _ in ANSWERS])
async def test_what_the_driver_says_through_a_real_server_is_judged(
    body: str | None,
    stage: str,
    reason: str,
    says: str,
    tmp_path: Path,
    key: LocalKey,
    prober: SshProber,
    unused_tcp_port: int,
) -> None:
    async with sshd(tmp_path / "sshd", [unused_tcp_port]) as server:
        server.let_in(key.public_key)
        server.nvidia_smi(body)
        report = await prober.probe(target(key, *server.addresses), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == (stage, reason)
    assert says in report.detail


@pytest.mark.requirement("SSH-8")
async def test_a_program_that_a_login_leaves_running_does_not_hide_the_answer(
    tmp_path: Path, key: LocalKey, prober: SshProber, unused_tcp_port: int
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with sshd(tmp_path / "sshd", [unused_tcp_port], start=f"cat {pipe} & disown") as server:
        server.let_in(key.public_key)
        server.nvidia_smi(ONE_4090)
        report = await prober.probe(target(key, *server.addresses), timeout_s=4)
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))  # it is there, and ends now
    assert (report.stage, report.reason) == ("gpu_ok", None)


@pytest.mark.requirement("SSH-4")
async def test_another_server_on_the_same_address_hears_of_no_key(
    tmp_path: Path, key: LocalKey, prober: SshProber, unused_tcp_port: int
) -> None:
    async with sshd(tmp_path / "first", [unused_tcp_port]) as server:
        server.let_in(key.public_key)
        server.nvidia_smi(ONE_4090)
        first = await prober.probe(target(key, *server.addresses), timeout_s=PLENTY_S)
    async with sshd(tmp_path / "second", [unused_tcp_port]) as stranger:
        stranger.let_in(key.public_key)
        report = await prober.probe(target(key, *stranger.addresses), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "host_key_changed")
    assert f"known {first.host_key_fingerprint}" in report.detail
    assert "publickey" not in "".join(stranger.log)
    await prober.forget(7)


@pytest.mark.requirement("SSH-7")
async def test_the_proxys_port_of_a_real_server_is_found_where_the_direct_one_is_shut(
    tmp_path: Path, key: LocalKey, prober: SshProber, unused_tcp_port_factory: Callable[[], int]
) -> None:
    shut, proxy = unused_tcp_port_factory(), unused_tcp_port_factory()
    async with sshd(tmp_path / "sshd", [proxy]) as server:
        server.let_in(key.public_key)
        server.nvidia_smi(ONE_4090)
        report = await prober.probe(target(key, ("127.0.0.1", shut), *server.addresses), timeout_s=PLENTY_S)
    assert (report.stage, report.port) == ("gpu_ok", proxy)


@pytest.mark.requirement("SSH-3")
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_key_with_a_passphrase_logs_in_through_the_real_agent(
    kind: str, tmp_path: Path, hosts: KnownHosts, unused_tcp_port: int
) -> None:
    locked = await locked_key(tmp_path, kind)
    async with sshd(tmp_path / "sshd", [unused_tcp_port]) as server, ssh_agent(tmp_path / "agent") as agent:
        server.let_in(locked.public_key)
        server.nvidia_smi(ONE_4090)
        prober = SshProber(hosts, agent_path=agent)
        without = await prober.probe(target(locked, *server.addresses), timeout_s=PLENTY_S)
        assert (without.stage, without.reason) == ("port_open", "no_private_key")
        assert without.detail.endswith(f"run: ssh-add {locked.private_key_path}")
        await ssh_add(agent, tmp_path / "lab", "a long secret")
        assert (await prober.probe(target(locked, *server.addresses), timeout_s=PLENTY_S)).stage == "gpu_ok"
        public_only = replace(locked, private_key_path=None)
        assert (await prober.probe(target(public_only, *server.addresses), timeout_s=PLENTY_S)).stage == "gpu_ok"


@pytest.mark.requirement("SSH-3")
async def test_a_real_agent_whose_user_says_no_is_told_and_not_the_machine(
    tmp_path: Path, hosts: KnownHosts, unused_tcp_port: int
) -> None:
    locked = await locked_key(tmp_path, "ed25519")
    async with sshd(tmp_path / "sshd", [unused_tcp_port]) as server, ssh_agent(tmp_path / "agent") as agent:
        server.let_in(locked.public_key)
        await ssh_add(agent, tmp_path / "lab", "a long secret", "-c")
        report = await SshProber(hosts, agent_path=agent).probe(target(locked, *server.addresses), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "no_private_key")
    assert "did not sign" in report.detail


async def locked_key(folder: Path, kind: str) -> LocalKey:
    """A key that `ssh-keygen` made with a passphrase."""
    path = folder / "lab"
    made, _, _ = await run(
        *(program("ssh-keygen"), "-q", "-t", kind, "-N", "a long secret", "-C", "lab", "-f", str(path))
    )
    assert made == 0
    return await asyncio.to_thread(resolve, str(path), home=folder, state_dir=folder)
