"""Asks the person at the controlling terminal; a pipe, and so a program that types for them, can't answer."""

import os
import sys
from pathlib import Path
from typing import Final

from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.untrusted import clean_lines

_READ: Final = "CONIN$" if os.name == "nt" else "/dev/tty"
_WRITE: Final = "CONOUT$" if os.name == "nt" else "/dev/tty"
_MOST: Final = 20_000


def ask(question: str) -> str:
    """What the person types, without spaces around it. LocalError `no_terminal` where nobody can be asked.

    Nothing in the question moves the cursor or hides: what they read is what they answer.
    """
    try:
        with Path(_WRITE).open("w", encoding="utf-8") as screen, Path(_READ).open(encoding="utf-8") as keyboard:
            screen.write(f"{clean_lines(question, _MOST)} ")
            screen.flush()
            return keyboard.readline().strip()
    except OSError as error:
        raise _no_terminal(error) from None


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
