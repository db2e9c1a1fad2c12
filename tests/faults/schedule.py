"""A seed's schedule: the acts of agents and users, the faults of the market, the kills, and other renters, as data."""

from dataclasses import dataclass
from random import Random
from typing import Final

from tests.faults.crossings import ANY_POINT, ClockStep, Crash
from tests.faults.process import POINTS
from vastai_workflow.simulator.faults import FAULTS, Fault
from vastai_workflow.simulator.rules.rule import Value

MARKETS: Final = 6
"""Different markets; a dialog that went well is the same at each visit of one, so its outcome is kept."""

LEFT_OUT: Final = {
    "key_revoked": "nothing can be settled with a key that stopped working",
    "filters_ignored": "about the search alone: the offers are checked again",
    "odd_offer": "the same",
    "hostile_offer": "a text, which changes nothing of what is sent",
    "hostile_text": "the same",
    "ssh": "SSH is a short cut here",
    "gpu_missing": "the same",
    "other_card_inside": "the same",
    "host_key_change": "the same",
    "late_keys": "the same",
}
"""Faults that no schedule has, and why."""
USED: Final = tuple(sorted(FAULTS.keys() - LEFT_OUT.keys()))

_OF_A_REPLY: Final = frozenset(
    {
        *("drop_request", "drop_reply", "cut_body", "delay", "late_effect", "http_error", "http_error_after_effect"),
        *("empty_body", "truncated_json", "html_body", "success_false", "success_false_after_effect"),
        *("too_many_requests", "hostile_message", "refuse"),
    }
)
"""Faults that any operation may meet."""
_OPERATIONS: Final = ("create", "list", "destroy", "show", "search", "start", "stop", "user", "attach", "add_ssh_key")
_CODES: Final = ("no_such_ask", "insufficient_credit", "invalid_args", "spend_rate_limit", "unheard_of")


@dataclass(frozen=True, slots=True)
class Act:
    """Something that an agent, its user or a stranger does; `value` chooses among its forms."""

    kind: str
    workflow: int = 0
    value: int = 0

    def __str__(self) -> str:
        return ACTS[self.kind].format(workflow=self.workflow, value=self.value)


ACTS: Final = {
    "known": "workflow {workflow} was proposed, agreed to and planned",
    "agree": "workflow {workflow}: propose, show the user, confirm, find offers",
    "silence": "workflow {workflow}: propose and find offers, the user says nothing",
    "create": "workflow {workflow}: create its plan, answering what is asked",
    "other_plan": "workflow {workflow}: find offers again and create that plan",
    "change": "workflow {workflow}: another disk is proposed after the yes, and the old plan created",
    "yes_again": "workflow {workflow}: propose once more, the user says yes once more, find and create",
    "wait": "wait {value} s, then wait_until_ready of workflow {workflow}",
    "expire": "half an hour passes",
    "destroy": "workflow {workflow}: destroy its machines",
    "destroy_one": "workflow {workflow}: destroy one machine",
    "stop": "workflow {workflow}: stop its machines",
    "start": "workflow {workflow}: start its machines, with the user's yes",
    "start_alone": "workflow {workflow}: start its machines, the user says nothing",
    "attach": "workflow {workflow}: the market loses the agreed key, and it is attached again",
    "status": "look at the status of everything",
    "preflight": "preflight",
    "stranger": "another tool rents a machine on this account",
    "copy": "another tool rents a machine with a copy of an order's variables",
    "restart": "the servers are started again",
    "reboot": "the servers' machine is started again",
    "rent_again": "the person rents a machine of ours once more on the console, after its end",
    "console_end": "workflow {workflow}: the person ends a machine on the console",
    "console_stop": "workflow {workflow}: the person stops a machine on the console",
    "destroy_stranger": "destroy a machine of another tool, with the user's yes",
    "twice": "workflow {workflow}: two calls create the same plan at once",
    "two_places": "workflow {workflow}: two processes create the same plan at once",
    "two_workflows": "two processes create the plans of two workflows at once",
    "create_and_wait": "workflow {workflow}: one process creates, another waits",
    "create_and_destroy": "workflow {workflow}: one process creates, another destroys what there is",
    "wait_twice": "workflow {workflow}: two processes wait at once",
    "hang_up": "workflow {workflow}: create, and the client goes away after {value} crossings",
}
"""Every kind of act in words."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that happens under one seed."""

    seed: int
    market: int
    count: int
    fleet: str | None
    secret: bool
    acts: tuple[Act, ...]
    faults: tuple[Fault, ...]
    crashes: tuple[Crash, ...]
    rivals_per_hour: float
    ahead_s: float = 0.0
    """By how much the server's clock is ahead of the provider's."""
    steps: tuple[ClockStep, ...] = ()

    def words(self) -> str:
        """The schedule for a person."""
        many = f"{self.count} machine(s)" + (f", {self.fleet}" if self.fleet else "")
        lines = [f"seed {self.seed}: market {self.market}, {many}{', with a secret variable' * self.secret}"]
        lines += [f"  act: {act}" for act in self.acts]
        lines += [f"  fault: {fault!r} {dict(fault.settings)}" for fault in self.faults]
        lines += [f"  {crash}" for crash in self.crashes]
        lines += [f"  {step}" for step in self.steps]
        if self.ahead_s:
            lines.append(f"  the server's clock is {self.ahead_s:+g} s off the provider's")
        if self.rivals_per_hour:
            lines.append(f"  others rent {self.rivals_per_hour:g} machines an hour")
        return "\n".join(lines)


