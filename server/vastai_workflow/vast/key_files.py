"""Reads an API key from a file: which file may be read at all, and which line of it is the key.

Nothing of a file's content is ever part of an error.
"""

import os
import re
import shlex
import stat
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.untrusted import clean, visible

VARIABLE: Final = "VAST_API_KEY"
MAX_BYTES: Final = 64 * 1024
_PATH_CAP: Final = 300
KEY: Final = re.compile(r"[\x21-\x7e]{8,512}")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9._-]{8,512}")
_LINE: Final = re.compile(rf"(?:export\s+)?{VARIABLE}\s*=\s*(.*)")
_VALUE: Final = re.compile(r"""(?:"([^"]*)"|'([^']*)'|([^\s#'"]\S*)?)\s*(?:\s#.*|#.*)?""")
_READABLE_BY_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def resolve(path: str, *, cwd: Path, home: Path) -> Path:
    """The absolute path with links followed; it must lie in the working folder or home, of which `/` counts as neither.

    A relative path is looked for in the working folder, then in home. Nothing is read. A path that would show as
    another than it is, with control, bidirectional or invisible characters, is refused: a person has to agree to it.
    """
    folders = [folder for folder in (_real(cwd), _real(home)) if folder is not None and folder != Path(folder.anchor)]
    wanted = home / path[2:] if path.startswith("~/") else Path(path)
    candidates = [wanted] if wanted.is_absolute() else [folder / wanted for folder in folders]
    reals = [real for one in candidates if (real := _real(one)) is not None]
    chosen = next((real for real in reals if _exists(real)), reals[0] if reals else None)
    if chosen is None or not any(chosen.is_relative_to(folder) for folder in folders):
        raise LocalError(
            "key_file_refused",
            f"the key file {clean(path, _PATH_CAP)!r} is outside the working folder and home",
            next_step="put the key file into your home folder and name it there",
        )
    if not all(map(visible, str(chosen))):
        raise LocalError(
            "key_file_refused",
            f"the path of the key file {clean(path, _PATH_CAP)!r} has characters that do not show",
            next_step="give the file, and the folders that it is in, names of visible characters",
        )
    return chosen


def read_key(path: Path) -> SecretStr:
    """The key in a file at a resolved path; LocalError `key_missing` or `key_file_refused`."""
    return key_in(_content(path), path)


def key_in(text: str, path: Path) -> SecretStr:
    """The key in a file's text: `VAST_API_KEY=...`, also with `export`, quotes and comments, or the bare key alone."""
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise _missing(path, "is empty")
    assigned = [match.group(1) for line in lines if (match := _LINE.fullmatch(line))]
    if assigned:
        value = _VALUE.fullmatch(assigned[-1].strip())
        key = next((part for part in value.groups() if part is not None), "") if value else None
    else:
        key = lines[0] if len(lines) == 1 and _BARE_KEY.fullmatch(lines[0]) else None
        if key is None:
            raise _refused(path, f"has no line {VARIABLE}=... and is not just a key", f"write {VARIABLE}=... into it")
    if key == "":
        raise _missing(path, f"has an empty {VARIABLE}")
    if key is None or not KEY.fullmatch(key):
        raise _refused(path, f"has a {VARIABLE} that is no key", "write the key there, without spaces")
    return SecretStr(key)


def _content(path: Path) -> str:
    """The text of a private, regular, small text file; checked on what was opened, so that it can't be swapped."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path, "does not exist") from None
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not a path"
        raise _refused(path, f"can't be opened ({why})", "make it a file that you can read") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "is no regular file", "name a file")
        if os.name == "posix" and found.st_mode & _READABLE_BY_OTHERS:
            command = f"chmod 600 {shlex.quote(str(path))}"
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            raise _refused(path, f"is open to others: got mode {mode}, allowed 0600", f"run: {command}")
        if found.st_size > MAX_BYTES:
            raise _refused(path, f"is too large: got {found.st_size} bytes, allowed {MAX_BYTES}", "name the key file")
        content = os.read(descriptor, MAX_BYTES)
    except OSError as error:
        raise _refused(
            path, f"can't be read ({os.strerror(error.errno or 0)})", "name a file that can be read"
        ) from None
    finally:
        os.close(descriptor)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise _refused(path, "is no text", "name the key file")
    return text


def _real(path: Path) -> Path | None:
    """With links followed; None for what is no path, such as a loop of links."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _missing(path: Path, what: str) -> LocalError:
    return LocalError("key_missing", f"the key file {clean(str(path), _PATH_CAP)} {what}")


def _refused(path: Path, what: str, next_step: str) -> LocalError:
    return LocalError("key_file_refused", f"the key file {clean(str(path), _PATH_CAP)} {what}", next_step=next_step)
