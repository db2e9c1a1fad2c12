"""One schedule on its way: the market, the ledger, the processes, and the calls that agents make."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from mcp.client import Client
from mcp.types import CallToolResult

from tests.faults.book import Book, Watched
from tests.faults.clock import MachineClock
from tests.faults.crossings import Crossings, Died
from tests.faults.entries import YES_LIFE_S, Yes
from tests.faults.process import Host, Stage
from tests.faults.schedule import Schedule
from tests.stack import text_of
from vastai_workflow.domain.ledger import CLOCK_SKEW_S
from vastai_workflow.server import REFUSAL_META
from vastai_workflow.simulator.app import build_app, simulator_of
from vastai_workflow.simulator.clock import EPOCH, VirtualClock
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.world import World
from vastai_workflow.store.sqlite import SqliteStore

SECRET: Final = "hf_averysecretvalue123"
OFFERS: Final = 12
QUICK: Final = Switches(loading_s=3.0, limits=False)
_NEW_IDS: Final = 500_000
"""Where the ids of a rehearsal begin, so that a schedule that goes on from it makes others."""

Answer = dict[str, Any]


@dataclass
class Agenda:
    """What an agent knows of one of its workflows."""

    workflow_id: str
    digest: str = ""
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    plan_id: str | None = None

    @property
    def create(self) -> Answer | None:
        """The arguments of its create, once there is a plan."""
        return None if self.plan_id is None else {"workflow_id": self.workflow_id, "plan_id": self.plan_id}


class Ear(logging.Handler):
    """Hears every log line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it as it would be written."""
        self.lines.append(self.format(record))


Place = tuple[Host, Client]


class Play:
    """A schedule's market, ledger, clock and book, and two places where its processes run."""

    def __init__(
        self, places: Sequence[Place], ear: Ear, answers: Path, schedule: Schedule, *, verbose: bool, rehearsal: bool
    ) -> None:
        self.places = places
        self.ear = ear
        self.answers = answers
        self.schedule = schedule
        ahead_s = 0.0 if rehearsal else schedule.ahead_s
        self.clock = VirtualClock(EPOCH - ahead_s)
        self.machine = MachineClock(self.clock, ahead_s)
        rivals = 0.0 if rehearsal else schedule.rivals_per_hour
        self.world = World(
            schedule.market + 1, now=self.clock.now, offers=OFFERS, switches=QUICK, competitors_per_hour=rivals
        )
        self.ledger = SqliteStore(":memory:", clock=self.machine)
        self.book = Book(self.world, self.clock, self.machine, self.ledger, verbose=verbose)
        self.app = build_app(self.world, clock=self.clock)
        self.book.time_is_known = rehearsal or (not schedule.steps and abs(schedule.ahead_s) <= CLOCK_SKEW_S)
        self.crossings = (
            Crossings() if rehearsal else Crossings(list(schedule.crashes), schedule.steps, self._set_clock)
        )
        self.arm(rehearsal=rehearsal)
        numbers = iter(range(_NEW_IDS if rehearsal else 1, 10**9))
        self.stage = Stage(
            world=self.world,
            app=self.app,
            clock=self.machine,
            ledger=self.ledger,
            witness=self.book,
            crossings=self.crossings,
            answers=answers,
            seed=schedule.seed,
            ids=lambda size: f"{next(numbers):0{size}d}",
        )
        self.agendas: dict[int, Agenda] = {}
        self.met: Counter[str] = Counter()
        for host, _ in places:
            host.boot(self.stage)
        ear.lines.clear()

    def arm(self, *, rehearsal: bool = False) -> None:
        """Let the schedule's faults strike from now on."""
        simulator_of(self.app).schedule = Watched(() if rehearsal else self.schedule.faults, self.book)

    def disarm(self) -> None:
        """No more faults."""
        simulator_of(self.app).schedule = Watched((), self.book)

    def _set_clock(self, seconds: float) -> None:
        self.machine.set_by(seconds)
        self.book.set_back_s += max(-seconds, 0.0)
        self.book.note(f"the server's clock is set by {seconds:+g} s")
        self.met[f"clock set {'forward' if seconds > 0 else 'back'}"] += 1

    # -- calls

    async def call(self, tool: str, place: int = 0, **arguments: Any) -> tuple[Answer | None, Answer | None]:
        """An answer, or a refusal, or neither where the process died; then another one is started."""
        host, client = self.places[place]
        try:
            return await self._called(host, client, tool, arguments)
        finally:
            self._boot_again()

    async def beside(self, place: int, tool: str, arguments: dict[str, Any]) -> None:
        """One of several calls at once."""
        host, client = self.places[place]
        if not host.process.dead:
            await self._called(host, client, tool, arguments)

    async def together(self, *calls: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Calls at once. Dead processes come back when all calls are over."""
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(call)
        self._boot_again()

    async def hung_up(self, arguments: dict[str, Any], after: int) -> None:
        """A create whose client goes away."""
        told = set(self.book.ended)
        with anyio.CancelScope() as scope:
            self.crossings.hang_up_in(after, scope.cancel)
            await self.beside(0, "create_instances", arguments)
        if scope.cancelled_caught:
            self.book.note("the client went away")
            self.book.untold(told)
            self.met["hung up"] += 1

    def restart(self, *, machine: bool) -> None:
        """Every server is started again, or the whole machine."""
        if machine:
            self.machine.reboot()
        for host, _ in self.places:
            host.boot(self.stage)

    def _boot_again(self) -> None:
        for host, _ in self.places:
            if host.process.dead:
                self.book.note(f"process {host.name} is started again")
                host.boot(self.stage)

    async def _called(
        self, host: Host, client: Client, tool: str, arguments: dict[str, Any]
    ) -> tuple[Answer | None, Answer | None]:
        if tool == "destroy_instances":
            self.book.wanted_gone |= set(arguments["instance_ids"])
        self.book.note(f"call {tool} at {host.name} {arguments}")
        told = set(self.book.ended)
        try:
            result = await client.call_tool(tool, arguments, progress_callback=self._progress)
        except (Died, BaseExceptionGroup) as death:
            if isinstance(death, BaseExceptionGroup) and death.split(Died)[1] is not None:
                raise  # something else than a kill among several tasks
            self.book.note(f"process {host.name} died in {tool}")
            self.book.untold(told)
            return None, None
        return self._judged(tool, result)

    def _judged(self, tool: str, result: CallToolResult) -> tuple[Answer | None, Answer | None]:
        text = text_of(result)
        self.book.heard += [text, json.dumps(result.structured_content), json.dumps(result.meta)]
        self.book.note(f"answer of {tool}: {text}")
        if not result.is_error:
            self.book.hear(result.structured_content or {})
            return result.structured_content, None
        refusal: Answer = (result.meta or {}).get(REFUSAL_META, {})
        self.book.hear(refusal)
        self.met[f"refusal {refusal.get('code')}"] += 1
        if refusal.get("code") in {None, "internal_error"}:
            self.book.wrong(f"{tool} failed inside the server: {text} {self.ear.lines[-1:]}")
        return None, refusal

    async def _progress(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002 # the SDK's
        self.book.heard.append(message or "")

    async def wait(self, seconds: float, workflow_id: str) -> Answer | None:
        """Wait so long, then look once with wait_until_ready; None where it was not answered."""
        self.clock.advance(seconds)
        waited, _ = await self.call("wait_until_ready", workflow_id=workflow_id, timeout_s=0)
        self.book.look()
        if waited is not None and not any("another call is renting" in note for note in waited["notes"]):
            self.book.waited()
        return waited

    # -- what agents and users know

    def machines(self, number: int) -> list[int]:
        """The machines that are on record for a workflow."""
        agenda = self.agendas.get(number)
        orders = [o for o in self.book.orders.values() if agenda is not None and o.workflow_id == agenda.workflow_id]
        return [o.instance_id for o in orders if o.live and o.instance_id is not None]

    def said_yes(self, agenda: Agenda, at: float) -> None:
        """The user said yes to what was shown."""
        env = {"HF_TOKEN": SECRET} if "env" in agenda.values else {}
        until = self.clock.now() + YES_LIFE_S
        self.book.yeses.append(Yes(agenda.workflow_id, agenda.digest, agenda.values, env, at, until))
        self.book.note(f"the user says yes to {agenda.digest}: {agenda.values}")
