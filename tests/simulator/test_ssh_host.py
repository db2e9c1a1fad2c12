"""The simulated instance's SSH server, asked by a plain asyncssh client."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import asyncssh
import pytest

from vastai_workflow.simulator.ssh_host import BEHAVIOURS, WELCOME, SshHost, new_host_key

ONE_4090 = (("RTX 4090", 24564),)
KEY = new_host_key()
"""The client's key; made once."""
HOST_KEY = new_host_key()


def public(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode()


@asynccontextmanager
async def running(
    behaviour: str = "normal", *, gpus: Sequence[tuple[str, int]] = ONE_4090, keys: Sequence[str] | None = None
) -> AsyncGenerator[int]:
    allowed = [public(KEY)] if keys is None else keys
    host = SshHost(authorized_keys=lambda: allowed, gpus=gpus, host_key=HOST_KEY, behaviour=behaviour)
    try:
        yield await host.start()
    finally:
        await host.close()


@asynccontextmanager
async def login(
    port: int, *, username: str = "root", key: asyncssh.SSHKey = KEY
) -> AsyncGenerator[asyncssh.SSHClientConnection]:
    async with asyncssh.connect(
        "127.0.0.1", port, username=username, client_keys=[key], known_hosts=None, config=None, agent_path=None
    ) as connection:
        yield connection


async def run(port: int, command: str | None, stdin: str = "") -> asyncssh.SSHCompletedProcess:
    async with login(port) as connection:
        return await connection.run(command, input=stdin)


async def test_it_says_which_gpus_it_has() -> None:
    async with running(gpus=(("RTX 4090", 24564), ("RTX 4090", 24564))) as port:
        result = await run(port, "nvidia-smi --query-gpu=index,name,memory.total,count --format=csv,noheader,nounits")
    assert result.exit_status == 0
    assert result.stdout == "0, NVIDIA GeForce RTX 4090, 24564, 2\n1, NVIDIA GeForce RTX 4090, 24564, 2\n"
    assert result.stderr == WELCOME


async def test_it_writes_header_and_units_unless_told_not_to() -> None:
    async with running() as port:
        result = await run(port, "nvidia-smi --query-gpu=name,memory.total --format=csv")
    assert result.stdout == "name, memory.total [MiB]\nNVIDIA GeForce RTX 4090, 24564 MiB\n"


@pytest.mark.parametrize(
    ("market", "memory_mb", "driver"),
    [
        ("RTX 4090", 24564, "NVIDIA GeForce RTX 4090"),
        ("RTX 4070S Ti", 16376, "NVIDIA GeForce RTX 4070 Ti SUPER"),
        ("RTX 6000Ada", 49140, "NVIDIA RTX 6000 Ada Generation"),
        ("RTX A6000", 49140, "NVIDIA RTX A6000"),
        ("A100 SXM4", 40960, "NVIDIA A100-SXM4-40GB"),
        ("A100 PCIE", 81920, "NVIDIA A100-PCIE-80GB"),
        ("H100 SXM", 81559, "NVIDIA H100 80GB HBM3"),
        ("Tesla V100", 16384, "Tesla V100-SXM2-16GB"),
        ("Tesla T4", 15360, "Tesla T4"),
    ],
)
async def test_it_names_gpus_as_the_driver_does(market: str, memory_mb: int, driver: str) -> None:
    async with running(gpus=((market, memory_mb),)) as port:
        result = await run(port, "nvidia-smi --query-gpu=name --format=csv,noheader")
    assert result.stdout == driver + "\n"


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("nvidia-smi", 0, "NVIDIA GeForce RTX 4090"),
        ("nvidia-smi -L", 0, "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-"),
        ("nvidia-smi --query-gpu=soul --format=csv", 2, 'Field "soul" is not a valid field'),
        ("nvidia-smi --help-me", 1, "Invalid combination of input arguments"),
        ("echo one two", 0, "one two\n"),
        ("true", 0, ""),
        ("uname -a", 0, "Linux"),
        ("hostname", 0, "C.simulated"),
        ("rm -rf /", 127, "rm: command not found"),
        ("echo 'open", 2, "syntax error"),
    ],
)
async def test_its_shell_knows_a_few_programs(command: str, status: int, says: str) -> None:
    async with running() as port:
        result = await run(port, command)
    assert result.exit_status == status
    assert says in f"{result.stdout}{result.stderr}"


