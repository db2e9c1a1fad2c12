"""Asks the person at the controlling terminal; a pipe, and so a program that types for them, can't answer."""

import os
import sys
from pathlib import Path
from typing import Final

from vastai_workflow.domain.errors import LocalError

_READ: Final = "CONIN$" if os.name == "nt" else "/dev/tty"
_WRITE: Final = "CONOUT$" if os.name == "nt" else "/dev/tty"


def ask(question: str) -> str:
    """What the person types, without spaces around it. LocalError `no_terminal` where nobody can be asked."""
    try:
        with Path(_WRITE).open("w", encoding="utf-8") as screen, Path(_READ).open(encoding="utf-8") as keyboard:
            screen.write(f"{question} ")
            screen.flush()
            return keyboard.readline().strip()
    except OSError as error:
        raise LocalError("no_terminal", f"got no terminal ({error.strerror}), needed one to ask a person") from None


def tell(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(f"{text}\n")
