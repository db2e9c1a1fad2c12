"""Probes of real SSH hosts in this process: each bad host has its verdict, and none of them raises."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from tests.access.agent import agent_holding, refusing_agent, silent_agent
from tests.access.conftest import StartHost, new_key, stored
from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.access.probe import SshProber
from vastai_workflow.access.session import FAULTS, meaning
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.simulator.ssh_host import SshHost
from vastai_workflow.steps.ports import LocalKey, Prober, ProbeReport, ProbeTarget

PLENTY_S = 20.0
SHORT_S = 0.3
"""For hosts that never answer."""


def target(key: LocalKey, *addresses: tuple[str, int]) -> ProbeTarget:
    return ProbeTarget(
        instance_id=7,
        addresses=addresses,
        key=key,
        gpu_name="RTX 4090",
        num_gpus=1,
        gpu_ram_mb=24564,
        local_market=True,
    )


@pytest.fixture
def prober(hosts: KnownHosts) -> Prober:
    return SshProber(hosts, stagger_s=0)


@asynccontextmanager
async def saying(*words: bytes) -> AsyncGenerator[tuple[str, int]]:
    """A TCP server that says these words to everyone and hangs up."""

    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(words)
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        yield "127.0.0.1", int(server.sockets[0].getsockname()[1])


@pytest.fixture
def closed_port(unused_tcp_port: int) -> tuple[str, int]:
    return "127.0.0.1", unused_tcp_port


async def test_a_good_host_is_gpu_ok_and_its_key_is_kept(
    start_host: StartHost, prober: Prober, local_key: LocalKey, hosts: KnownHosts
) -> None:
    address = await start_host()
    report = await prober.probe(target(local_key, address), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("gpu_ok", None)
    assert (report.host, report.port) == address
    assert report.detail == "Login works, and the GPUs are there: 1 x NVIDIA GeForce RTX 4090."
    assert hosts.pinned(7) is not None
    assert report.host_key_fingerprint is not None
    assert report.host_key_fingerprint.startswith("SHA256:")


async def test_an_rsa_key_and_an_rsa_host_work_too(
    start_host: StartHost, prober: Prober, rsa_key: asyncssh.SSHKey, tmp_path: Path
) -> None:
    key = stored(rsa_key, tmp_path / "id_rsa")
    address = await start_host(keys=lambda: [key.public_key], host_key=rsa_key)
    for _ in range(2):
        report = await prober.probe(target(key, address), timeout_s=PLENTY_S)
        assert report.stage == "gpu_ok"


@pytest.mark.requirement("SSH-4")
@pytest.mark.parametrize(
    "words",
    [
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"SSH-1.5-ancient\r\n"],
        [b"SSH-2.0-\xff\xfe\r\n"],
        [b"SSH-2.0-x\r\n", bytes(64)],
        [b"SSH-2.0-x\r\n", b"\xff" * 64],
        [b"SSH-2.0-" + b"x" * 400 + b"\r\n"],
        [b"no line end " * 2000],
        [b"line\n" * 5000],
    ],
)
async def test_what_speaks_no_proper_ssh_is_closed(words: list[bytes], prober: Prober, local_key: LocalKey) -> None:
    async with saying(*words) as address:
        report = await prober.probe(target(local_key, address), timeout_s=PLENTY_S)
    assert (report.stage in {"none", "port_open"}, report.reason) == (True, "closed")


@pytest.mark.requirement("SSH-3")
async def test_a_private_key_that_others_can_read_is_not_used(
    start_host: StartHost, prober: Prober, local_key: LocalKey
) -> None:
    assert local_key.private_key_path is not None
    local_key.private_key_path.chmod(0o640)
    report = await prober.probe(target(local_key, await start_host()), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "no_private_key")
    assert f"chmod 600 {local_key.private_key_path}" in report.detail
    local_key.private_key_path.chmod(0o600)
    report = await prober.probe(target(local_key, await start_host()), timeout_s=PLENTY_S)
    assert report.stage == "gpu_ok"


@asynccontextmanager
async def damaging(address: tuple[str, int]) -> AsyncGenerator[tuple[str, int]]:
    """A way to the host on which its host key's first packet is damaged."""
    name = b"\0\0\0\x33\0\0\0\x0bssh-ed2551"

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_host, to_host = await asyncio.open_connection(*address)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data.replace(name + b"9", name + b"8"))
            sink.close()

        await asyncio.gather(copy(reader, to_host), copy(from_host, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1")
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


@pytest.mark.requirement("SSH-4")
async def test_a_damaged_host_key_is_no_changed_one(
    start_host: StartHost, prober: Prober, local_key: LocalKey, host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey]
) -> None:
    async with damaging(await start_host(host_key=host_keys[0])) as address:
        report = await prober.probe(target(local_key, address), timeout_s=PLENTY_S)
    assert report.reason == "closed"


async def test_a_changed_host_key_stops_before_the_login_and_shows_both(
    start_host: StartHost,
    prober: Prober,
    local_key: LocalKey,
    host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey],
    hosts: KnownHosts,
) -> None:
    first, second = host_keys
    await prober.probe(target(local_key, await start_host(host_key=first)), timeout_s=PLENTY_S)
    asked: list[str] = []

    def note() -> list[str]:
        asked.append("the stranger saw our key")
        return [local_key.public_key]

    stranger = await start_host(host_key=second, keys=note)
    report = await prober.probe(target(local_key, stranger), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "host_key_changed")
    assert first.get_fingerprint() in report.detail
    assert second.get_fingerprint() in report.detail
    assert asked == []
    await prober.forget(7)
    assert hosts.pinned(7) is None
    report = await prober.probe(target(local_key, await start_host(host_key=second)), timeout_s=PLENTY_S)
    assert report.stage == "gpu_ok"


