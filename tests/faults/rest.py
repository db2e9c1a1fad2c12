"""The end of a schedule: the agent goes on until the server says that it is done, and comes back after a quiet time.

What is left then has to be as it was agreed, and told.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from tests.faults.acts import destroy_with_yes, next_of
from tests.faults.play import SECRET, Answer, Play
from tests.faults.told import MORE_TO_DO, TOLD_OF_AN_END, Said, said_in, sentences, to_destroy
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.simulator.instances import Instance

_PAUSES_S: Final = (3.0, 6.0, 20.0, 25.0)
_ROUNDS: Final = 60
_TRIES: Final = 3
_UNCHANGED_S: Final = 50.0
"""A machine that is told to get no readier for so long is waited for no more."""
_QUIET_S: Final = 900.0
"""Longer than anything that a schedule puts off, the lists' delay and the time after which a machine may be in use."""
_YES_LIFE_S: Final = 1801.0
_OPEN: Final = UNSETTLED | {OrderState.PLANNED}
_FIRST_CALLS: Final = ("preflight", "instance_status", "propose_fields", "wait_until_ready")


async def come_to_rest(play: Play) -> None:
    """Faults are over; the agent follows what it is told. A kill may still come."""
    play.book.note("-- quiet")
    play.disarm()
    if play.book.orders:
        user = Random(f"rest {play.schedule.seed}")  # noqa: S311 - a schedule, not a secret
        await _follow(play, user)
        play.clock.advance(_QUIET_S)
        if not await _come_back(play, user.choice(_FIRST_CALLS)):
            await _follow(play, user)


async def _follow(play: Play, user: Random) -> None:
    """Wait for every workflow with orders until there is nothing more to do, by the server's own words."""
    seen: object = None
    unchanged_s = 0.0
    for number in range(_ROUNDS):
        pause = _PAUSES_S[min(number, len(_PAUSES_S) - 1)]
        homes = list(dict.fromkeys(order.workflow_id for order in play.book.orders.values()))
        answers = [await _wait(play, 0.0 if place else pause, home, user) for place, home in enumerate(homes)]
        play.book.check()
        now = [_shown(answer) for answer in answers]
        unchanged_s, seen = (unchanged_s + pause if now == seen else 0.0), now
        if _at_rest(play, answers, unchanged_s):
            return
        for answer in answers:
            await _create_or_outlive(play, answer)
    play.book.wrong(f"not at rest after {_ROUNDS} waits")


async def _wait(play: Play, seconds: float, workflow_id: str, user: Random) -> Answer | None:
    """One wait; what it asks about machines the user answers, once for each."""
    answer = await play.wait(seconds, workflow_id)
    for machine in sorted(play.book.undecided):
        if user.random() < 0.5:
            play.book.note(f"the user keeps machine {machine}")
            play.book.kept_by_user.add(machine)
        else:
            await destroy_with_yes(play, machine)
    for machine in to_destroy(answer or {}):
        await destroy_with_yes(play, machine)
    return answer


def _shown(answer: Answer | None) -> object:
    return answer and [(row["instance_id"], row["state"], row["readiness"]) for row in answer["instances"]]


def _at_rest(play: Play, answers: Sequence[Answer | None], unchanged_s: float) -> bool:
    if not all(answer is not None and _nothing_to_do(answer, unchanged_s) for answer in answers):
        return False
    _judge_states(play, answers)
    return True


def _nothing_to_do(answer: Answer, unchanged_s: float) -> bool:
    tool, _ = next_of(answer)
    if not answer["settled"] or any(words in said for said in sentences(answer) for words in MORE_TO_DO):
        return False
    return tool != "create_instances" and (tool != "wait_until_ready" or unchanged_s >= _UNCHANGED_S)


def _judge_states(play: Play, answers: Sequence[Answer | None]) -> None:
    """Of a machine that was stopped it is not said that it runs, nor the other way round."""
    for row in (row for answer in answers if answer is not None for row in answer["instances"]):
        there = play.world.instances.get(row["instance_id"])
        if there is not None and not there.unloaded and there.actual in {"running", "exited"}:
            runs = there.actual == there.intended == "running"
            if row["state"] in {"running", "stopped"} and runs != (row["state"] == "running"):
                play.book.wrong(f"machine {there.id} is {there.actual}, and was called {row['state']}")


