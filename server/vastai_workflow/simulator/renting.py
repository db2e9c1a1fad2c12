"""Turning an ask into an instance: the checks and refusals of the provider's create call."""

from collections.abc import Mapping
from decimal import Decimal
from random import Random

from vastai_workflow.simulator.accounts import Account, SshKey
from vastai_workflow.simulator.exchange import JsonObject, Refused, fields, items
from vastai_workflow.simulator.instances import DIRECT_SSH, Instance
from vastai_workflow.simulator.market import Ask
from vastai_workflow.simulator.query import number
from vastai_workflow.simulator.world import World

RUN_TYPES = DIRECT_SSH | {"ssh", "ssh_proxy", "jupyter", "jupyter_proxy", "args"}
DEFAULT_DISK_GB = 8.0
DEFAULT_RUN_TYPE = "ssh"
MAX_IMAGE = 1024
MAX_LABEL = 256
MAX_ENV_KEY = 256
MAX_ENV_TOTAL = 32_768
MAX_SCRIPT = 4096
MAX_PORTS = 64
BID_RANGE = (0.001, 128.0)


def rent(world: World, account: Account, ask_id: int, body: JsonObject) -> Instance:
    """Rent an ask; raises the provider's refusals."""
    order = _with_template(account, ask_id, body)
    _check_order(ask_id, order)
    ask, contested = _find_ask(world, ask_id, order)
    if account.credit <= 0:
        raise Refused(400, "insufficient_credit", "Your account lacks credit; see the billing page.", ask_id=ask_id)
    disk = _disk(world, ask, order)
    bid = number(order.get("price"))
    stopped = order.get("target_state") == "stopped"
    low = bid is not None and Decimal(str(bid)) < ask.machine.lowest_bid(ask.num_gpus)
    if low and (order.get("cancel_unavail") is True or world.switches.low_bid == "refused"):
        raise _no_longer_available(world, ask_id, order)
    instance = _contract(world, account, ask, order, disk)
    if low or stopped:
        instance.intended = instance.cur = instance.next = "stopped"
        instance.lost_bid = low
    world.begin(instance, None if low or stopped or contested else ask)
    if low and world.switches.low_bid == "contract_in_error":
        raise Refused(
            400,
            "invalid_price",
            "error 400/3542: bid is below the market, instance was created stopped",
            ask_id=ask_id,
            new_contract=instance.id,
        )
    return instance


def _with_template(account: Account, ask_id: int, body: JsonObject) -> JsonObject:
    """The order with its template's values where it gives none itself; env is merged, the order's wins."""
    wanted = body.get("template_hash_id")
    if not wanted:
        return body
    for template in account.templates.values():
        if template["hash_id"] == wanted:
            order = {**template, **{name: value for name, value in body.items() if value is not None}}
            order["env"] = {**_flags(str(template.get("env") or "")), **fields(body.get("env"))}
            order["template"] = template
            return order
    raise Refused(400, "invalid_args", f"error 400/3467: Invalid args: no template {wanted}", ask_id=ask_id)


def _flags(text: str) -> dict[str, str]:
    """A template's env, which is a string of docker flags, as the object that instances keep."""
    env: dict[str, str] = {}
    words = iter(text.split())
    for word in words:
        value = next(words, "")
        if word == "-e":
            name, _, rest = value.partition("=")
            env[name] = rest
        elif word.startswith("-"):
            env[f"{word} {value}"] = "1"
    return env


def _check_order(ask_id: int, order: JsonObject) -> None:
    problem = _problem(order)
    if problem:
        raise Refused(400, "invalid_args", f"error 400/3467: Invalid args: {problem}", ask_id=ask_id)
    price = order.get("price")
    if price is not None:
        bid = number(price)
        if bid is None or not BID_RANGE[0] <= bid <= BID_RANGE[1]:
            raise Refused(400, "invalid_price", f"error 400/3468: invalid price {price}", ask_id=ask_id)


def _problem(order: JsonObject) -> str:
    """What is wrong with an order, or nothing."""
    image, label, disk = order.get("image"), order.get("label"), order.get("disk")
    run_type = set(str(order.get("runtype") or DEFAULT_RUN_TYPE).split())
    script = "".join(str(order.get(name) or "") for name in ("onstart", "args_str")) + "".join(_arguments(order))
    checks = (
        (not isinstance(image, str) or not 0 < len(image) <= MAX_IMAGE, f"image must be 1 to {MAX_IMAGE} characters"),
        (label is not None and (not isinstance(label, str) or len(label) > MAX_LABEL), "label is too long"),
        (disk is not None and (number(disk) or 0.0) <= 0, "disk must be more than 0"),
        (not run_type <= RUN_TYPES, f"unknown runtype {' '.join(sorted(run_type - RUN_TYPES))}"),
        (len(script) > MAX_SCRIPT, f"args and onstart are longer than {MAX_SCRIPT} characters"),
    )
    return next((text for wrong, text in checks if wrong), "") or _env_problem(order.get("env"))


