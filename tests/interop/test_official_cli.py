"""The official command line client judges the simulator: what it cannot use is wrong. Only its output counts."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.official import OfficialCli, Output, Simulator

pytestmark = pytest.mark.interop

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGh3Y2FuYWRhZG9lc25vdGV4aXN0YXRhbGxvaGRlYXI somebody@example"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIIyeWV0YW5vdGhlcmtleXRoYXRkb2Vzbm90ZXhpc3Qx other@example"
DAY_S = 86_400

Vastai = Callable[..., Output]


@pytest.fixture(scope="session")
def vastai(official_cli: OfficialCli, simulator: Simulator) -> Vastai:
    """One command of the client against the one simulator."""

    def run(*arguments: str) -> Output:
        return official_cli.run(simulator, *arguments)

    return run


def advance(simulator: Simulator, seconds: float) -> float:
    """Move the simulator's clock; gives the time it shows."""
    body = json.dumps({"seconds": seconds}).encode()
    request = urllib.request.Request(f"{simulator.url}/__sim__/advance", body, method="POST")  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - loopback
        return json.load(reply)["now"]


def cheapest(vastai: Vastai) -> int:
    """The id of the cheapest single RTX 4090."""
    offers = vastai("search", "offers", "gpu_name=RTX_4090 num_gpus=1", "-o", "dph", "--raw").json
    return offers[0]["id"]


@pytest.fixture(scope="module")
def instance_id(vastai: Vastai, simulator: Simulator) -> int:
    """A running instance, rented with the client."""
    vastai("create", "ssh-key", PUBLIC_KEY)
    order = ("--image", "pytorch/pytorch:latest", "--disk", "40", "--ssh", "--direct", "--label", "lab")
    env = ("--env", "-e FOO=bar -p 8080:8080", "--onstart-cmd", "echo hi", "--cancel-unavail", "--raw")
    reply = vastai("create", "instance", str(cheapest(vastai)), *order, *env).json
    assert reply["success"] is True
    advance(simulator, 120)
    return reply["new_contract"]


def row(vastai: Vastai, instance_id: int) -> dict[str, Any]:
    """The instance as the client reads it."""
    return vastai("show", "instance", str(instance_id), "--raw").json


def test_search_filters_and_orders(vastai: Vastai) -> None:
    query = "gpu_name=RTX_4090 num_gpus=1 gpu_ram>=20 duration>=3 disk_space>50 cuda_vers>=12.1 reliability>0.98"
    offers = vastai("search", "offers", query, "-o", "dph", "--limit", "5", "--storage", "40", "--raw").json

    assert len(offers) == 5
    assert {offer["gpu_name"] for offer in offers} == {"RTX 4090"}
    prices = [offer["dph_total"] for offer in offers]
    assert prices == sorted(prices)


def test_search_prints_a_table(vastai: Vastai) -> None:
    shown = vastai("search", "offers", "num_gpus=1", "--limit", "3")

    assert "RTX_4090" in shown.stdout
    assert "invalid return" not in shown.stdout + shown.stderr


def test_the_new_search_finds_the_same(vastai: Vastai) -> None:
    offers = vastai("search", "offers", "--new", "num_gpus=1", "--raw").json

    assert offers
    assert {offer["num_gpus"] for offer in offers} == {1}


def test_a_bid_search_shows_lower_prices_for_the_same_ids(vastai: Vastai) -> None:
    fixed = vastai("search", "offers", "gpu_name=RTX_4090", "--raw").json
    bids = vastai("search", "offers", "gpu_name=RTX_4090", "--type", "bid", "--raw").json

    prices = {offer["id"]: offer["dph_total"] for offer in fixed}
    assert {offer["id"] for offer in bids} == set(prices)
    assert all(offer["dph_total"] < prices[offer["id"]] for offer in bids)


