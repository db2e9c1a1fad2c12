"""The user's SSH public key: read, checked, found among the usual ones, or made as a pair of our own.

Private keys are never shown and never sent; their files are read only to log in (`access.identity`) and, for the pair
in our own folder, to write its public half again.
"""

import os
import stat
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Final
from uuid import uuid4

import anyio.to_thread
import asyncssh

from vastai_workflow.domain.errors import LocalError
from vastai_workflow.domain.untrusted import holds_private_key
from vastai_workflow.steps.ports import LocalKey

TYPES: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
"""The key types that current OpenSSH servers accept."""

USUAL_NAMES: Final = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
"""In `~/.ssh`, first come first served; keys on a security key last, since each login wants a touch."""

MAX_CHARS: Final = 8192
"""Longer than any RSA key in use (16384 bits take 2.8 K) with a comment."""

LEAST_RSA_BITS: Final = 2048
"""Fewer are weak, and the SSH servers of some distributions refuse them."""

OWN_NAME: Final = "id_ed25519"
_BYTE_ORDER_MARK: Final = "\ufeff"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_GIVE_A_KEY: Final = "give one line such as 'ssh-ed25519 AAAA... name', or the path of a .pub file"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key on one line. Two are equal when their blobs are: type and comment don't count."""

    blob: bytes
    text: str = field(compare=False)
    comment: str = field(compare=False)
    fingerprint: str = field(compare=False)


class SshKeys:
    """SSH keys on this machine: those in `home`/.ssh, and one pair of our own in `state_dir`/ssh."""

    def __init__(self, *, home: Path, state_dir: Path) -> None:
        self._home = home
        self._state_dir = state_dir

    async def resolve(self, value: str | None) -> LocalKey:
        """See `resolve`; files are read in a thread."""
        return await anyio.to_thread.run_sync(lambda: resolve(value, home=self._home, state_dir=self._state_dir))

    def fingerprint(self, public_key: str) -> str | None:
        """None where the line holds no key."""
        try:
            return parse_public_key(public_key).fingerprint
        except LocalError:
            return None

    def same(self, one: str, other: str) -> bool:
        """Whether two lines hold the same key; a line that holds none is the same as nothing."""
        try:
            return parse_public_key(one) == parse_public_key(other)
        except LocalError:
            return False


def resolve(value: str | None, *, home: Path, state_dir: Path) -> LocalKey:
    """The key to use: none given, the first usual one, else our own pair; else what the path or the text says.

    Raises `LocalError` `ssh_key_refused`; its sentence never repeats what was given.
    """
    given = (value or "").strip()
    if not given:
        return usual_public_key(home) or own_key_pair(state_dir)
    if _is_path(given):
        return _key_at(_full_path(given, home))
    key = parse_public_key(given)
    return LocalKey(key.text, key.fingerprint)


def parse_public_key(text: str) -> PublicKey:
    """The one public key that `text` holds. Raises `LocalError` `ssh_key_refused` for anything else."""
    whole = text.removeprefix(_BYTE_ORDER_MARK).strip()
    _refuse_other_things(whole)
    line = _the_line(whole)
    type_, _, rest = line.partition(" ")
    if type_ not in TYPES:
        raise _refusal(_what_is_it(line), _GIVE_A_KEY)
    encoded, _, comment = rest.strip().partition(" ")
    try:
        blob = b64decode(encoded, validate=True)
        key = asyncssh.import_public_key(f"{type_} {encoded}")
    except (Base64Error, asyncssh.KeyImportError, ValueError) as error:
        raise _refusal(f"this {type_} key is damaged: its base64 part can't be read", "copy the whole line") from error
    if key.public_data != blob:
        raise _refusal(f"this {type_} key is written in an unusual way, which servers may refuse", "use another key")
    if type_ == "ssh-rsa" and (bits := _rsa_bits(blob)) < LEAST_RSA_BITS:
        raise _refusal(
            f"this RSA key is too short: got {bits} bits, allowed {LEAST_RSA_BITS} or more",
            "make a better one: ssh-keygen -t ed25519",
        )
    comment = comment.strip()
    plain = f"{type_} {encoded} {comment}".rstrip()
    return PublicKey(blob=blob, text=plain, comment=comment, fingerprint=key.get_fingerprint())


def usual_public_key(home: Path) -> LocalKey | None:
    """The first public key with a usual name in `home`/.ssh that can be read; damaged ones are passed over."""
    for name in USUAL_NAMES:
        try:
            return _key_at(home / ".ssh" / f"{name}.pub")
        except LocalError:
            continue
    return None


def own_key_pair(state_dir: Path) -> LocalKey:
    """Our own ed25519 pair in `state_dir`/ssh (folder 0700, private key 0600); made once, never overwritten.

    Raises `LocalError`: `ssh_key_refused` where the private key is damaged, or others may read it or replace it,
    `store_unavailable` where the folder can't be written.
    """
    folder = state_dir / "ssh"
    private = folder / OWN_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o022:
            raise _refusal(f"others can put keys into our folder {folder}", f"run: chmod 700 {quote(str(folder))}")
        if not private.exists():
            _make_private_key(private)
        key = _own_private_key(private)
        public = private.with_name(f"{OWN_NAME}.pub")
        line = key.export_public_key()
        if not public.exists() or public.read_bytes() != line:
            _write_new(draft := _draft(public), line)
            draft.replace(public)
    except OSError as error:
        raise LocalError(
            "store_unavailable",
            f"The SSH key pair in {folder} can't be made or read ({error.strerror}).",
            next_step="make the folder writable, or name a public key of your own as ssh_key",
        ) from error
    parsed = parse_public_key(line.decode())
    return LocalKey(parsed.text, parsed.fingerprint, private)