async def test_a_session_without_a_command_is_greeted_and_answers_lines() -> None:
    async with running() as port:
        result = await run(port, None, "echo hello\nexit\n")
    assert "tmux" in str(result.stdout)
    assert "hello" in str(result.stdout)
    assert result.exit_status == 0


async def test_a_key_that_arrives_late_lets_in_late() -> None:
    keys: list[str] = ["not a key"]
    async with running(keys=keys) as port:
        with pytest.raises(asyncssh.PermissionDenied):
            await run(port, "true")
        keys.append(public(KEY))
        assert (await run(port, "true")).exit_status == 0


async def test_only_root_gets_in() -> None:
    async with running() as port:
        with pytest.raises(asyncssh.PermissionDenied):
            async with login(port, username="ubuntu"):
                pass


async def test_another_key_does_not_get_in() -> None:
    async with running() as port:
        with pytest.raises(asyncssh.PermissionDenied):
            async with login(port, key=new_host_key()):
                pass


@pytest.mark.parametrize(
    ("behaviour", "status", "says"),
    [
        ("nvidia_smi_missing", 127, "command not found"),
        ("no_gpu", 6, "No devices were found"),
        ("driver_error", 9, "couldn't communicate with the NVIDIA driver"),
    ],
)
async def test_a_broken_machine_says_so_as_real_ones_do(behaviour: str, status: int, says: str) -> None:
    async with running(behaviour) as port:
        result = await run(port, "nvidia-smi")
    assert result.exit_status == status
    assert says in f"{result.stdout}{result.stderr}"


async def test_a_hung_shell_lets_in_and_answers_nothing() -> None:
    async with running("hung_shell") as port, login(port) as connection:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.run("true"), 0.1)


async def test_endless_output_does_not_end() -> None:
    async with running("endless_output") as port, login(port) as connection:
        process = await connection.create_process("true")
        read = [await process.stdout.read(100_000) for _ in range(50)]
        assert sum(map(len, read)) > 1_000_000
        assert process.exit_status is None


async def test_a_huge_stderr_is_ten_megabytes_of_welcome() -> None:
    async with running("huge_stderr") as port:
        result = await run(port, "true")
    assert result.stderr is not None
    assert len(result.stderr) > 10_000_000


async def test_a_huge_banner_comes_before_the_login() -> None:
    received: list[int] = []

    class Client(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002  # every language counts
            received.append(len(msg))

    async with running("huge_banner") as port:
        _, client = await asyncssh.create_connection(
            Client, "127.0.0.1", port, username="root", client_keys=[KEY], known_hosts=None, config=None
        )
        assert isinstance(client, Client)
    assert sum(received) > 10_000_000


async def test_a_silent_host_sends_no_identification() -> None:
    async with running("slow_banner") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.close()


async def test_a_host_that_hangs_up_sends_nothing() -> None:
    async with running("accepts_then_closes") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()


async def test_a_closed_host_drops_its_guests_and_refuses_new_ones() -> None:
    host = SshHost(authorized_keys=lambda: [public(KEY)], gpus=ONE_4090, host_key=HOST_KEY)
    direct, proxy = await host.start(), await host.start()
    assert direct != proxy
    async with login(direct) as connection, login(proxy):
        await host.close()
        await connection.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await run(direct, "true")


def test_an_unknown_behaviour_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="hung_shell") as refusal:
        SshHost(authorized_keys=list, gpus=ONE_4090, host_key=HOST_KEY, behaviour="evil")
    assert all(name in str(refusal.value) for name in BEHAVIOURS)


async def test_a_jump_leads_to_its_own_ssh_server_and_nowhere_else() -> None:
    async with running() as port, login(port) as jump:
        inner = await asyncssh.connect(
            "127.0.0.1",
            22,
            tunnel=jump,
            username="root",
            client_keys=[KEY],
            known_hosts=None,
            config=None,
            agent_path=None,
        )
        async with inner:
            assert (await inner.run("hostname")).stdout == "C.simulated\n"
        for elsewhere in (("127.0.0.1", port), ("127.0.0.2", 22)):
            with pytest.raises(asyncssh.ChannelOpenError):
                await jump.create_connection(asyncssh.SSHTCPSession[bytes], *elsewhere)
