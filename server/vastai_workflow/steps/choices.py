"""What the user may do about machines that no waiting makes ready: the question, and the call that goes on."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vastai_workflow.domain.errors import call
from vastai_workflow.steps.status import ASLEEP, UNSEEN, Report

_STOPPED: Final = "stopped"
_UNSEEN: Final = "unseen"
_QUESTIONS: Final = {
    _STOPPED: "start again (its GPU costs money then), or destroy?",
    _UNSEEN: "no list shows it: look again, or was it ended elsewhere, or is it another account's?",
    "host_key_changed": "don't log in; recycle (a new container and host key, its data is lost), or destroy?",
    "wrong_gpu": "its GPUs are not those agreed to: destroy and try the next offer, or keep it as it is?",
}
_ANY: Final = "look at the logs, destroy, or try the next offer?"


def questions(failed: Sequence[Report]) -> tuple[str, ...]:
    """One for each kind of failure, with its machines."""
    asked: dict[str, list[int]] = {}
    for report in failed:
        asked.setdefault(_QUESTIONS.get(_kind(report), _ANY), []).append(report.instance_id)
    return tuple(f"Ask the user about {', '.join(map(str, ids))}: {question}" for question, ids in asked.items())


def first_step(failed: Sequence[Report]) -> Mapping[str, Any] | None:
    """The call for the first of them: it only looks, or takes a yes of its own. None: the user's answer says which."""
    report = failed[0]
    match _kind(report):
        case "stopped":
            return call("start_instances", instance_ids=[report.instance_id])
        case "unseen":
            return call("preflight")
        case "host_key_changed":
            return call("restart_instances", instance_ids=[report.instance_id], mode="recycle")
        case "wrong_gpu":
            return None
        case _:
            return call("read_logs", instance_id=report.instance_id)


def _kind(report: Report) -> str:
    """What failed, as a code; a reason of the probe begins with its own."""
    if report.reason == UNSEEN:
        return _UNSEEN
    return _STOPPED if report.state in ASLEEP else (report.reason or "").partition(":")[0]
