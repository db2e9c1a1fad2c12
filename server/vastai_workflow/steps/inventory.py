"""Inventory: ready machines as text for the engine that runs the work: ssh_config, Ansible, Ray, SkyPilot, dstack.

Quoting is safe without a YAML library because nothing is left to quote: names are built from ids, the provider's
addresses and the paths of this machine pass an allow-list, and what is written is JSON, which is YAML too.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vastai_workflow.domain.errors import Refusal, call
from vastai_workflow.domain.fields import refuse
from vastai_workflow.domain.lifecycle import State
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.login import USER, in_option
from vastai_workflow.steps.status import ASLEEP, MOVED, UNPINNED, UNSEEN, Report, instance_status
from vastai_workflow.steps.writes import by_calling

POOL: Final = "vast"
"""The name of the group, cluster, pool or fleet."""

_PATH: Final = re.compile(r"[\w /.,:@+=~()-]+")
"""Without what OpenSSH, shells, Ansible's templates or YAML give a meaning: quotes, backslash, $, %, braces, breaks."""

_HELPS: Final = ("wait_until_ready", "attach_ssh_key", "start_instances")

_JUMP: Final = "-W 127.0.0.1:22 %r@%n"
_HEADS_KEY: Final = "~/ray_bootstrap_key.pem"
"""Where Ray puts the private key on a head that has workers to reach."""


@dataclass(frozen=True, slots=True)
class Host:
    """One machine that answers; every text in it is of an allow-list.

    `key_path` is None where only the public key is known here. `pinned`: its host key stands in `known_hosts`; that of
    a machine that nobody logged into yet does not.
    """

    alias: str
    host: str
    port: int
    key_path: str | None
    known_hosts: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class Inventory:
    """The text, and the machines that are in it; the others are left out, each with what helps.

    `notes`: where the engine takes the private key.
    """

    text: str
    included: tuple[int, ...]
    left_out: tuple[tuple[int, str], ...]
    notes: tuple[str, ...] = ()


async def export_inventory(
    deps: Deps, caller: Caller, format_: str, instance_ids: Sequence[int], workflow_id: str | None
) -> Inventory:
    """Text in one of `FORMATS`, of the machines whose SSH was seen to answer. Writes no file.

    Raises Refusal `invalid_argument`: no such format, no machine that answers, a path that can't be written into other
    programs' files, dstack without a private key.
    """
    if format_ not in FORMATS:
        raise refuse("format", format_, " | ".join(FORMATS))
    wanted = tuple(dict.fromkeys(instance_ids))
    reports = (await instance_status(deps, caller, wanted, workflow_id)).reports
    usable = [report for report in reports if _answers(report)]
    if not usable:
        raise _nothing_to_export(deps, reports)
    hosts = [_host(deps, report) for report in usable]
    included = tuple(report.instance_id for report in usable)
    left = [report for report in reports if report.instance_id not in included]
    left_out = tuple((report.instance_id, _why(deps, report)) for report in left)
    return Inventory(FORMATS[format_](hosts), included, left_out, _where_the_key_goes(format_, hosts))


def _where_the_key_goes(format_: str, hosts: Sequence[Host]) -> tuple[str, ...]:
    if format_ == "dstack":
        return ("dstack sends the private key to its server, checks no host keys, and takes no key with a passphrase",)
    if format_ == "ray" and len(hosts) > 1 and hosts[0].key_path is not None:
        return (f"ray copies the private key to the head {hosts[0].alias}, whose owner can read it",)
    return ()


def _answers(report: Report) -> bool:
    """Rented here, up, and its SSH was seen to answer (with a key whose private half is elsewhere: its port)."""
    seen = report.ready or report.readiness == "ssh_ok"
    return _is_ours(report) and report.host is not None and seen


def _is_ours(report: Report) -> bool:
    return report.order is not None and not report.gone


def _why(deps: Deps, report: Report) -> str:
    """Why a machine is left out, and what helps; in our own words alone, as it stands beside a text for a file."""
    if report.reason is not None and (report.keyless or report.reason.startswith((MOVED, UNPINNED, UNSEEN))):
        return report.reason
    if not _is_ours(report):
        return "it is gone" if report.gone else "this server did not rent it"
    tool = _what_helps(report)
    if report.failed and report.state is not State.RUNNING:
        return f"it is {report.state}" + (f": {by_calling(deps, tool)}" if tool else "")
    return f"its SSH was not seen to answer: {by_calling(deps)}"


def _what_helps(report: Report) -> str | None:
    """The tool that may lead to an inventory with a machine that is left out."""
    if not _is_ours(report) or report.reason == UNSEEN:
        return None
    if report.state in ASLEEP:
        return "start_instances"
    if report.keyless:
        return "attach_ssh_key"
    return None if report.failed and report.state is not State.RUNNING else "wait_until_ready"


def _nothing_to_export(deps: Deps, reports: Sequence[Report]) -> Refusal:
    """With a call for the machines that the first of these tools helps."""
    helped = {tool: [r.instance_id for r in reports if _what_helps(r) == tool] for tool in _HELPS}
    tool = next((tool for tool in _HELPS if helped[tool]), None)
    told = "; ".join(f"{report.instance_id}: {_why(deps, report)}" for report in reports)
    message = "got no machine of this server whose SSH was seen to answer"
    after = call(tool, instance_ids=helped[tool]) if tool is not None and not deps.caps.read_only else None
    step = by_calling(deps, tool) if tool is not None else "rent a machine first, or wait for one"
    return Refusal("invalid_argument", f"{message} ({told})" if told else message, next_step=step, next_call=after)


