"""Engines that run work on many machines, each in an environment of its own, reading inventories with its own code."""

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.interop.official import environment_with

ANSIBLE: Final = "ansible-core==2.19.14"
RAY: Final = "ray==2.60.0"
SKYPILOT: Final = "skypilot==0.14.1"
DSTACK: Final = "dstack==0.22.5"
TIMEOUT_S: Final = 120

RAY_READS: Final = """
import json, subprocess, sys
import yaml
from ray.autoscaler._private.command_runner import SSHCommandRunner, set_using_login_shells
from ray.autoscaler._private.local.node_provider import LocalNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

class Process:
    @staticmethod
    def check_output(command):
        alone = ["-o", "ControlMaster=no", "-o", "ControlPath=none"]  # no process stays behind
        done = subprocess.run([command[0], *alone, *command[1:]], stdout=subprocess.PIPE)
        return done.stdout if done.returncode == 0 else b"failed"

command, *files = sys.argv[1:]
set_using_login_shells(False)
for file in files:
    config = prepare_config(yaml.safe_load(open(file, encoding="utf-8")))
    validate_config(config)
    provider = LocalNodeProvider(config["provider"], config["cluster_name"])
    nodes = [config["provider"]["head_ip"], *config["provider"]["worker_ips"]]
    assert sorted(nodes) == sorted(provider.state.get())
    said = {}
    for node in nodes:
        runner = SSHCommandRunner("", node, provider, config["auth"], config["cluster_name"], Process, False)
        said[node] = runner.run(command, with_output=True).decode() if command else ""
    print("\\n" + json.dumps(said))
"""
SKYPILOT_READS: Final = """
import json, sys
from sky.ssh_node_pools import utils
from sky.ssh_node_pools.deploy.utils import run_remote

command, *files = sys.argv[1:]
for file in files:
    pools = utils.get_cluster_config(utils.load_ssh_targets(file), "vast", file)
    said = {}
    for host in utils.prepare_hosts_info("vast", pools["vast"]):
        assert host["use_ssh_config"], host
        said[host["ip"]] = run_remote(host["ip"], command, use_ssh_config=True) or "failed" if command else ""
    print("\\n" + json.dumps(said))
"""
DSTACK_READS: Final = """
import json, sys
import yaml
from dstack._internal.cli.services.configurators.fleet import _preprocess_spec
from dstack._internal.core.models.configurations import parse_apply_configuration
from dstack._internal.core.models.fleets import FleetConfiguration, FleetSpec
from dstack._internal.core.models.profiles import Profile
from dstack._internal.server.services.ssh_fleets.provisioning import get_paramiko_connection
from dstack._internal.utils.ssh import pkey_from_str

command, *files = sys.argv[1:]
for file in files:
    fleet = parse_apply_configuration(yaml.safe_load(open(file, encoding="utf-8")))
    assert isinstance(fleet, FleetConfiguration)
    _preprocess_spec(FleetSpec(configuration=fleet, profile=Profile(name="default")))
    said = {}
    for host in fleet.ssh_config.hosts:
        said[f"{host.hostname}:{host.port}"] = ""
        if command:
            key = pkey_from_str(host.ssh_key.private)
            with get_paramiko_connection(host.user, host.hostname, host.port, [key]) as client:
                said[f"{host.hostname}:{host.port}"] = client.exec_command(command)[1].read().decode()
    print("\\n" + json.dumps(said))
"""


def program(name: str) -> str:
    """Where a program of this machine is; a machine without it fails these tests."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed"
    return path


@dataclass(frozen=True)
class Engine:
    """An engine's environment, with a home of its own."""

    programs: Path
    home: Path

    @classmethod
    def installed(cls, place: Path, *packages: str) -> "Engine":
        """Newly installed."""
        home = place / "home"
        home.mkdir(parents=True)
        return cls(environment_with(place / "venv", *packages), home)

    def run(self, *command: str, ssh_config: Path | str = "none") -> str:
        """What one of its programs prints; the `ssh` that it finds reads this config as if it were the user's own."""
        shims = self.home / "shims"
        shims.mkdir(exist_ok=True)
        shim = shims / "ssh"
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(program("ssh"))} -F {shlex.quote(str(ssh_config))} "$@"\n')
        shim.chmod(0o700)
        environment = {
            "PATH": os.pathsep.join([str(shims), str(self.programs), os.defpath]),
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "RAY_TMPDIR": str(self.home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",  # no process stays behind
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        printed, told = self.home / "printed", self.home / "told"
        # into files: a pipe is read until everything that the program left running has closed it
        with printed.open("wb") as out, told.open("wb") as err:
            done = subprocess.run(  # noqa: S603 - a program that was installed above
                [str(self.programs / command[0]), *command[1:]],
                env=environment,
                check=False,
                timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        assert done.returncode == 0, printed.read_text("utf-8") + told.read_text("utf-8")
        return printed.read_text("utf-8")

    def reads(
        self, script: str, *files: Path, command: str = "", ssh_config: Path | str = "none"
    ) -> list[dict[str, Any]]:
        """Each file as the engine's own code reads it: what each machine in it says to a command."""
        printed = self.run("python", "-c", script, command, *map(str, files), ssh_config=ssh_config)
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
