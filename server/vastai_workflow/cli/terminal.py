"""Asks the person at the controlling terminal; a pipe, and so a program that types for them, can't answer."""

import os
import sys
from pathlib import Path
from typing import Final, TextIO

from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.untrusted import clean_lines

_READ: Final = "CONIN$" if os.name == "nt" else "/dev/tty"
_WRITE: Final = "CONOUT$" if os.name == "nt" else "/dev/tty"
_MOST: Final = 20_000


def ask(question: str) -> str:
    """What the person types, without spaces around it. LocalError `no_terminal` where nobody can be asked.

    Nothing in the question moves the cursor or hides, it is never cut, and what was typed before it stood there is
    dropped: what they read is what they answer.
    """
    if len(question) > _MOST:
        raise LocalError(
            "no_terminal",
            f"got a question of {len(question)} characters, a terminal is shown {_MOST} at most, and none is cut",
            next_step="answer it with vastai-workflow approve --page, or let your agent ask for less",
        )
    try:
        with Path(_WRITE).open("w", encoding="utf-8") as screen, Path(_READ).open(encoding="utf-8") as keyboard:
            screen.write(clean_lines(question, _MOST))
            screen.flush()
            _drop_typed(keyboard)
            screen.write(" ")
            screen.flush()
            return keyboard.readline().strip()
    except OSError as error:
        raise _no_terminal(error) from None


def _drop_typed(keyboard: TextIO) -> None:
    """Forget what waits to be read. OSError where the terminal has gone."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 # there alone

        while msvcrt.kbhit():
            msvcrt.getwch()
    else:
        import termios  # noqa: PLC0415 # not on Windows

        try:
            termios.tcflush(keyboard, termios.TCIFLUSH)
        except termios.error as error:
            raise OSError(*error.args) from None


def show(text: str) -> None:
    """A line that only the person at the terminal sees, wherever output goes. LocalError `no_terminal`."""
    try:
        with Path(_WRITE).open("w", encoding="utf-8") as screen:
            screen.write(f"{text}\n")
    except OSError as error:
        raise _no_terminal(error) from None


def _no_terminal(error: OSError) -> LocalError:
    return LocalError("no_terminal", f"got no terminal ({error.strerror}), needed one to ask a person")


def tell(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(f"{text}\n")
