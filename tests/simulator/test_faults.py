"""Each named fault does what it says, when it says, and nothing else."""

import json
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.simulator.bench import BOOTED_S, PUBLIC_KEY, Bench, states
from vastai_workflow.simulator.faults import FAULTS, Fault
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.rules.fates import SSH_BEHAVIOURS
from vastai_workflow.simulator.ssh_host import BEHAVIOURS

Check = Callable[[], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def shows(check: Check) -> Check:
    """Register the check of the fault that it is named after."""
    CHECKS[check.__name__] = check
    return check


@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_the_fault_does_what_it_says(name: str) -> None:
    await CHECKS[name]()


def test_every_fault_says_what_it_does() -> None:
    assert all(rule.about and (rule.before or rule.after) for rule in FAULTS.values())


# -- replies and connections


@shows
async def drop_request() -> None:
    bench = Bench(Fault("drop_request"))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await bench.order()
    assert bench.alive == []


@shows
async def drop_reply() -> None:
    bench = Bench(Fault("drop_reply"))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await bench.order()
    assert len(bench.alive) == 1


@shows
async def cut_body() -> None:
    bench = Bench(Fault("cut_body"))
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        await bench.order()
    assert len(bench.alive) == 1


@shows
async def delay() -> None:
    bench = Bench(Fault("delay", seconds=90, times=2))
    began = bench.clock.now()
    with pytest.raises(httpx.ReadTimeout):
        await bench.order(timeout_s=30)
    assert len(bench.alive) == 1
    assert bench.clock.now() == began + 30
    assert (await bench.order(timeout_s=120)).json()["success"] is True
    assert bench.clock.now() == began + 120


@shows
async def late_effect() -> None:
    bench = Bench(Fault("late_effect", seconds=90))
    with pytest.raises(httpx.ReadTimeout):
        await bench.order(timeout_s=30)
    assert bench.alive == []
    bench.advance(59)
    assert bench.alive == []
    bench.advance(1)
    assert len(bench.alive) == 1


@shows
async def http_error() -> None:
    for body, content in (("html", "text/html"), ("text", "text/plain"), ("json", "application/json")):
        bench = Bench(Fault("http_error", status=503, body=body))
        reply = await bench.order()
        assert reply.status_code == 503
        assert reply.headers["content-type"].startswith(content)
        assert bench.alive == []


@shows
async def http_error_after_effect() -> None:
    bench = Bench(Fault("http_error_after_effect", status=504, body="empty"))
    reply = await bench.order()
    assert (reply.status_code, reply.text) == (504, "")
    assert len(bench.alive) == 1


@shows
async def empty_body() -> None:
    bench = Bench(Fault("empty_body"))
    reply = await bench.order()
    assert (reply.status_code, reply.content) == (200, b"")
    assert len(bench.alive) == 1


@shows
async def truncated_json() -> None:
    bench = Bench(Fault("truncated_json"))
    reply = await bench.order()
    assert reply.text.startswith('{"success": true')
    with pytest.raises(json.JSONDecodeError):
        reply.json()
    assert len(bench.alive) == 1


@shows
async def html_body() -> None:
    bench = Bench(Fault("html_body"))
    reply = await bench.order()
    assert (reply.status_code, reply.text[:6]) == (200, "<html>")
    assert len(bench.alive) == 1


@shows
async def success_false() -> None:
    bench = Bench(Fault("success_false", code="strange"))
    reply = await bench.order()
    assert reply.status_code == 200
    assert (reply.json()["success"], reply.json()["error"]) == (False, "strange")
    assert bench.alive == []


@shows
async def success_false_after_effect() -> None:
    bench = Bench(Fault("success_false_after_effect"))
    assert (await bench.order()).json()["success"] is False
    assert len(bench.alive) == 1


@shows
async def error_with_contract() -> None:
    bench = Bench(Fault("error_with_contract", status=400))
    reply = await bench.order()
    assert (reply.status_code, reply.json()["success"]) == (400, False)
    assert [reply.json()["new_contract"]] == [one.id for one in bench.alive]


@shows
async def other_id() -> None:
    bench = Bench(Fault("other_id"), Fault("other_id", nth=2, id=42))
    named = [(await bench.order()).json()["new_contract"] for _ in range(2)]
    assert named[1] == 42
    assert not set(named) & {one.id for one in bench.alive}
    assert len(bench.alive) == 2


@shows
async def double_effect() -> None:
    bench = Bench(Fault("double_effect"))
    await bench.order()
    first, second = bench.alive
    assert first.env == second.env
    assert first.machine is not second.machine
    assert first.machine.model is second.machine.model


@shows
async def proxy_repeats() -> None:
    forms = (
        (Fault("proxy_repeats"), 410, "no_such_ask"),
        (Fault("proxy_repeats", status=404, place="msg"), 404, "invalid_args"),
    )
    for fault, status, code in forms:
        bench = Bench(fault)
        reply = await bench.order()
        assert (reply.status_code, reply.json()["error"]) == (status, code)
        assert "no_such_ask" in reply.text
        assert len(bench.alive) == 1
    broke = Bench(Fault("proxy_repeats"), credit="0")
    assert (await broke.order()).json()["error"] == "insufficient_credit"


@shows
async def refuse() -> None:
    forms = (
        (Fault("refuse"), 410, "no_such_ask", "no_such_ask"),
        (Fault("refuse", status=404, place="msg"), 404, "invalid_args", "error 404/3603: no_such_ask"),
        (Fault("refuse", status=400), 400, "no_such_ask", "no_such_ask"),
        (Fault("refuse", code="insufficient_credit"), 400, "insufficient_credit", "lacks credit"),
        (Fault("refuse", code="spend_rate_limit", status=403), 403, "spend_rate_limit", "spend rate"),
        (Fault("refuse", code="spend_rate_limit", place="msg"), 400, "invalid_args", "spend_rate_limit"),
        (Fault("refuse", code="auth_error"), 404, "auth_error", "Invalid user key"),
        (Fault("refuse", code="missing_scope"), 403, "missing_scope", "permission"),
        (Fault("refuse", code="never_heard_of"), 400, "never_heard_of", "never_heard_of"),
    )
    for fault, status, code, words in forms:
        bench = Bench(fault)
        reply = await bench.order()
        assert (reply.status_code, reply.json()["error"]) == (status, code)
        assert words in reply.json()["msg"]
        assert bench.alive == []


@shows
async def too_many_requests() -> None:
    bench = Bench(Fault("too_many_requests", times=2), Fault("too_many_requests", operation="search", quota=True))
    statuses = [(await bench.send("GET", "/api/v1/instances/")).status_code for _ in range(3)]
    assert statuses == [429, 429, 200]
    denied = await bench.send("POST", "/api/v0/bundles/", {})
    assert (denied.status_code, denied.json()["error"]) == (429, "search_quota_exceeded")
    reset = int(denied.headers["X-RateLimit-Reset"])
    assert reset > bench.clock.now()
    assert reset % 86_400 == 0


@shows
async def key_revoked() -> None:
    bench = Bench(Fault("key_revoked", nth=2))
    statuses = [(await bench.send("GET", "/api/v1/instances/")).status_code for _ in range(3)]
    assert statuses == [200, 200, 404]


@shows
async def hostile_message() -> None:
    for kind, sign in (("ansi", "\x1b["), ("newline", "\n"), ("injection", "ignore earlier instructions")):
        reply = await Bench(Fault("hostile_message", kind=kind)).order()
        assert sign in reply.json()["msg"]
    huge = await Bench(Fault("hostile_message", kind="huge")).order()
    assert len(huge.json()["msg"]) == 1_000_000


# -- lists


@shows
async def stale_list() -> None:
    bench = Bench(Fault("stale_list", nth=1, times=2, seconds=60))
    old = await bench.running()
    bench.advance(60)
    new = await bench.rent()
    await bench.destroy(old)
    bench.advance(10)
    assert await bench.listed() == [old.id]
    bench.advance(120)
    assert await bench.listed() == [new.id]
    assert await bench.listed() == [new.id]


@shows
async def empty_list() -> None:
    bench = Bench(Fault("empty_list"))
    instance = await bench.running()
    page = await bench.page()
    assert (page["instances"], page["total_instances"], page["success"]) == ([], 0, True)
    assert await bench.listed() == [instance.id]


@shows
async def null_list() -> None:
    bench = Bench(Fault("null_list"))
    await bench.running()
    assert (await bench.page())["instances"] is None


@shows
async def truncated_list() -> None:
    bench = Bench(Fault("truncated_list", rows=1))
    await bench.running()
    await bench.running()
    page = await bench.page()
    assert (len(page["instances"]), page["total_instances"], page["next_token"]) == (1, 2, None)


@shows
async def bad_token() -> None:
    bench = Bench(Fault("bad_token"))
    token = (await bench.page())["next_token"]
    assert (await bench.page(after_token=token))["error"] == "invalid_token"


@shows
async def looping_token() -> None:
    bench = Bench(Fault("looping_token", times=2))
    instance = await bench.running()
    token = (await bench.page())["next_token"]
    again = await bench.page(after_token=token)
    assert [row["id"] for row in again["instances"]] == [instance.id]
    assert again["next_token"] == token


@shows
async def hidden() -> None:
    bench = Bench(Fault("hidden", seconds=60))
    instance = await bench.rent()
    bench.advance(59)
    assert await bench.listed() == []
    assert await bench.row(instance) is None
    bench.advance(1)
    assert await bench.listed() == [instance.id]


# -- lies


@shows
async def odd_offer() -> None:
    bench = Bench(Fault("odd_offer", field="gpu_name", value="A100 SXM4"))
    first, *rest = await bench.offers()
    assert first["gpu_name"] == "A100 SXM4"
    assert {row["gpu_name"] for row in rest} == {"RTX 4090"}


@shows
async def filters_ignored() -> None:
    bench = Bench(Fault("filters_ignored"))
    assert len({row["gpu_name"] for row in await bench.offers()}) > 1


@shows
async def dearer() -> None:
    bench = Bench(Fault("dearer", factor=3))
    offered = (await bench.offers())[0]
    instance = await bench.rent(offered["id"])
    bench.advance(3)
    row = await bench.row(instance)
    assert row is not None
    assert row["dph_base"] == pytest.approx(offered["dph_base"] * 3)
    assert row["dph_total"] > offered["dph_total"]


@shows
async def other_gpu() -> None:
    bench = Bench(Fault("other_gpu", gpu="RTX 3090"))
    instance = await bench.running()
    row = await bench.row(instance)
    assert row is not None
    assert row["gpu_name"] == "RTX 3090"
    assert instance.cards == [("RTX 3090", 24_576)]


@shows
async def other_card_inside() -> None:
    bench = Bench(Fault("other_card_inside"))
    instance = await bench.running()
    row = await bench.row(instance)
    assert row is not None
    assert row["gpu_name"] == "RTX 4090"
    assert instance.cards == [("RTX 3090", 24_576)]


@shows
async def fewer_gpus() -> None:
    bench = Bench(Fault("fewer_gpus"), offers=60)
    pair = next(ask for ask in bench.world.market.free_asks() if ask.num_gpus == 2)
    instance = await bench.rent(pair.id)
    bench.advance(3)
    row = await bench.row(instance)
    assert row is not None
    assert row["num_gpus"] == 1
    assert instance.cards is not None
    assert len(instance.cards) == 1


@shows
async def smaller_disk() -> None:
    bench = Bench(Fault("smaller_disk", factor=0.25))
    instance = await bench.rent()
    bench.advance(3)
    row = await bench.row(instance)
    assert row is not None
    assert row["disk_space"] == 10


@shows
async def price_rises() -> None:
    bench = Bench(Fault("price_rises", factor=1.5))
    before = {row["id"]: row["dph_base"] for row in await bench.offers()}
    after = {row["id"]: row["dph_base"] for row in await bench.offers()}
    assert after == {number: pytest.approx(price * 1.5) for number, price in before.items()}


@shows
async def sold_out() -> None:
    bench = Bench(Fault("sold_out"))
    refused = await bench.order()
    assert (refused.status_code, refused.json()["error"]) == (410, "no_such_ask")
    assert bench.alive == []
    assert (await bench.order()).json()["success"] is True


@shows
async def hostile_offer() -> None:
    bench = Bench(Fault("hostile_offer", field="geolocation", kind="injection"))
    assert all("ignore earlier" in row["geolocation"] for row in await bench.offers())


@shows
async def hostile_text() -> None:
    bench = Bench(
        Fault("hostile_text", field="status_msg", kind="ansi"), Fault("hostile_text", field="log", kind="newline")
    )
    instance = await bench.running()
    row = await bench.row(instance)
    assert row is not None
    assert "\x1b[2J" in row["status_msg"]
    assert any("\n" in line for line in instance.log)


# -- fates


async def fated(name: str, **settings: float) -> tuple[Bench, Instance]:
    """A bench whose first instance has a fate, a booting time later."""
    bench = Bench(Fault.from_settings(name, settings))
    instance = await bench.rent(price=1.0 if name == "outbid" else None)
    bench.advance(BOOTED_S)
    return bench, instance


@shows
async def stuck_loading() -> None:
    bench, instance = await fated("stuck_loading")
    bench.advance(3600)
    assert instance.actual == "loading"
    assert instance.status_msg is not None
    assert "Download" in instance.status_msg


@shows
async def oci_failure() -> None:
    _, instance = await fated("oci_failure")
    assert instance.actual == "created"
    assert instance.status_msg is not None
    assert "OCI runtime create failed" in instance.status_msg


@shows
async def image_missing() -> None:
    _, instance = await fated("image_missing")
    assert instance.actual == "loading"
    assert instance.status_msg is not None
    assert "manifest unknown" in instance.status_msg


@shows
async def crash() -> None:
    bench, instance = await fated("crash", after_s=100)
    assert instance.actual == "running"
    bench.advance(100)
    assert states(instance) == ("exited", "running", "running", "running")


@shows
async def offline() -> None:
    _, instance = await fated("offline", after_s=50)
    assert instance.actual == "offline"


@shows
async def unknown_status() -> None:
    _, instance = await fated("unknown_status")
    assert instance.actual == "unknown"


@shows
async def frozen() -> None:
    _, instance = await fated("frozen")
    assert (instance.actual, instance.intended) == ("frozen", "frozen")


@shows
async def outbid() -> None:
    _, early = await fated("outbid", after_s=1)
    assert (early.intended, early.cur, early.next) == ("stopped", "stopped", "stopped")
    bench, late = await fated("outbid", after_s=80)
    bench.advance(30)
    assert (late.actual, late.intended) == ("exited", "running")


@shows
async def resources_unavailable() -> None:
    bench = Bench(Fault("resources_unavailable", seconds=600))
    instance = await bench.running()
    await bench.set(instance, state="stopped")
    bench.advance(5)
    assert (await bench.set(instance, state="running")).json()["error"] == "resources_unavailable"
    bench.advance(590)
    assert instance.actual == "exited"
    bench.advance(30)
    assert instance.actual == "running"


@shows
async def destroy_ignored() -> None:
    bench = Bench(Fault("destroy_ignored"))
    instance = await bench.running()
    assert (await bench.destroy(instance)).json() == {"success": True}
    assert bench.alive == [instance]
    await bench.destroy(instance)
    assert bench.alive == []


@shows
async def stop_ignored() -> None:
    bench = Bench(Fault("stop_ignored"))
    instance = await bench.running()
    assert (await bench.set(instance, state="stopped")).json() == {"success": True}
    bench.advance(60)
    assert instance.actual == "running"


@shows
async def lingering() -> None:
    bench = Bench(Fault("lingering", seconds=300))
    instance = await bench.running()
    await bench.destroy(instance)
    bench.advance(299)
    assert await bench.listed() == [instance.id]
    bench.advance(2)
    assert await bench.listed() == []


@shows
async def late_keys() -> None:
    bench = Bench(Fault("late_keys", seconds=90))
    await bench.send("POST", "/api/v0/ssh/", {"ssh_key": PUBLIC_KEY})
    instance = await bench.running()
    assert bench.world.authorized_keys(instance.id) == []
    bench.advance(30)
    assert bench.world.authorized_keys(instance.id) == [PUBLIC_KEY]


@shows
async def gpu_missing() -> None:
    _, instance = await fated("gpu_missing")
    assert instance.ssh_behaviour == "no_gpu"


@shows
async def ssh() -> None:
    bench = Bench(Fault("ssh", behaviour="hung_shell"))
    assert (await bench.running()).ssh_behaviour == "hung_shell"


@shows
async def host_key_change() -> None:
    bench = Bench(Fault("host_key_change"))
    instance = await bench.running()
    await bench.send("PUT", f"/api/v0/instances/reboot/{instance.id}/", {})
    assert instance.container == 1


# -- the schedule


async def test_a_fault_strikes_the_call_it_is_scheduled_for() -> None:
    bench = Bench(Fault("http_error", nth=2, times=2))
    statuses = [(await bench.order()).status_code for _ in range(4)]

    assert statuses == [200, 502, 502, 200]


async def test_a_fault_without_end_strikes_from_its_call_on() -> None:
    bench = Bench(Fault("http_error", nth=2, times=0))

    assert [(await bench.order()).status_code for _ in range(4)] == [200, 502, 502, 502]


async def test_a_fault_meets_the_operation_it_is_told() -> None:
    bench = Bench(Fault("http_error", operation="start"))
    instance = await bench.running()

    assert (await bench.set(instance, label="x")).status_code == 200
    assert (await bench.set(instance, state="running")).status_code == 502


async def test_calls_with_a_bad_key_are_not_counted() -> None:
    bench = Bench(Fault("http_error"))

    assert (await bench.send("PUT", "/api/v0/asks/1/", {}, key="wrong")).status_code == 404
    assert (await bench.order()).status_code == 502


async def test_two_faults_may_strike_one_call() -> None:
    bench = Bench(Fault("double_effect"), Fault("drop_reply"))
    with pytest.raises(httpx.RemoteProtocolError):
        await bench.order()

    assert len(bench.alive) == 2


async def test_a_fault_is_armed_from_outside() -> None:
    bench = Bench()
    await bench.order()
    armed = await bench.send("POST", "/__sim__/fault", {"name": "http_error", "status": 503}, key="")
    refused = await bench.send("POST", "/__sim__/fault", {"name": "nonsense"}, key="")

    assert armed.status_code == 200
    assert (await bench.order()).status_code == 503
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_fault")


def test_the_ssh_fault_knows_every_behaviour() -> None:
    assert set(SSH_BEHAVIOURS) == set(BEHAVIOURS)


def test_a_fault_is_read_from_the_command_line() -> None:
    fault = Fault.parse("late_effect:operation=create:nth=3:seconds=2.5")

    assert (fault.name, fault.operation, fault.nth, fault.times) == ("late_effect", "create", 3, 1)
    assert fault.settings == {"seconds": 2.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "got the fault 'nonsense', allowed: "),
        ("delay:color=red", "got the setting 'color' for the fault 'delay', allowed: seconds"),
        ("delay:seconds", "expected key=value"),
        ("delay:operation=crate", r"got operation=crate for the fault 'delay', allowed: \*, .*create, create_bulk"),
        ("delay:nth=0", "nth 1 or more"),
        ("http_error:body=red", "got body=red for the fault 'http_error', allowed: text, html, json, empty"),
        ("ssh:behaviour=rude", "got behaviour=rude"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault.parse(text)