def _host(deps: Deps, report: Report) -> Host:
    return Host(
        alias=f"vast-{report.instance_id}",
        host=report.host or "",
        port=report.port or 22,
        key_path=None if report.key_path is None else _plain(report.key_path),
        known_hosts=_plain(str(deps.prober.known_hosts_file)),
        pinned=report.pinned,
    )


def _plain(path: str) -> str:
    """The path, if no other program reads more in it than a path."""
    if _PATH.fullmatch(path):
        return path
    refusal = refuse("path", path, "letters, digits, spaces and / . , : @ + = ~ ( ) _ -")
    raise Refusal(refusal.code, refusal.message, next_step="move the file to a plain path, or write the file by hand")


def _ssh_config(hosts: Sequence[Host]) -> str:
    blocks = [
        [f"Host {h.alias}", f"HostName {h.host}", f"Port {h.port}", f"User {USER}", *_identity(h), *_options(h)]
        for h in hosts
    ]
    return "\n".join("\n  ".join(lines) + "\n" for lines in blocks)


def _identity(host: Host) -> list[str]:
    return [] if host.key_path is None else [f"IdentityFile {in_option(host.key_path)}"]


def _options(host: Host) -> list[str]:
    """What holds a login to this machine: its own key, the host key that was seen first, and no agent lent to it.

    Without a first login, OpenSSH pins the host key in the server's file, in the server's own form.
    """
    return [
        *([] if host.key_path is None else ["IdentitiesOnly yes"]),
        f"HostKeyAlias {host.alias}",
        f"UserKnownHostsFile {in_option(host.known_hosts)}",
        *(["StrictHostKeyChecking yes"] if host.pinned else ["StrictHostKeyChecking accept-new", "HashKnownHosts no"]),
        "ForwardAgent no",
    ]


def _ansible(hosts: Sequence[Host]) -> str:
    """Complete without any ssh_config."""
    members: dict[str, Mapping[str, Any]] = {
        h.alias: {
            "ansible_host": h.host,
            "ansible_port": h.port,
            "ansible_user": USER,
            **({} if h.key_path is None else {"ansible_ssh_private_key_file": h.key_path}),
            "ansible_ssh_common_args": shlex.join(
                word for option in _options(h) for word in ("-o", option.replace(" ", "=", 1))
            ),
        }
        for h in hosts
    }
    return _json({"all": {"children": {POOL: {"hosts": members}}}})


def _ray(hosts: Sequence[Host]) -> str:
    """Ray's cluster launcher, over the exported ssh_config: it knows no ports, and checks no host keys.

    So the SSH target is the alias, and what carries Ray's login is a login with the pinned host key (`ssh -W`), to the
    machine's own port 22. The private key is given, and by Ray copied to the head, only where there are workers; on the
    head no ssh_config names that key or a host key, so the jump takes both as Ray left them.
    """
    head, *workers = hosts
    auth: dict[str, Any] = {"ssh_user": USER, "ssh_proxy_use_node_id": True, "ssh_proxy_command": f"ssh {_JUMP}"}
    if workers:
        auth["ssh_proxy_command"] = f"ssh -i {_HEADS_KEY} -o StrictHostKeyChecking=accept-new {_JUMP}"
        if head.key_path is not None:
            auth["ssh_private_key"] = head.key_path
    provider = {"type": "local", "head_ip": head.alias, "worker_ips": [h.alias for h in workers]}
    return _json({"cluster_name": POOL, "provider": provider, "auth": auth})


def _skypilot(hosts: Sequence[Host]) -> str:
    """A pool over the exported ssh_config, since SkyPilot's own fields have no port."""
    return _json({POOL: {"hosts": [h.alias for h in hosts]}})


def _dstack(hosts: Sequence[Host]) -> str:
    """A fleet of addresses: dstack's server reads no ssh_config; its client reads the private key."""
    keyless = [h.alias for h in hosts if h.key_path is None]
    if keyless:
        raise Refusal(
            "invalid_argument",
            f"got {', '.join(keyless)} with a public key only, allowed: machines whose private key is a file here",
            next_step="give dstack another machine, or take the ssh_config format",
        )
    members = [{"hostname": h.host, "port": h.port, "user": USER, "identity_file": h.key_path} for h in hosts]
    return _json({"type": "fleet", "name": POOL, "ssh_config": {"hosts": members}})


def _json(body: Mapping[str, Any]) -> str:
    """JSON that every YAML parser reads the same: PyYAML makes two characters of an escaped surrogate pair."""
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


FORMATS: Final[Mapping[str, Callable[[Sequence[Host]], str]]] = {
    "ssh_config": _ssh_config,
    "ansible": _ansible,
    "ray": _ray,
    "skypilot": _skypilot,
    "dstack": _dstack,
}
"""Every format by name; Ray and SkyPilot stand on ssh_config, the others alone."""
