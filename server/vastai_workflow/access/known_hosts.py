"""The host keys of rented machines, trusted on first use, in a known_hosts file of our own.

Each instance has an alias `vast-ID`, since the same address and port belong to other machines later. OpenSSH reads the
file with `-o HostKeyAlias=vast-ID -o UserKnownHostsFile=FILE`. The user's own known_hosts is not touched.
"""

import os
from collections import Counter
from pathlib import Path
from uuid import uuid4

import asyncssh
from filelock import FileLock

from vastai_workflow.domain.errors import LocalError


def alias(instance_id: int) -> str:
    """The name that stands for the instance in the file."""
    return f"vast-{instance_id}"


class KnownHosts:
    """One file, one line an instance; 0600, rewritten whole, locked against other processes.

    Every method blocks for a moment and raises `LocalError` `store_unavailable` where the file can't be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.with_name(f"{path.name}.lock"), mode=0o600, timeout=10)
        self._forgotten: Counter[int] = Counter()

    def pinned(self, instance_id: int) -> str | None:
        """The instance's host key as `type blob`, or None before the first login."""
        try:
            return _find(self._lines(), instance_id)
        except OSError as error:
            raise self._unusable(error) from error

    def times_forgotten(self, instance_id: int) -> int:
        """How often the key was dropped by this process, for a login that is about to begin."""
        return self._forgotten[instance_id]

    def pin(
        self,
        instance_id: int,
        host_key: asyncssh.SSHKey,
        *,
        times_forgotten: int | None = None,
        recorded: str | None = None,
    ) -> str:
        """Keep the key of the first login and return its fingerprint; the same key again changes nothing.

        `times_forgotten` when the login began: one that was under way when the key was dropped pins none.
        `recorded`: the fingerprint in the ledger; the key that has it takes the place of what else is pinned.
        Raises `LocalError` `host_key_changed` where another key is pinned; that one stays.
        """
        line, shown = line_of(host_key), host_key.get_fingerprint()
        try:
            self._make_folder()
            with self._lock:
                lines = self._lines()
                known = _find(lines, instance_id)
                wanted = known is None or (recorded == shown and known != line)
                if wanted and times_forgotten in {None, self._forgotten[instance_id]}:
                    self._write([*_without(lines, instance_id), f"{alias(instance_id)} {line}"])
        except OSError as error:
            raise self._unusable(error) from error
        if known is not None and shown not in {recorded, fingerprint(known)}:
            raise changed(instance_id, known=fingerprint(known), shown=shown)
        return shown

    def forget(self, instance_id: int) -> None:
        """Drop the key: the instance is gone, or was recycled and has made new ones."""
        self._forgotten[instance_id] += 1
        try:
            if not self.path.parent.exists():
                return
            with self._lock:
                lines = self._lines()
                kept = _without(lines, instance_id)
                if kept != lines:
                    self._write(kept)
        except OSError as error:
            raise self._unusable(error) from error

    def _make_folder(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _write(self, lines: list[str]) -> None:
        draft = self.path.with_name(f".{self.path.name}.{uuid4().hex}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii", errors="replace") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(descriptor)
        draft.replace(self.path)

    def _unusable(self, error: OSError) -> LocalError:
        return LocalError(
            "store_unavailable",
            f"The host keys in {self.path} can't be read or written ({error.strerror or type(error).__name__}).",
            next_step="see that it is a file, and it and its folder are this user's to read and write; then call again",
        )


def line_of(host_key: asyncssh.SSHKey) -> str:
    """The key as `type blob`, as it stands in the file."""
    return " ".join(host_key.export_public_key().decode().split()[:2])


def fingerprint(line: str | None) -> str:
    """`SHA256:...` of a pinned `type blob`; `unreadable` for a line that somebody damaged."""
    try:
        return asyncssh.import_public_key(line or "").get_fingerprint()
    except (asyncssh.KeyImportError, ValueError):  # ValueError: seen for an RSA key with impossible numbers
        return "unreadable"


def changed(instance_id: int, *, known: str, shown: str) -> LocalError:
    """The refusal for a machine that shows another key than at its first login; both as fingerprints."""
    return LocalError(
        "host_key_changed",
        f"Warning: instance {instance_id} shows another SSH host key than at the first login "
        f"(got {shown}, known {known}). Somebody may listen in, or the machine was made anew.",
        next_step="don't log in; destroy or recycle the machine, or ask the user who made it anew",
    )


def _without(lines: list[str], instance_id: int) -> list[str]:
    return [line for line in lines if line.split(" ", 1)[0] != alias(instance_id)]


def _find(lines: list[str], instance_id: int) -> str | None:
    return next((rest for name, _, rest in (line.partition(" ") for line in lines) if name == alias(instance_id)), None)
