"""What agents, users and strangers do in a schedule, each act as a careful agent would do it."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, cast

from tests.faults import outside
from tests.faults.play import SECRET, Agenda, Answer, Play
from tests.faults.schedule import Act

_TRIES: Final = 3
_OTHER_DISK_GB: Final = 80


def next_of(answer: Answer | None) -> tuple[str, dict[str, Any]]:
    """The tool and arguments of an answer's next call; empty for none."""
    after = cast("dict[str, Any]", (answer or {}).get("next_call") or {})
    return str(after.get("tool", "")), cast("dict[str, Any]", after.get("arguments", {}))


# -- the dialog


async def agree(play: Play, act: Act) -> None:
    """Propose, show the user, confirm, find offers; as often as it takes, three times at most."""
    await _dialog(play, act.workflow, silent=False)


async def silence(play: Play, act: Act) -> None:
    """The same, and the user says nothing."""
    await _dialog(play, act.workflow, silent=True)


async def _dialog(play: Play, number: int, *, silent: bool) -> None:
    given: dict[str, Any] = {"count": play.schedule.count}
    if play.schedule.fleet is not None:
        given["fleet"] = play.schedule.fleet
    if play.schedule.secret:
        given["env"] = {"HF_TOKEN": SECRET}
    for _ in range(_TRIES):
        known = play.agendas.get(number)
        again = {} if known is None else {"workflow_id": known.workflow_id}
        proposal, _ = await play.call("propose_fields", **again, **given)
        if proposal is not None and await _shown(play, number, proposal, silent=silent):
            return


async def _shown(play: Play, number: int, proposal: Answer, *, silent: bool) -> bool:
    values = {row["name"]: row["value"] for row in proposal["fields"]}
    agenda = play.agendas[number] = Agenda(proposal["workflow_id"], proposal["digest"], values)
    tool, arguments = next_of(proposal)
    if tool == "wait_until_ready":
        await play.wait(5, arguments["workflow_id"])
        return False
    if proposal["outlook"] is None:
        return False
    if not silent:
        play.said_yes(agenda, play.places[0][0].process.clock.now())
        for _ in range(2):
            done = await play.call("confirm_fields", workflow_id=agenda.workflow_id, digest=agenda.digest)
            if done != (None, None):
                break
    await _find(play, number)
    return True


async def _find(play: Play, number: int) -> None:
    agenda = play.agendas.get(number)
    for _ in range(2):
        if agenda is None:
            return
        found, _ = await play.call("find_offers", workflow_id=agenda.workflow_id)
        if found is not None:
            agenda.plan_id = found["plan_id"]
            return


# -- create


async def create(play: Play, act: Act) -> None:
    """Create as an agent does: what is asked is answered, what died is called again."""
    await _create(play, act.workflow, _TRIES)


async def _create(play: Play, number: int, tries: int) -> None:
    agenda = play.agendas.get(number)
    for _ in range(tries):
        if agenda is None or agenda.create is None:
            return
        made, refusal = await play.call("create_instances", **agenda.create)
        tool, arguments = next_of(made or refusal)
        if made is not None and tool != "create_instances":
            return
        if refusal is not None and tool == "confirm_fields" and "acknowledge_instances" in arguments:
            await play.call("confirm_fields", **arguments)
        elif refusal is not None and tool == "wait_until_ready":
            await play.wait(5, arguments["workflow_id"])
            return
        elif refusal is not None:
            return


async def other_plan(play: Play, act: Act) -> None:
    """Find offers again and create that plan."""
    await _find(play, act.workflow)
    await create(play, act)


async def change(play: Play, act: Act) -> None:
    """Another disk is proposed after the yes, and the old plan created."""
    agenda = play.agendas.get(act.workflow)
    if agenda is not None:
        await play.call("propose_fields", workflow_id=agenda.workflow_id, disk_gb=_OTHER_DISK_GB)
        await create(play, act)


async def yes_again(play: Play, act: Act) -> None:
    """One more dialog with the user, and its plan."""
    await agree(play, act)
    await create(play, act)


async def hang_up(play: Play, act: Act) -> None:
    """Create, and the client goes away."""
    agenda = play.agendas.get(act.workflow)
    if agenda is not None and (ask := agenda.create) is not None:
        await play.together(lambda: play.hung_up(ask, act.value))


# -- more than one at once


async def twice(play: Play, act: Act) -> None:
    """Two calls of one process create the same plan."""
    await _creates(play, [(0, act.workflow), (0, act.workflow)])


async def two_places(play: Play, act: Act) -> None:
    """Two processes create the same plan."""
    await _creates(play, [(0, act.workflow), (1, act.workflow)])


async def two_workflows(play: Play, act: Act) -> None:
    """Two processes create two plans."""
    await _creates(play, [(0, 0), (1, 1)])


async def _creates(play: Play, calls: list[tuple[int, int]]) -> None:
    asks = [(place, play.agendas[number].create) for place, number in calls if number in play.agendas]
    await play.together(*(_call(play, place, "create_instances", ask) for place, ask in asks if ask is not None))


def _call(play: Play, place: int, tool: str, arguments: Mapping[str, Any]) -> Callable[[], Coroutine[Any, Any, None]]:
    return lambda: play.beside(place, tool, dict(arguments))


