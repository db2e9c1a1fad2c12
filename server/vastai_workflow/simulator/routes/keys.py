"""SSH keys of the account and of one instance."""

import json

from vastai_workflow.simulator.accounts import SshKey
from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply, ok
from vastai_workflow.simulator.routes.changing import the_instance


def _account_row(call: Call, key: SshKey) -> JsonObject:
    return {
        "id": key.id,
        "user_id": call.account.id,
        "public_key": key.public_key,
        "created_at": key.created_at,
        "deleted_at": None,
    }


def _no_teams(call: Call) -> None:
    if call.account.team:
        raise Refused(400, "team_ssh_keys_not_supported", "SSH keys are not supported in team context.")


def _key_text(call: Call) -> str:
    text = call.body.get("ssh_key")
    if not isinstance(text, str) or not text.strip():
        raise Refused(400, "no_ssh_key", "No SSH key given.")
    return text


def _list(call: Call) -> Reply:
    _no_teams(call)
    if not call.account.ssh_keys:
        raise Refused(404, "no_ssh_keys", "No SSH keys found for the user.")
    return Reply([{**_account_row(call, key), "default": None} for key in call.account.ssh_keys.values()])


def _add(call: Call) -> Reply:
    _no_teams(call)
    world = call.world
    key = SshKey(world.new_id(), _key_text(call), world.time)
    call.account.ssh_keys[key.id] = key
    if world.switches.account_keys_reach_running:
        ready_at = world.time + world.switches.keys_delay_s
        for instance in world.of_account(call.account):
            instance.ssh_keys[key.id] = SshKey(key.id, key.public_key, key.created_at, ready_at)
    return ok(key=_account_row(call, key))


def _update(call: Call) -> Reply:
    _no_teams(call)
    key = call.account.ssh_keys.get(call.id)
    if key is None:
        raise Refused(400, "no_ssh_key", "No such SSH key.")
    key.public_key = _key_text(call)
    return ok(key=_account_row(call, key))


def _delete(call: Call) -> Reply:
    _no_teams(call)
    if call.account.ssh_keys.pop(call.id, None) is None:
        raise Refused(400, "no_ssh_key", "No such SSH key.")
    return ok()


def _list_of_instance(call: Call) -> Reply:
    keys = [{"id": key.id, "public_key": key.public_key} for key in the_instance(call).ssh_keys.values()]
    return ok(ssh_keys=json.dumps(keys))


def _attach(call: Call) -> Reply:
    instance = the_instance(call)
    text = _key_text(call)
    world = call.world
    for key in instance.ssh_keys.values():
        if key.public_key.strip() == text.strip():
            return ok(msg="SSH key already associated with instance.", key=_as_text(key))
    known = next((one for one in call.account.ssh_keys.values() if one.public_key.strip() == text.strip()), None)
    ready_at = world.time + world.switches.keys_delay_s
    key = SshKey(known.id if known else world.new_id(), text, world.time, ready_at)
    instance.ssh_keys[key.id] = key
    return ok(msg="SSH key added to instance.", key=_as_text(key))


def _as_text(key: SshKey) -> str:
    """JSON inside a string, as the service sends it."""
    return json.dumps(
        {
            "id": key.id,
            "user_id": None,
            "default": None,
            "public_key": key.public_key,
            "private_key": None,
            "created_at": key.created_at,
            "deleted_at": None,
        }
    )


def _detach(call: Call) -> Reply:
    if the_instance(call).ssh_keys.pop(int(call.path["key_id"]), None) is None:
        raise Refused(404, "no_such_ssh_key", "No such SSH key.")
    return ok(msg="SSH key removed from instance.")


ENDPOINTS = (
    Endpoint("GET", "/api/v0/ssh", "ssh_keys", _list, "user_read", interval_s=1.0),
    Endpoint("POST", "/api/v0/ssh", "add_ssh_key", _add, "user_write", interval_s=1.0),
    Endpoint("PUT", "/api/v0/ssh/{id:int}", "update_ssh_key", _update, "user_write", interval_s=1.0),
    Endpoint("DELETE", "/api/v0/ssh/{id:int}", "delete_ssh_key", _delete, "user_write", interval_s=1.0),
    Endpoint(
        "GET", "/api/v0/instances/{id:int}/ssh", "instance_keys", _list_of_instance, "instance_read", interval_s=1.0
    ),
    Endpoint("POST", "/api/v0/instances/{id:int}/ssh", "attach", _attach, "instance_write", interval_s=1.0),
    Endpoint(
        "DELETE", "/api/v0/instances/{id:int}/ssh/{key_id:int}", "detach", _detach, "instance_write", interval_s=2.0
    ),
)