async def test_instances_do_not_share_host_keys(
    start_host: StartHost, prober: Prober, local_key: LocalKey, host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey]
) -> None:
    await prober.probe(target(local_key, await start_host(host_key=host_keys[0])), timeout_s=PLENTY_S)
    other = replace(target(local_key, await start_host(host_key=host_keys[1])), instance_id=8)
    assert (await prober.probe(other, timeout_s=PLENTY_S)).stage == "gpu_ok"


@pytest.mark.requirement("SSH-7")
async def test_the_proxy_wins_where_the_direct_address_does_not_answer(
    start_host: StartHost, prober: Prober, local_key: LocalKey, closed_port: tuple[str, int]
) -> None:
    proxy = await start_host()
    silent = await start_host("slow_banner")
    for direct in (closed_port, silent, ("10.0.0.5", 22)):
        report = await prober.probe(target(local_key, direct, proxy), timeout_s=PLENTY_S)
        assert (report.stage, report.port) == ("gpu_ok", proxy[1])


async def test_the_most_telling_failure_is_reported(
    start_host: StartHost, prober: Prober, local_key: LocalKey, closed_port: tuple[str, int]
) -> None:
    refusing = await start_host(keys=list)
    for addresses in ((refusing, closed_port), (closed_port, refusing)):
        report = await prober.probe(target(local_key, *addresses), timeout_s=PLENTY_S)
        assert (report.reason, report.port) == ("auth_refused", refusing[1])


async def all_left(started: list[SshHost]) -> None:
    async with asyncio.timeout(PLENTY_S):
        for connection in [connection for host in started for connection in host.connections]:
            await connection.wait_closed()


async def test_no_connection_outlives_a_probe(
    start_host: StartHost, started: list[SshHost], prober: Prober, local_key: LocalKey
) -> None:
    addresses = [await start_host() for _ in range(4)]
    assert (await prober.probe(target(local_key, *addresses), timeout_s=PLENTY_S)).stage == "gpu_ok"
    await all_left(started)


async def test_a_cancelled_probe_hangs_up(
    start_host: StartHost, started: list[SshHost], prober: Prober, local_key: LocalKey
) -> None:
    address = await start_host("hung_shell")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(prober.probe(target(local_key, address), timeout_s=PLENTY_S), SHORT_S)
    await all_left(started)


