"""The life of an instance, state by state."""

import json

import pytest

from tests.simulator.bench import BOOTED_S, Bench, ids, states, without_limits
from vastai_workflow.simulator.instances import Fate


async def test_a_boot_goes_over_null_created_and_loading_to_running() -> None:
    bench = Bench()
    instance = await bench.rent()
    seen: list[str | None] = [instance.actual]
    for _ in range(int(BOOTED_S)):
        bench.advance(1)
        if instance.actual != seen[-1]:
            seen.append(instance.actual)

    assert seen == [None, "created", "loading", "running"]
    assert (instance.intended, instance.cur, instance.next) == ("running", "running", "running")


async def test_a_pull_tells_its_progress_and_success() -> None:
    bench = Bench()
    instance = await bench.rent()
    messages: list[str | None] = []
    for _ in range(int(BOOTED_S)):
        bench.advance(1)
        messages.append(instance.status_msg)

    assert messages[0] is None
    assert any(message and message.endswith(": Download complete") for message in messages)
    assert messages[-1] == "success, running pytorch/pytorch_latest/ssh"


async def test_a_new_row_has_the_shape_of_a_new_contract() -> None:
    bench = Bench()
    instance = await bench.rent()
    bench.advance(2.5)
    row = await bench.row(instance)

    assert row is not None
    assert (row["actual_status"], row["status_msg"], row["uptime_mins"]) == (None, None, None)
    assert (row["disk_usage"], row["direct_port_start"]) == (-1, -1)
    assert "ports" not in row


async def test_ports_and_addresses_are_filled_while_running() -> None:
    bench = Bench()
    row = await bench.row(await bench.running())

    assert row is not None
    assert row["ports"]["22/tcp"][0]["HostPort"].isdigit()
    assert row["ports"]["8080/tcp"][0]["HostIp"] == "0.0.0.0"  # noqa: S104 - what the API shows
    assert row["public_ipaddr"].startswith("203.0.113.")
    assert row["ssh_host"].startswith("192.0.2.")
    assert row["extra_env"] == [["FOO", "bar"], ["-p 8080:8080", "1"]]


async def test_without_a_direct_run_type_there_is_no_ssh_port() -> None:
    bench = Bench()
    row = await bench.row(await bench.running(runtype="ssh_proxy"))

    assert row is not None
    assert "22/tcp" not in row["ports"]


async def test_ports_from_70000_on_are_mapped_to_themselves() -> None:
    bench = Bench()
    row = await bench.row(await bench.running(env={"-p 70000:70000/udp": "1"}))

    assert row is not None
    assert row["ports"]["70000/udp"][0]["HostPort"] == "70000"


async def test_a_stop_leaves_it_exited_without_cards() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    assert instance.intended == "stopped"
    bench.advance(5)

    assert states(instance) == ("exited", "stopped", "stopped", "stopped")
    assert not instance.holds_cards
    row = await bench.row(instance)
    assert row is not None
    assert "ports" not in row


async def test_a_start_brings_it_back() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    bench.advance(5)
    reply = await bench.set(instance, state="running")
    assert reply.json() == {"success": True}
    assert states(instance) == ("exited", "running", "running", "running")
    bench.advance(15)

    assert states(instance) == ("running", "running", "running", "running")


async def test_a_stop_during_the_boot_ends_the_boot() -> None:
    bench = Bench()
    instance = await bench.rent()
    bench.advance(5)
    await bench.set(instance, state="stopped")
    bench.advance(BOOTED_S)

    assert instance.actual == "exited"


async def test_a_reboot_keeps_the_container() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.send("PUT", f"/api/v0/instances/reboot/{instance.id}/", {})
    assert instance.actual == "rebooting"
    bench.advance(20)

    assert instance.actual == "running"
    assert instance.container == 0


async def test_a_recycle_makes_a_new_container() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.send("PUT", f"/api/v0/instances/recycle/{instance.id}/", {})
    assert instance.actual == "recycling"
    bench.advance(30)

    assert instance.actual == "running"
    assert instance.container == 1


async def test_what_does_not_run_is_not_restarted() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    bench.advance(5)

    recycle = await bench.send("PUT", f"/api/v0/instances/recycle/{instance.id}/", {})

    assert (recycle.status_code, recycle.json()["error"]) == (400, "invalid_id")


async def test_a_destroyed_instance_is_unloaded_and_then_gone() -> None:
    bench = Bench()
    instance = await bench.running()
    assert (await bench.destroy(instance)).json() == {"success": True}
    row = await bench.row(instance)
    assert row is not None
    assert (row["cur_state"], row["next_state"]) == ("unloaded", "unloaded")
    bench.advance(3)

    assert await bench.row(instance) is None
    assert await bench.listed() == []
    again = await bench.destroy(instance)
    assert (again.status_code, again.json()["error"]) == (404, "no_such_instance")


