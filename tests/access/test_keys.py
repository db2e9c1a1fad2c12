"""Public keys: what is taken, what is refused, which one is used, and how our own pair is kept."""

import os
import stat
import threading
from base64 import b64encode
from pathlib import Path
from shlex import quote

import asyncssh
import pytest

from vastai_workflow.access.keys import (
    MAX_CHARS,
    SshKeys,
    own_key_pair,
    parse_public_key,
    resolve,
    usual_public_key,
)
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.steps.ports import Keys


def new_key(algorithm: str = "ssh-ed25519", comment: str = "me@laptop") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(algorithm, comment)  # pyright: ignore[reportUnknownMemberType]  # untyped **kwargs


ED = new_key()
OTHER = new_key()
RSA = new_key("ssh-rsa")
ED_LINE = ED.export_public_key().decode().strip()
OTHER_LINE = OTHER.export_public_key().decode().strip()
TYPE, BLOB, COMMENT = ED_LINE.split(" ")


def packed(*parts: bytes) -> str:
    return b64encode(b"".join(len(part).to_bytes(4) + part for part in parts)).decode()


def write_pair(folder: Path, name: str, key: asyncssh.SSHKey) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(key.export_private_key())
    (folder / f"{name}.pub").write_bytes(key.export_public_key())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.mark.parametrize("key", [ED, RSA, new_key("ecdsa-sha2-nistp256")], ids=["ed25519", "rsa", "ecdsa"])
def test_a_public_key_has_a_line_a_comment_and_a_fingerprint(key: asyncssh.SSHKey) -> None:
    parsed = parse_public_key(key.export_public_key().decode())
    assert parsed.text == key.export_public_key().decode().strip()
    assert parsed.comment == "me@laptop"
    assert parsed.fingerprint == key.get_fingerprint()
    assert parsed.fingerprint.startswith("SHA256:")


def test_keys_are_equal_by_blob_and_not_by_comment() -> None:
    keys: Keys = SshKeys(home=Path("/nowhere"), state_dir=Path("/nowhere"))
    assert parse_public_key(f"{TYPE} {BLOB} another comment") == parse_public_key(ED_LINE)
    assert parse_public_key(OTHER_LINE) != parse_public_key(ED_LINE)
    assert keys.same(ED_LINE + "\n", f"{TYPE} {BLOB}")
    assert not keys.same(ED_LINE, OTHER_LINE)
    assert not keys.same("", "")
    assert not keys.same("nonsense", "nonsense")


def test_a_line_end_of_any_system_is_no_part_of_the_key() -> None:
    assert parse_public_key(ED_LINE + "\r\n").text == ED_LINE


@pytest.mark.parametrize(
    "text",
    [
        f"# my laptop\n{ED_LINE}\n",
        f"\ufeff{ED_LINE}\r\n",
        f"\ufeff# my laptop\r\n\r\n{ED_LINE}\r\n# that was all\r\n",
        f"  {ED_LINE}  \r\n\r\n",
    ],
    ids=["comment", "Windows", "all of it", "blank"],
)
def test_comment_lines_a_byte_order_mark_and_line_ends_of_windows_are_read_over(text: str, home: Path) -> None:
    assert parse_public_key(text).text == ED_LINE
    (home / "lab.pub").write_bytes(text.encode())
    assert resolve("~/lab.pub", home=home, state_dir=home).public_key == ED_LINE


