"""Runs schedules one after another with two servers that are built once."""

import gc
import logging
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, cast

from tests.faults import acts, rest
from tests.faults.entries import Violation
from tests.faults.play import Agenda, Ear, Place, Play
from tests.faults.process import running
from tests.faults.schedule import Act, Schedule, schedule_of
from vastai_workflow.domain.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Agreed:
    """A dialog that led to a yes and a plan, to begin from."""

    workflow: Workflow
    values: dict[str, Any]
    plan_id: str


@dataclass
class Outcome:
    """What a schedule met. `broken`: the first invariant that did not hold."""

    seed: int
    broken: str | None = None
    trace: list[str] = field(default_factory=list[str])
    met: Counter[str] = field(default_factory=Counter[str])


_Dialog = tuple[int, int, str | None, bool]


@dataclass
class Runner:
    """Two places where servers run, and the dialogs that were held before."""

    places: Sequence[Place]
    ear: Ear
    answers: Path
    dialogs: dict[_Dialog, Agreed] = field(default_factory=dict[_Dialog, Agreed])

    async def run(self, seed: int, *, verbose: bool = False) -> Outcome:
        """One seed, from an empty ledger to quiet."""
        return await self.play(schedule_of(seed), verbose=verbose)

    async def play(self, schedule: Schedule, *, verbose: bool = False) -> Outcome:
        """One schedule."""
        return (await self.played(schedule, verbose=verbose))[1]

    async def played(self, schedule: Schedule, *, verbose: bool = False) -> tuple[Play, Outcome]:
        """One schedule, with what it left."""
        agreed = await self._agreed(schedule) if schedule.acts[0].kind == "known" else None
        play = self._begin(schedule, verbose=verbose)
        outcome = Outcome(schedule.seed, trace=play.book.trace, met=play.met)
        try:
            if agreed is not None:
                await _take_up(play, agreed)
            await _perform(play)
        except Violation as violation:
            outcome.broken = str(violation)
        _count(play)
        return play, outcome

    def _begin(self, schedule: Schedule, *, verbose: bool = False, rehearsal: bool = False) -> Play:
        return Play(self.places, self.ear, self.answers, schedule, verbose=verbose, rehearsal=rehearsal)

    async def _agreed(self, schedule: Schedule) -> Agreed:
        """The outcome of the dialog without faults, held once for each market and form."""
        name = (schedule.market, schedule.count, schedule.fleet, schedule.secret)
        if name not in self.dialogs:
            play = self._begin(schedule, rehearsal=True)
            await acts.agree(play, Act("agree"))
            agenda = play.agendas[0]
            workflow = await play.ledger.workflow(agenda.workflow_id)
            if workflow is None or agenda.plan_id is None:
                raise AssertionError(play.book.heard)
            self.dialogs[name] = Agreed(workflow, agenda.values, agenda.plan_id)
        return self.dialogs[name]


async def _take_up(play: Play, agreed: Agreed) -> None:
    workflow = agreed.workflow
    await play.ledger.add_workflow(workflow)
    play.agendas[0] = Agenda(workflow.workflow_id, workflow.digest, agreed.values, agreed.plan_id)
    play.said_yes(play.agendas[0], workflow.confirmations[0].at)


async def _perform(play: Play) -> None:
    for act in play.schedule.acts:
        play.book.note(f"-- {act}")
        play.met[f"act {act.kind}"] += 1
        await acts.DONE_BY[act.kind](play, act)
        play.book.check()
    await rest.come_to_rest(play)
    rest.judge(play)
    play.book.check()


def _count(play: Play) -> None:
    play.met.update(f"fault {fault.name}" for _, fault, _ in play.book.strikes)
    play.met.update(f"killed {point}" for point in play.crossings.hit)
    play.met.update({f"move {move}": times for move, times in play.book.moves.items()})
    play.met.update(f"final {order.state}" for order in play.book.orders.values())
    play.met.update(f"ended {_kind_of(why)}" for why in play.book.ended.values())


def _kind_of(why: str) -> str:
    """The kind of a reason, without its numbers."""
    return " ".join(word for word in why.partition(",")[0].split() if not any(letter.isdigit() for letter in word))


@asynccontextmanager
async def runner() -> AsyncGenerator[Runner]:
    """A runner that is ready for schedules."""
    ear = Ear()
    logging.getLogger().addHandler(ear)
    with TemporaryDirectory() as folder, _nothing_looked_for_in_vain():
        try:
            async with running("A") as one, running("B") as other:
                with _what_stays_is_not_looked_at():
                    yield Runner((one, other), ear, Path(folder))
        finally:
            logging.getLogger().removeHandler(ear)


@contextmanager
def _what_stays_is_not_looked_at() -> Generator[None]:
    """Speed: the collector passes over two built servers again and again, a tenth of all time."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _nothing_looked_for_in_vain() -> Generator[None]:
    """Speed: at each request httpx looks for a module on disk that is not there, a twentieth of all time."""
    found = find_spec("sniffio") is not None
    if not found:
        sys.modules["sniffio"] = cast("ModuleType", None)  # the import system's own way to say: there is none
    try:
        yield
    finally:
        if not found:
            sys.modules.pop("sniffio", None)
