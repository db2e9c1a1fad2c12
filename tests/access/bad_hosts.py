"""Bad hosts, one bad thing each, with what the user sees of it: how far it came, why, and one sentence."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final

import asyncssh

from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.simulator.ssh_host import Machine, SshHost

INSTANCE_ID: Final = 7
ONE_4090: Final = (("RTX 4090", 24564),)
LOOPBACK: Final = "127.0.0.1"
PLENTY_S: Final = 20.0

FLOOD: Final = "The machine sends more than 64 KB where a few lines are expected."


class BadHost:
    """A host that is good but for what its class changes.

    `well_after`: after so many looks it is good (0: never). `silent`: it leaves a look waiting, and says so by `mute`.
    """

    stage: ClassVar[str]
    reason: ClassVar[str]
    sentence: ClassVar[str]
    behaviour: ClassVar[str] = "normal"
    gpus: ClassVar[Sequence[tuple[str, int]]] = ONE_4090
    silent: ClassVar[bool] = False
    well_after: ClassVar[int] = 0

    def __init__(self, public_key: str, host_key: asyncssh.SSHKey, hosts: KnownHosts) -> None:
        self.public_key = public_key
        self.hosts = hosts
        self.mute = asyncio.Event()
        self.inside = SshHost(
            authorized_keys=self.authorized_keys, gpus=self.gpus, host_key=host_key, behaviour=self.behaviour
        )

    def authorized_keys(self) -> Sequence[str]:
        """Who may log in; asked at each try."""
        return [self.public_key]

    def told(self) -> str:
        """The sentence, with what is only known here."""
        return self.sentence

    async def start(self) -> tuple[str, int]:
        """Listen; answers the address."""
        return LOOPBACK, await self.inside.start()

    async def close(self) -> None:
        """End everything."""
        await self.inside.close()


class Away(BadHost):
    """Nothing listens on the port."""

    stage = "none"
    reason = "refused"
    sentence = "Nothing listens on the machine's SSH port (yet)."

    async def start(self) -> tuple[str, int]:
        """An address that was free a moment ago."""
        address = await super().start()
        await self.close()
        return address


class SlowBanner(BadHost):
    """Takes the first connection and says nothing; greets as it should from the second on."""

    stage = "none"
    reason = "timeout"
    sentence = "The machine did not answer in time."
    silent = True
    well_after = 1

    async def start(self) -> tuple[str, int]:
        """Listen in front of the good host."""
        _, self._port = await super().start()
        self._looks = 0
        self._server = await asyncio.start_server(self._greet_late, LOOPBACK, 0)
        return LOOPBACK, int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """End both."""
        self._server.close()
        await super().close()

    async def _greet_late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._looks += 1
        if self._looks <= self.well_after:
            self.mute.set()
            await reader.read()
            writer.close()
            return
        in_reader, in_writer = await asyncio.open_connection(LOOPBACK, self._port)
        await asyncio.gather(_pass_on(reader, in_writer), _pass_on(in_reader, writer))


class AuthAcceptedLate(BadHost):
    """The key reaches the machine after two looks."""

    stage = "port_open"
    reason = "auth_refused"
    sentence = "The machine does not accept the key for root (yet)."
    well_after = 2
    _refused = 0

    def authorized_keys(self) -> Sequence[str]:
        """Nobody at first."""
        if self._refused < self.well_after:
            self._refused += 1
            return []
        return [self.public_key]


class KeyChanged(BadHost):
    """Another machine's host key was seen at the first login."""

    stage = "port_open"
    reason = "host_key_changed"
    sentence = (
        "Warning: instance 7 shows another SSH host key than at the first login (got {shown}, known {known}). "
        "Somebody may listen in, or the machine was made anew."
    )

    async def start(self) -> tuple[str, int]:
        """Pin another key first."""
        other: asyncssh.SSHKey = asyncssh.generate_private_key("ssh-ed25519")  # pyright: ignore[reportUnknownMemberType]  # untyped **kwargs
        self._known = self.hosts.pin(INSTANCE_ID, other)
        return await super().start()

    def told(self) -> str:
        """Both fingerprints."""
        return self.sentence.format(shown=self.inside.host_key.get_fingerprint(), known=self._known)