def schedule_of(seed: int) -> Schedule:
    """The schedule of a seed, always the same."""
    chance = Random(seed)  # noqa: S311 - a schedule, not a secret
    count = chance.choices((1, 2, 3), (7, 3, 2))[0]
    acts = _acts(chance)
    faults = [_fault(chance) for _ in range(chance.choices((0, 1, 2, 3), (2, 6, 3, 1))[0])]
    crashes = [_crash(chance) for _ in range(chance.choices((0, 1, 2), (5, 5, 1))[0])]
    for name in [fault.operation for fault in faults] + [crash.point.split(":")[1] for crash in crashes if crash.named]:
        acts += [Act(kind, 0, chance.choice((4, 15))) for kind in _ACTS_FOR.get(name, ())]
        faults += _FAULTS_FOR.get(name, ())
        count = max(count, 2) if name == "dropped" else count
    # a stream of its own: what it adds to even seeds leaves the rest of a schedule as it was
    besides = Random(f"besides {seed}")  # noqa: S311 - the same
    clock = seed % 4 == 0
    steps = tuple(_step(besides) for _ in range(besides.choice((0, 1, 1, 2)))) if clock else ()
    for step in steps:
        if besides.random() < 0.5:
            crashes.append(Crash(ANY_POINT, step.nth))
        else:
            acts.insert(besides.randrange(1, len(acts) + 1), Act(besides.choice(("restart", "reboot"))))
    if seed % 4 == 2 or seed % 20 == 0:
        acts += _outside(besides)
    return Schedule(
        seed=seed,
        market=chance.randrange(MARKETS),
        count=count,
        fleet=None if count == 1 else chance.choice(("all_or_nothing", "best_effort")),
        secret=chance.random() < 0.25,
        acts=tuple(acts),
        faults=tuple(faults),
        crashes=tuple(crashes),
        rivals_per_hour=chance.choice((0.0, 0.0, 0.0, 240.0)),
        ahead_s=besides.choice(_AHEAD_S) if clock else 0.0,
        steps=steps,
    )


_AHEAD_S: Final = (0.0, 0.0, 90.0, -90.0, 200.0, -200.0, 3600.0, -3600.0, 6 * 3600.0, -6 * 3600.0)
_STEPS_S: Final = (20.0, -20.0, 180.0, -180.0, 3600.0, -3600.0)


_OUTSIDE: Final = (
    ("console_end",),
    ("console_stop",),
    ("console_end", "wait", "expire", "rent_again"),
    ("console_end", "expire", "rent_again"),
    ("destroy", "expire", "rent_again"),
)
_AFTER_OUTSIDE: Final = ("", "", "create", "yes_again", "wait", "start", "destroy", "attach", "status", "preflight")


def _outside(besides: Random) -> list[Act]:
    """What the person does on the console, and an act after it."""
    kinds = (*besides.choice(_OUTSIDE), besides.choice(_AFTER_OUTSIDE))
    return [Act(kind, 0, besides.choice((4, 15))) for kind in kinds if kind]


def _step(besides: Random) -> ClockStep:
    return ClockStep(besides.randrange(1, 70), besides.choice(_STEPS_S))