REFUSALS = {
    "private": (ED.export_private_key().decode(), "private key"),
    "private in one line": (ED.export_private_key().decode().replace("\n", " "), "private key"),
    "putty private": (f"PuTTY-User-Key-File-3: ssh-ed25519\nPublic-Lines: 2\n{BLOB}", "private key"),
    "putty public": (f'---- BEGIN SSH2 PUBLIC KEY ----\nComment: "x"\n{BLOB}\n---- END', "PuTTY"),
    "nothing": ("  \n", "no public key"),
    "a path": ("keys/id_ed25519.pub", "a path"),
    "an absolute path": ("/home/me/.ssh/id_rsa", "a path"),
    "a return inside": (f"{TYPE} {BLOB}\rx", "control character"),
    "a line break inside": (f"{TYPE} {BLOB[:20]}\n{BLOB[20:]}", "line break"),
    "a tab": (f"{TYPE}\t{BLOB}", "tab"),
    "two keys": (f"{ED_LINE}\n{OTHER_LINE}", "several keys"),
    "options": (f'command="rm -rf /" {ED_LINE}', "stands before the key"),
    "no-pty option": (f"no-pty {ED_LINE}", "stands before the key"),
    "cut blob": (f"{TYPE} {BLOB[:40]} me", "damaged"),
    "no base64": (f"{TYPE} !!!!{BLOB} me", "damaged"),
    "no blob": (TYPE, "damaged"),
    "blob of another type": (f"ssh-rsa {BLOB} me", "damaged"),
    "blob and more": (f"{TYPE} {BLOB}AAAA me", "damaged"),
    "padded numbers": ("ssh-rsa " + packed(b"ssh-rsa", b"\x00\x00\x01\x00\x01", b"\x7f" * 256), "unusual"),
    "two keys and a comment": (f"# ours\n{ED_LINE}\n# theirs\n{OTHER_LINE}", "several keys"),
    "comments alone": ("# no key yet\n# none\n", "no public key"),
    "a return in the middle of two lines": (f"{TYPE}\r\n{BLOB}", "line break"),
    "a mark inside": (f"{TYPE} \ufeff{BLOB}", "control character"),
    "a short RSA key": ("ssh-rsa " + packed(b"ssh-rsa", b"\x01\x00\x01", b"\x7f" * 128), "got 1023 bits, allowed 2048"),
    "too long": (f"{ED_LINE} {'x' * MAX_CHARS}", "too long"),
    "certificate": (f"ssh-ed25519-cert-v01@openssh.com {BLOB}", "certificate"),
    "dsa": (f"ssh-dss {BLOB}", "DSA"),
    "a sentence": ("please use my key", "no public key"),
    "an API key": ("0123456789abcdef0123456789abcdef", "no public key"),
    "hidden direction marks": (f"{TYPE} {BLOB} \u202eem", "control character"),
}


@pytest.mark.requirement("SSH-1")
@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_no_single_public_key_is_refused_and_never_repeated(name: str) -> None:
    text, says = REFUSALS[name]
    with pytest.raises(LocalError) as refusal:
        parse_public_key(text)
    assert refusal.value.code == "ssh_key_refused"
    assert says in refusal.value.message
    assert refusal.value.next_step
    secrets = [part for part in text.split() if len(part) > 20]
    assert not any(part in refusal.value.sentence for part in secrets)


def test_the_first_usual_key_is_used(home: Path, state_dir: Path) -> None:
    write_pair(home / ".ssh", "id_rsa", RSA)
    assert resolve(None, home=home, state_dir=state_dir).fingerprint == RSA.get_fingerprint()
    write_pair(home / ".ssh", "id_ed25519", ED)
    key = resolve("", home=home, state_dir=state_dir)
    assert key.public_key == ED_LINE
    assert key.private_key_path == home / ".ssh" / "id_ed25519"
    assert not state_dir.exists()


def test_a_damaged_usual_key_is_passed_over(home: Path) -> None:
    write_pair(home / ".ssh", "id_rsa", RSA)
    (home / ".ssh" / "id_ed25519.pub").write_bytes(b"\xff\xfe")
    (home / ".ssh" / "id_ecdsa.pub").mkdir()
    key = usual_public_key(home)
    assert key is not None
    assert key.fingerprint == RSA.get_fingerprint()


def test_a_public_key_without_its_private_key_says_so(home: Path) -> None:
    write_pair(home / ".ssh", "id_ed25519", ED)
    (home / ".ssh" / "id_ed25519").unlink()
    key = usual_public_key(home)
    assert key is not None
    assert key.private_key_path is None