@pytest.mark.requirement("SSH-6")
async def test_an_address_inside_is_not_contacted(start_host: StartHost, prober: Prober, local_key: LocalKey) -> None:
    real_market = replace(target(local_key, await start_host()), local_market=False)
    report = await prober.probe(real_market, timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("none", "bad_address")
    assert "private network" in report.detail


async def test_a_name_is_resolved_and_reported_as_the_provider_wrote_it(
    start_host: StartHost, prober: Prober, local_key: LocalKey
) -> None:
    _, port = await start_host()
    report = await prober.probe(target(local_key, ("localhost ", port)), timeout_s=PLENTY_S)
    assert (report.stage, report.host, report.port) == ("gpu_ok", "localhost", port)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(), "unreachable"),
        (OSError(113, "No route to host"), "unreachable"),
        (TimeoutError(110, "timed out"), "timeout"),
        (ConnectionResetError(), "closed"),
        (asyncssh.ConnectionLost("the machine's words"), "closed"),
        (asyncssh.KeyExchangeFailed("the machine's words"), "closed"),
        (IndexError("the machine's words"), "closed"),
    ],
)
def test_every_fault_has_a_reason_and_a_sentence_of_ours(error: Exception, reason: str) -> None:
    assert isinstance(error, FAULTS)
    assert meaning(error)[0] == reason
    assert "words" not in meaning(error)[1]


class OpenDoor(asyncssh.SSHServer):
    """Lets everybody in and asks for nothing."""

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002  # whoever
        return False


class Doorman(asyncssh.SSHServer):
    """Lets in every key."""

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002  # whoever
        return True


def shows_a_4090(process: asyncssh.SSHServerProcess[str]) -> None:
    process.stdout.write("NVIDIA GeForce RTX 4090, 24564\n")
    process.exit(0)


@asynccontextmanager
async def listening(
    server: type[asyncssh.SSHServer],
    keys: Sequence[asyncssh.SSHKey],
    compression: str = "none",
    answer: Callable[[asyncssh.SSHServerProcess[str]], None] = shows_a_4090,
) -> AsyncGenerator[tuple[str, int]]:
    async with await asyncssh.listen(
        "127.0.0.1",
        0,
        config=None,
        server_factory=server,
        server_host_keys=list(keys),
        process_factory=answer,
        compression_algs=[compression],
    ) as acceptor:
        yield "127.0.0.1", acceptor.get_port()


async def test_a_host_that_asks_for_no_key_is_not_ours(
    prober: Prober, local_key: LocalKey, rsa_key: asyncssh.SSHKey
) -> None:
    async with listening(OpenDoor, [rsa_key]) as address:
        report = await prober.probe(target(local_key, address), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "auth_refused")


async def test_compressed_data_which_could_grow_without_bound_is_not_taken(
    prober: Prober, local_key: LocalKey, rsa_key: asyncssh.SSHKey
) -> None:
    async with listening(Doorman, [rsa_key], "zlib@openssh.com") as address:
        report = await prober.probe(target(local_key, address), timeout_s=PLENTY_S)
    assert report.reason == "closed"


async def test_a_host_with_several_keys_is_known_by_the_pinned_one(
    prober: Prober, local_key: LocalKey, rsa_key: asyncssh.SSHKey, host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey]
) -> None:
    async with listening(Doorman, [rsa_key]) as address:
        first = await prober.probe(target(local_key, address), timeout_s=PLENTY_S)
    async with listening(Doorman, [host_keys[0], rsa_key]) as address:
        second = await prober.probe(target(local_key, address), timeout_s=PLENTY_S)
    assert (first.stage, second.stage) == ("gpu_ok", "gpu_ok")
    assert second.host_key_fingerprint == rsa_key.get_fingerprint()


@pytest.mark.requirement("SSH-10")
async def test_a_changed_pin_does_not_make_a_host_with_several_keys_show_another_one(
    prober: Prober,
    local_key: LocalKey,
    rsa_key: asyncssh.SSHKey,
    host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey],
    hosts: KnownHosts,
) -> None:
    hosts.pin(7, rsa_key)
    async with listening(Doorman, [host_keys[0], rsa_key]) as address:
        asked = replace(target(local_key, address), host_key=host_keys[0].get_fingerprint())
        assert (await prober.probe(asked, timeout_s=PLENTY_S)).stage == "gpu_ok"
    assert await prober.is_pinned(7, asked.host_key)


async def test_no_address_is_a_report(prober: Prober, local_key: LocalKey) -> None:
    report = await prober.probe(target(local_key), timeout_s=PLENTY_S)
    assert (report.stage, report.reason, report.host) == ("none", "bad_address", None)


async def test_without_the_private_key_readiness_ends_at_the_open_port(
    start_host: StartHost, prober: Prober, local_key: LocalKey
) -> None:
    public_only = replace(local_key, private_key_path=None)
    address = await start_host()
    report = await prober.probe(target(public_only, address), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "no_private_key")
    assert (report.host, report.port) == address
    assert "not tested" in report.detail