def _env_problem(order_env: object) -> str:
    if order_env is None:
        return ""
    pairs = fields(order_env)
    if not pairs and order_env != {}:
        return "invalid env type: env must be a dict"
    names = list(pairs)
    total = sum(len(str(part)) for pair in pairs.items() for part in pair)
    if any(len(name) > MAX_ENV_KEY for name in names) or total > MAX_ENV_TOTAL:
        return "env is too long"
    if sum(name.startswith("-p ") for name in names) > MAX_PORTS:
        return f"more than {MAX_PORTS} ports"
    return ""


def _arguments(order: JsonObject) -> list[str]:
    return [str(one) for one in items(order.get("args"))]


def _find_ask(world: World, ask_id: int, order: JsonObject) -> tuple[Ask, bool]:
    """The ask, and whether somebody else already holds its cards."""
    ask = world.market.asks.get(ask_id)
    if ask is None or not ask.machine.rentable:
        raise _no_longer_available(world, ask_id, order)
    if ask.rented and world.switches.double_rent == "refused":
        raise _no_longer_available(world, ask_id, order)
    return ask, ask.rented


def _no_longer_available(world: World, ask_id: int, order: Mapping[str, object]) -> Refused:
    status = world.switches.gone_offer_status or (410 if order.get("cancel_unavail") is True else 404)
    return no_such_ask(status, ask_id)


def no_such_ask(status: int, ask_id: int, *, code_in_error: bool | None = None) -> Refused:
    """The refusal of a gone offer in the form of a status; its code may stand in `error` or only in `msg`."""
    if status == 404:  # noqa: PLR2004 - an HTTP status
        error = "no_such_ask" if code_in_error else "invalid_args"
        msg = f"error 404/3603: no_such_ask Instance type by id {ask_id} is not available."
    else:
        error = "invalid_args" if code_in_error is False else "no_such_ask"
        msg = f"error {status}/3907: no_such_ask Instance type {ask_id} is no longer available."
    return Refused(status, error, msg, ask_id=ask_id)


def _disk(world: World, ask: Ask, order: JsonObject) -> Decimal:
    wanted = number(order.get("disk")) or DEFAULT_DISK_GB
    most = ask.machine.disk_share(ask.num_gpus)
    if wanted > most:
        if world.switches.oversized_disk == "refused":
            msg = f"error 400/3467: Invalid args: disk {wanted} is more than {most}"
            raise Refused(400, "invalid_args", msg, ask_id=ask.id)
        wanted = most
    return Decimal(str(wanted))


def _contract(world: World, account: Account, ask: Ask, order: JsonObject, disk: Decimal) -> Instance:
    instance_id = world.next_instance_id()
    bid = number(order.get("price"))
    machine = ask.machine
    price = machine.base_price(ask.num_gpus) if bid is None else Decimal(str(bid))
    env = {str(name): str(value) for name, value in fields(order.get("env")).items()}
    instance = Instance(
        id=instance_id,
        account=account,
        machine=machine,
        gpu_ids=ask.gpu_ids,
        image=str(order["image"]),
        runtype=str(order.get("runtype") or DEFAULT_RUN_TYPE),
        env=env,
        onstart=order.get("onstart"),
        args=_arguments(order),
        label=order.get("label"),
        disk_gb=disk,
        dph_base=price,
        bid=None if bid is None else price,
        created_at=world.time,
        visible_at=world.time + world.switches.visibility_delay_s,
        end_date=machine.end_date,
        first_port=machine.first_port + instance_id % 9 * 10,
        load_factor=Random(f"{world.seed} {instance_id}").uniform(0.5, 1.5),  # noqa: S311 - a pace, not a secret
        api_key=world.add_key(account, {"instance_write"}, name="instance", instance_id=instance_id),
        jupyter_token=world.token(f"jupyter {instance_id}"),
        template=order.get("template"),
    )
    _link_volume(account, instance, order.get("volume_info"))
    ready_at = world.time + world.switches.keys_delay_s
    if not account.team:
        instance.ssh_keys = {
            key.id: SshKey(key.id, key.public_key, key.created_at, ready_at) for key in account.ssh_keys.values()
        }
    return instance


def _link_volume(account: Account, instance: Instance, wanted: object) -> None:
    """Attach a volume; a new one is made on the instance's machine."""
    info = fields(wanted)
    if not info:
        return
    number_ = int(info.get("volume_id") or 0)
    size = int(info.get("size") or 15)
    name = str(info.get("name") or f"V.{number_}")
    if info.get("create_new") is True:
        account.volumes[number_] = {"id": number_, "label": name, "disk_space": float(size)}
    instance.volume_info.append({"id": number_, "label": name, "avail_space": size, "total_space": size})
