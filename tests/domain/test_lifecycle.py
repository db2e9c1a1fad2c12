"""The four status words: one state for each row of the state machine, and whether it still heals."""

from typing import Any

import pytest

from tests.domain.values import an_instance
from vastai_workflow.domain.lifecycle import BILLS_GPU, FATAL_TEXTS, State, condition, fatal_text

Row = tuple[str | None, str | None, str | None, str | None]
"""actual_status, intended_status, cur_state, next_state."""

WANTED = ("running", "running", "running")
STOPPED = ("stopped", "stopped", "stopped")


def row(words: Row, **changes: Any) -> Any:
    actual, intended, current, following = words
    return an_instance(
        actual_status=actual, intended_status=intended, cur_state=current, next_state=following, **changes
    )


@pytest.mark.parametrize(
    ("words", "is_bid", "state", "heals"),
    [
        # the way up
        ((None, *WANTED), False, State.PROVISIONING, True),
        ((None, None, None, None), False, State.PROVISIONING, True),
        (("created", *WANTED), False, State.PROVISIONING, True),
        (("loading", *WANTED), False, State.PROVISIONING, True),
        (("scheduling", *WANTED), False, State.PROVISIONING, True),
        (("running", *WANTED), False, State.RUNNING, True),
        (("running", *WANTED), True, State.RUNNING, True),
        # a restart
        (("rebooting", *WANTED), False, State.REBOOTING, True),
        (("restarting", *WANTED), False, State.REBOOTING, True),
        (("recycling", *WANTED), False, State.REBOOTING, True),
        # a stop: asked for, then seen; exited in practice, stopped in the documentation
        (("running", "stopped", "running", "stopped"), False, State.RUNNING, False),
        (("rebooting", "stopped", "running", "stopped"), False, State.RUNNING, False),
        (("exited", *STOPPED), False, State.STOPPED, False),
        (("stopped", *STOPPED), False, State.STOPPED, False),
        (("exited", *STOPPED), True, State.STOPPED, False),
        (("loading", *STOPPED), False, State.STOPPED, False),
        ((None, *STOPPED), False, State.STOPPED, False),
        # outbid: before it ran, and while it ran
        ((None, *STOPPED), True, State.OUTBID, False),
        (("created", *STOPPED), True, State.OUTBID, False),
        (("loading", *STOPPED), True, State.OUTBID, False),
        (("loading", "stopped", "running", "running"), True, State.STOPPED, False),
        (("exited", "running", "stopped", "stopped"), True, State.OUTBID, False),
        (("exited", *WANTED), True, State.OUTBID, False),
        # down though wanted
        (("exited", *WANTED), False, State.EXITED, False),
        (("stopped", *WANTED), False, State.EXITED, False),
        (("exited", "running", "stopped", "running"), False, State.QUEUED, False),
        # what does not heal by itself (official docs)
        (("offline", *WANTED), False, State.OFFLINE, False),
        (("unknown", *WANTED), False, State.UNKNOWN, False),
        (("frozen", "frozen", "running", "running"), False, State.FROZEN, False),
        (("offline", *STOPPED), True, State.OFFLINE, False),
        # the end
        (("running", "stopped", "unloaded", "unloaded"), False, State.ENDING, False),
        (("offline", "running", "unloaded", "unloaded"), False, State.ENDING, False),
        # a word that nobody knows yet is no verdict
        (("warming", *WANTED), False, State.UNKNOWN, True),
    ],
)
def test_a_row_has_one_state(words: Row, is_bid: bool, state: State, heals: bool) -> None:  # noqa: FBT001 # a table
    found = condition(row(words, is_bid=is_bid))
    assert found.state is state
    assert (found.fatal is None) is heals


@pytest.mark.parametrize("is_bid", [False, True])
@pytest.mark.parametrize("current", ["running", "stopped"])
def test_just_after_a_start_an_old_exit_is_not_the_end(is_bid: bool, current: str) -> None:  # noqa: FBT001 # a table
    found = condition(row(("exited", "running", current, "running"), is_bid=is_bid), in_grace=True)
    assert found.state is State.QUEUED
    assert found.fatal is None


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (("offline", *WANTED), State.OFFLINE),
        (("exited", *STOPPED), State.STOPPED),
        (("running", "stopped", "unloaded", "unloaded"), State.ENDING),
    ],
)
def test_grace_hides_nothing_else(words: Row, state: State) -> None:
    found = condition(row(words), in_grace=True)
    assert found.state is state
    assert found.fatal is not None


@pytest.mark.parametrize("text", FATAL_TEXTS)
@pytest.mark.parametrize("actual", [None, "created", "loading"])
def test_a_container_that_can_never_start_is_said_at_once(actual: str | None, text: str) -> None:
    stuck = row((actual, *WANTED), status_msg=f"Error: {text.upper()} for pytorch")
    assert condition(stuck).state is State.PROVISIONING
    assert condition(stuck).fatal == f"the container can't start: {text}"


def test_a_running_machine_is_not_judged_by_a_stale_text() -> None:
    assert condition(an_instance(status_msg="no space left on device")).fatal is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("4c7d: Download complete", None),
        ("success, running pytorch/pytorch_latest/ssh", None),
        ("OCI runtime create failed: nvidia", "oci runtime create failed"),
        ("manifest unknown, no space left", "manifest unknown"),
        ("x" * 3988 + "no space left", None),
        ("x" * 3987 + "no space left", "no space left"),
    ],
)
def test_fatal_words_are_found_in_the_beginning_of_a_text(text: str, found: str | None) -> None:
    assert fatal_text(text) == found


def test_states_that_may_bill_the_gpu() -> None:
    assert {State.RUNNING, State.PROVISIONING, State.REBOOTING} == BILLS_GPU
