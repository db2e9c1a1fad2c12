"""Schedules that once failed, each with what was wrong. They are kept as data: a seed changes with its generator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.faults.crossings import ANY_POINT, ClockStep, Crash
from tests.faults.schedule import Act, Schedule
from vastai_workflow.simulator.faults import Fault


@dataclass(frozen=True, slots=True)
class Failed:
    """A schedule that failed, and why. `fails`: it does so still."""

    name: str
    reason: str
    schedule: Schedule
    fails: bool = False


def _schedule(
    *acts: str,
    faults: tuple[Fault, ...] = (),
    count: int = 1,
    fleet: str | None = None,
    market: int = 2,
    value: int = 10,
    crashes: tuple[Crash, ...] = (),
    steps: tuple[ClockStep, ...] = (),
) -> Schedule:
    return Schedule(
        seed=0,
        market=market,
        count=count,
        fleet=fleet,
        secret=True,
        acts=tuple(Act(kind, value=value) for kind in ("known", *acts)),
        faults=faults,
        crashes=crashes,
        rivals_per_hour=0.0,
        steps=steps,
    )


_SLOW_SECOND: Final = Fault("late_effect", operation="create", nth=2, seconds=59.0)
"""The second create waits for its turn first, so that its answer comes more than a minute after it was written down."""

_IN_THE_CREATE: Final = 16
"""The crossing after which the market has the create's effect."""

FAILED: Final = (
    Failed(
        "slow_create",
        "a create that answered after 59 s was called ended elsewhere before a list could show its machine",
        _schedule("create", count=2, fleet="best_effort", faults=(_SLOW_SECOND,)),
    ),
    Failed(
        "slow_create_destroyed",
        "the same, and the user has it destroyed at once",
        _schedule("create", "destroy", count=2, fleet="best_effort", faults=(_SLOW_SECOND,)),
    ),
    Failed(
        "slow_create_in_a_fleet",
        "the same for the second machine of a fleet, whose rest was released for it",
        _schedule("create", count=3, fleet="all_or_nothing", faults=(_SLOW_SECOND,)),
    ),
    Failed(
        "hidden_beside_its_double",
        "of a doubled request the machine that the answer named was not listed yet, and was called gone",
        _schedule(
            "create",
            faults=(Fault("double_effect", operation="create"), Fault("hidden", operation="create", seconds=57.0)),
        ),
    ),
    Failed(
        "long_hidden",
        "a machine that lists showed only after 90 s was called ended elsewhere, and never taken up again",
        _schedule("create", faults=(Fault("hidden", seconds=90.0),)),
    ),
    Failed(
        "long_hidden_and_unfit",
        "the same, with a smaller disk: it was not released either",
        _schedule("create", faults=(Fault("hidden", seconds=90.0), Fault("smaller_disk", operation="create"))),
    ),
    Failed(
        "double_then_refused",
        "a second machine was released in a create that was then refused, and nobody was told",
        _schedule("create", "other_plan", faults=(Fault("double_effect"),)),
    ),
    Failed(
        "candidate_by_an_old_list",
        "a next candidate was sent by a list from before a machine was ended, which took seconds",
        _schedule(
            "create",
            count=3,
            fleet="best_effort",
            market=1,
            faults=(
                Fault("other_gpu", operation="create", gpu="RTX 3090"),
                Fault("proxy_repeats", operation="create", nth=3, times=4),
            ),
        ),
    ),
    Failed(
        "hours_late",
        "the only machine of an order, made 400 s after its create, was called a copy",
        _schedule(
            "create", count=3, fleet="best_effort", faults=(Fault("late_effect", operation="create", seconds=400.0),)
        ),
    ),
    Failed(
        "planned_beside_a_stuck_machine",
        "a wait whose client had gone away in the create named itself as the next call, while a machine of the yes was "
        "still to be rented: an agent that did so waited until the yes was over",
        _schedule(
            "hang_up", count=2, fleet="all_or_nothing", market=4, value=17, faults=(Fault("stuck_loading", nth=1),)
        ),
    ),
    Failed(
        "sent_in_the_future",
        "the clock was set back an hour while a create was under way, and the process died: the first list called its "
        "machine a copy that is the user's to decide, and the next one ended it, whatever the user had said",
        _schedule(
            "create",
            faults=(Fault("other_gpu", operation="create", gpu="RTX 3090"),),
            crashes=(Crash(ANY_POINT, _IN_THE_CREATE),),
            steps=(ClockStep(_IN_THE_CREATE, -3600.0),),
        ),
    ),
)
"""The newest last."""

STILL_FAILING: Final[Mapping[int, str]] = {}
"""Seeds of the tests' schedules that fail until what is named here is mended."""