_ACTS_FOR: Final = {
    "destroy": ("destroy",),
    "released": ("destroy",),
    "start": ("wait", "stop", "start"),
    "stop": ("wait", "stop"),
    "attach": ("attach",),
}
"""Acts without which a fault or a kill would never come about."""
_FAULTS_FOR: Final = {
    "refused": (Fault("refuse", operation="create"),),
    "unknown": (Fault("drop_reply", operation="create"),),
    "not_rented": (Fault("drop_request", operation="create"),),
    "dropped": (Fault("refuse", operation="create", code="insufficient_credit"),),
}
"""Faults without which a kill would never come about."""
_OPENINGS: Final = (("known", 20), ("agree", 3), ("silence", 1))
_MIDDLES: Final = (
    ("create", 22),
    ("hang_up", 3),
    ("twice", 2),
    ("two_places", 3),
    ("two_workflows", 2),
    ("create_and_wait", 2),
    ("create_and_destroy", 2),
    ("change", 1),
    ("expire", 1),
    ("stranger", 1),
)
_ENDINGS: Final = (
    ("create", 3),
    ("other_plan", 3),
    ("yes_again", 2),
    ("wait", 4),
    ("wait_twice", 1),
    ("destroy", 5),
    ("destroy_one", 1),
    ("stop", 1),
    ("start", 2),
    ("start_alone", 1),
    ("attach", 1),
    ("status", 1),
    ("preflight", 1),
    ("expire", 1),
    ("stranger", 1),
    ("copy", 1),
    ("destroy_stranger", 1),
    ("two_places", 1),
    ("hang_up", 1),
)
_BEFORE: Final = {
    "two_workflows": ("agree",),
    "start": ("wait", "stop"),
    "start_alone": ("wait", "stop"),
    "destroy_stranger": ("stranger",),
    "copy": ("expire",),
}
"""What has to come before an act for it to be of interest; `agree` is of the second workflow here."""


def _acts(chance: Random) -> list[Act]:
    kinds = [_one(chance, _OPENINGS), _one(chance, _MIDDLES)]
    if kinds[-1] in {"stranger", "expire"}:
        kinds.append("create")
    kinds += [_one(chance, _ENDINGS) for _ in range(chance.choices((0, 1, 2, 3), (5, 5, 2, 1))[0])]
    acts: list[Act] = []
    for place, kind in enumerate(kinds):
        before = _BEFORE.get(kind, ()) if place else ()
        acts += [Act(one, int(one == "agree"), chance.choice((4, 15))) for one in before]
        acts.append(Act(kind, 0, chance.randrange(1, 40)))
    return acts


def _one(chance: Random, weighted: tuple[tuple[str, int], ...]) -> str:
    return chance.choices([name for name, _ in weighted], [weight for _, weight in weighted])[0]


def _fault(chance: Random) -> Fault:
    name = chance.choice(USED)
    operation = FAULTS[name].operation
    if name in _OF_A_REPLY and (operation != "create" or chance.random() < 0.5):
        operation = chance.choice(_OPERATIONS)
    rare = operation in {"create", "destroy", "start", "stop", "attach", "add_ssh_key"}
    nth = chance.choice((1, 1, 2, 3)) if rare else chance.randrange(1, 14)
    return Fault(name, operation=operation, nth=nth, times=chance.choice((1, 1, 1, 2, 4)), **_settings(chance, name))


def _settings(chance: Random, name: str) -> dict[str, Value]:
    options: dict[str, dict[str, tuple[Value, ...]]] = {
        "delay": {"seconds": (5.0, 59.0, 61.0, 150.0)},
        "late_effect": {"seconds": (5.0, 59.0, 61.0, 100.0, 150.0, 400.0)},
        "hidden": {"seconds": (10.0, 30.0, 57.0)},
        "http_error": {"status": (500, 502, 503, 504, 408, 409, 425), "body": ("text", "html", "json", "empty")},
        "http_error_after_effect": {"status": (500, 502, 503, 504, 408), "body": ("text", "html", "json", "empty")},
        "refuse": {"code": _CODES, "place": ("error", "msg")},
        "error_with_contract": {"status": (400, 410, 500, 200)},
        "success_false": {"code": ("unexpected", "no_such_ask")},
        "too_many_requests": {"threshold": (4.5, 20.0)},
        "stale_list": {"seconds": (10.0, 60.0)},
        "truncated_list": {"rows": (0, 1)},
        "dearer": {"factor": (1.1, 3.0)},
        "price_rises": {"factor": (1.1, 3.0)},
        "lingering": {"seconds": (10.0, 60.0, 300.0)},
    }
    return {key: chance.choice(values) for key, values in options.get(name, {}).items()}


def _crash(chance: Random) -> Crash:
    if chance.random() < 0.35:
        return Crash(ANY_POINT, chance.randrange(1, 70))
    return Crash(chance.choice(POINTS), chance.choice((1, 1, 1, 2, 3)))