def test_a_key_on_a_security_key_has_no_private_key_to_log_in_with(home: Path) -> None:
    line = f"sk-ssh-ed25519@openssh.com {packed(b'sk-ssh-ed25519@openssh.com', bytes(32), b'ssh:')} touch"
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519_sk.pub").write_text(line)
    (home / ".ssh" / "id_ed25519_sk").write_text("handle")
    key = usual_public_key(home)
    assert key is not None
    assert key.public_key == line
    assert key.private_key_path is None


def test_no_usual_key_means_a_pair_of_our_own(home: Path, state_dir: Path) -> None:
    key = resolve(None, home=home, state_dir=state_dir)
    assert key.private_key_path == state_dir / "ssh" / "id_ed25519"
    assert not (home / ".ssh").exists()


@pytest.mark.requirement("SSH-2")
def test_our_pair_is_private_and_stays_the_same(state_dir: Path) -> None:
    first = own_key_pair(state_dir)
    private = state_dir / "ssh" / "id_ed25519"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    assert asyncssh.read_private_key(private).get_fingerprint() == first.fingerprint
    before = private.read_bytes()
    assert own_key_pair(state_dir) == first
    assert private.read_bytes() == before
    assert sorted(path.name for path in private.parent.iterdir()) == ["id_ed25519", "id_ed25519.pub"]


def test_a_lost_public_half_is_written_again(state_dir: Path) -> None:
    first = own_key_pair(state_dir)
    public = state_dir / "ssh" / "id_ed25519.pub"
    public.write_text(OTHER_LINE)
    assert own_key_pair(state_dir) == first
    public.unlink()
    assert own_key_pair(state_dir) == first
    assert public.read_text().strip() == first.public_key


def test_makers_at_the_same_time_get_one_pair(state_dir: Path) -> None:
    gate = threading.Barrier(8)
    made: list[str] = []

    def make() -> None:
        gate.wait()
        made.append(own_key_pair(state_dir).fingerprint)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_our_pair_that_others_can_read_is_refused_with_the_chmod(mode: int, state_dir: Path) -> None:
    own_key_pair(state_dir)
    private = state_dir / "ssh" / "id_ed25519"
    private.chmod(mode)
    with pytest.raises(LocalError) as refusal:
        own_key_pair(state_dir)
    assert refusal.value.code == "ssh_key_refused"
    assert f"chmod 600 {private}" in refusal.value.next_step


@pytest.mark.requirement("SSH-2")
def test_our_damaged_pair_is_refused_and_left_alone(state_dir: Path) -> None:
    own_key_pair(state_dir)
    private = state_dir / "ssh" / "id_ed25519"
    private.write_text("damaged")
    with pytest.raises(LocalError, match="damaged"):
        own_key_pair(state_dir)
    assert private.read_text() == "damaged"


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in its place")
    with pytest.raises(LocalError) as refusal:
        own_key_pair(tmp_path / "state")
    assert refusal.value.code == "store_unavailable"


@pytest.mark.parametrize("given", ["{home}/.ssh/lab.pub", "{home}/.ssh/lab", "~/.ssh/lab.pub", "~/.ssh/lab"])
def test_a_path_to_either_half_finds_the_pair(given: str, home: Path, state_dir: Path) -> None:
    write_pair(home / ".ssh", "lab", ED)
    key = resolve(given.format(home=home), home=home, state_dir=state_dir)
    assert key.public_key == ED_LINE
    assert key.private_key_path == home / ".ssh" / "lab"


async def test_a_public_key_as_text_has_no_private_key_here(home: Path, state_dir: Path) -> None:
    key = await SshKeys(home=home, state_dir=state_dir).resolve(f"  {ED_LINE}\n")
    assert key.public_key == ED_LINE
    assert key.fingerprint == ED.get_fingerprint()
    assert key.private_key_path is None


def test_a_private_key_without_its_public_half_tells_how_to_make_one(home: Path, state_dir: Path) -> None:
    (home / "my lab").write_bytes(ED.export_private_key())
    with pytest.raises(LocalError) as refusal:
        resolve("~/my lab", home=home, state_dir=state_dir)
    assert refusal.value.next_step == f"run: ssh-keygen -y -f '{home}/my lab' > '{home}/my lab.pub'"


