"""A real SSH server that stands for one simulated instance, well or badly behaved."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, cast

import asyncssh

from vastai_workflow.simulator import nvidia_smi
from vastai_workflow.simulator.nvidia_smi import Answer

WELCOME = "Welcome to vast.ai. If authentication fails, try again after a few seconds, and double check your ssh key.\n"
GREETING = "[tmux: session ssh_tmux] To disable auto tmux, run: touch ~/.no_auto_tmux\r\n"
PROMPT = "root@C.simulated:~# "
CHUNK = "x" * 32_767 + "\n"
HUGE_BANNER_CHUNKS = 320
"""10 MB in chunks of 32 KB, the usual largest packet."""

PROGRAMS: Mapping[str, Callable[[Sequence[str]], Answer]] = {
    "true": lambda _args: Answer(),
    "echo": lambda args: Answer(" ".join(args) + "\n"),
    "hostname": lambda _args: Answer("C.simulated\n"),
    "uname": lambda _args: Answer("Linux\n"),
}


class Machine:
    """The well-behaved instance: a welcome on stderr, a small shell, a scripted `nvidia-smi`."""

    def __init__(self, gpus: Sequence[tuple[str, int]]) -> None:
        self.gpus = tuple(gpus)

    def greet(self, connection: asyncssh.SSHServerConnection) -> None:
        """Say something before the login; the provider's hosts say nothing here."""

    def welcome(self) -> str:
        """What each session gets on stderr."""
        return WELCOME

    def nvidia_smi(self, args: Sequence[str]) -> Answer:
        """Answer `nvidia-smi ARGS`."""
        return nvidia_smi.run(args, self.gpus)

    def answer(self, command: str) -> Answer:
        """Answer one command line."""
        try:
            words = shlex.split(command)
        except ValueError:
            return Answer(stderr="bash: syntax error: unexpected end of file\n", status=2)
        if not words:
            return Answer()
        name, *args = words
        if name == "nvidia-smi":
            return self.nvidia_smi(args)
        if name in PROGRAMS:
            return PROGRAMS[name](args)
        return command_not_found(name)

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        """Run one session: one command, or lines until `exit`."""
        process.stderr.write(self.welcome())
        if process.command is not None:
            answer = self.answer(process.command)
            process.stdout.write(answer.stdout)
            process.stderr.write(answer.stderr)
            process.exit(answer.status)
            return
        process.stdout.write(GREETING + PROMPT)
        async for line in process.stdin:
            if line.strip() == "exit":
                break
            answer = self.answer(line)
            process.stdout.write(answer.stdout + answer.stderr + PROMPT)
        process.exit(0)


class NvidiaSmiMissing(Machine):
    """The image has no `nvidia-smi`."""

    def nvidia_smi(self, args: Sequence[str]) -> Answer:  # noqa: ARG002  # whatever is asked
        """Answer as bash does."""
        return command_not_found("nvidia-smi")


class NoGpu(Machine):
    """The driver is there, the GPUs are not."""

    def nvidia_smi(self, args: Sequence[str]) -> Answer:
        """Answer as on a machine without devices."""
        return nvidia_smi.run(args, ())


class DriverError(Machine):
    """The driver does not answer `nvidia-smi`."""

    def nvidia_smi(self, args: Sequence[str]) -> Answer:  # noqa: ARG002  # whatever is asked
        """Answer with the driver's usual complaint, on stdout as it does."""
        complaint = (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
            "Make sure that the latest NVIDIA driver is installed and running.\n\n"
        )
        return Answer(complaint, status=9)


class HungShell(Machine):
    """Lets the user in, then answers nothing."""

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        """Wait until the client gives up."""
        await process.channel.wait_closed()


class EndlessOutput(Machine):
    """Answers every command with a stream that does not end."""

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        """Write until the client hangs up."""
        try:
            while not process.channel.is_closing():
                process.stdout.write(CHUNK)
                await process.stdout.drain()
                await asyncio.sleep(0)
        except (asyncssh.Error, OSError):
            return


class HugeStderr(Machine):
    """Welcomes each session with 10 MB on stderr."""

    def welcome(self) -> str:
        """10 MB of text."""
        return CHUNK * HUGE_BANNER_CHUNKS


class HugeBanner(Machine):
    """Sends a 10 MB banner before the login."""

    def greet(self, connection: asyncssh.SSHServerConnection) -> None:
        """10 MB, one banner packet after the other."""
        for _ in range(HUGE_BANNER_CHUNKS):
            connection.send_auth_banner(CHUNK)