def test_a_created_instance_is_shown_raw(vastai: Vastai, instance_id: int) -> None:
    rows = vastai("show", "instances", "--raw").json

    shown = next(one for one in rows if one["id"] == instance_id)
    assert (shown["actual_status"], shown["label"]) == ("running", "lab")
    assert shown["extra_env"] == {"FOO": "bar", "-p 8080:8080": "1"}


def test_instances_are_shown_in_a_table(vastai: Vastai, instance_id: int) -> None:
    shown = vastai("show", "instances")

    assert str(instance_id) in shown.stdout
    assert "Traceback" not in shown.stderr


def test_quiet_lists_the_ids(vastai: Vastai, instance_id: int) -> None:
    assert str(instance_id) in vastai("show", "instances", "-q").stdout.split()


def test_one_instance_is_shown(vastai: Vastai, instance_id: int) -> None:
    assert row(vastai, instance_id)["image_uuid"] == "pytorch/pytorch:latest"
    assert "RTX" in vastai("show", "instance", str(instance_id)).stdout


def test_ssh_url_is_the_direct_address(vastai: Vastai, instance_id: int) -> None:
    port = row(vastai, instance_id)["ports"]["22/tcp"][0]["HostPort"]

    assert vastai("ssh-url", str(instance_id)).stdout.strip() == f"ssh://root@127.0.0.1:{port}"


def test_ssh_keys_are_listed(vastai: Vastai, instance_id: int) -> None:
    keys = vastai("show", "ssh-keys", "--raw").json

    assert PUBLIC_KEY in [key["public_key"] for key in keys]