def _make_private_key(private: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519", "vastai-workflow")  # pyright: ignore[reportUnknownMemberType]  # untyped **kwargs
    draft = _draft(private)
    _write_new(draft, key.export_private_key())
    try:
        os.link(draft, private)  # unlike a rename, this never replaces the pair that another process just made
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _own_private_key(private: Path) -> asyncssh.SSHKey:
    if os.name == "posix" and stat.S_IMODE(private.stat().st_mode) & 0o077:
        raise _refusal(f"others can read our private key {private}", f"run: chmod 600 {quote(str(private))}")
    try:
        return asyncssh.import_private_key(private.read_bytes())
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise _refusal(f"our private key {private} is damaged", "move it away; a new pair is made then") from error


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex}")


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _is_path(given: str) -> bool:
    """A path may hold the words of a key; a key with its options never begins like a path."""
    if not given.isprintable():
        return False
    if given.startswith(("/", "~", "./", "../")) or Path(given).is_absolute():
        return True
    return given.endswith((".pub", ".ppk")) and not any(word in TYPES for word in given.split())


def _full_path(given: str, home: Path) -> Path:
    path = home / given[2:] if given.startswith("~/") else Path(given)
    if not path.is_absolute():
        raise _refusal("the SSH key's path is not absolute", "give it from / or from ~/")
    return path


def _key_at(path: Path) -> LocalKey:
    """The key in a .pub file, or beside a private key."""
    public = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    try:
        if not stat.S_ISREG(public.stat().st_mode):
            raise _refusal(f"{public} is not a file", _GIVE_A_KEY)
        with public.open("rb") as file:
            data = file.read(MAX_CHARS + 1)
    except FileNotFoundError as error:
        made_of = f"run: ssh-keygen -y -f {quote(str(path))} > {quote(str(public))}"
        if path.suffix.lower() == ".ppk" and path.is_file():
            export = f"run: puttygen {quote(str(path))} -O public-openssh, and give the line that it prints"
            raise _refusal(f"{path} is a key of PuTTY, which holds the private half too", export) from error
        step = made_of if public != path and path.is_file() else _GIVE_A_KEY
        raise _refusal(f"there is no public key {public}", step) from error
    except (OSError, ValueError) as error:
        raise _refusal(f"{public} can't be read", _GIVE_A_KEY) from error
    if data.startswith(_UTF_16):
        raise _refusal(f"{public} is written in UTF-16, as PowerShell's > writes", "save it as UTF-8, or give its text")
    try:
        key = parse_public_key(data.decode())
    except UnicodeDecodeError as error:
        raise _refusal(f"{public} holds no public key", _GIVE_A_KEY) from error
    private = public.with_suffix("")
    on_this_machine = private.is_file() and not key.text.startswith("sk-")
    return LocalKey(key.text, key.fingerprint, private if on_this_machine else None)


def _refuse_other_things(text: str) -> None:
    if holds_private_key(text):
        raise _refusal(
            "this is a private key; it was not read any further and belongs in no chat or argument",
            "give the public key instead (for a PuTTY key: puttygen KEY.ppk -O public-openssh)",
        )
    if "BEGIN SSH2 PUBLIC KEY" in text:
        raise _refusal(
            "this is a public key in the format of PuTTY (RFC 4716)", "run: ssh-keygen -i -f KEY, and give its output"
        )
    if len(text) > MAX_CHARS:
        raise _refusal(f"this is too long for a public key: allowed are {MAX_CHARS} characters", _GIVE_A_KEY)


def _the_line(text: str) -> str:
    """The line that is no comment and not empty, whatever the system that wrote it ends lines with."""
    ended = [line.removesuffix("\r").strip(" ") for line in text.split("\n")]
    lines = [line for line in ended if line and not line.startswith("#")]
    if not lines:
        raise _refusal("there is no public key", _GIVE_A_KEY)
    if sum(line.startswith(TYPES) for line in lines) > 1:
        raise _refusal("these are several keys", "give one")
    if len(lines) > 1 or not lines[0].isprintable():
        raise _refusal("the key has a line break, tab or control character inside", "give it on one line")
    return lines[0]


def _rsa_bits(blob: bytes) -> int:
    """The size of the modulus, the last of the key's three fields; a leading zero byte of its sign does not count."""
    at = 0
    for _ in range(2):
        at += 4 + int.from_bytes(blob[at : at + 4])
    return int.from_bytes(blob[at + 4 :]).bit_length()


def _what_is_it(line: str) -> str:
    words: Sequence[str] = line.split(" ")
    if any(word in TYPES for word in words):
        return "something stands before the key; options such as command=... are not taken"
    if "-cert-v0" in words[0]:
        return "this is a certificate, not a public key"
    if words[0] == "ssh-dss":
        return "this is a DSA key, which SSH servers refuse by now"
    if len(words) == 1 and ("/" in line or "\\" in line or line.endswith(".pub")):
        return "this is a path where the text of a public key is expected"
    return f"this is no public key: allowed are {', '.join(TYPES)}"


def _refusal(message: str, next_step: str) -> LocalError:
    return LocalError("ssh_key_refused", f"{message[0].upper()}{message[1:]}.", next_step=next_step)
