"""Faults of the market: what is offered, or delivered, is not what was asked for."""

from collections.abc import Mapping
from decimal import Decimal

from vastai_workflow.simulator.exchange import JsonObject, fields, items
from vastai_workflow.simulator.hardware import MODELS
from vastai_workflow.simulator.rules.replies import HOSTILE, hostile
from vastai_workflow.simulator.rules.rule import Exchange, Rule, Settings, number


def _rows(exchange: Exchange) -> list[JsonObject]:
    return items(fields(exchange.answer.body).get("offers"))


def _odd_offer(exchange: Exchange, settings: Settings) -> None:
    """Change one field of the first row, as if the filter on it had been ignored."""
    rows = _rows(exchange)
    if rows:
        rows[0][str(settings["field"])] = settings["value"]


def _filters_ignored(exchange: Exchange, _: Settings) -> None:
    body = exchange.call.body
    kept = {name: body[name] for name in ("order", "limit", "type", "allocated_storage") if name in body}
    exchange.call.body = kept


def _dearer(exchange: Exchange, settings: Settings) -> None:
    if exchange.rented is not None:
        factor = Decimal(str(settings["factor"]))
        exchange.rented.dph_base *= factor


def _other_gpu(exchange: Exchange, settings: Settings) -> None:
    if exchange.rented is not None:
        model = next((one for one in MODELS if one.name == settings["gpu"]), MODELS[1])
        exchange.rented.disguise |= {"gpu_name": model.name, "gpu_ram": model.ram, "gpu_totalram": model.ram}
        exchange.rented.cards = [(model.name, model.ram)] * len(exchange.rented.gpu_ids)


def _other_card_inside(exchange: Exchange, settings: Settings) -> None:
    if exchange.rented is not None:
        model = next((one for one in MODELS if one.name == settings["gpu"]), MODELS[1])
        exchange.rented.cards = [(model.name, model.ram)] * len(exchange.rented.gpu_ids)


def _fewer_gpus(exchange: Exchange, settings: Settings) -> None:
    instance = exchange.rented
    if instance is not None:
        left = max(len(instance.gpu_ids) - int(number(settings, "missing")), 0)
        model = instance.machine.model
        instance.disguise |= {"num_gpus": left, "gpu_totalram": model.ram * left}
        instance.cards = [(model.name, model.ram)] * left


def _smaller_disk(exchange: Exchange, settings: Settings) -> None:
    if exchange.rented is not None:
        exchange.rented.disk_gb *= Decimal(str(settings["factor"]))


def _price_rises(exchange: Exchange, settings: Settings) -> None:
    """After the answer, every free machine costs more."""
    factor = Decimal(str(settings["factor"]))
    for machine in {ask.machine.id: ask.machine for ask in exchange.call.world.market.free_asks()}.values():
        machine.price *= factor
        machine.min_bid *= factor


def _sold_out(exchange: Exchange, _: Settings) -> None:
    """Just before this call somebody else rents the ask."""
    market = exchange.call.world.market
    ask = market.asks.get(int(exchange.call.path.get("id", 0)))
    if ask is not None and not ask.rented:
        market.take(ask.machine, ask.gpu_ids, "other:first")


def _hostile_offer(exchange: Exchange, settings: Settings) -> None:
    for row in _rows(exchange):
        row[str(settings["field"])] = hostile(str(settings["kind"]))


def _hostile_text(exchange: Exchange, settings: Settings) -> None:
    """A text of the machine's owner: in a field of the row, or in the log."""
    instance = exchange.target
    if instance is None:
        return
    if settings["field"] == "log":
        instance.log.append(hostile(str(settings["kind"])))
    else:
        instance.disguise[str(settings["field"])] = hostile(str(settings["kind"]))


RULES: Mapping[str, Rule] = {
    "odd_offer": Rule(
        "the first offer has another `value` in `field` than the filter allows",
        operation="search",
        after=_odd_offer,
        settings={"field": "gpu_name", "value": "A100 SXM4"},
    ),
    "filters_ignored": Rule("the search ignores its filters", operation="search", before=_filters_ignored),
    "dearer": Rule("the contract costs `factor` times the offer", after=_dearer, settings={"factor": 2.0}),
    "other_gpu": Rule("the instance has another `gpu`", after=_other_gpu, settings={"gpu": "RTX 3090"}),
    "other_card_inside": Rule(
        "the API tells the right card, inside is another `gpu`", after=_other_card_inside, settings={"gpu": "RTX 3090"}
    ),
    "fewer_gpus": Rule("the instance has `missing` cards less", after=_fewer_gpus, settings={"missing": 1}),
    "smaller_disk": Rule("the disk is `factor` times what was ordered", after=_smaller_disk, settings={"factor": 0.5}),
    "price_rises": Rule(
        "after the search all prices are `factor` times higher",
        operation="search",
        after=_price_rises,
        settings={"factor": 1.5},
    ),
    "sold_out": Rule("somebody else takes the offer just before the create", before=_sold_out),
    "hostile_offer": Rule(
        "offers carry a text of `kind` ansi, newline, injection or huge in `field`",
        operation="search",
        after=_hostile_offer,
        settings={"field": "geolocation", "kind": "ansi"},
        choices={"kind": HOSTILE},
    ),
    "hostile_text": Rule(
        "the instance carries such a text in `field`: label, status_msg, log, ...",
        after=_hostile_text,
        settings={"field": "status_msg", "kind": "ansi"},
        choices={"kind": HOSTILE},
    ),
}
