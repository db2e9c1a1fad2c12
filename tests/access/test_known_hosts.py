"""Host keys are trusted on first use, per instance, in a file of our own."""

import stat
import threading
from pathlib import Path

import asyncssh
import pytest

from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.simulator.ssh_host import new_host_key

FIRST, SECOND = new_host_key(), new_host_key()


def line_of(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


@pytest.fixture
def hosts(tmp_path: Path) -> KnownHosts:
    return KnownHosts(tmp_path / "state" / "known_hosts")


def test_nothing_is_known_before_the_first_login(hosts: KnownHosts) -> None:
    assert hosts.pinned(7) is None
    hosts.forget(7)
    assert not hosts.path.parent.exists()


@pytest.mark.requirement("SSH-4")
def test_the_first_key_is_kept_under_the_instances_alias(hosts: KnownHosts) -> None:
    assert hosts.pin(7, FIRST) == FIRST.get_fingerprint()
    assert hosts.pinned(7) == line_of(FIRST)
    assert hosts.path.read_text() == f"vast-7 {line_of(FIRST)}\n"
    assert hosts.pinned(77) is None


def test_the_file_is_readable_by_its_owner_alone(hosts: KnownHosts) -> None:
    hosts.pin(7, FIRST)
    hosts.pin(8, SECOND)
    assert stat.S_IMODE(hosts.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(hosts.path.parent.stat().st_mode) == 0o700


def test_the_same_key_again_changes_nothing(hosts: KnownHosts) -> None:
    hosts.pin(7, FIRST)
    before = hosts.path.stat()
    hosts.pin(7, FIRST)
    assert hosts.path.stat().st_ino == before.st_ino


def test_a_changed_key_is_refused_with_both_fingerprints_and_the_first_stays(hosts: KnownHosts) -> None:
    hosts.pin(7, FIRST)
    with pytest.raises(LocalError) as refusal:
        hosts.pin(7, SECOND)
    assert refusal.value.code == "host_key_changed"
    assert FIRST.get_fingerprint() in refusal.value.message
    assert SECOND.get_fingerprint() in refusal.value.message
    assert hosts.pinned(7) == line_of(FIRST)


def test_a_forgotten_instance_may_show_a_new_key_and_others_keep_theirs(hosts: KnownHosts) -> None:
    hosts.pin(7, FIRST)
    hosts.pin(77, FIRST)
    hosts.forget(7)
    assert hosts.pinned(7) is None
    assert hosts.pinned(77) == line_of(FIRST)
    assert hosts.pin(7, SECOND) == SECOND.get_fingerprint()


def test_a_damaged_line_pins_nothing_new(hosts: KnownHosts) -> None:
    hosts.path.parent.mkdir()
    hosts.path.write_text("vast-7 ssh-ed25519 nonsense\n")
    with pytest.raises(LocalError, match="unreadable"):
        hosts.pin(7, FIRST)


@pytest.mark.requirement("SSH-10")
@pytest.mark.parametrize("kind", ["another", "garbage", "impossible"])
def test_only_the_key_on_record_takes_the_place_of_another(hosts: KnownHosts, kind: str) -> None:
    rest = {"another": line_of(SECOND), "garbage": "garbage", "impossible": "ssh-rsa AAAAB3NzaC1yc2EAAAABAQAAAAEA"}
    held = f"vast-7 {rest[kind]}"
    hosts.path.parent.mkdir()
    hosts.path.write_text(f"{held}\nvast-8 {line_of(SECOND)}\n")
    for recorded in (None, SECOND.get_fingerprint()):
        with pytest.raises(LocalError, match="shows another SSH host key"):
            hosts.pin(7, FIRST, recorded=recorded)
        assert hosts.path.read_text().startswith(held)
    hosts.pin(7, FIRST, recorded=FIRST.get_fingerprint())
    assert hosts.path.read_text() == f"vast-8 {line_of(SECOND)}\nvast-7 {line_of(FIRST)}\n"


def test_pins_at_the_same_time_are_all_kept(hosts: KnownHosts) -> None:
    def pin(instance_id: int) -> None:
        KnownHosts(hosts.path).pin(instance_id, FIRST)

    threads = [threading.Thread(target=pin, args=(instance_id,)) for instance_id in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(hosts.pinned(instance_id) for instance_id in range(1, 9))


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in its place")
    hosts = KnownHosts(tmp_path / "state" / "known_hosts")
    with pytest.raises(LocalError) as refusal:
        hosts.pin(7, FIRST)
    assert refusal.value.code == "store_unavailable"
