"""Logs and commands: the request answers with a URL, and the text is there a moment later."""

import hashlib

from vastai_workflow.simulator.exchange import Call, Endpoint, Refused, Reply, ok
from vastai_workflow.simulator.instances import Instance

MAX_COMMAND = 512
WRITEABLE_PATH = "/var/lib/docker"
_COMMANDS = frozenset({"ls", "rm", "du"})


def _instance(call: Call) -> Instance:
    instance = call.world.find_instance(call.account, call.id)
    if instance is None:
        raise Refused(404, "invalid_id", "Invalid instance id.")
    return instance


def _publish(call: Call, text: str) -> str:
    """Put a text behind a URL of this server; gives the URL."""
    world = call.world
    name = hashlib.sha256(f"{world.seed} {call.id} {len(world.results)}".encode()).hexdigest()
    world.results[name] = (world.time + world.switches.logs_ready_s, text)
    return f"{call.base_url}/instance_logs/{name}.log"


def _request(call: Call) -> Reply:
    instance = _instance(call)
    if call.body.get("daemon_logs") == "true":
        lines = [f"daemon: instance {instance.id} is {instance.actual}"]
    else:
        lines = instance.log
    wanted = str(call.body.get("filter") or "")
    lines = [line for line in lines if wanted in line]
    tail = str(call.body.get("tail") or "")
    if tail.isdigit():
        lines = lines[-int(tail) :] if int(tail) else []
    text = "\n".join(lines) + ("\n" if lines else "")
    return ok(result_url=_publish(call, text), msg="Logs requested.")


def _execute(call: Call) -> Reply:
    _instance(call)
    command = call.body.get("command")
    if not isinstance(command, str):
        raise Refused(483, "invalid_json", "Invalid json body.")
    if len(command) > MAX_COMMAND or command.partition(" ")[0] not in _COMMANDS:
        raise Refused(400, "invalid_args", "Invalid command given.")
    text = "total 0\n" if command.startswith("ls") else ""
    return ok(writeable_path=WRITEABLE_PATH, result_url=_publish(call, text), msg="Command sent.")


def _text(call: Call) -> Reply:
    ready_at, text = call.world.results.get(str(call.path["name"]), (float("inf"), ""))
    if call.world.time < ready_at:
        return Reply("<Error><Code>NoSuchKey</Code></Error>", 404, content_type="application/xml")
    return Reply(text, content_type="text/plain")


ENDPOINTS = (
    Endpoint("PUT", "/api/v0/instances/request_logs/{id:int}", "logs", _request, "instance_read", interval_s=1.0),
    Endpoint("PUT", "/api/v0/instances/command/{id:int}", "execute", _execute, "instance_write", interval_s=1.5),
    Endpoint("GET", "/instance_logs/{name}.log", "log_text", _text),
)
