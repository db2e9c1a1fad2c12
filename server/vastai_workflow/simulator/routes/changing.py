"""Change and end instances: start, stop, label, reboot, recycle, bid, prepay, update and destroy."""

from decimal import Decimal

from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply, items, ok
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.query import number

MAX_LABEL = 1024
MAX_BID_PER_GPU = 32.0
MIN_BID = 0.001


def the_instance(call: Call) -> Instance:
    """The instance of the path, or the provider's 404."""
    instance = call.world.find_instance(call.account, call.id)
    if instance is None:
        raise Refused(404, "no_such_instance", f"Instance {call.id} not found.")
    return instance


def _set_operation(body: JsonObject) -> str:
    if "state" in body:
        return "start" if body["state"] == "running" else "stop"
    return "label"


def _set(call: Call) -> Reply:
    instance = the_instance(call)
    if "state" in call.body:
        return _set_state(call, instance, call.body["state"])
    if "label" not in call.body:
        raise Refused(400, "invalid_args", "Expected state or label.")
    label = call.body["label"]
    if label is not None and len(str(label)) > MAX_LABEL:
        raise Refused(400, "label_too_long", f"Label is longer than {MAX_LABEL} characters.")
    instance.label = None if label is None else str(label)
    return ok()


def _set_state(call: Call, instance: Instance, state: object) -> Reply:
    life = call.world.life
    if state == "stopped":
        life.stop(instance)
        return ok()
    if state != "running":
        raise Refused(400, "invalid_args", "state must be running or stopped")
    if call.account.credit <= 0:
        raise Refused(400, "missing_billing", "Your account lacks credit; see the billing page.")
    if life.start(instance):
        return ok()
    msg = "Required resources are currently unavailable, state change queued."
    return Reply({"success": False, "error": "resources_unavailable", "msg": msg})


def _set_many(call: Call) -> Reply:
    results: list[JsonObject] = []
    for instance_id in [int(one) for one in items(call.body.get("ids"))]:
        instance = call.world.find_instance(call.account, instance_id)
        if instance is not None:
            results.append({"id": instance_id, **_set_state(call, instance, call.body.get("state")).body})
    return ok(results=results)


def _destroy(call: Call) -> Reply:
    call.world.life.end(the_instance(call))
    return ok()


def _destroy_many(call: Call) -> Reply:
    for instance_id in [int(one) for one in items(call.body.get("instance_ids"))]:
        instance = call.world.find_instance(call.account, instance_id)
        if instance is not None:
            call.world.life.end(instance)
    return ok()


def _restart(call: Call, *, fresh: bool) -> Reply:
    instance = the_instance(call)
    if instance.intended != "running" or not instance.holds_cards:
        raise Refused(400, "invalid_id" if fresh else "invalid_args", "Instance is not running.")
    call.world.life.restart(instance, fresh=fresh)
    return ok()


def _reboot(call: Call) -> Reply:
    return _restart(call, fresh=False)


def _recycle(call: Call) -> Reply:
    return _restart(call, fresh=True)


def _bid(call: Call) -> Reply:
    instance = the_instance(call)
    gpus = len(instance.gpu_ids)
    if not instance.is_bid:
        raise Refused(400, "invalid_args", "Instance is not interruptible.")
    if call.body.get("price") is None:
        price = instance.machine.lowest_bid(gpus)
    else:
        asked = number(call.body["price"])
        if asked is None or not MIN_BID <= asked <= MAX_BID_PER_GPU * gpus:
            raise Refused(400, "invalid_args", "price out of range")
        price = Decimal(str(asked))
    call.world.life.bid(instance, price)
    return ok()


def _prepay(call: Call) -> Reply:
    instance = the_instance(call)
    asked = number(call.body.get("amount"))
    if asked is None or asked <= 0:
        raise Refused(400, "invalid_args", "amount must be more than 0")
    amount = Decimal(str(asked))
    if amount > call.account.credit:
        raise Refused(411, "insufficient_credit", "Not enough credit.")
    call.account.credit -= amount
    instance.prepaid += amount
    return ok(timescale=1.0, discount_rate=0.1)


def _deposit(call: Call) -> Reply:
    instance = the_instance(call)
    return ok(refundable_deposit=float(instance.prepaid), total_discount=0.0, discount_months=0)


def _update(call: Call) -> Reply:
    """Another image, env or start script: the container is made anew."""
    instance = the_instance(call)
    instance.image = str(call.body.get("image") or instance.image)
    if isinstance(call.body.get("env"), dict):
        instance.env = {str(name): str(value) for name, value in call.body["env"].items()}
    instance.onstart = call.body.get("onstart") or instance.onstart
    if instance.holds_cards:
        call.world.life.restart(instance, fresh=True)
    return ok(updated_instance=instance.id)


ENDPOINTS = (
    Endpoint(
        "PUT",
        "/api/v0/instances/{id:int}",
        _set_operation,
        _set,
        "instance_write",
        interval_s=1.0,
        choices=("start", "stop", "label"),
    ),
    Endpoint("PUT", "/api/v0/instances", "set_bulk", _set_many, "instance_write", interval_s=1.0),
    Endpoint("DELETE", "/api/v0/instances/{id:int}", "destroy", _destroy, "instance_write", interval_s=3.0),
    Endpoint("DELETE", "/api/v0/instances", "destroy_bulk", _destroy_many, "instance_write", interval_s=3.0),
    Endpoint("PUT", "/api/v0/instances/reboot/{id:int}", "reboot", _reboot, "instance_write", interval_s=1.0),
    Endpoint("PUT", "/api/v0/instances/recycle/{id:int}", "recycle", _recycle, "instance_write", interval_s=1.0),
    Endpoint("PUT", "/api/v0/instances/bid_price/{id:int}", "bid", _bid, "instance_write", interval_s=5.5),
    Endpoint("PUT", "/api/v0/instances/prepay/{id:int}", "prepay", _prepay, "billing_write", interval_s=2.0),
    Endpoint("PUT", "/api/v0/instances/update_template/{id:int}", "update", _update, "instance_write", interval_s=1.0),
    Endpoint("GET", "/api/v0/instances/balance/{id:int}", "deposit", _deposit, "billing_read", interval_s=3.0),
)
