"""A command on a terminal of its own, with a person who types; and one that has no terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ON_THIS_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
WITH_OUTPUT_ELSEWHERE = (
    "import os, sys; to = int(sys.argv[1]); os.login_tty(0); os.dup2(to, 1); os.dup2(to, 2);"
    " os.execv(sys.argv[2], sys.argv[2:])"
)
PROMPT = b": "
"""What stands last where a person is asked."""

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


def typed(command: Sequence[str], answer: str, around: Mapping[str, str], *, before: str = "") -> tuple[int, str]:
    """The exit code, and what stood on the terminal. `before`: what is typed while nothing stands there yet."""
    person, terminal = pty.openpty()
    os.write(person, before.encode())
    with subprocess.Popen(  # noqa: S603 # this Python
        [sys.executable, "-c", ON_THIS_TERMINAL, *command],
        env=dict(around),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        said, left = b"", [f"{answer}\n".encode()]
        try:
            while chunk := os.read(person, 4096):
                said += chunk
                if left and said.endswith(PROMPT):
                    os.write(person, left.pop())
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


@dataclass
class Terminal:
    """A command's terminal, from the person's side."""

    person: int
    process: subprocess.Popen[bytes]

    def line(self) -> str:
        """The next line that stands there."""
        said = b""
        while not said.endswith(b"\n"):
            said += os.read(self.person, 1)
        return said.decode()

    def interrupt(self) -> None:
        """Ctrl-C, and the command ends well."""
        os.write(self.person, b"\x03")
        assert self.process.wait(60) == 0


@contextmanager
def on_a_terminal(command: Sequence[str], around: Mapping[str, str], *, output: Path) -> Generator[Terminal]:
    """The command on a terminal of its own, with its output in a file."""
    person, terminal = pty.openpty()
    with (
        output.open("wb") as file,
        subprocess.Popen(  # noqa: S603 # this Python
            [sys.executable, "-c", WITH_OUTPUT_ELSEWHERE, str(file.fileno()), *command],
            env=dict(around),
            stdin=terminal,
            pass_fds=(file.fileno(),),
        ) as process,
    ):
        os.close(terminal)
        yield Terminal(person, process)
    os.close(person)
