"""OpenSSH itself: its programs, its server on loopback, and its agent, as working peers."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SSHD: Final = Path("/usr/sbin/sshd")
PRIVILEGE_SEPARATION: Final = Path("/run/sshd")
"""sshd wants it; Debian's boot makes it, a container has none."""

NVIDIA_SMI: Final = """#!/bin/sh
[ "$*" = "--query-gpu=name,memory.total --format=csv,noheader,nounits" ] || exit 2
{body}
"""
LOGIN: Final = """#!/bin/bash
# what images do at a login: a welcome on stderr, text of their own, tmux where no command comes
echo 'Welcome to vast.ai. If authentication fails, try again after a few seconds.' >&2
echo 'this image has 3 notes'
echo 'open terminal failed: not a terminal' >&2
{start}
[ -n "$SSH_ORIGINAL_COMMAND" ] || exec cat
PATH={programs}:$PATH exec bash -c "$SSH_ORIGINAL_COMMAND"
"""


def program(name: str) -> str:
    """Where OpenSSH's program is; a machine without it fails these tests."""
    path = shutil.which(name)
    assert path is not None, f"OpenSSH's {name} is not installed"
    return path


async def run(*command: str, environment: Mapping[str, str] | None = None) -> tuple[int | None, str, str]:
    """Run a program without input; answers status, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=None if environment is None else {**os.environ, **environment},
    )
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


@dataclass
class Sshd:
    """A server for root, whose keys and `nvidia-smi` can be changed while it runs."""

    folder: Path
    ports: Sequence[int]
    log: list[str] = field(default_factory=list[str])

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where it listens."""
        return tuple(("127.0.0.1", port) for port in self.ports)

    def let_in(self, *public_keys: str) -> None:
        """Who may log in."""
        (self.folder / "authorized_keys").write_text("".join(f"{key}\n" for key in public_keys))

    def nvidia_smi(self, body: str | None) -> None:
        """What the driver's tool does, in shell; None takes it away."""
        path = self.folder / "programs" / "nvidia-smi"
        path.unlink(missing_ok=True)
        if body is not None:
            write_program(path, NVIDIA_SMI.format(body=body))


@asynccontextmanager
async def sshd(folder: Path, ports: Sequence[int], *, start: str = ":") -> AsyncGenerator[Sshd]:
    """Debian's sshd on loopback; `start` is shell that every login runs, as an image's .bashrc does."""
    assert SSHD.exists(), "OpenSSH's server is not installed"
    PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    (folder / "programs").mkdir(parents=True)
    write_program(folder / "login", LOGIN.format(start=start, programs=folder / "programs"))
    (folder / "banner").write_text("Authorized use only.\n" * 20)
    await run(program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key"))
    options = {
        "HostKey": folder / "host_key",
        "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        "StrictModes": "no",
        "LogLevel": "VERBOSE",
        "Banner": folder / "banner",
        "ForceCommand": folder / "login",
    }
    lines = [f"{name} {value}" for name, value in options.items()]
    lines += [f"ListenAddress 127.0.0.1:{port}" for port in ports]
    (folder / "config").write_text("\n".join([*lines, ""]))
    server = Sshd(folder, ports)
    server.let_in()
    process = await asyncio.create_subprocess_exec(
        str(SSHD),
        "-D",
        "-e",
        "-f",
        str(folder / "config"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    stderr = process.stderr
    while len([line for line in server.log if "Server listening" in line]) < len(ports):
        line = (await stderr.readline()).decode()
        assert line, server.log
        server.log.append(line)

    async def listen() -> None:
        server.log.extend([line.decode() async for line in stderr])

    listening = asyncio.create_task(listen())
    try:
        yield server
    finally:
        process.terminate()
        await process.wait()
        await listening


@asynccontextmanager
async def ssh_agent(socket: Path, *, asks: str = "false") -> AsyncGenerator[str]:
    """A real agent; `asks` is the program that it asks the user with before it signs with a key that wants that."""
    process = await asyncio.create_subprocess_exec(
        *(program("ssh-agent"), "-D", "-a", str(socket)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "SSH_ASKPASS": program(asks), "SSH_ASKPASS_REQUIRE": "force"},
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield str(socket)
    finally:
        process.terminate()
        await process.communicate()


async def ssh_add(agent: str, key: Path, passphrase: str, *options: str) -> None:
    """Give a key with a passphrase to the agent, as its user does."""
    answers = key.with_name("answers")
    write_program(answers, f"#!/bin/sh\necho '{passphrase}'\n")
    environment = {"SSH_AUTH_SOCK": agent, "SSH_ASKPASS": str(answers), "SSH_ASKPASS_REQUIRE": "force"}
    status, _, said = await run(program("ssh-add"), *options, str(key), environment=environment)
    assert status == 0, said


def write_program(path: Path, text: str) -> None:
    """A script that can be run."""
    path.write_text(text)
    path.chmod(0o755)
