"""What the provider's four status words mean for a user: one state, and whether it still heals."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vastai_workflow.domain.market import Instance


class State(StrEnum):
    """An instance as a user sees it."""

    PROVISIONING = "provisioning"
    RUNNING = "running"
    STOPPED = "stopped"
    REBOOTING = "rebooting"
    QUEUED = "queued"
    OUTBID = "outbid"
    EXITED = "exited"
    OFFLINE = "offline"
    UNKNOWN = "unknown"
    FROZEN = "frozen"
    ENDING = "ending"
    GONE = "gone"


BILLS_GPU: Final = frozenset({State.RUNNING, State.PROVISIONING, State.REBOOTING})
"""States in which the GPU's price may run (loading itself is free, but it becomes running without asking)."""

FATAL_TEXTS: Final = (
    "oci runtime create failed",
    "manifest unknown",
    "pull access denied",
    "unauthorized:",
    "no space left",
    "invalid reference format",
    "error response from daemon",
)
"""Words in the status message that never heal (official docs, reported)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A state, and why it will not become ready by itself (None: it may)."""

    state: State
    fatal: str | None = None


_PROVISIONING: Final = frozenset({None, "created", "loading", "scheduling"})
_REBOOTING: Final = frozenset({"rebooting", "restarting", "recycling"})
_DOWN: Final = frozenset({"exited", "stopped"})
_BROKEN: Final = {"offline": State.OFFLINE, "unknown": State.UNKNOWN, "frozen": State.FROZEN}


def condition(instance: Instance, *, in_grace: bool = False) -> Condition:
    """Judge an instance. `in_grace`: it was just started, so an old `exited` is not the end."""
    actual = instance.actual_status
    if instance.cur_state == "unloaded":
        return Condition(State.ENDING, "it is being destroyed")
    if actual in _BROKEN:
        return Condition(_BROKEN[actual], f"the provider reports it {actual}; that does not heal by itself")
    if instance.intended_status == "stopped":
        return _stopped(instance)
    if actual == "running":
        return Condition(State.RUNNING)
    if actual in _REBOOTING:
        return Condition(State.REBOOTING)
    if actual in _PROVISIONING:
        text = fatal_text(instance.status_msg)
        return Condition(State.PROVISIONING, f"the container can't start: {text}" if text else None)
    if actual in _DOWN:
        return _down_but_wanted(instance, in_grace=in_grace)
    return Condition(State.UNKNOWN)  # a word that is new to us: looked at again, never judged


def fatal_text(status_msg: str) -> str | None:
    """The first fatal phrase in a status message."""
    lowered = status_msg[:4000].lower()
    return next((text for text in FATAL_TEXTS if text in lowered), None)


def _stopped(instance: Instance) -> Condition:
    if instance.actual_status in {"running", *_REBOOTING}:
        return Condition(State.RUNNING, "it is being stopped, and still runs")
    if instance.is_bid and instance.actual_status in _PROVISIONING and instance.next_state == "stopped":
        return Condition(State.OUTBID, "a higher bid took the GPU, or it was stopped")
    return Condition(State.STOPPED, "it is stopped; its disk still costs")


def _down_but_wanted(instance: Instance, *, in_grace: bool) -> Condition:
    if in_grace:
        return Condition(State.QUEUED)
    if instance.is_bid:
        return Condition(State.OUTBID, "it exited while wanted: most likely a higher bid took the GPU")
    if instance.cur_state == "stopped":
        return Condition(State.QUEUED, "it waits for its GPU, which somebody else has")
    return Condition(State.EXITED, "the container exited by itself")
