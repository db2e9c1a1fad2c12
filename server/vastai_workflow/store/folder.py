"""The state folder and the files in it, closed to other users."""

import os
import stat
from pathlib import Path
from typing import Final

from vastai_workflow.domain.errors import LocalError

LEDGER: Final = "ledger.db"

_POSIX: Final = os.name == "posix"  # elsewhere mode bits say nothing: the user's profile folder is private there


def private_folder(folder: Path) -> None:
    """Makes the folder with mode 0700, or closes one that is ours. LocalError `store_unavailable`.

    A folder that others can enter and that holds other things is refused: closing it could break what it is for.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _POSIX:
            return
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            if not (folder / LEDGER).exists() and any(folder.iterdir()):
                raise LocalError(
                    "store_unavailable",
                    f"the state folder {folder} holds other things: got mode {mode:04o}, allowed 0700",
                    next_step=f"set VASTAI_WORKFLOW_STATE to a folder of its own, or run: chmod 700 {folder}",
                )
            folder.chmod(0o700)
    except OSError as error:
        raise unusable(folder, error) from error


def private_file(path: Path) -> tuple[int, int]:
    """Makes the file with mode 0600 or closes it, on disk; its device and inode. LocalError `store_unavailable`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _POSIX:
                os.fchmod(descriptor, 0o600)
            return identity(os.fstat(descriptor))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unusable(path, error) from error


def identity(found: os.stat_result) -> tuple[int, int]:
    """What tells this very file from another of the same name."""
    return found.st_dev, found.st_ino


def unusable(path: Path, error: OSError) -> LocalError:
    """The error of the operating system as one that a person can act on."""
    return LocalError(
        "store_unavailable",
        f"{path} can't be used: {error.strerror or type(error).__name__}",
        next_step="see that the disk has room and that this user may write there, or set VASTAI_WORKFLOW_STATE",
    )
