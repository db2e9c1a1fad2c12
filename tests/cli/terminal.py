"""A command on a terminal of its own, with a person who types; and one that has no terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ON_THIS_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
NOBODY = "http://127.0.0.1:9"


def environment(home: Path) -> dict[str, str]:
    """A home of its own, and a provider that nobody can reach."""
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "VAST_URL": NOBODY,
        "VAST_API_KEY": "f" * 64,
        "VASTAI_WORKFLOW_STATE": str(home / "state"),
    }


def typed(command: Sequence[str], answer: str, around: Mapping[str, str]) -> tuple[int, str]:
    """The exit code, and what stood on the terminal."""
    person, terminal = pty.openpty()
    with subprocess.Popen(  # noqa: S603 # this Python
        [sys.executable, "-c", ON_THIS_TERMINAL, *command],
        env=dict(around),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        os.write(person, f"{answer}\n".encode())
        said = b""
        try:
            while chunk := os.read(person, 4096):
                said += chunk
        except OSError:  # Linux says EIO when the other end has closed
            pass
        os.close(person)
        return process.wait(60), said.decode().replace("\r\n", "\n")


def piped(command: Sequence[str], answer: str, around: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The same from a pipe, without a controlling terminal."""
    return subprocess.run(  # noqa: S603 # this Python
        command,
        env=dict(around),
        input=f"{answer}\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
    )