async def create_and_wait(play: Play, act: Act) -> None:
    """One process creates, another waits."""
    agenda = play.agendas.get(act.workflow)
    if agenda is not None and (ask := agenda.create) is not None:
        looking = {"workflow_id": agenda.workflow_id, "timeout_s": 20}
        await play.together(_call(play, 0, "create_instances", ask), _call(play, 1, "wait_until_ready", looking))


async def create_and_destroy(play: Play, act: Act) -> None:
    """One process creates, another destroys what there is, and waits."""
    await _create(play, act.workflow, 1)
    agenda, machines = play.agendas.get(act.workflow), play.machines(act.workflow)
    if agenda is not None and (ask := agenda.create) is not None and machines:
        await play.together(
            _call(play, 0, "create_instances", ask),
            _call(play, 1, "destroy_instances", {"instance_ids": machines}),
            _call(play, 1, "wait_until_ready", {"workflow_id": agenda.workflow_id, "timeout_s": 2}),
        )


async def wait_twice(play: Play, act: Act) -> None:
    """Two processes wait."""
    agenda = play.agendas.get(act.workflow)
    if agenda is not None:
        looking = {"workflow_id": agenda.workflow_id, "timeout_s": 0}
        await play.together(*(_call(play, place, "wait_until_ready", looking) for place in (0, 1)))


# -- machines


async def wait(play: Play, act: Act) -> None:
    """Wait, and look."""
    agenda = play.agendas.get(act.workflow)
    if agenda is not None:
        await play.wait(act.value, agenda.workflow_id)


async def destroy(play: Play, act: Act) -> None:
    """Destroy all machines of the workflow."""
    await _destroy(play, play.machines(act.workflow))


async def destroy_one(play: Play, act: Act) -> None:
    """Destroy the first."""
    await _destroy(play, play.machines(act.workflow)[:1])


async def _destroy(play: Play, machines: list[int]) -> Answer | None:
    """The refusal, where it was one."""
    for _ in range(_TRIES if machines else 0):
        ended, refusal = await play.call("destroy_instances", instance_ids=machines)
        if ended is not None or refusal is not None:
            return refusal
    return None


async def stop(play: Play, act: Act) -> None:
    """Stop all machines of the workflow."""
    if machines := play.machines(act.workflow):
        await play.call("stop_instances", instance_ids=machines)


async def start(play: Play, act: Act) -> None:
    """Start them with the user's yes, and once more with the spent one."""
    refusal = await _start(play, act)
    tool, arguments = next_of(refusal)
    if tool == "confirm_fields":
        play.book.allowed |= {("start", one) for one in arguments["instance_ids"]}
        await play.call("confirm_fields", **arguments)
        await _start(play, act)
        await _start(play, act)


async def start_alone(play: Play, act: Act) -> None:
    """Start them, and the user says nothing."""
    await _start(play, act)


async def _start(play: Play, act: Act) -> Answer | None:
    machines = play.machines(act.workflow)
    return (await play.call("start_instances", instance_ids=machines))[1] if machines else None


async def attach(play: Play, act: Act) -> None:
    """The market loses the keys of the machines, and they are attached again."""
    machines = play.machines(act.workflow)
    for one in machines:
        if one in play.world.instances:
            play.world.instances[one].ssh_keys.clear()
    play.clock.advance(5)
    if machines:
        await play.call("attach_ssh_key", instance_ids=machines)


async def status(play: Play, act: Act) -> None:
    """Look at everything."""
    await play.call("instance_status")


async def preflight(play: Play, act: Act) -> None:
    """Look at the account."""
    await play.call("preflight")


async def expire(play: Play, act: Act) -> None:
    """Half an hour passes."""
    play.clock.advance(1800)


async def restart(play: Play, act: Act) -> None:
    """The servers are started again."""
    play.restart(machine=False)


async def reboot(play: Play, act: Act) -> None:
    """Their machine is."""
    play.restart(machine=True)


# -- others


async def destroy_stranger(play: Play, act: Act) -> None:
    """Destroy other tools' machines, with the user's yes to each."""
    for machine in tuple(play.book.strangers):
        await destroy_with_yes(play, machine)


async def destroy_with_yes(play: Play, machine: int) -> None:
    """The user says yes to the end of one machine, whosever it is; what died is called again."""
    refusal = await _destroy(play, [machine])
    tool, arguments = next_of(refusal)
    if tool == "confirm_fields":
        play.book.allowed.add(("end", machine))
        await play.call("confirm_fields", **arguments)
        await _destroy(play, [machine])


async def known(play: Play, act: Act) -> None:
    """It was taken up before the first act."""


DONE_BY: Final[Mapping[str, Callable[[Play, Act], Awaitable[None]]]] = {
    act.__name__: act
    for act in (
        *(known, agree, silence, create, other_plan, change, yes_again, hang_up, twice, two_places, two_workflows),
        *(create_and_wait, create_and_destroy, wait_twice, wait, destroy, destroy_one, stop, start, start_alone),
        *(attach, status, preflight, expire, outside.stranger, outside.copy, destroy_stranger, restart, reboot),
        *(outside.rent_again, outside.console_end, outside.console_stop),
    )
}
"""Every act by its name in a schedule."""
