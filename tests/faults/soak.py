"""Many schedules on all cores: failures, speed, and how often each fault, kill, move and act was met."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from tests.faults.process import POINTS
from tests.faults.runner import runner
from tests.faults.schedule import ACTS, USED
from vastai_workflow.domain.ledger import OrderState

_CHUNK = 200
"""At least: each chunk holds its dialogs anew, which takes as long as twenty schedules."""
_LOOKS = 10
"""How often a core tells of a long run."""
FINAL = tuple(state.value for state in OrderState if state.value not in {"planned", "sent", "unknown"})
EXPECTED = (
    *(f"fault {name}" for name in USED),
    *(f"killed {point}" for point in POINTS),
    *(f"final {state}" for state in FINAL),
    *(f"act {kind}" for kind in ACTS),
)
"""What a simulation has to meet: one that never reaches something proves nothing about it."""


@dataclass
class Tally:
    """What some schedules met. `spent_s`: seconds of one core."""

    schedules: int = 0
    spent_s: float = 0.0
    broken: dict[int, str] = field(default_factory=dict[int, str])
    met: Counter[str] = field(default_factory=Counter[str])

    def add(self, other: "Tally") -> None:
        """Take in another tally."""
        self.schedules += other.schedules
        self.spent_s += other.spent_s
        self.broken |= other.broken
        self.met.update(other.met)

    @property
    def never_met(self) -> list[str]:
        """What was expected and not met."""
        return [name for name in EXPECTED if not self.met[name]]


async def played(seeds: Iterable[int]) -> Tally:
    """Play seeds one after another with one server."""
    tally = Tally()
    async with runner() as kept:
        began = time.process_time()
        for seed in seeds:
            outcome = await kept.run(seed)
            tally.schedules += 1
            tally.met.update(outcome.met)
            if outcome.broken is not None:
                tally.broken[seed] = outcome.broken
        tally.spent_s = time.process_time() - began
    return tally


def _chunk(seeds: range) -> Tally:
    return asyncio.run(played(seeds))


def soak(first: int, schedules: int) -> Tally:
    """Play seeds from `first` on all cores, with a progress bar on stderr."""
    cores = os.cpu_count() or 1
    size = max(_CHUNK, schedules // (cores * _LOOKS))
    chunks = [range(at, min(at + size, first + schedules)) for at in range(first, first + schedules, size)]
    tally = Tally()
    with ProcessPoolExecutor(cores) as pool:
        for done in as_completed([pool.submit(_chunk, chunk) for chunk in chunks]):
            tally.add(done.result())
            _bar(tally.schedules, schedules, len(tally.broken))
    return tally


def _bar(done: int, of: int, broken: int) -> None:
    width = 40
    full = width * done // of
    sys.stderr.write(f"\r[{'#' * full}{'.' * (width - full)}] {done}/{of} schedules, {broken} failed")
    sys.stderr.write("\n" if done >= of else "")
    sys.stderr.flush()


def report(tally: Tally) -> Iterator[str]:
    """The figures, line by line."""
    yield f"{tally.schedules} schedules, {tally.schedules / tally.spent_s:.1f} a second and core"
    groups: dict[str, list[str]] = {}
    for name, times in sorted(tally.met.items()):
        kind, _, what = name.partition(" ")
        groups.setdefault(kind, []).append(f"{what} {times}")
    for kind, counted in groups.items():
        yield f"{kind}: {', '.join(counted)}"
    yield f"never met: {', '.join(tally.never_met) or 'nothing'}"
    for seed, broken in sorted(tally.broken.items()):
        yield f"FAILED seed {seed}: {broken}; replay: python -m tests.faults --seed {seed}"
    yield f"{len(tally.broken)} failed"
