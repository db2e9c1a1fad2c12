"""A login as words for OpenSSH: the command that a person runs, and paths as values of ssh_config.

OpenSSH splits the value of an option at spaces, also on the command line, and reads quotes, `%` and comments in it.
"""

import re
import shlex
from typing import Final

USER: Final = "root"

_PLAIN: Final = re.compile(r"[\w/.,:@+=~()-]+")


def command(instance_id: int, host: str, port: int, *, key_path: str | None, known_hosts: str | None) -> str:
    """What logs in, by the key that was agreed to alone, and held to the host key that was seen first.

    `known_hosts` None: there was no login yet, so no host key is known.
    """
    words = ["ssh", "-p", str(port)]
    if key_path:
        plain = "%" not in key_path  # of the path after -i OpenSSH looks for the file first, and expands it then
        words += ["-i", key_path] if plain else ["-o", f"IdentityFile={in_option(key_path)}"]
        words += ["-o", "IdentitiesOnly=yes"]
    if known_hosts:
        words += ["-o", f"HostKeyAlias=vast-{instance_id}", "-o", f"UserKnownHostsFile={in_option(known_hosts)}"]
        words += ["-o", "StrictHostKeyChecking=yes"]
    return shlex.join([*words, f"{USER}@{host}"])


def in_option(path: str) -> str:
    """A path as a value of ssh_config, or of `-o`: one word, from which nothing is expanded."""
    kept = path.replace("%", "%%")
    if _PLAIN.fullmatch(kept):
        return kept
    escaped = re.sub(r'(["\\])', r"\\\1", kept)
    return f'"{escaped}"'