@pytest.mark.parametrize(("behaviour", "reason"), [("accepts_then_closes", "closed"), ("slow_banner", "timeout")])
async def test_without_the_private_key_a_port_that_speaks_no_ssh_is_not_open(
    behaviour: str, reason: str, start_host: StartHost, prober: Prober, local_key: LocalKey
) -> None:
    public_only = replace(local_key, private_key_path=None)
    report = await prober.probe(target(public_only, await start_host(behaviour)), timeout_s=SHORT_S)
    assert (report.stage, report.reason) == ("none", reason)


async def test_without_the_private_key_a_chatterer_is_cut_off(prober: Prober, local_key: LocalKey) -> None:
    public_only = replace(local_key, private_key_path=None)
    async with saying(b"x" * 100_000) as address:
        report = await prober.probe(target(public_only, address), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("none", "closed")


@pytest.mark.requirement("SSH-3")
@pytest.mark.requirement("SSH-4")
async def test_without_the_private_key_another_host_key_than_before_is_seen_too(
    start_host: StartHost, prober: Prober, local_key: LocalKey, hosts: KnownHosts
) -> None:
    hosts.pin(7, new_key())
    public_only = replace(local_key, private_key_path=None)
    report = await prober.probe(target(public_only, await start_host()), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "host_key_changed")


async def test_a_key_with_a_passphrase_and_no_agent_says_what_to_run(
    start_host: StartHost, prober: Prober, user_key: asyncssh.SSHKey, tmp_path: Path
) -> None:
    locked = stored(user_key, tmp_path / "locked", passphrase="secret")
    report = await prober.probe(target(locked, await start_host()), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "no_private_key")
    assert f"ssh-add {locked.private_key_path}" in report.detail


async def test_another_private_key_beside_the_public_one_is_told(
    start_host: StartHost, prober: Prober, local_key: LocalKey, tmp_path: Path
) -> None:
    other = stored(new_key(), tmp_path / "other")
    mixed = replace(local_key, private_key_path=other.private_key_path)
    report = await prober.probe(target(mixed, await start_host()), timeout_s=PLENTY_S)
    assert report.reason == "no_private_key"
    assert "is not the private key" in report.detail


@pytest.mark.requirement("SSH-3")
async def test_an_agent_that_holds_the_key_signs_for_it(
    start_host: StartHost, hosts: KnownHosts, user_key: asyncssh.SSHKey, tmp_path: Path
) -> None:
    locked = stored(user_key, tmp_path / "locked", passphrase="secret")
    address = await start_host()
    async with agent_holding(user_key, tmp_path / "agent") as asked:
        prober = SshProber(hosts, agent_path=str(tmp_path / "agent"), stagger_s=0)
        report = await prober.probe(target(locked, address), timeout_s=PLENTY_S)
        assert report.stage == "gpu_ok"
        assert asked == [user_key.public_data]
        public_only = replace(locked, private_key_path=None)
        assert (await prober.probe(target(public_only, address), timeout_s=PLENTY_S)).stage == "gpu_ok"


@pytest.mark.requirement("SSH-3")
async def test_an_agent_that_does_not_sign_is_told_and_not_the_machine(
    start_host: StartHost, hosts: KnownHosts, local_key: LocalKey, user_key: asyncssh.SSHKey, tmp_path: Path
) -> None:
    public_only = replace(local_key, private_key_path=None)
    async with refusing_agent(user_key, tmp_path / "agent"):
        prober = SshProber(hosts, agent_path=str(tmp_path / "agent"), stagger_s=0)
        report = await prober.probe(target(public_only, await start_host()), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "no_private_key")
    assert "did not sign" in report.detail


async def test_other_keys_of_the_agent_are_not_used(
    start_host: StartHost, hosts: KnownHosts, local_key: LocalKey, tmp_path: Path
) -> None:
    other = new_key()
    address = await start_host(keys=lambda: [other.export_public_key().decode()])
    public_only = replace(local_key, private_key_path=None)
    async with agent_holding(other, tmp_path / "agent") as asked:
        prober = SshProber(hosts, agent_path=str(tmp_path / "agent"), stagger_s=0)
        report = await prober.probe(target(public_only, address), timeout_s=PLENTY_S)
    assert report.reason == "no_private_key"
    assert asked == []


async def test_mute_agents_are_none(
    start_host: StartHost, hosts: KnownHosts, local_key: LocalKey, tmp_path: Path
) -> None:
    public_only = replace(local_key, private_key_path=None)
    address = await start_host()
    prober = SshProber(hosts, agent_path=str(tmp_path / "agent"), stagger_s=0)
    report = await prober.probe(target(public_only, address), timeout_s=PLENTY_S)
    assert (report.stage, report.reason) == ("port_open", "no_private_key")
    async with silent_agent(tmp_path / "agent"):
        report = await prober.probe(target(public_only, address), timeout_s=1)
    assert (report.stage, report.reason) == ("port_open", "no_private_key")


async def test_a_state_folder_that_cannot_be_used_is_an_error_and_closes_the_connection(
    start_host: StartHost, local_key: LocalKey, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    prober = SshProber(KnownHosts(tmp_path / "file" / "known_hosts"), stagger_s=0)
    with pytest.raises(LocalError) as error:
        await prober.probe(target(local_key, await start_host()), timeout_s=PLENTY_S)
    assert error.value.code == "store_unavailable"


async def test_the_report_has_neither_key_nor_path_of_the_private_one(
    start_host: StartHost, prober: Prober, local_key: LocalKey
) -> None:
    report: ProbeReport = await prober.probe(target(local_key, await start_host()), timeout_s=PLENTY_S)
    assert local_key.public_key.split()[1] not in repr(report)
    assert str(local_key.private_key_path) not in repr(report)


@pytest.mark.requirement("SSH-10")
async def test_a_login_that_is_under_way_when_the_host_key_is_forgotten_pins_none(
    start_host: StartHost, prober: Prober, local_key: LocalKey, hosts: KnownHosts
) -> None:
    def forgotten_meanwhile() -> list[str]:
        hosts.forget(7)
        return [local_key.public_key]

    address = await start_host(keys=forgotten_meanwhile)
    assert (await prober.probe(target(local_key, address), timeout_s=PLENTY_S)).stage == "gpu_ok"
    assert hosts.pinned(7) is None
    later = await start_host()
    await prober.probe(target(local_key, later), timeout_s=PLENTY_S)
    assert hosts.pinned(7) is not None


@pytest.mark.requirement("SSH-10")
@pytest.mark.parametrize("on_record", [True, False])
async def test_without_the_private_key_a_lost_pin_comes_back_only_by_the_key_on_record(
    *,
    on_record: bool,
    start_host: StartHost,
    prober: Prober,
    local_key: LocalKey,
    hosts: KnownHosts,
    host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey],
) -> None:
    known = host_keys[0].get_fingerprint() if on_record else None
    asked = replace(target(replace(local_key, private_key_path=None), await start_host()), host_key=known)
    assert (await prober.probe(asked, timeout_s=PLENTY_S)).reason == "no_private_key"
    assert await prober.is_pinned(7, known) is on_record
    assert (hosts.pinned(7) is not None) is on_record


@pytest.mark.requirement("SSH-10")
async def test_a_host_key_is_pinned_where_it_is_this_very_one_and_can_be_read(
    prober: Prober, hosts: KnownHosts, host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey]
) -> None:
    one, other = (key.get_fingerprint() for key in host_keys)
    hosts.pin(7, host_keys[0])
    assert [await prober.is_pinned(7, known) for known in (one, None, other)] == [True, True, False]
    assert not await prober.is_pinned(8, None)
    hosts.path.unlink()
    hosts.path.mkdir()
    assert not await prober.is_pinned(7, one)


@pytest.mark.requirement("SSH-11")
async def test_no_agent_is_lent_to_a_machine_and_the_users_own_ssh_config_is_not_read(
    prober: Prober, local_key: LocalKey, rsa_key: asyncssh.SSHKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[str | None] = []

    def answer(process: asyncssh.SSHServerProcess[str]) -> None:
        lent.append(process.channel.get_agent_path())
        shows_a_4090(process)

    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host *\n  ProxyCommand false\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    agent, machine = agent_holding(new_key(), tmp_path / "agent"), listening(Doorman, [rsa_key], answer=answer)
    async with agent as asked, machine as address:
        report = await prober.probe(target(local_key, address), timeout_s=PLENTY_S)
    assert report.stage == "gpu_ok"
    assert (lent, asked) == ([None], [])
