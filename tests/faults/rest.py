"""The end of a schedule: the agent waits until all is at rest, and then what is left has to be as it was agreed."""

from typing import Final

from tests.faults.play import SECRET, Play
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.simulator.instances import Instance

_PAUSES_S: Final = (3.0, 6.0, 10.0, 15.0, 25.0)
_ROUNDS: Final = 60
_YES_LIFE_S: Final = 1801.0
_OPEN: Final = UNSETTLED | {OrderState.PLANNED}


async def come_to_rest(play: Play) -> None:
    """Faults are over; the agent goes on waiting, and follows what it is told. A kill may still come."""
    play.book.note("-- quiet")
    play.disarm()
    for number in range(_ROUNDS):
        if not play.book.orders:
            return
        answered = await _wait_for_all(play, _PAUSES_S[min(number, len(_PAUSES_S) - 1)])
        play.book.check()
        left = play.book.last_effect_at - play.clock.now()
        if play.book.unsettled or not answered:
            continue
        if left > 0:
            play.clock.advance(left + 1)
        elif not await _planned_left(play):
            return
    play.book.wrong(f"not at rest after {_ROUNDS} waits")


async def _wait_for_all(play: Play, seconds: float) -> bool:
    """One wait for every workflow that has orders; whether all were answered."""
    homes = list(dict.fromkeys(order.workflow_id for order in play.book.orders.values()))
    return all([await play.wait(0.0 if place else seconds, home) for place, home in enumerate(homes)])


async def _planned_left(play: Play) -> bool:
    """Orders that are still planned: created by the agent, or outlived by their yes."""
    planned = [order for order in play.book.orders.values() if order.state is OrderState.PLANNED]
    if not planned:
        return False
    order = planned[0]
    if play.schedule.seed % 2 == 0:
        await play.call("create_instances", workflow_id=order.workflow_id, plan_id=order.plan_id)
    if play.book.orders[order.order_id].state is OrderState.PLANNED:
        play.clock.advance(_YES_LIFE_S)
    return True


def judge(play: Play) -> None:
    """What has to be true once all is quiet."""
    book = play.book
    play.world.settle()
    alive = {one.id: one for one in book.alive()}
    owned: dict[int, str] = {}
    for order in book.orders.values():
        _judge_order(play, order, alive, owned)
    for instance_id in alive.keys() - owned.keys():
        book.wrong(f"machine {instance_id} runs, and no order on record is its")
    heard = "\n".join(book.heard)
    for instance_id, why in book.ended.items():
        if str(instance_id) not in heard:
            book.wrong(f"machine {instance_id} came and was ended ({why}), and nobody was told")
    for instance in book.copies():
        if book.orders and str(instance.id) not in heard:
            book.wrong(f"machine {instance.id} carries a copy of our mark, and nobody was told")
    _judge_fleets(play, heard)
    _judge_secrets(play, heard)


def _judge_fleets(play: Play, heard: str) -> None:
    """All or nothing: what runs of a fleet that others are missing from was released, or somebody was asked."""
    orders = [order for order in play.book.orders.values() if order.fleet == "all_or_nothing"]
    for plan in {order.plan_id for order in orders}:
        of_it = [order for order in orders if order.plan_id == plan]
        had = [order for order in of_it if order.live or order.instance_id in play.book.wanted_gone]
        if any(order.live for order in had) and len(had) < of_it[0].places and "fell short" not in heard:
            play.book.wrong(f"{len(had)} of {of_it[0].places} machines of a fleet run alone, and nobody was asked")


def _judge_order(play: Play, order: Order, alive: dict[int, Instance], owned: dict[int, str]) -> None:
    book, machine = play.book, order.instance_id
    if order.state in _OPEN:
        book.wrong(f"order {order.order_id} is {order.state} after all was quiet")
    if order.state is not OrderState.RENTED:
        if machine in alive:
            book.wrong(f"machine {machine} of order {order.order_id} runs, though it is {order.state}")
    elif machine is None or machine not in alive:
        book.wrong(f"order {order.order_id} is rented, and its machine {machine} is none of ours")
    elif machine in owned:
        book.wrong(f"machine {machine} is on record for {owned[machine]} and {order.order_id}")
    else:
        owned[machine] = order.order_id


def _judge_secrets(play: Play, heard: str) -> None:
    """The key and a variable's value are in no answer, progress, log or kept answer of the market."""
    written = "\n".join(play.ear.lines)
    for path in play.answers.iterdir():
        written += path.read_text("utf-8")
        path.unlink()
    for name, secret in (("API key", play.world.api_key), ("variable's value", SECRET)):
        if secret in heard:
            play.book.wrong(f"the {name} stands in an answer")
        if secret in written:
            play.book.wrong(f"the {name} stands in a log or a kept answer")
