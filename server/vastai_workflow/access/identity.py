"""The private half that a login is signed with: the key file, or the user's ssh-agent where it has a passphrase."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from shlex import quote
from typing import Final

import anyio.to_thread
import asyncssh
from asyncssh.agent import SSHAgentKeyPair

from vastai_workflow.access.keys import parse_public_key
from vastai_workflow.steps.ports import LocalKey

MAX_FILE_BYTES: Final = 64 * 1024


NOT_SIGNED: Final = (
    "The ssh-agent holds the key and did not sign with it (it may wait for a yes or a touch), "
    "so the login was not tested."
)


class AgentKey(SSHAgentKeyPair):
    """A key of the agent. `left_unsigned`: a machine would take the key, and the agent gave no signature."""

    left_unsigned = False

    async def sign_async(self, data: bytes) -> bytes:
        """Called by asyncssh once a machine would take the key."""
        self.left_unsigned = True
        signature = await super().sign_async(data)
        self.left_unsigned = False
        return signature


class NoPrivateKeyError(Exception):
    """Nothing on this machine can sign for the public key; the message says what would help."""


@asynccontextmanager
async def signer(
    key: LocalKey, agent_path: str | None, give_up_at: float
) -> AsyncGenerator[asyncssh.SSHKey | asyncssh.SSHKeyPair]:
    """Yield what asyncssh signs with, for this very key and no other of the agent's.

    Raises `NoPrivateKeyError`. `agent_path` is the socket of the user's ssh-agent, if there is one; it is waited for
    until `give_up_at` on the event loop's clock.
    """
    blob = parse_public_key(key.public_key).blob
    path = key.private_key_path
    loaded = await anyio.to_thread.run_sync(_load, path) if path is not None else None
    bared = path is not None and await anyio.to_thread.run_sync(open_to_others, path)
    if loaded is not None and loaded.public_data == blob and not bared:
        yield loaded
        return
    async with AsyncExitStack() as stack:
        if agent_path and (held := await _held(stack, agent_path, blob, give_up_at)):
            yield held
            return
    if path is not None and bared:
        raise NoPrivateKeyError(
            f"Others can read {path}, so OpenSSH refuses it and the login was not tested; "
            f"run: chmod 600 {quote(str(path))}"
        )
    raise NoPrivateKeyError(_what_helps(path, loaded))


def open_to_others(path: Path) -> bool:
    """Whether OpenSSH calls a private key file unprotected: it is this user's, and others may read or write it."""
    if os.name != "posix":
        return False
    try:
        seen = path.stat()
    except OSError:
        return False
    return seen.st_uid == os.getuid() and bool(stat.S_IMODE(seen.st_mode) & 0o077)


async def _held(stack: AsyncExitStack, agent_path: str, blob: bytes, give_up_at: float) -> AgentKey | None:
    """The key with this blob if the agent has it; the connection to the agent is closed with the stack."""
    try:
        async with asyncio.timeout_at(give_up_at):
            agent = await stack.enter_async_context(await asyncssh.connect_agent(agent_path))
            pairs = await agent.get_keys()
    except (asyncssh.Error, OSError, ValueError):
        return None
    return next((AgentKey(agent, one.key_algorithm, blob, b"") for one in pairs if one.public_data == blob), None)


def _load(path: Path) -> asyncssh.SSHKey | None:
    """The key in the file, or None where it has a passphrase or can't be read."""
    try:
        with path.open("rb") as file:
            return asyncssh.import_private_key(file.read(MAX_FILE_BYTES))
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        return None


def _what_helps(path: Path | None, loaded: asyncssh.SSHKey | None) -> str:
    if path is None:
        return "Only the public key is on this machine, so the login was not tested."
    if loaded is not None:
        return f"{path} is not the private key of the public key beside it, so the login was not tested."
    return f"{path} has a passphrase or can't be read, so the login was not tested; run: ssh-add {path}"
