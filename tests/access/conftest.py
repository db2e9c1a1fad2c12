"""Keys and hosts for the SSH tests; keys are made once, since that is the slow part."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.simulator.ssh_host import SshHost
from vastai_workflow.steps.ports import LocalKey

ONE_4090 = (("RTX 4090", 24564),)

StartHost = Callable[..., Coroutine[Any, Any, tuple[str, int]]]
"""Starts a simulated instance (behaviour, gpus, host_key, keys) and returns its address."""


def new_key(algorithm: str = "ssh-ed25519") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(algorithm, "me")  # pyright: ignore[reportUnknownMemberType]  # untyped **kwargs


@pytest.fixture(scope="session")
def user_key() -> asyncssh.SSHKey:
    return new_key()


@pytest.fixture(scope="session")
def rsa_key() -> asyncssh.SSHKey:
    return new_key("ssh-rsa")


@pytest.fixture(scope="session")
def host_keys() -> tuple[asyncssh.SSHKey, asyncssh.SSHKey]:
    return new_key(), new_key()


def stored(key: asyncssh.SSHKey, path: Path, passphrase: str | None = None) -> LocalKey:
    """The key as a file on this machine."""
    path.write_bytes(key.export_private_key("pkcs8-pem", passphrase))
    path.chmod(0o600)
    return LocalKey(key.export_public_key().decode().strip(), key.get_fingerprint(), path)


@pytest.fixture
def local_key(user_key: asyncssh.SSHKey, tmp_path: Path) -> LocalKey:
    return stored(user_key, tmp_path / "id_ed25519")


@pytest.fixture
def hosts(tmp_path: Path) -> KnownHosts:
    return KnownHosts(tmp_path / "state" / "known_hosts")


@pytest.fixture
async def started() -> AsyncGenerator[list[SshHost]]:
    """The hosts of this test; closed after it."""
    hosts: list[SshHost] = []
    yield hosts
    for host in hosts:
        await host.close()


@pytest.fixture
def start_host(
    user_key: asyncssh.SSHKey, host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey], started: list[SshHost]
) -> StartHost:
    async def start(
        behaviour: str = "normal",
        *,
        gpus: Sequence[tuple[str, int]] = ONE_4090,
        host_key: asyncssh.SSHKey | None = None,
        keys: Callable[[], Sequence[str]] | None = None,
    ) -> tuple[str, int]:
        host = SshHost(
            authorized_keys=keys or (lambda: [user_key.export_public_key().decode()]),
            gpus=gpus,
            host_key=host_key or host_keys[0],
            behaviour=behaviour,
        )
        started.append(host)
        return "127.0.0.1", await host.start()

    return start