async def test_its_cards_come_back_under_new_ids() -> None:
    bench = Bench()
    before = set(bench.world.market.asks)
    instance = await bench.running()
    during = set(bench.world.market.asks)
    await bench.destroy(instance)
    after = set(bench.world.market.asks)

    assert len(before) == len(during) == len(after)
    assert before != during != after
    assert len(bench.world.market.free_asks()) == len(
        [ask for ask in bench.world.market.asks.values() if not ask.rented and ask.machine.rentable]
    )


@pytest.mark.parametrize(
    ("kind", "actual"), [("crash", "exited"), ("offline", "offline"), ("unknown", "unknown"), ("frozen", "frozen")]
)
async def test_a_running_instance_meets_its_fate(kind: str, actual: str) -> None:
    bench = Bench()
    instance = await bench.running()
    bench.world.fate(instance.id, Fate(kind, 30))  # pyright: ignore[reportArgumentType] - the parameters are the kinds
    bench.advance(29)
    assert instance.actual == "running"
    bench.advance(2)

    assert instance.actual == actual
    assert instance.intended == ("frozen" if kind == "frozen" else "running")


async def test_an_offline_machine_may_come_back() -> None:
    bench = Bench()
    instance = await bench.running()
    bench.world.fate(instance.id, Fate("offline"))
    bench.advance(1)
    bench.world.life.recover(instance)

    assert instance.actual == "running"


async def test_a_start_without_free_cards_is_queued() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    bench.advance(5)
    bench.world.market.take(instance.machine, instance.gpu_ids, "other:1")
    reply = await bench.set(instance, state="running")

    assert reply.status_code == 200
    assert reply.json()["error"] == "resources_unavailable"
    assert reply.json()["success"] is False
    assert (instance.actual, instance.intended) == ("exited", "running")


async def test_a_queued_start_is_cancelled_by_a_stop() -> None:
    bench = Bench()
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    bench.advance(5)
    bench.world.market.take(instance.machine, instance.gpu_ids, "other:1")
    await bench.set(instance, state="running")
    await bench.set(instance, state="stopped")
    bench.world.market.release(instance.machine, "other:1")
    bench.advance(BOOTED_S)

    assert instance.actual == "exited"


async def test_outbid_while_running_looks_like_a_crash() -> None:
    bench = Bench()
    instance = await bench.running(price=1.0)
    bench.world.fate(instance.id, Fate("outbid"))
    bench.advance(1)

    assert (instance.actual, instance.intended, instance.cur) == ("exited", "running", "stopped")
    assert not instance.holds_cards


async def test_outbid_while_provisioning_looks_like_a_stop() -> None:
    bench = Bench()
    instance = await bench.rent(price=1.0)
    bench.world.fate(instance.id, Fate("outbid"))
    bench.advance(1)

    assert (instance.intended, instance.cur, instance.next) == ("stopped", "stopped", "stopped")
    bench.advance(BOOTED_S)
    assert instance.actual != "running"


async def test_a_higher_bid_wins_the_cards_back() -> None:
    bench = Bench()
    instance = await bench.running(price=1.0)
    bench.world.life.outbid(instance)
    reply = await bench.send("PUT", f"/api/v0/instances/bid_price/{instance.id}/", {"client_id": "me", "price": 2.0})
    bench.advance(15)

    assert reply.json() == {"success": True}
    assert states(instance) == ("running", "running", "running", "running")
    assert instance.gpu_rate == 2


async def test_a_bid_under_the_market_does_not_start() -> None:
    bench = Bench()
    await bench.order(price=0.01, cancel_unavail=False)
    instance = bench.alive[0]
    reply = await bench.set(instance, state="running")
    bench.advance(3600)

    assert reply.json()["error"] == "resources_unavailable"
    assert instance.actual == "exited"


async def test_a_market_that_rises_above_the_bid_outbids() -> None:
    bench = Bench()
    instance = await bench.running(price=0.4)
    instance.machine.min_bid = instance.machine.price = instance.machine.price * 3
    bench.world.life.price_moved(instance.machine, [instance])

    assert instance.lost_bid


async def test_the_end_of_the_contract_stops_it_and_two_days_later_it_is_gone() -> None:
    bench = Bench(credit="100000")
    instance = await bench.running()
    bench.advance(instance.end_date - bench.clock.now() + 5)
    assert (instance.actual, instance.intended) == ("exited", "stopped")
    bench.advance(48 * 3600 + 10)

    assert instance.gone


async def test_without_credit_everything_stops() -> None:
    bench = Bench(credit="0.1")
    instance = await bench.running()
    bench.advance(3600)

    assert instance.intended == "stopped"
    assert instance.actual == "exited"
    refused = await bench.set(instance, state="running")
    assert (refused.status_code, refused.json()["error"]) == (400, "missing_billing")


