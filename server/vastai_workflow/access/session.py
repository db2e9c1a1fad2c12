"""Our side of an SSH connection: what is believed, how much is listened to, and what its errors mean."""

import asyncio
from typing import Final

import asyncssh

from vastai_workflow.access.addresses import AddressRefusedError
from vastai_workflow.access.gpus import KILLED

MAX_OUTPUT_BYTES: Final = 64 * 1024
"""For the banners before a login, and for the output of a command. A machine with 64 GPUs prints less than 3 KB."""

HOST_KEY_ALGORITHMS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

TOO_MUCH: Final = f"The machine sends more than {MAX_OUTPUT_BYTES // 1024} KB where a few lines are expected."


FAULTS: Final = (
    AddressRefusedError,
    asyncssh.Error,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)
"""What a connection can raise: beside its own errors, asyncssh hands on whatever its parser stumbles over in the
machine's bytes (seen: UnicodeDecodeError and PacketDecodeError, both ValueError)."""


class TooMuchOutputError(asyncssh.ProtocolError):
    """The other side does not stop talking."""


class Login(asyncssh.SSHClient):
    """One login: accepts the host key whose fingerprint is `known`, or any where none is yet, and remembers it."""

    def __init__(self, known: str | None) -> None:
        self.host_key: asyncssh.SSHKey | None = None
        self.changed = False
        """Another host key was shown than the known one."""
        self._known = known
        self._connection: asyncssh.SSHClientConnection | None = None
        self._heard = 0

    @property
    def identified(self) -> bool:
        """Whether the other side said that it speaks SSH."""
        return self._connection is not None and self._connection.get_extra_info("server_version") is not None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Called by asyncssh when TCP stands."""
        self._connection = conn

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002  # the instance counts, not where it stands
        """Called by asyncssh with the key that the host has just signed with."""
        self.host_key = key
        self.changed = self._known not in {None, key.get_fingerprint()}
        return not self.changed

    def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002  # not shown
        """Called by asyncssh for text before the login: counted and dropped."""
        self._heard += len(msg)
        if self._heard > MAX_OUTPUT_BYTES:
            raise TooMuchOutputError(TOO_MUCH)


class Output(asyncssh.SSHClientSession[bytes]):
    """The output of one command, up to `MAX_OUTPUT_BYTES` on both streams together."""

    def __init__(self) -> None:
        self.stdout = b""
        self.status: int | None = None
        self.too_much = False
        self.ended = asyncio.Event()
        self._heard = 0

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Called by asyncssh for each piece of stdout (`datatype` None) and stderr."""
        self._heard += len(data)
        if self._heard > MAX_OUTPUT_BYTES:
            self.too_much = True
            self.ended.set()
        elif datatype is None:
            self.stdout += data

    def exit_status_received(self, status: int) -> None:
        """Called by asyncssh when the command ended."""
        self.status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002, FBT001  # asyncssh's signature; killed is killed
        """Called by asyncssh when the command was killed."""
        self.status = KILLED

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # no status says it
        """Called by asyncssh when the channel is closed."""
        self.ended.set()


def host_key_algorithms(pinned: str | None) -> list[str]:
    """The algorithms to offer, that of the pinned key first, so that a host with several shows this one again."""
    kind = (pinned or "").split(" ")[0].replace("ssh-rsa", "rsa-sha2")
    return sorted(HOST_KEY_ALGORITHMS, key=lambda name: not name.startswith(kind))


def meaning(error: Exception) -> tuple[str, str]:
    """The reason code of one of the `FAULTS`, and a sentence of our own."""
    for kind, reason, sentence in _MEANINGS:
        if isinstance(error, kind):
            return reason, sentence or str(error)
    return "closed", "The machine does not speak SSH properly."


_MEANINGS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (AddressRefusedError, "bad_address", ""),
    (TooMuchOutputError, "too_much_output", TOO_MUCH),
    (asyncssh.PermissionDenied, "auth_refused", "The machine does not accept the key for root (yet)."),
    (asyncssh.ConnectionLost, "closed", "The machine hung up before the login was done."),
    (asyncssh.Error, "closed", "The machine does not speak SSH properly."),
    (TimeoutError, "timeout", "The machine did not answer in time."),
    (ConnectionRefusedError, "refused", "Nothing listens on the machine's SSH port (yet)."),
    (ConnectionError, "closed", "The machine hung up before the login was done."),
    (OSError, "unreachable", "The machine's address can't be reached or resolved from here."),
)