async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept and say nothing: the SSH identification comes later than any client waits."""
    try:
        while await reader.read(1024):
            pass
    except OSError:
        return
    finally:
        writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG001  # unread
    """Accept and close, as a proxy does whose machine is away."""
    writer.close()


def new_host_key() -> asyncssh.SSHKey:
    """A fresh ed25519 host key; one may serve many hosts where a test does not look at it."""
    return asyncssh.generate_private_key("ssh-ed25519")  # pyright: ignore[reportUnknownMemberType]  # untyped **kwargs


def command_not_found(name: str) -> Answer:
    """The answer of bash for a program that is not installed."""
    return Answer(stderr=f"bash: line 1: {name}: command not found\n", status=127)


MACHINES: Mapping[str, type[Machine]] = {
    "normal": Machine,
    "nvidia_smi_missing": NvidiaSmiMissing,
    "no_gpu": NoGpu,
    "driver_error": DriverError,
    "hung_shell": HungShell,
    "endless_output": EndlessOutput,
    "huge_stderr": HugeStderr,
    "huge_banner": HugeBanner,
}
DOORS: Mapping[str, Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]] = {
    "slow_banner": keep_silent,
    "accepts_then_closes": hang_up,
}
BEHAVIOURS = (*MACHINES, *DOORS)
"""The names that `SshHost` takes, one bad thing each. Late keys are `authorized_keys`, a wrong GPU is `gpus`."""


class SshHost:
    """One instance's SSH server, on as many listeners as are started; `root` with a public key, nothing else.

    `authorized_keys` is asked at each authentication, so a key may arrive late. `gpus` are (market name, memory in MB).
    Raises `ValueError` for a behaviour that is not in `BEHAVIOURS`.
    """

    def __init__(
        self,
        *,
        authorized_keys: Callable[[], Sequence[str]],
        gpus: Sequence[tuple[str, int]],
        host_key: asyncssh.SSHKey | None = None,
        behaviour: str = "normal",
    ) -> None:
        if behaviour not in BEHAVIOURS:
            raise ValueError(f"Unknown behaviour: got {behaviour!r}, allowed {', '.join(BEHAVIOURS)}.")
        self._authorized_keys = authorized_keys
        self._door = DOORS.get(behaviour)
        self._listeners: list[asyncssh.SSHAcceptor | asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self.machine = MACHINES.get(behaviour, Machine)(gpus)
        self.host_key = host_key or new_host_key()
        self.connections: set[asyncssh.SSHServerConnection] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen on one more address and return its port: once for the direct, once for the proxy address."""
        if self._door is not None:
            listener = await asyncio.start_server(self._behind_the_door, host, port)
            self._listeners.append(listener)
            return int(listener.sockets[0].getsockname()[1])
        acceptor = await asyncssh.listen(
            host,
            port,
            config=None,
            server_factory=lambda: _Login(self),
            server_host_keys=[self.host_key],
            process_factory=self.machine.serve,
            allow_scp=False,
            agent_forwarding=False,
            x11_forwarding=False,
            server_version="SimulatedInstance",
        )
        self._listeners.append(acceptor)
        return acceptor.get_port()

    async def close(self) -> None:
        """Stop listening and drop every connection, as a destroyed instance does."""
        for listener in self._listeners:
            listener.close()
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.wait_closed()
        for writer in list(self._writers):
            writer.close()
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()

    def authorized_blobs(self) -> list[bytes]:
        """The keys that may log in now; lines that are no public key let nobody in."""
        blobs: list[bytes] = []
        for line in self._authorized_keys():
            try:
                blobs.append(asyncssh.import_public_key(line).public_data)
            except asyncssh.KeyImportError:
                continue
        return blobs

    async def _behind_the_door(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._door is not None:
                await self._door(reader, writer)
        finally:
            self._writers.discard(writer)


class _Login(asyncssh.SSHServer):
    """Lets in `root` with an authorized key, and nobody else."""

    def __init__(self, host: SshHost) -> None:
        self._host = host
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._host.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the client left, however
        if self._connection is not None:
            self._host.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002  # everyone has to show a key
        if self._connection is not None:
            self._host.machine.greet(self._connection)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "root" and any(key.public_data == blob for blob in self._host.authorized_blobs())

    def connection_requested(
        self,
        dest_host: str,
        dest_port: int,
        orig_host: str,  # noqa: ARG002  # whoever asks
        orig_port: int,  # noqa: ARG002  # the same
    ) -> Literal[False] | Coroutine[Any, Any, asyncssh.SSHTCPSession[bytes]]:
        """`ssh -W 127.0.0.1:22` leads to the machine's own SSH server; it has no other ports."""
        if self._connection is None or (dest_host, dest_port) != ("127.0.0.1", 22):
            return False
        own = self._connection.forward_connection(*self._connection.get_extra_info("sockname")[:2])
        return cast(
            "Coroutine[Any, Any, asyncssh.SSHTCPSession[bytes]]", own
        )  # a session for asyncssh, not in its types
