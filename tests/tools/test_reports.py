"""Billing, logs, inventories and status: read, complete, and true."""

import json
from typing import Any

import pytest
import yaml

from tests.stack import Stack, stack, text_of
from tests.tools.acts import arm, planned, settled, stranger
from vastai_workflow.steps import inventory
from vastai_workflow.steps.ports import ProbeReport


@pytest.mark.requirement("REPORT-1")
async def test_the_bill_has_charges_balance_burn_and_the_local_meter() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        s.clock.advance(2 * 3600)
        bill = await s.call("billing_report")
        assert bill["credit"] == pytest.approx(float(s.world.account.credit), abs=0.01)
        assert bill["burn_per_hour"] == pytest.approx(0.3, abs=0.05)
        [meter] = bill["meter"]
        assert meter["instance_id"] == machine
        assert meter["cost_usd"] == pytest.approx(float(s.world.instances[machine].meter.total()), rel=0.05)
        assert any(row["instance_id"] == machine for row in bill["charges"])


@pytest.mark.requirement("REPORT-1")
@pytest.mark.parametrize(
    "days",
    [
        {"start": "yesterday"},
        {"end": "2026-13-01"},
        {"start": "2026-11-20", "end": "2026-11-10"},
        {"start": "2020-01-01", "end": "2026-01-01"},
        {"start": "2030-01-01"},
    ],
    ids=str,
)
async def test_a_range_that_is_none_is_refused(days: dict[str, str]) -> None:
    async with stack() as s:
        refusal = await s.refusal("billing_report", **days)
        assert refusal["code"] == "invalid_argument"
        assert sum(s.world.requests.values()) == 0


@pytest.mark.requirement("REPORT-1")
async def test_days_are_inclusive_and_in_utc() -> None:
    async with stack() as s:
        bill = await s.call("billing_report", start="2026-11-17", end="2026-11-18")
        assert bill["end"] - bill["start"] == 2 * 86_400
        assert bill["start"] % 86_400 == 0


@pytest.mark.requirement("REPORT-2")
@pytest.mark.parametrize("daemon", [False, True])
async def test_a_log_has_its_last_lines(daemon: bool) -> None:  # noqa: FBT001 # a parameter of the tool
    async with stack() as s:
        _, [machine] = await s.ready()
        s.world.instances[machine].log += [f"line {i}" for i in range(500)]
        log = await s.call("read_logs", instance_id=machine, tail=20, daemon=daemon)
        assert daemon or "line 499" in log["text"]
        assert "line 400" not in log["text"]


async def test_a_log_of_an_id_that_nobody_knows_is_refused() -> None:
    async with stack() as s:
        assert (await s.refusal("read_logs", instance_id=4711))["code"] == "no_such_instance"


async def exported(s: Stack, format_: str) -> dict[str, Any]:
    """An inventory of all machines, with its text parsed."""
    answer = await s.call("export_inventory", format=format_)
    assert json.loads(answer["text"]) == yaml.safe_load(answer["text"])
    return yaml.safe_load(answer["text"])


@pytest.mark.requirement("REPORT-3")
async def test_an_ssh_config_pins_the_host_key_and_names_the_address() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        host, port = s.prober.targets[-1].addresses[0]
        text = (await s.call("export_inventory", format="ssh_config"))["text"]
        words = dict(line.strip().split(" ", 1) for line in text.splitlines() if line.strip())
        assert words == {
            "Host": f"vast-{machine}",
            "HostName": host,
            "Port": str(port),
            "User": "root",
            "IdentityFile": "id",
            "IdentitiesOnly": "yes",
            "HostKeyAlias": f"vast-{machine}",
            "UserKnownHostsFile": "known_hosts",
            "StrictHostKeyChecking": "yes",
            "ForwardAgent": "no",
        }


@pytest.mark.requirement("REPORT-3")
async def test_each_engines_inventory_holds_every_ready_machine() -> None:
    async with stack() as s:
        _, machines = await s.ready(count=2, fleet="best_effort")
        aliases = [f"vast-{i}" for i in machines]
        ansible = await exported(s, "ansible")
        assert list(ansible["all"]["children"]["vast"]["hosts"]) == aliases
        assert len((await exported(s, "ray"))["provider"]["worker_ips"]) == 1
        assert (await exported(s, "skypilot"))["vast"]["hosts"] == aliases
        dstack = await exported(s, "dstack")
        assert (dstack["type"], len(dstack["ssh_config"]["hosts"])) == ("fleet", 2)


