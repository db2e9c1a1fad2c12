"""Other people's engines read our inventories with their own code, and log in with them to real SSH servers."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.interop import engines
from tests.interop.engines import Engine, program
from tests.interop.official import Simulator, simulating
from tests.stack import text_of
from vastai_workflow.steps.inventory import FORMATS, Host

pytestmark = pytest.mark.interop

COUNT = 3
QUERY = "nvidia-smi --query-gpu=name --format=csv,noheader"
GPU = "NVIDIA GeForce RTX 4090"


@dataclass(frozen=True)
class Fleet:
    """Machines that run, each with a real SSH server, and their inventories as files."""

    folder: Path
    addresses: Mapping[str, tuple[str, int]]

    def file(self, format_: str) -> Path:
        """The inventory in a format."""
        return self.folder / f"{format_}.yml"

    def crossed(self) -> Path:
        """The ssh_config after another machine took over the first one's address."""
        (_, one), (_, other), *_ = self.addresses.values()
        text = self.file("ssh_config").read_text("utf-8")
        path = self.folder / "crossed"
        path.write_text(text.replace(f"Port {one}\n", f"Port {other}\n"), "utf-8")
        return path


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    return result.structured_content


async def rented(simulator: Simulator, folder: Path) -> Fleet:
    """Machines rented by the real server, whose key pair and known_hosts lie below a folder with a space."""
    home = folder / "a home"
    home.mkdir()
    environment = {
        "PATH": os.defpath,
        "HOME": str(home),
        "VAST_URL": simulator.url,
        "VAST_API_KEY": simulator.api_key,
        "VASTAI_WORKFLOW_STATE": str(home / "state"),
    }
    server = StdioServerParameters(command=sys.executable, args=["-m", "vastai_workflow", "serve"], env=environment)
    async with Client(server) as client:
        proposal = await call(client, "propose_fields", gpu_name="RTX 4090", count=COUNT, fleet="all_or_nothing")
        workflow = {"workflow_id": proposal["workflow_id"]}
        await call(client, "confirm_fields", **workflow, digest=proposal["digest"])
        plan = await call(client, "find_offers", **workflow)
        made = await call(client, "create_instances", **workflow, plan_id=plan["plan_id"])
        while made["next_call"]["tool"] == "create_instances":
            made = await call(client, "create_instances", **workflow, plan_id=plan["plan_id"])
        waited = await call(client, "wait_until_ready", **workflow)
        while waited["next_call"] is not None:
            waited = await call(client, "wait_until_ready", **workflow)
        assert [machine["readiness"] for machine in waited["instances"]] == ["gpu_ok"] * COUNT
        ssh = {f"vast-{machine['instance_id']}": machine["ssh"] for machine in waited["instances"]}
        fleet = Fleet(folder, {alias: (way["host"], way["port"]) for alias, way in ssh.items()})
        for format_ in FORMATS:
            answer = await call(client, "export_inventory", format=format_, **workflow)
            assert answer["left_out"] == []
            fleet.file(format_).write_text(answer["text"], "utf-8")
    return fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three machines that answer."""
    with simulating("--speed", "200") as simulator:
        yield asyncio.run(rented(simulator, tmp_path_factory.mktemp("fleet")))


@pytest.fixture(scope="module")
def sizes(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Files of one and of 64 machines in each format, with a path that is as odd as a path may be."""
    folder = tmp_path_factory.mktemp("sizes") / "k (é, \N{GOTHIC LETTER AHSA})=@~+:-_"
    folder.mkdir()
    key = folder / "id key"
    key.write_bytes((fleet.folder / "a home" / "state" / "ssh" / "id_ed25519").read_bytes())
    hosts = [
        Host(
            f"vast-{n}", "2001:db8::7" if n % 2 else "ssh4.vast.ai", 40_000 + n, str(key), str(folder / "kh"), n % 3 > 0
        )
        for n in range(1, 65)
    ]
    made: dict[str, tuple[Path, Path]] = {}
    for format_, render in FORMATS.items():
        made[format_] = folder / f"{format_}-1.yml", folder / f"{format_}-64.yml"
        made[format_][0].write_text(render(hosts[:1]), "utf-8")
        made[format_][1].write_text(render(hosts), "utf-8")
    return made


