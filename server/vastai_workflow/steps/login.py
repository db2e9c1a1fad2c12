"""A login: where it goes, and as words for OpenSSH: the command that a person runs, paths as values of ssh_config.

OpenSSH splits the value of an option at spaces, also on the command line, and reads quotes, `%` and comments in it.
"""

import re
import shlex
from typing import Final

from vastai_workflow.domain.market import Instance
from vastai_workflow.steps.ports import Window

USER: Final = "root"

_ADDRESS: Final = re.compile(r"[0-9A-Za-z:][0-9A-Za-z.:-]{0,252}")
_MAX_PORT: Final = 65_535
_PLAIN: Final = re.compile(r"[\w/.,:@+=~()-]+")


def addresses(instance: Instance) -> tuple[tuple[str, int], ...]:
    """Where SSH may answer: direct, the proxy, and the proxy's next port for jupyter (as the official CLI does)."""
    found: list[tuple[str, int]] = []
    if instance.public_ip and instance.direct_ssh_port:
        found.append((instance.public_ip, instance.direct_ssh_port))
    if instance.ssh_host and instance.ssh_port:
        jupyter = "jupyter" in instance.runtype
        found += [(instance.ssh_host, instance.ssh_port + (1 if jupyter else 0))]
    return tuple(found)


def moved(window: Window, instance: Instance) -> bool:
    """Whether the list shows other addresses than that of the last look: hosts restart without our doing."""
    listed = [(host.strip(), port) for host, port in addresses(instance)]
    return window.host is not None and bool(listed) and (window.host, window.port) not in listed


def is_address(host: str | None, port: int | None) -> bool:
    """Whether it can be nothing but an address and its port, to whatever program."""
    return bool(_ADDRESS.fullmatch(host or "")) and 1 <= (port or 0) <= _MAX_PORT


def command(instance_id: int, host: str, port: int, *, key_path: str | None, known_hosts: str, pinned: bool) -> str:
    """What logs in, by the key that was agreed to alone, and held to the host key that was seen first.

    Not `pinned`: there was no login yet, and this one pins the host key in the server's file, in its own form.
    """
    words = ["ssh", "-p", str(port)]
    if key_path:
        plain = "%" not in key_path  # of the path after -i OpenSSH looks for the file first, and expands it then
        words += ["-i", key_path] if plain else ["-o", f"IdentityFile={in_option(key_path)}"]
        words += ["-o", "IdentitiesOnly=yes"]
    words += ["-o", f"HostKeyAlias=vast-{instance_id}", "-o", f"UserKnownHostsFile={in_option(known_hosts)}"]
    words += ["-o", f"StrictHostKeyChecking={'yes' if pinned else 'accept-new'}"]
    words += [] if pinned else ["-o", "HashKnownHosts=no"]
    return shlex.join([*words, f"{USER}@{host}"])


def in_option(path: str) -> str:
    """A path as a value of ssh_config, or of `-o`: one word, from which nothing is expanded."""
    kept = path.replace("%", "%%")
    if _PLAIN.fullmatch(kept):
        return kept
    escaped = re.sub(r'(["\\])', r"\\\1", kept)
    return f'"{escaped}"'