class AcceptsThenCloses(BadHost):
    """A proxy whose machine is away."""

    stage = "none"
    reason = "closed"
    sentence = "The machine hung up before the login was done."
    behaviour = "accepts_then_closes"


class HugeBanner(BadHost):
    """10 MB of banner before the login."""

    stage = "port_open"
    reason = "too_much_output"
    sentence = FLOOD
    behaviour = "huge_banner"


class HugeWelcome(BadHost):
    """10 MB of welcome on stderr after it."""

    stage = "ssh_ok"
    reason = "too_much_output"
    sentence = FLOOD
    behaviour = "huge_stderr"


class EndlessOutput(BadHost):
    """Answers a command with a stream that does not end."""

    stage = "ssh_ok"
    reason = "too_much_output"
    sentence = FLOOD
    behaviour = "endless_output"


class HungShell(BadHost):
    """Lets in, and starts nothing."""

    stage = "ssh_ok"
    reason = "hung"
    sentence = "Login works, but the machine does not answer a command in time."
    silent = True

    async def start(self) -> tuple[str, int]:
        """With a shell that says when it hangs."""
        self.inside.machine = _MuteShell(self.mute)
        return await super().start()


class NvidiaSmiMissing(BadHost):
    """An image without the driver's tools."""

    stage = "ssh_ok"
    reason = "nvidia_smi_missing"
    sentence = "The image has no nvidia-smi, so the GPUs were not looked at."
    behaviour = "nvidia_smi_missing"


class NoGpu(BadHost):
    """A driver without devices."""

    stage = "ssh_ok"
    reason = "no_gpu"
    sentence = "The machine shows no GPU."
    behaviour = "no_gpu"


class WrongGpu(BadHost):
    """Another model than agreed."""

    stage = "ssh_ok"
    reason = "wrong_gpu"
    sentence = "The machine has another GPU than agreed: got NVIDIA GeForce RTX 3090, agreed RTX 4090."
    gpus = (("RTX 3090", 24576),)


class WrongCount(BadHost):
    """More GPUs than agreed, which may be somebody else's."""

    stage = "ssh_ok"
    reason = "wrong_gpu"
    sentence = "The machine has other GPUs than agreed: got 2 x NVIDIA GeForce RTX 4090, agreed 1."
    gpus = ONE_4090 * 2


class WrongMemory(BadHost):
    """Half the memory."""

    stage = "ssh_ok"
    reason = "wrong_gpu"
    sentence = "A GPU has less memory than agreed: got 12282 MB, agreed 24564 MB."
    gpus = (("RTX 4090", 12282),)


class DriverError(BadHost):
    """A driver that does not answer its own tool."""

    stage = "ssh_ok"
    reason = "driver_error"
    sentence = (
        "nvidia-smi failed with exit status 9; last line: 'NVIDIA-SMI has failed because it couldn't communicate with "
        "the NVIDIA driver. Make sure that the latest NVIDIA driver i…'."
    )
    behaviour = "driver_error"


BAD_HOSTS: Final[Sequence[type[BadHost]]] = (
    Away,
    SlowBanner,
    AuthAcceptedLate,
    KeyChanged,
    AcceptsThenCloses,
    HugeBanner,
    HugeWelcome,
    EndlessOutput,
    HungShell,
    NvidiaSmiMissing,
    NoGpu,
    WrongGpu,
    WrongCount,
    WrongMemory,
    DriverError,
)


class _MuteShell(Machine):
    def __init__(self, mute: asyncio.Event) -> None:
        super().__init__(ONE_4090)
        self._mute = mute

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        self._mute.set()
        await process.channel.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()
