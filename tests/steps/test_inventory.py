"""What stands in an inventory, and that no text in it says more to another program than it is."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relisted import Relisted
from tests.skill.rendered import PROJECT
from tests.stack import ShortcutProber, Stack, stack
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.steps.inventory import FORMATS, Host, export_inventory
from vastai_workflow.steps.ports import ProbeReport

JSON_FORMATS = sorted(FORMATS.keys() - {"ssh_config"})
LETTERS = st.one_of(st.sampled_from(" /.,:@+=~()-_ax0"), st.from_regex(r"\w", fullmatch=True))
PATHS = st.lists(LETTERS, min_size=1, max_size=20).map(lambda letters: "/" + "".join(letters))
ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(r"[0-9a-z][0-9a-z.-]{0,30}", fullmatch=True),
    st.sampled_from(["yes", "null", "1e3", "0x10", "12:30:45", "1.0", "on"]),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Host]:
    """Machines as `export_inventory` hands them to a format."""
    ids = draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=4, unique=True))
    key_path, known_hosts, pinned = draw(PATHS), draw(PATHS), draw(st.booleans())
    return [
        Host(f"vast-{n}", draw(ADDRESSES), draw(st.integers(1, 65_535)), key_path, known_hosts, pinned) for n in ids
    ]


class InFolder(ShortcutProber):
    """A prober whose known_hosts lies in some folder."""

    def __init__(self, s: Stack, folder: str) -> None:
        super().__init__(s.world)
        self._folder = folder

    @property
    def known_hosts_file(self) -> Path:
        """No file is written."""
        return Path(self._folder) / "known_hosts"


@pytest.mark.requirement("REPORT-4")
@settings(deadline=None)
@given(fleets())
def test_any_path_and_address_reads_the_same_in_yaml_and_json(hosts: list[Host]) -> None:
    for format_ in JSON_FORMATS:
        text = FORMATS[format_](hosts)
        assert yaml.safe_load(text) == json.loads(text)


@pytest.mark.requirement("REPORT-4")
@settings(deadline=None)
@given(fleets())
def test_a_line_of_ssh_config_holds_one_keyword_and_one_value(hosts: list[Host]) -> None:
    text = FORMATS["ssh_config"](hosts)
    lines = [line for line in text.split("\n") if line]
    assert [line for line in lines if line.startswith("Host ")] == [f"Host {host.alias}" for host in hosts]
    for line in lines:
        assert re.fullmatch(r'(Host|  [A-Z]\w+) ([^\s"]+|"[^"]+")', line), line
    assert text.count(f"UserKnownHostsFile {shown(hosts[0].known_hosts)}\n") == len(hosts)


@pytest.mark.requirement("REPORT-4")
@settings(deadline=None)
@given(fleets())
def test_ansible_and_openssh_split_the_arguments_back_into_the_same_options(hosts: list[Host]) -> None:
    members = json.loads(FORMATS["ansible"](hosts))["all"]["children"]["vast"]["hosts"]
    for host in hosts:
        words = shlex.split(members[host.alias]["ansible_ssh_common_args"])
        assert set(words[::2]) == {"-o"}
        options = dict(word.split("=", 1) for word in words[1::2])
        assert options["UserKnownHostsFile"] == shown(host.known_hosts)
        assert options["HostKeyAlias"] == host.alias
        assert options["StrictHostKeyChecking"] == ("yes" if host.pinned else "accept-new")


def shown(path: str) -> str:
    return f'"{path}"' if " " in path else path


@pytest.mark.requirement("REPORT-4")
@pytest.mark.parametrize(
    "folder", ['a"b', "a'b", "a\\b", "$HOME", "%h", "{{ 1 }}", "a\nb", "`id`", "a;b", "#", "\udc80"]
)
async def test_a_path_that_another_program_would_read_more_in_is_refused(folder: str) -> None:
    async with stack() as s:
        await s.ready()
        deps = replace(s.deps, prober=InFolder(s, folder))
        for format_ in FORMATS:
            with pytest.raises(Refusal, match="path: got") as refusal:
                await export_inventory(deps, s.caller, format_, (), None)
            assert refusal.value.code == "invalid_argument"


@pytest.mark.requirement("REPORT-4")
@pytest.mark.parametrize("host", ["-oProxyCommand=id", "a b", 'a"b', "a\nProxyCommand id", "{{ x }}", "é"])
async def test_a_machine_whose_address_is_none_is_left_out(host: str) -> None:
    market = Relisted()
    async with stack(transport_to=market.transport) as s:
        workflow_id, _ = await s.rented()
        market.at(host, 22)
        s.clock.advance(100)
        s.prober.reports = [ProbeReport("gpu_ok", host, 22, host_key_fingerprint="SHA256:host")]
        [row] = (await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300))["instances"]
        assert row["ssh"] is None
        refusal = await s.refusal("export_inventory", format="ssh_config")
        assert "no machine of this server" in refusal["message"]


@pytest.mark.requirement("REPORT-3")
async def test_a_machine_named_twice_stands_there_once() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        answer = await s.call("export_inventory", format="ansible", instance_ids=[machine, machine])
        assert answer["included"] == [machine]


@pytest.mark.requirement("REPORT-5")
async def test_ray_gets_the_private_key_only_where_its_head_has_workers_to_reach() -> None:
    async with stack() as s:
        _, [one, other] = await s.ready(count=2, fleet="best_effort")
        alone = json.loads((await s.call("export_inventory", format="ray", instance_ids=[one]))["text"])
        assert (alone["provider"]["head_ip"], alone["provider"]["worker_ips"]) == (f"vast-{one}", [])
        assert set(alone["auth"]) == {"ssh_user", "ssh_proxy_use_node_id", "ssh_proxy_command"}
        both = json.loads((await s.call("export_inventory", format="ray"))["text"])
        assert both["provider"]["worker_ips"] == [f"vast-{other}"]
        assert both["auth"]["ssh_private_key"] == "id"


@pytest.mark.requirement("REPORT-3")
async def test_a_machine_that_nobody_logged_into_yet_has_its_host_key_pinned_by_the_first_login() -> None:
    async with stack() as s:
        workflow_id, _ = await s.rented()
        s.clock.advance(100)
        s.prober.reports = [ProbeReport("port_open", "203.0.113.7", 41_000, reason="no_private_key")]
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
        text = (await s.call("export_inventory", format="ssh_config"))["text"]
        assert "StrictHostKeyChecking accept-new\n  HashKnownHosts no\n" in text


@pytest.mark.requirement("REPORT-3")
def test_where_only_the_public_key_is_known_no_key_is_named_and_dstack_is_refused() -> None:
    keyless = Host("vast-7", "203.0.113.7", 41_000, None, "/state/known_hosts", pinned=False)
    assert "Identit" not in FORMATS["ssh_config"]([keyless])
    assert "private_key" not in FORMATS["ansible"]([keyless])
    assert "ssh_private_key" not in FORMATS["ray"]([keyless, replace(keyless, alias="vast-8")])
    with pytest.raises(Refusal, match="got vast-7 with a public key only"):
        FORMATS["dstack"]([keyless, replace(keyless, alias="vast-8", key_path="/id")])


def test_the_document_on_fleets_tells_of_every_format() -> None:
    text = (PROJECT / "references" / "fleets.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(FORMATS)