def test_a_key_is_attached_once(vastai: Vastai, instance_id: int, tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(OTHER_KEY + "\n")

    assert "SSH key added to instance." in vastai("attach", "ssh", str(instance_id), str(file)).stdout
    assert "already associated" in vastai("attach", "ssh", str(instance_id), str(file)).stdout


def test_a_label_is_changed(vastai: Vastai, instance_id: int) -> None:
    vastai("label", "instance", str(instance_id), "renamed")

    assert row(vastai, instance_id)["label"] == "renamed"


def test_logs_arrive(vastai: Vastai, instance_id: int) -> None:
    assert "success, running" in vastai("logs", str(instance_id), "--tail", "50").stdout


def test_stop_and_start(vastai: Vastai, simulator: Simulator, instance_id: int) -> None:
    assert f"stopping instance {instance_id}." in vastai("stop", "instance", str(instance_id)).stdout
    advance(simulator, 10)
    assert row(vastai, instance_id)["actual_status"] == "exited"

    assert f"starting instance {instance_id}." in vastai("start", "instance", str(instance_id)).stdout
    advance(simulator, 30)
    assert row(vastai, instance_id)["actual_status"] == "running"


@pytest.mark.parametrize(("command", "sentence"), [("reboot", "Rebooting"), ("recycle", "ecycl")])
def test_restarts_end_in_running(
    vastai: Vastai, simulator: Simulator, instance_id: int, command: str, sentence: str
) -> None:
    assert sentence in vastai(command, "instance", str(instance_id)).stdout
    advance(simulator, 60)
    assert row(vastai, instance_id)["actual_status"] == "running"


def test_the_user_has_credit(vastai: Vastai) -> None:
    user = vastai("show", "user", "--raw").json

    assert user["username"] == "tester"
    assert 0 < user["credit"] <= 25
    assert "tester" in vastai("show", "user").stdout


def test_charges_appear(vastai: Vastai, simulator: Simulator, instance_id: int) -> None:
    now = int(advance(simulator, 3600))
    span = ("--start-date", str(now - DAY_S), "--end-date", str(now + DAY_S))

    charges = vastai("show", "invoices-v1", "--charges", *span, "--raw").json
    table = vastai("show", "invoices-v1", "--charges", *span, "--no-color")

    assert f"instance-{instance_id}" in [one["source"] for one in charges["results"]]
    assert all(one["amount"] > 0 for one in charges["results"])
    assert str(instance_id) in table.stdout


def test_payments_appear(vastai: Vastai, simulator: Simulator) -> None:
    now = int(advance(simulator, 0))
    span = ("--start-date", str(now - DAY_S), "--end-date", str(now + DAY_S))

    invoices = vastai("show", "invoices-v1", "--invoices", *span, "--raw").json

    assert [one["amount"] for one in invoices["results"]] == [-25.0]
    assert "25.00" in vastai("show", "invoices-v1", "--invoices", *span, "--no-color").stdout


def test_a_full_range_of_charges_has_no_date_error(vastai: Vastai) -> None:
    assert vastai("show", "invoices-v1", "--charges", "--raw").json["success"] is True


def test_launch_instance_rents_the_first_match_and_destroy_ends_it(vastai: Vastai, simulator: Simulator) -> None:
    launched = vastai("launch", "instance", "-g", "RTX_4090", "-n", "1", "-i", "pytorch/pytorch", "-d", "20", "--raw")
    instance = launched.json["new_contract"]
    advance(simulator, 5)

    ended = vastai("destroy", "instance", str(instance), "-y")
    advance(simulator, 5)

    assert f"destroying instance {instance}." in ended.stdout
    assert vastai("show", "instance", str(instance), "--raw").json == {"instances": None}
    assert "404" in vastai("destroy", "instance", str(instance), "-y", "--raw").stderr


def test_a_used_offer_is_refused(vastai: Vastai, simulator: Simulator) -> None:
    offer = cheapest(vastai)
    first = vastai("create", "instance", str(offer), "--image", "x", "--raw").json
    advance(simulator, 10)

    second = vastai("create", "instance", str(offer), "--image", "x", "--raw")
    vastai("destroy", "instance", str(first["new_contract"]), "-y")

    assert second.stdout == ""
    assert "no_such_ask" in json.loads(second.stderr)["msg"]


def test_bulk_create_and_destroy(vastai: Vastai, simulator: Simulator) -> None:
    offers = [str(one["id"]) for one in vastai("search", "offers", "gpu_name=RTX_3090", "--raw").json[:1]]
    before = set(vastai("show", "instances", "-q").stdout.split())

    vastai("create", "instances", *offers, "--image", "x")
    advance(simulator, 10)
    made = set(vastai("show", "instances", "-q").stdout.split()) - before
    vastai("destroy", "instances", *made, "-y")
    advance(simulator, 10)

    assert len(made) == 1
    assert set(vastai("show", "instances", "-q").stdout.split()) == before


def test_env_vars_are_made_shown_and_deleted(vastai: Vastai, simulator: Simulator) -> None:
    vastai("create", "env-var", "FOO", "bar")
    advance(simulator, 10)
    shown = vastai("show", "env-vars", "--raw").json
    vastai("delete", "env-var", "FOO")
    advance(simulator, 10)

    assert shown == {"FOO": "*****"}, "the client masks the values itself"
    assert "FOO" not in vastai("show", "env-vars", "--raw").stdout


def test_templates_are_searched(vastai: Vastai) -> None:
    assert vastai("search", "templates", "name=x", "--raw").stdout.strip() == "[]"


def test_volumes_are_searched_and_shown(vastai: Vastai, simulator: Simulator) -> None:
    offers = vastai("search", "volumes", "--raw").json
    advance(simulator, 10)
    vastai("create", "volume", str(offers[0]["id"]), "-s", "20", "-n", "data")
    advance(simulator, 10)

    assert [one["disk_space"] for one in vastai("show", "volumes", "--raw").json] == [20.0]
    assert "data" in vastai("show", "volumes").stdout


def test_an_unknown_key_is_not_found(official_cli: OfficialCli, simulator: Simulator) -> None:
    refused = official_cli.run(Simulator(simulator.url, "wrong"), "show", "user", "--raw")

    assert json.loads(refused.stderr) == {"error": True, "status_code": 404, "msg": "Invalid user key"}