async def _create_or_outlive(play: Play, answer: Answer | None) -> None:
    """Orders that are still planned: created by the agent, or outlived by their yes."""
    tool, arguments = next_of(answer)
    if tool != "create_instances":
        return
    if play.schedule.seed % 2 == 0:
        await play.call(tool, **arguments)
    if any(order.state is OrderState.PLANNED for order in play.book.orders.values()):
        play.clock.advance(_YES_LIFE_S)


async def _come_back(play: Play, tool: str) -> bool:
    """After the quiet time the user asks for something: what should not run, or is not ours, is named at once.

    True where that was a look at all there is, and it said that there is nothing more to do.
    """
    book = play.book
    play.world.settle()
    book.look()
    visible = [one.id for one in play.world.instances.values() if one.visible_at <= play.clock.now()]
    seen = [one for one in visible if one in book.bad or one in {copy.id for copy in book.copies()}]
    home = next(iter(book.orders.values())).workflow_id
    arguments: dict[str, Any] = {"workflow_id": home, "timeout_s": 0} if tool == "wait_until_ready" else {}
    for _ in range(_TRIES):
        answer, refusal = await play.call(tool, **arguments)
        if answer is not None or refusal is not None:
            said = said_in(answer or refusal or {})
            for machine in seen:
                if not said.get(machine):
                    book.wrong(f"machine {machine} runs, and {tool} after the quiet time says nothing of it")
            whole = tool == "wait_until_ready" and len({order.workflow_id for order in book.orders.values()}) == 1
            return whole and not book.undecided and _at_rest(play, [answer], 0.0)
    return False


def judge(play: Play) -> None:
    """What has to be true once all is quiet."""
    book = play.book
    play.world.settle()
    alive = {one.id: one for one in book.alive()}
    owned: dict[int, str] = {}
    for order in book.orders.values():
        _judge_order(play, order, alive, owned)
    for instance_id in alive.keys() - owned.keys() - book.kept_by_user:
        book.wrong(f"machine {instance_id} runs, and no order on record is its")
    _judge_told(play, owned)
    heard = "\n".join(book.heard)
    _judge_fleets(play, heard)
    _judge_secrets(play, heard)


def _judge_told(play: Play, owned: Mapping[int, str]) -> None:
    """Each machine was named for what it is or was."""
    book = play.book
    for instance_id in owned:
        if Said.RUNS not in book.said.get(instance_id, ()):
            book.wrong(f"machine {instance_id} runs, and nobody was told")
    for instance_id, why in book.ended.items():
        if not TOLD_OF_AN_END & book.said.get(instance_id, set()):
            book.wrong(f"machine {instance_id} came and was ended ({why}), and nobody was told")
    for instance_id in book.ended_on_console:
        if Said.ENDED not in book.said.get(instance_id, ()):
            book.wrong(f"machine {instance_id} was ended on the console, and nobody was told")
    for instance in book.copies():
        if book.orders and not {Said.NOT_OURS, Said.TO_DECIDE} & book.said.get(instance.id, set()):
            book.wrong(f"machine {instance.id} carries a copy of our mark, and nobody was told")


def _judge_fleets(play: Play, heard: str) -> None:
    """All or nothing: what runs of a fleet that others are missing from was released, or somebody was asked."""
    orders = [order for order in play.book.orders.values() if order.fleet == "all_or_nothing"]
    for plan in {order.plan_id for order in orders}:
        of_it = [order for order in orders if order.plan_id == plan]
        ended = play.book.wanted_gone | play.book.ended_on_console
        had = [order for order in of_it if order.live or order.instance_id in ended]
        wished = any(order.instance_id in play.book.wanted_gone for order in of_it)  # what was to come is dropped then
        spared = sum(wished and order.state is OrderState.DROPPED for order in of_it)
        short = len(had) + spared < of_it[0].places
        if any(order.live for order in had) and short and "fell short" not in heard:
            play.book.wrong(f"{len(had)} of {of_it[0].places} machines of a fleet run alone, and nobody was asked")


def _judge_order(play: Play, order: Order, alive: dict[int, Instance], owned: dict[int, str]) -> None:
    book, machine = play.book, order.instance_id
    if order.state in _OPEN:
        book.wrong(f"order {order.order_id} is {order.state} after all was quiet")
    if order.state is not OrderState.RENTED:
        if machine in alive and machine not in book.kept_by_user:
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
