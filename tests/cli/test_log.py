"""`log`: what it prints of a ledger on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import stack
from tests.tools.acts import stranger
from vastai_workflow.cli.log import as_json, table
from vastai_workflow.domain.audit import AuditEvent, Kind
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.store.sqlite import SqliteStore

COMMAND = (sys.executable, "-m", "vastai_workflow", "log")


def printed(home: Path, *arguments: str) -> list[str]:
    environment = {"PATH": os.defpath, "HOME": str(home), "VASTAI_WORKFLOW_STATE": str(home / "state")}
    done = subprocess.run(  # noqa: S603 # this Python
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


async def a_busy_day(folder: Path) -> tuple[str, str]:
    """A ledger on disk; answers a workflow with an order, and one without."""
    clock = VirtualClock()
    store = SqliteStore(folder, clock=clock)
    async with stack(clock=clock, store=store) as s:
        await s.refusal("propose_fields", image="two words")
        other = (await s.call("propose_fields"))["workflow_id"]
        await s.refusal("create_instances", workflow_id=other, plan_id="p_none")
        stranger(s)
        workflow_id, machines = await s.ready(image=f"{'long/' * 30}image:latest")
        await s.call("destroy_instances", instance_ids=machines)
    await store.aclose()
    return workflow_id, other


@pytest.mark.requirement("AUDIT-5")
def test_an_empty_ledger_says_so(tmp_path: Path) -> None:
    assert printed(tmp_path) == ["nothing is on record yet"]
    assert printed(tmp_path, "--json") == []
    assert printed(tmp_path, "--workflow", "wf_none") == ["nothing is on record of wf_none yet"]


@pytest.mark.requirement("AUDIT-5")
async def test_the_table_fits_100_columns_and_has_the_newest_last(tmp_path: Path) -> None:
    workflow_id, other = await a_busy_day(tmp_path / "state")
    lines = printed(tmp_path)
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["when", "(UTC)", "event", "who", "what"]
    assert [line for line in lines if not line.startswith(" ")] == [
        "no workflow",
        f"workflow {other}",
        f"workflow {workflow_id}",
    ]
    events = [line.split()[2] for line in lines[1:] if line.startswith("  20")]
    assert events[:4] == ["refused", "refused", "confirmed", "order"]
    assert set(events[4:]) == {"order", "destroy", "ended"}
    assert lines[-1].endswith("on request")
    times = [line[2:21] for line in lines[1:] if line.startswith("  20")]
    assert times == sorted(times)


@pytest.mark.requirement("AUDIT-5")
async def test_one_workflow_and_lines_of_json(tmp_path: Path) -> None:
    workflow_id, other = await a_busy_day(tmp_path / "state")
    rows = [json.loads(line) for line in printed(tmp_path, "--json", "--workflow", workflow_id)]
    assert {row["workflow_id"] for row in rows} == {workflow_id}
    assert rows[0]["kind"] == "confirmed"
    assert rows[-1]["code"] == "rented -> released"
    assert rows[0]["at"].endswith("Z")
    assert set(rows[0]) == set(AuditEvent.model_fields)
    [row] = [json.loads(line) for line in printed(tmp_path, "--json", "--workflow", other)]
    assert (row["code"], row["purpose"]) == ("not_confirmed", "create_instances")


@pytest.mark.requirement("AUDIT-5")
def test_another_owner_is_named_and_no_text_breaks_a_line() -> None:
    event = AuditEvent(
        at=0.0, kind=Kind.ENDED, owner="ada", by="called by x", instance_ids=(5,), what="one\ntwo " + "y" * 200
    )
    lines = list(table([event]))
    assert max(map(len, lines)) <= 100
    assert lines[1] == "no workflow"
    assert (
        lines[2]
        == "  1970-01-01 00:00:00  ended         ada, called by x        machine 5: one two yyyyyyyyyyyyyyyyyyyy"
    )
    assert len(as_json(event).splitlines()) == 1