@pytest.mark.parametrize("name", ["my ssh-rsa key.pub", "ssh-rsa", "a ssh-ed25519 b"])
def test_a_path_may_hold_the_words_of_a_key(name: str, home: Path, state_dir: Path) -> None:
    write_pair(home, name.removesuffix(".pub"), ED)
    for given in (f"~/{name}", f"{home}/{name}"):
        assert resolve(given, home=home, state_dir=state_dir).public_key == ED_LINE


@pytest.mark.parametrize("given", ["~/my lab.ppk", "~/lab.PPK"])
def test_a_key_of_putty_tells_how_to_export_its_public_half(given: str, home: Path, state_dir: Path) -> None:
    text = f"PuTTY-User-Key-File-3: ssh-ed25519\nPublic-Lines: 2\n{BLOB}"
    (home / given.removeprefix("~/")).write_text(text)
    with pytest.raises(LocalError, match="PuTTY") as refusal:
        resolve(given, home=home, state_dir=state_dir)
    path = f"{home}/{given.removeprefix('~/')}"
    assert f"puttygen {quote(path)} -O public-openssh" in refusal.value.next_step
    assert "ssh-keygen" not in refusal.value.next_step


def test_a_file_in_utf_16_is_refused_with_the_reason(home: Path, state_dir: Path) -> None:
    (home / "lab.pub").write_bytes(ED_LINE.encode("utf-16"))
    with pytest.raises(LocalError, match="UTF-16"):
        resolve("~/lab.pub", home=home, state_dir=state_dir)


@pytest.mark.requirement("SSH-1")
@pytest.mark.parametrize(("bits", "taken"), [(2047, False), (2048, True)])
def test_an_rsa_key_has_at_least_2048_bits(*, bits: int, taken: bool) -> None:
    modulus = ((1 << (bits - 1)) + 1).to_bytes(bits // 8 + 1)  # with the zero byte of its sign, where it needs one
    line = "ssh-rsa " + packed(b"ssh-rsa", b"\x01\x00\x01", modulus)
    if taken:
        assert parse_public_key(line).text == line
    else:
        with pytest.raises(LocalError, match="got 2047 bits, allowed 2048"):
            parse_public_key(line)


@pytest.mark.requirement("SSH-2")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_of_our_pair_that_others_can_write_to_is_refused_with_the_chmod(mode: int, state_dir: Path) -> None:
    folder = state_dir / "ssh"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(LocalError) as refusal:
        own_key_pair(state_dir)
    assert refusal.value.code == "ssh_key_refused"
    assert f"chmod 700 {folder}" in refusal.value.next_step
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    assert own_key_pair(state_dir).private_key_path == folder / "id_ed25519"


def test_a_path_that_leads_nowhere_leads_to_no_command(home: Path, state_dir: Path) -> None:
    for path in ("~/none", "~/.ssh", "/dev/zero"):
        with pytest.raises(LocalError) as refusal:
            resolve(path, home=home, state_dir=state_dir)
        assert "ssh-keygen" not in refusal.value.next_step


@pytest.mark.parametrize(
    ("given", "says"),
    [("~/missing.pub", "no public key"), ("keys/lab.pub", "not absolute"), ("~/", "no public key")],
)
def test_a_path_without_a_key_is_refused(given: str, says: str, home: Path, state_dir: Path) -> None:
    with pytest.raises(LocalError, match=says):
        resolve(given, home=home, state_dir=state_dir)


def test_a_private_key_in_a_pub_file_is_refused_unshown(home: Path, state_dir: Path) -> None:
    (home / "lab.pub").write_bytes(ED.export_private_key())
    with pytest.raises(LocalError, match="private key") as refusal:
        resolve("~/lab.pub", home=home, state_dir=state_dir)
    assert ED.export_private_key().decode().splitlines()[1] not in refusal.value.sentence


def test_a_pipe_in_place_of_a_key_is_refused_at_once(home: Path, state_dir: Path) -> None:
    os.mkfifo(home / "lab.pub")
    with pytest.raises(LocalError, match="not a file"):
        resolve("~/lab.pub", home=home, state_dir=state_dir)