@pytest.mark.requirement("REPORT-3")
async def test_an_inventory_says_where_the_private_key_goes() -> None:
    async with stack() as s:
        _, machines = await s.ready(count=2, fleet="best_effort")
        notes = {name: (await s.call("export_inventory", format=name))["notes"] for name in inventory.FORMATS}
        assert {name for name, told in notes.items() if told} == {"ray", "dstack"}
        assert f"copies the private key to the head vast-{machines[0]}" in notes["ray"][0]
        assert "takes no key with a passphrase" in notes["dstack"][0]
        told = await s.client.call_tool("export_inventory", {"format": "dstack"})
        assert f"note: {notes['dstack'][0]}" in text_of(told)
        assert (await s.call("export_inventory", format="ray", instance_ids=machines[:1]))["notes"] == []


@pytest.mark.requirement("REPORT-3")
async def test_machines_that_do_not_answer_are_left_out_and_named() -> None:
    async with stack() as s:
        _, [one, stopped] = await s.ready(count=2, fleet="best_effort")
        await s.call("stop_instances", instance_ids=[stopped])
        other = stranger(s)
        answer = await s.call("export_inventory", format="ssh_config")
        assert answer["included"] == [one]
        assert {row["instance_id"]: row["reason"] for row in answer["left_out"]} == {
            stopped: "it is stopped: call start_instances",
            other: "this server did not rent it",
        }
        s.world.life.end(s.world.instances[stopped])
        s.clock.advance(20)
        seen = await s.call("export_inventory", format="ssh_config", instance_ids=[one, stopped, 999])
        told = {row["instance_id"]: row["reason"] for row in seen["left_out"]}
        assert told == dict.fromkeys((stopped, 999), "this key sees no machine with this id")


@pytest.mark.requirement("REPORT-3")
async def test_an_inventory_of_machines_that_are_stopped_leads_to_their_start() -> None:
    async with stack() as s:
        _, machines = await s.ready(count=2, fleet="best_effort")
        await s.call("stop_instances", instance_ids=machines)
        refusal = await s.refusal("export_inventory", format="ssh_config")
        assert refusal["next_call"] == {"tool": "start_instances", "arguments": {"instance_ids": machines}}
        assert "wait_until_ready" not in refusal["message"]


@pytest.mark.requirement("REPORT-3")
async def test_without_a_machine_that_answers_there_is_no_inventory() -> None:
    async with stack() as s:
        await s.rented()
        refusal = await s.refusal("export_inventory", format="ansible")
        assert refusal["code"] == "invalid_argument"


async def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    async with stack() as s:
        refusal = await s.refusal("export_inventory", format="terraform")
        assert "ssh_config" in refusal["message"]


@pytest.mark.requirement("STATUS-1")
async def test_status_tells_whose_yes_it_was_and_which_workflow() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        other = stranger(s)
        rows = {row["instance_id"]: row for row in (await s.call("instance_status"))["instances"]}
        assert rows[machine]["workflow_id"] == workflow_id
        assert rows[machine]["agreed_by"].startswith("relayed by ")
        assert (rows[other]["workflow_id"], rows[other]["agreed_by"]) == (None, None)


@pytest.mark.requirement("STATUS-1")
async def test_the_status_of_a_workflow_has_its_machines_alone() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        stranger(s)
        empty = await s.agreed()
        mine = await s.call("instance_status", workflow_id=workflow_id)
        assert [row["instance_id"] for row in mine["instances"]] == [machine]
        assert (await s.call("instance_status", workflow_id=empty))["instances"] == []


@pytest.mark.requirement("STATUS-1")
async def test_status_says_when_an_order_may_have_rented_unseen() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "drop_request")
        await s.call("create_instances", **create)
        status = await s.call("instance_status")
        assert status["settled"] is False
        assert status["next_call"] == {"tool": "wait_until_ready", "arguments": {"workflow_id": create["workflow_id"]}}


@pytest.mark.requirement("STATUS-1")
async def test_the_status_of_ended_and_unknown_ids_is_told_apart() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        await s.call("destroy_instances", instance_ids=[machine])
        rows = (await s.call("instance_status", instance_ids=[machine, 4711]))["instances"]
        assert [row["state"] for row in rows] == ["gone", "unknown"]


