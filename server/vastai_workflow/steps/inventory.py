"""Inventory: ready machines as text for the engine that runs the work: ssh_config, Ansible, Ray, SkyPilot, dstack."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.fields import refuse
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.status import Report, instance_status

USER: Final = "root"
_DEFAULT_KEY: Final = "~/.ssh/id_ed25519"


@dataclass(frozen=True, slots=True)
class Host:
    """One machine that answers: alias, address, key, and the file that pins its host key."""

    alias: str
    host: str
    port: int
    key_path: str
    known_hosts: Path


@dataclass(frozen=True, slots=True)
class Inventory:
    """The text, and the machines that are in it; those that do not answer yet are left out and named."""

    text: str
    included: tuple[int, ...]
    left_out: tuple[int, ...]


async def export_inventory(
    deps: Deps, caller: Caller, format_: str, instance_ids: Sequence[int], workflow_id: str | None
) -> Inventory:
    """Text in one of `FORMATS`, of the machines whose SSH was seen to answer. Writes no file."""
    if format_ not in FORMATS:
        raise refuse("format", format_, " | ".join(FORMATS))
    reports = (await instance_status(deps, caller, instance_ids, workflow_id)).reports
    usable = [report for report in reports if _answers(report)]
    if not usable:
        raise Refusal(
            "invalid_argument",
            "got no machine of this server whose SSH was seen to answer",
            next_step="call wait_until_ready first",
        )
    hosts = [_host(deps, report) for report in usable]
    included = tuple(report.instance_id for report in usable)
    left_out = tuple(report.instance_id for report in reports if report.instance_id not in included)
    return Inventory(FORMATS[format_](hosts), included, left_out)


def _answers(report: Report) -> bool:
    """Rented here, up, and its SSH was seen to answer (with a key whose private half is elsewhere: its port)."""
    return report.order is not None and report.host is not None and (report.ready or report.readiness == "ssh_ok")


def _host(deps: Deps, report: Report) -> Host:
    alias = f"vast-{report.instance_id}"
    key_path = report.key_path or _DEFAULT_KEY
    return Host(alias, report.host or "", report.port or 22, key_path, deps.prober.known_hosts_file)


def _ssh_config(hosts: Sequence[Host]) -> str:
    blocks = [
        f"Host {h.alias}\n  HostName {h.host}\n  Port {h.port}\n  User {USER}\n  IdentityFile {_quoted(h.key_path)}\n"
        f"  IdentitiesOnly yes\n  HostKeyAlias {h.alias}\n  UserKnownHostsFile {_quoted(str(h.known_hosts))}\n"
        f"  StrictHostKeyChecking yes\n"
        for h in hosts
    ]
    return "\n".join(blocks)


def _ansible(hosts: Sequence[Host]) -> str:
    """YAML's subset JSON, which Ansible's yaml inventory reads."""
    members: dict[str, Mapping[str, Any]] = {
        h.alias: {
            "ansible_host": h.host,
            "ansible_port": h.port,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": h.key_path,
            "ansible_ssh_common_args": f"-o HostKeyAlias={h.alias} -o UserKnownHostsFile={h.known_hosts}",
        }
        for h in hosts
    }
    return _json({"all": {"children": {"vast": {"hosts": members}}}})


def _ray(hosts: Sequence[Host]) -> str:
    """Ray's cluster launcher for machines that exist; all of them reached at one port and with one key."""
    head, *workers = hosts
    options = {"ssh_user": USER, "ssh_private_key": head.key_path}
    return _json(
        {
            "cluster_name": "vast",
            "provider": {"type": "local", "head_ip": head.host, "worker_ips": [h.host for h in workers]},
            "auth": options,
        }
    )


def _skypilot(hosts: Sequence[Host]) -> str:
    return _json({"vast": {"user": USER, "hosts": [{"ip": h.alias, "identity_file": h.key_path} for h in hosts]}})


def _dstack(hosts: Sequence[Host]) -> str:
    members = [{"hostname": h.host, "port": h.port, "user": USER, "identity_file": h.key_path} for h in hosts]
    return _json({"type": "fleet", "name": "vast", "ssh_config": {"hosts": members}})


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _json(body: Mapping[str, Any]) -> str:
    return json.dumps(body, indent=2) + "\n"


FORMATS: Final[Mapping[str, Callable[[Sequence[Host]], str]]] = {
    "ssh_config": _ssh_config,
    "ansible": _ansible,
    "ray": _ray,
    "skypilot": _skypilot,
    "dstack": _dstack,
}
"""Every format by name; the JSON ones are YAML too."""