def ssh(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [program("ssh"), "-F", str(config), "-o", "BatchMode=yes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603 # OpenSSH


def told(config: Path, alias: str) -> dict[str, str]:
    """What OpenSSH understood of a config."""
    done = ssh(config, "-G", alias)
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


@pytest.mark.requirement("REPORT-5")
def test_openssh_logs_in_with_the_alias_alone_and_refuses_another_machine_at_its_address(fleet: Fleet) -> None:
    for alias in fleet.addresses:
        done = ssh(fleet.file("ssh_config"), alias, QUERY)
        assert (done.returncode, done.stdout) == (0, f"{GPU}\n"), done.stderr
    first, second, _ = fleet.addresses
    done = ssh(fleet.crossed(), first, QUERY)
    assert (done.returncode, done.stdout) == (255, "")
    assert "IDENTIFICATION HAS CHANGED" in done.stderr
    assert ssh(fleet.crossed(), second, QUERY).returncode == 0


@pytest.mark.requirement("REPORT-5")
def test_openssh_understands_every_word_of_one_and_of_64_machines(sizes: Mapping[str, tuple[Path, Path]]) -> None:
    one, many = sizes["ssh_config"]
    aliases = re.findall(r"^Host (\S+)$", many.read_text("utf-8"), re.MULTILINE)
    assert len(aliases) == 64
    for config, alias in ((one, "vast-1"), *((many, alias) for alias in (aliases[0], aliases[2], aliases[63]))):
        number = int(alias.removeprefix("vast-"))
        assert told(config, alias).items() >= {
            ("hostname", "2001:db8::7" if number % 2 else "ssh4.vast.ai"),
            ("port", str(40_000 + number)),
            ("user", "root"),
            ("identityfile", str(one.parent / "id key")),
            ("identitiesonly", "yes"),
            ("hostkeyalias", alias),
            ("userknownhostsfile", str(one.parent / "kh")),
            ("stricthostkeychecking", "true" if number % 3 else "accept-new"),
            ("hashknownhosts", "no"),
            ("forwardagent", "no"),
        }


@pytest.mark.requirement("REPORT-5")
def test_a_login_with_the_config_pins_a_host_key_where_the_server_looks_for_it(fleet: Fleet, tmp_path: Path) -> None:
    alias, (host, port) = next(iter(fleet.addresses.items()))
    pinned = fleet.folder / "a home" / "state" / "known_hosts"
    key = fleet.folder / "a home" / "state" / "ssh" / "id_ed25519"
    mine = tmp_path / "known_hosts"
    config = tmp_path / "config"
    config.write_text(FORMATS["ssh_config"]([Host(alias, host, port, str(key), str(mine), pinned=False)]), "utf-8")
    assert ssh(config, alias, "true").returncode == 0
    assert mine.read_text("ascii").splitlines()[0] in pinned.read_text("ascii").splitlines()


@pytest.mark.requirement("REPORT-5")
def test_ansible_lists_every_machine_and_runs_a_command_on_each(
    fleet: Fleet, sizes: Mapping[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    ansible = Engine.installed(tmp_path, engines.ANSIBLE)
    for file, count in zip(sizes["ansible"], (1, 64), strict=True):
        listed = json.loads(ansible.run("ansible-inventory", "-i", str(file), "--list"))
        assert len(listed["vast"]["hosts"]) == count
        assert listed["_meta"]["hostvars"]["vast-1"]["ansible_ssh_private_key_file"] == str(file.parent / "id key")
    said = ansible.run("ansible", "vast", "-i", str(fleet.file("ansible")), "-m", "raw", "-a", QUERY)
    assert said.count(GPU) == COUNT
    assert {line.split(" ", 1)[0] for line in said.splitlines() if "rc=0" in line} == set(fleet.addresses)


@pytest.mark.requirement("REPORT-5")
def test_ray_accepts_the_cluster_and_its_runner_logs_into_each_machine_by_its_pinned_key(
    fleet: Fleet, sizes: Mapping[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    ray = Engine.installed(tmp_path, engines.RAY)
    assert [len(machines) for machines in ray.reads(engines.RAY_READS, *sizes["ray"])] == [1, 64]
    file, config = fleet.file("ray"), fleet.file("ssh_config")
    assert ray.reads(engines.RAY_READS, file, command=QUERY, ssh_config=config) == [
        dict.fromkeys(fleet.addresses, f"{GPU}\n")
    ]
    first, second, third = fleet.addresses
    crossed = ray.reads(engines.RAY_READS, file, command=QUERY, ssh_config=fleet.crossed())
    assert crossed == [{first: "failed", second: f"{GPU}\n", third: f"{GPU}\n"}]


@pytest.mark.requirement("REPORT-5")
def test_skypilot_finds_the_machines_in_the_ssh_config_and_logs_into_each(
    fleet: Fleet, sizes: Mapping[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    skypilot = Engine.installed(tmp_path, engines.SKYPILOT)
    read = skypilot.reads(engines.SKYPILOT_READS, *sizes["skypilot"], ssh_config=sizes["ssh_config"][1])
    assert [len(machines) for machines in read] == [1, 64]
    file, config = fleet.file("skypilot"), fleet.file("ssh_config")
    assert skypilot.reads(engines.SKYPILOT_READS, file, command=QUERY, ssh_config=config) == [
        dict.fromkeys(fleet.addresses, GPU)
    ]


@pytest.mark.requirement("REPORT-5")
def test_dstack_parses_the_fleet_reads_the_key_and_logs_into_each_machine(
    fleet: Fleet, sizes: Mapping[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    dstack = Engine.installed(tmp_path, engines.DSTACK)
    assert [len(machines) for machines in dstack.reads(engines.DSTACK_READS, *sizes["dstack"])] == [1, 64]
    assert dstack.reads(engines.DSTACK_READS, fleet.file("dstack"), command=QUERY) == [
        {f"{host}:{port}": f"{GPU}\n" for host, port in fleet.addresses.values()}
    ]
