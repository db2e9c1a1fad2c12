"""What others do on the account beside this server: another tool, and the person on the provider's console."""

from tests.faults.play import Play
from tests.faults.schedule import Act
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.exchange import JsonObject
from vastai_workflow.simulator.renting import rent


async def stranger(play: Play, act: Act) -> None:
    """Another tool rents a machine on this account."""
    _rent(play, {"image": "other/image", "disk": 10, "label": "stranger", "env": {}})


async def copy(play: Play, act: Act) -> None:
    """Another tool rents one with a copy of an order's variables."""
    marks = [str(one.env.get(ORDER_VARIABLE)) for one in play.book.alive()]
    env = {ORDER_VARIABLE: marks[0] if marks else "0123456789abcdef.o_1"}
    _rent(play, {"image": "other/image", "disk": 10, "label": "stranger", "env": env})


async def rent_again(play: Play, act: Act) -> None:
    """The person rents an ended machine of ours once more on the console: one like it, with all of its variables."""
    play.world.settle()
    mine = [one for one in play.world.everything(play.world.account) if one.id not in play.book.strangers]
    ended = [one for one in mine if one.unloaded and ORDER_VARIABLE in one.env]
    if ended:
        last = ended[-1]
        body = {"image": last.image, "disk": float(last.disk_gb), "label": last.label, "env": dict(last.env)}
        _rent(play, {**body, "runtype": last.runtype}, model=last.machine.model.name)


def _rent(play: Play, order: JsonObject, model: str | None = None) -> None:
    play.world.settle()
    free = [ask for ask in play.world.market.free_asks() if ask.num_gpus == 1]
    alike = [ask for ask in free if ask.machine.model.name == model] or free
    if alike:
        play.book.strangers.append(rent(play.world, play.world.account, alike[-1].id, order).id)
        play.clock.advance(5)


async def console_end(play: Play, act: Act) -> None:
    """The person destroys a machine on the console."""
    play.world.settle()
    for machine in play.machines(act.workflow)[:1]:
        there = play.world.instances.get(machine)
        if there is not None and not there.unloaded and machine not in play.book.strangers:
            play.book.ended_on_console.add(machine)
            play.world.life.end(there)
    play.clock.advance(5)


async def console_stop(play: Play, act: Act) -> None:
    """The person stops a machine on the console."""
    play.world.settle()
    for machine in play.machines(act.workflow)[:1]:
        there = play.world.instances.get(machine)
        if there is not None and not there.unloaded:
            play.world.life.stop(there)
    play.clock.advance(5)