async def test_without_a_card_it_is_deleted_later() -> None:
    bench = Bench(credit="0.1")
    bench.world.account.has_card = False
    instance = await bench.running()
    bench.advance(2 * 86_400)

    assert instance.gone


async def test_the_list_comes_in_pages_of_25() -> None:
    bench = Bench(offers=120)
    for ask in bench.world.market.free_asks()[:30]:
        if not ask.rented:
            await bench.order(bench.world.market.free_asks()[0].id)
    bench.advance(3)
    first = await bench.page(limit=100, order_by=[{"col": "id", "dir": "asc"}], select_filters={})
    second = await bench.page(limit=25, order_by=[{"col": "id", "dir": "asc"}], after_token=first["next_token"])

    assert len(first["instances"]) == 25
    assert first["total_instances"] == first["instances_found"] == len(bench.alive)
    assert second["next_token"] is None
    assert sorted(ids(first["instances"]) + ids(second["instances"])) == sorted(one.id for one in bench.alive)


@pytest.mark.parametrize(("limit", "rows"), [("0", 5), ("-1", 5), ("3", 3), ("100", 8)])
async def test_the_limit_of_a_page_is_mended(limit: str, rows: int) -> None:
    bench = Bench()
    for _ in range(8):
        await bench.rent()
    bench.advance(3)

    assert len((await bench.page(limit=limit))["instances"]) == rows


async def test_the_list_filters_orders_and_counts_labels() -> None:
    bench = Bench()
    first, second = await bench.rent(label="one"), await bench.rent(label=None)
    bench.advance(3)

    labelled = await bench.page(select_filters={"label": {"in": ["one"]}})
    unlabelled = await bench.page(select_filters={"label": {"in": [None]}})
    by_id = await bench.page(select_filters={"id": {"eq": second.id}})
    backwards = await bench.page(order_by=[{"col": "start_date", "dir": "desc"}, {"col": "id", "dir": "desc"}])

    assert ids(labelled["instances"]) == [first.id]
    assert ids(unlabelled["instances"]) == ids(by_id["instances"]) == [second.id]
    assert ids(backwards["instances"]) == [second.id, first.id]
    assert backwards["label_counts"] == {"one": 1, "": 1}


async def test_computed_columns_are_refused_as_filters() -> None:
    bench = Bench()
    refused = await bench.page(select_filters={"dph_total": {"lt": 1}})

    assert refused["error"] == "invalid_request"
    assert refused["msg"] == "Error in query parameters: dph_total is not a valid search key"


async def test_a_bad_page_token_is_refused() -> None:
    assert (await Bench().page(after_token="nonsense"))["error"] == "invalid_token"


async def test_wanted_columns_alone_are_shown() -> None:
    bench = Bench()
    instance = await bench.rent()
    bench.advance(3)

    rows = (await bench.page(select_cols=["id", "nonsense"]))["instances"]

    assert rows == [{"id": instance.id, "nonsense": None}]


async def test_the_old_list_is_gone() -> None:
    reply = await Bench().send("GET", "/api/v0/instances/", query={"owner": "me"})

    assert (reply.status_code, reply.json()["error"]) == (410, "deprecated_endpoint")


async def test_counts_and_filters_tell_what_there_is() -> None:
    bench = Bench()
    await bench.running()

    assert (await bench.send("GET", "/api/v0/instances/count/")).json()["count"] == 1
    assert (await bench.send("GET", "/api/v1/counts/")).json()["instances"] == 1
    assert (await bench.send("GET", "/api/v0/instances/filters/")).json()["filters"] == [
        {"actual_status": "running", "verification": "verified", "gpu_name": "RTX 4090"}
    ]


async def test_another_account_sees_and_changes_nothing() -> None:
    bench = Bench()
    instance = await bench.running()
    other = next(iter(bench.world.add_account("other").keys))
    path = f"/api/v0/instances/{instance.id}/"

    assert (await bench.send("GET", "/api/v1/instances/", key=other)).json()["instances"] == []
    assert (await bench.send("GET", path, key=other)).json() == {"instances": None}
    assert (await bench.send("DELETE", path, {}, key=other)).status_code == 404
    assert instance.actual == "running"


async def test_many_are_changed_at_once() -> None:
    bench = Bench()
    first, second = await bench.running(), await bench.running()
    both = [first.id, second.id]
    await bench.send("PUT", "/api/v0/instances/", {"state": "stopped", "ids": both})
    bench.advance(5)
    assert first.actual == second.actual == "exited"
    await bench.send("DELETE", "/api/v0/instances/", {"instance_ids": both})

    assert bench.alive == []