@pytest.mark.requirement("STATUS-1")
async def test_a_machine_that_is_not_listed_yet_is_provisioning() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "hidden", seconds=50.0)
        made = await s.call("create_instances", **create)
        [row] = (await s.call("instance_status", instance_ids=[made["orders"][0]["instance_id"]]))["instances"]
        assert (row["state"], row["reason"]) == ("provisioning", "not listed yet")


@pytest.mark.requirement("STATUS-1")
async def test_the_cost_so_far_is_the_meters_also_after_a_stop() -> None:
    async with stack() as s:
        _, [machine] = await s.ready()
        s.clock.advance(3600)
        await s.call("stop_instances", instance_ids=[machine])
        s.clock.advance(3600)
        [row] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        assert row["cost_usd"] == pytest.approx(float(s.world.instances[machine].meter.total()), rel=0.05)


@pytest.mark.requirement("STATUS-1")
async def test_a_machine_that_this_server_released_itself_keeps_what_it_cost() -> None:
    async with stack() as s:
        create = await planned(s, count=2, fleet="all_or_nothing")
        arm(s, "late_effect", operation="create", nth=2, seconds=500.0)
        await s.call("create_instances", **create)
        [machine] = s.running()
        meter = s.world.instances[machine].meter
        await settled(s, create["workflow_id"])
        assert machine not in s.running()
        [row] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        assert row["readiness"] == "gone"
        assert row["cost_usd"] == pytest.approx(float(meter.total()), rel=0.1)


@pytest.mark.requirement("STATUS-1")
async def test_a_machine_that_ended_elsewhere_keeps_the_cost_that_was_seen_last() -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.ready()
        s.clock.advance(3600)
        [row] = (await s.call("instance_status", instance_ids=[machine]))["instances"]
        s.world.life.end(s.world.instances[machine])
        s.clock.advance(200)
        [gone] = (await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=10))["instances"]
        assert (gone["readiness"], gone["cost_usd"]) == ("gone", row["cost_usd"])
        assert gone["cost_usd"] > 0.2


@pytest.mark.requirement("REPORT-3")
@pytest.mark.requirement("UNKEY-2")
async def test_a_machine_whose_key_was_taken_away_is_left_out_and_leads_to_a_key() -> None:
    async with stack() as s:
        _, [one, other] = await s.ready(count=2, fleet="best_effort")
        await s.call("remove_ssh_key", instance_ids=[other])
        answer = await s.call("export_inventory", format="ssh_config")
        assert answer["included"] == [one]
        [left] = answer["left_out"]
        assert (left["instance_id"], "attach_ssh_key" in left["reason"]) == (other, True)
        alone = await s.refusal("export_inventory", format="ssh_config", instance_ids=[other])
        assert alone["next_call"] == {"tool": "attach_ssh_key", "arguments": {"instance_ids": [other]}}
        assert "wait_until_ready" not in alone["message"]


@pytest.mark.requirement("REPORT-3")
@pytest.mark.parametrize(
    ("report", "handed_over"),
    [
        (ProbeReport("ssh_ok", "h", 22, reason="nvidia_smi_missing", detail="there is none"), True),
        (ProbeReport("port_open", "h", 22, reason="no_private_key", detail="run: ssh-add id"), True),
        (ProbeReport("port_open", "h", 22, reason="auth_refused", detail="not accepted"), False),
        (ProbeReport("none", "h", 22, reason="timeout", detail="no answer"), False),
        (ProbeReport("ssh_ok", "h", 22, reason="wrong_gpu", detail="another GPU"), False),
    ],
    ids=lambda value: value.reason if isinstance(value, ProbeReport) else "",
)
async def test_only_a_machine_that_let_in_or_whose_key_is_elsewhere_is_handed_over(
    *, report: ProbeReport, handed_over: bool
) -> None:
    async with stack() as s:
        workflow_id, [machine] = await s.rented()
        s.clock.advance(100)
        s.prober.reports = [report] * 1000
        await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=10)
        if handed_over:
            assert (await s.call("export_inventory", format="ssh_config"))["included"] == [machine]
        else:
            assert "seen to answer" in (await s.refusal("export_inventory", format="ssh_config"))["message"]