async def test_an_update_makes_a_new_container_with_another_image() -> None:
    bench = Bench()
    instance = await bench.running()
    body = {"id": instance.id, "image": "other:1", "env": {"A": "B"}}
    await bench.send("PUT", f"/api/v0/instances/update_template/{instance.id}/", body)
    bench.advance(30)

    assert (instance.image, instance.env, instance.container, instance.actual) == ("other:1", {"A": "B"}, 1, "running")


async def test_logs_are_there_a_moment_later() -> None:
    bench = Bench()
    instance = await bench.running()
    reply = await bench.send("PUT", f"/api/v0/instances/request_logs/{instance.id}/", {"tail": "1"})
    url = reply.json()["result_url"]

    assert (await bench.send("GET", url, key="")).status_code == 404
    bench.advance(2)
    text = await bench.send("GET", url, key="")
    assert (text.status_code, text.text) == (200, "+ onstart\n")
    await bench.send("PUT", f"/api/v0/instances/request_logs/{instance.id}/", {"filter": "success", "tail": "5"})


async def test_daemon_logs_are_another_text() -> None:
    bench = Bench()
    instance = await bench.running()
    reply = await bench.send("PUT", f"/api/v0/instances/request_logs/{instance.id}/", {"daemon_logs": "true"})
    bench.advance(2)

    assert "daemon:" in (await bench.send("GET", reply.json()["result_url"], key="")).text


async def test_only_three_commands_are_executed() -> None:
    bench = Bench()
    instance = await bench.running()
    path = f"/api/v0/instances/command/{instance.id}/"

    assert (await bench.send("PUT", path, {"command": "ls -l"})).json()["success"] is True
    refused = await bench.send("PUT", path, {"command": "curl example.com"})
    assert (refused.status_code, refused.json()["msg"]) == (400, "Invalid command given.")
    assert (await bench.send("PUT", path, {})).status_code == 483


async def test_keys_of_the_account_at_rental_time_are_in_the_container() -> None:
    bench = Bench()
    assert (await bench.send("GET", "/api/v0/ssh/")).status_code == 404
    added = (await bench.send("POST", "/api/v0/ssh/", {"ssh_key": "ssh-ed25519 AAAA first"})).json()["key"]
    instance = await bench.running()
    await bench.send("POST", "/api/v0/ssh/", {"ssh_key": "ssh-ed25519 AAAA second"})

    assert bench.world.authorized_keys(instance.id) == ["ssh-ed25519 AAAA first"]
    listed = (await bench.send("GET", f"/api/v0/instances/{instance.id}/ssh/")).json()["ssh_keys"]
    assert json.loads(listed) == [{"id": added["id"], "public_key": "ssh-ed25519 AAAA first"}]


async def test_a_key_is_attached_and_detached() -> None:
    bench = Bench()
    instance = await bench.running()
    path = f"/api/v0/instances/{instance.id}/ssh/"
    attached = (await bench.send("POST", path, {"ssh_key": "ssh-ed25519 AAAA me\n"})).json()
    again = (await bench.send("POST", path, {"ssh_key": "ssh-ed25519 AAAA me"})).json()

    assert attached["msg"] == "SSH key added to instance."
    assert again["msg"] == "SSH key already associated with instance."
    assert json.loads(attached["key"])["public_key"] == "ssh-ed25519 AAAA me\n"
    number = json.loads(attached["key"])["id"]
    assert (await bench.send("DELETE", f"{path}{number}/", {})).json()["msg"] == "SSH key removed from instance."
    assert (await bench.send("DELETE", f"{path}{number}/", {})).json()["error"] == "no_such_ssh_key"
    assert bench.world.authorized_keys(instance.id) == []


async def test_a_team_has_no_keys_but_its_instances_do() -> None:
    bench = Bench()
    team = bench.world.add_account("team", team=True)
    bench.key = next(iter(team.keys))
    refused = await bench.send("POST", "/api/v0/ssh/", {"ssh_key": "ssh-ed25519 AAAA me"})
    instance = await bench.running()
    await bench.send("POST", f"/api/v0/instances/{instance.id}/ssh/", {"ssh_key": "ssh-ed25519 AAAA me"})

    assert (refused.status_code, refused.json()["error"]) == (400, "team_ssh_keys_not_supported")
    assert bench.world.authorized_keys(instance.id) == ["ssh-ed25519 AAAA me"]


async def test_the_key_of_an_instance_only_ends_that_instance() -> None:
    bench = Bench(switches=without_limits(visibility_delay_s=0.0))
    first, second = await bench.running(), await bench.running()
    key = first.api_key.secret

    assert (await bench.send("GET", "/api/v0/users/current", key=key)).status_code == 403
    assert (await bench.send("DELETE", f"/api/v0/instances/{second.id}/", {}, key=key)).status_code == 403
    assert (await bench.send("DELETE", f"/api/v0/instances/{first.id}/", {}, key=key)).json() == {"success": True}
    assert bench.alive == [second]
