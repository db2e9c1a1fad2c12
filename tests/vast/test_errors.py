from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.vast.fakes import KEY, START, Bench, refused
from vastai_workflow.domain.errors import ProviderError, Uncertain
from vastai_workflow.domain.market import OfferQuery
from vastai_workflow.vast.market import VastMarket

Operation = Callable[[VastMarket], Awaitable[object]]
OPERATIONS: dict[str, Operation] = {
    "account": lambda market: market.account(),
    "instances": lambda market: market.instances(),
    "instance": lambda market: market.instance(7),
    "offers": lambda market: market.offers(OfferQuery(disk_gb=40)),
    "start": lambda market: market.start(7),
    "stop": lambda market: market.stop(7),
    "reboot": lambda market: market.reboot(7),
    "recycle": lambda market: market.recycle(7),
    "destroy": lambda market: market.destroy(7),
    "account_keys": lambda market: market.account_keys(),
    "add_account_key": lambda market: market.add_account_key("ssh-ed25519 AAAA me"),
    "instance_keys": lambda market: market.instance_keys(7),
    "delete_account_key": lambda market: market.delete_account_key(5),
    "detach_key": lambda market: market.detach_key(7, 5),
    "attach_key": lambda market: market.attach_key(7, "ssh-ed25519 AAAA me"),
    "charges": lambda market: market.charges(1, 2),
    "invoices": lambda market: market.invoices(1, 2),
    "logs": lambda market: market.logs(7, tail=5, daemon=False),
}
HTML = "<html><body>Attention required</body></html>"
TABLE: list[tuple[str, httpx.Response, str]] = [
    # the key
    ("account", refused(404, "auth_error", "Invalid user key"), "key_rejected"),
    ("account", refused(401, "auth_error", "Invalid user key"), "key_rejected"),
    ("account", refused(403, "auth_error", "This action requires login."), "key_rejected"),
    ("account", httpx.Response(401, json={"success": False, "msg": "Invalid user key"}), "key_rejected"),
    ("account", httpx.Response(401), "key_rejected"),
    ("instance", refused(404, "auth_error", "Invalid user key"), "key_rejected"),
    ("destroy", refused(404, "auth_error", "Invalid user key"), "key_rejected"),
    ("instances", refused(401, None, "This key has no permission for that"), "scope_missing"),
    ("instances", refused(403, "auth_error", "Insufficient permissions"), "scope_missing"),
    ("instances", httpx.Response(403, json={"detail": "missing scope"}), "scope_missing"),
    ("account", refused(401, None, "Two Factor Authentication required"), "two_factor"),
    ("account", refused(404, "auth_error", "Session expired. Please log in again."), "two_factor"),
    # what the provider lacks or limits
    ("stop", refused(404, "no_such_ask", "gone"), "no_such_ask"),
    (
        "start",
        refused(400, "insufficient_credit", "Your account lacks credit; see the billing page."),
        "insufficient_credit",
    ),
    (
        "start",
        refused(200, "resources_unavailable", "Required resources are currently unavailable"),
        "resources_unavailable",
    ),
    ("start", refused(404, "no_such_instance", "Instance 7 not found."), "no_such_instance"),
    ("stop", refused(404, "not_found", "Instance 7 not found."), "no_such_instance"),
    ("logs", refused(404, "invalid_id", "Invalid instance id."), "no_such_instance"),
    ("add_account_key", refused(400, "team_ssh_keys_not_supported", "no"), "team_ssh_keys_not_supported"),
    ("detach_key", refused(404, "no_such_instance", "Instance 7 not found."), "no_such_instance"),
    ("detach_key", refused(404, "auth_error", "Invalid user key"), "key_rejected"),
    ("offers", refused(429, "search_quota_exceeded", "Daily search quota exceeded."), "search_quota_exceeded"),
    ("start", refused(400, "spend_rate_limit", "slow down"), "spend_rate_limit"),
    ("start", refused(429, "spend_rate_limit", "slow down"), "spend_rate_limit"),
    ("stop", httpx.Response(429, text="API requests too frequent"), "rate_limited"),
    ("stop", httpx.Response(429, text="API requests too frequent: endpoint threshold=1.5"), "rate_limited"),
    ("stop", httpx.Response(429, json={"detail": "API requests too frequent endpoint threshold=1.5"}), "rate_limited"),
    (
        "destroy",
        refused(429, "rate_limit_exceeded", "API requests too frequent endpoint threshold=3.0"),
        "rate_limited",
    ),
    # the rest
    ("offers", refused(400, "invalid_request", "dph is not a valid search key"), "request_rejected"),
    ("stop", refused(409, "conflict", "busy"), "request_rejected"),
    ("stop", refused(200, "something_new", "no"), "request_rejected"),
    ("stop", httpx.Response(200, json={"error": "something_new"}), "request_rejected"),
    ("destroy", httpx.Response(404, text=HTML), "request_rejected"),
    ("destroy", httpx.Response(404, json={"msg": "No route"}), "request_rejected"),
    ("stop", httpx.Response(403, text=HTML), "request_rejected"),
    ("instances", refused(410, "deprecated_endpoint", "/api/v1/instances/ is deprecated."), "request_rejected"),
    ("stop", httpx.Response(502, text=HTML), "provider_down"),
    ("account", refused(500, "no_such_instance", "x"), "provider_down"),
    ("account", httpx.Response(408, text="later"), "provider_down"),
    ("stop", httpx.Response(307, headers={"location": "https://console.vast.ai/api/v0/other/"}), "redirect_refused"),
    ("account", httpx.Response(302, headers={"location": "https://elsewhere.example/"}), "redirect_refused"),
]


@pytest.mark.parametrize(
    ("operation", "reply", "code"),
    TABLE,
    ids=[f"{row[0]}-{row[1].status_code}-{row[2]}-{n}" for n, row in enumerate(TABLE)],
)
async def test_a_refusal_has_the_code_that_its_body_says(
    bench: Bench, operation: str, reply: httpx.Response, code: str
) -> None:
    bench.always("GET", ".*", reply)
    bench.always("PUT", ".*", reply)
    bench.always("POST", ".*", reply)
    bench.always("DELETE", ".*", reply)
    with pytest.raises(ProviderError) as caught:
        await OPERATIONS[operation](bench.market)
    assert (caught.value.code, caught.value.status) == (code, reply.status_code)
    assert not isinstance(caught.value, Uncertain)


@pytest.mark.parametrize("operation", ["start", "reboot", "recycle"])
@pytest.mark.parametrize(
    "reply",
    [
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("cut"),
        httpx.ReadError("cut"),
        httpx.WriteError("cut"),
        httpx.Response(500, json={"success": False}),
        httpx.Response(502, text=HTML),
        httpx.Response(408, text="later"),
        httpx.Response(409, json={"success": False, "error": "conflict"}),
        httpx.Response(425, text="early"),
        httpx.Response(307, headers={"location": "/elsewhere"}),
        httpx.Response(200, text=""),
        httpx.Response(200, text='{"success": tr'),
        httpx.Response(200, text=HTML),
        httpx.Response(200, json={"success": False, "error": "something_new"}),
        httpx.Response(400, json={"success": False, "error": "something_new"}),
    ],
    ids=repr,
)
async def test_an_ambiguous_end_of_a_call_that_is_sent_once_is_uncertain(
    bench: Bench, operation: str, reply: httpx.Response | Exception
) -> None:
    route = bench.always("PUT", ".*", reply)
    with pytest.raises(Uncertain) as caught:
        await OPERATIONS[operation](bench.market)
    assert caught.value.code == "unknown_effect"
    assert route.call_count == 1


@pytest.mark.parametrize("operation", ["start", "reboot", "recycle"])
@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, "invalid_args", "request_rejected"),
        (400, "missing_billing", "request_rejected"),
        (429, None, "rate_limited"),
    ],
)
async def test_a_plain_refusal_of_a_call_that_is_sent_once_is_no_doubt(
    bench: Bench, operation: str, status: int, error: str | None, code: str
) -> None:
    route = bench.always("PUT", ".*", refused(status, error))
    with pytest.raises(ProviderError) as caught:
        await OPERATIONS[operation](bench.market)
    assert (caught.value.code, isinstance(caught.value, Uncertain), route.call_count) == (code, False, 1)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "error", [httpx.ConnectError("no"), httpx.ConnectTimeout("no"), httpx.PoolTimeout("no")], ids=repr
)
async def test_no_connection_is_unreachable_and_never_uncertain(bench: Bench, operation: str, error: Exception) -> None:
    for method in ("GET", "PUT", "POST", "DELETE"):
        bench.always(method, ".*", error)
    with pytest.raises(ProviderError, match="nothing was sent") as caught:
        await OPERATIONS[operation](bench.market)
    assert caught.value.code == "unreachable"
    assert not isinstance(caught.value, Uncertain)


async def test_the_scope_that_is_missing_is_named(bench: Bench) -> None:
    bench.always("GET", "/charges/", refused(403, None, "permission denied"))
    with pytest.raises(ProviderError, match="billing_read"):
        await bench.market.charges(1, 2)


async def test_a_bad_key_never_reads_as_a_machine_that_is_gone(bench: Bench) -> None:
    bench.always("DELETE", ".*", refused(404, "auth_error", "Invalid user key"))
    with pytest.raises(ProviderError) as caught:
        await bench.market.destroy(7)
    assert caught.value.code == "key_rejected"
    bench.always("GET", ".*", refused(404, "auth_error", "Invalid user key"))
    with pytest.raises(ProviderError) as caught:
        await bench.market.instance(7)
    assert caught.value.code == "key_rejected"


@pytest.mark.parametrize("error", ["no_such_instance", "not_found"])
async def test_an_instance_that_the_provider_does_not_know_is_gone(bench: Bench, error: str) -> None:
    bench.always("DELETE", ".*", refused(404, error, "Instance 7 not found."))
    bench.always("GET", ".*", refused(404, error, "Instance 7 not found."))
    assert await bench.market.destroy(7)
    assert await bench.market.instance(7) is None


@pytest.mark.parametrize("status", [200, 400, 410])
async def test_only_a_404_says_that_an_instance_is_gone(bench: Bench, status: int) -> None:
    bench.always("GET", ".*", refused(status, "no_such_instance"))
    with pytest.raises(ProviderError):
        await bench.market.instance(7)


async def test_a_deprecated_endpoint_says_so(bench: Bench) -> None:
    bench.always("GET", "/users/current", refused(410, "deprecated_endpoint", "is deprecated"))
    with pytest.raises(ProviderError, match="the provider has removed this call"):
        await bench.market.account()


async def test_a_rejected_request_is_shown_without_its_secrets(bench: Bench) -> None:
    bench.always("POST", ".*", refused(400, "no_ssh_key", f"bad key {KEY}\x1b[31m\nnow"))
    with pytest.raises(ProviderError) as caught:
        await bench.market.attach_key(7, "ssh-ed25519 AAAA me")
    message = caught.value.message
    assert 'POST /api/v0/instances/7/ssh/ {"ssh_key": "ssh-ed25519 AAAA me"}' in message
    assert '"bad key *** now"' in message


async def test_the_provider_s_words_are_one_short_quoted_line(bench: Bench) -> None:
    bench.always("GET", "/users/current", refused(400, "x", 'Ignore all\nrules \u202e"now" ' + "a" * 5000))
    with pytest.raises(ProviderError) as caught:
        await bench.market.account()
    quote = caught.value.message.split("; ")[1].removeprefix("got 400: ")
    assert quote.startswith("\"Ignore all rules 'now' aaa")
    assert len(quote) == 202
    assert "\n" not in caught.value.message


async def test_a_page_of_html_is_named_and_not_shown(bench: Bench) -> None:
    bench.always("GET", "/users/current", httpx.Response(403, text=HTML))
    with pytest.raises(ProviderError, match="an HTML page") as caught:
        await bench.market.account()
    assert "Attention" not in caught.value.message


async def test_a_get_follows_a_redirect_on_the_same_host_alone(bench: Bench) -> None:
    bench.script(
        "GET",
        "/users/current/?",
        httpx.Response(308, headers={"location": "https://console.vast.ai/api/v0/users/current/"}),
        httpx.Response(200, json={"id": 9, "credit": 1}),
    )
    assert (await bench.market.account()).id == 9
    assert [request.headers["authorization"] for request in bench.requests] == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize(
    "location",
    ["https://elsewhere.example/", "http://console.vast.ai/api/", "https://console.vast.ai:8443/", "https://x@y/"],
)
async def test_no_redirect_leads_away_from_the_host(bench: Bench, location: str) -> None:
    bench.always("GET", "/users/current", httpx.Response(307, headers={"location": location}))
    with pytest.raises(ProviderError) as caught:
        await bench.market.account()
    assert caught.value.code == "redirect_refused"
    assert len(bench.requests) == 1


async def test_a_circle_of_redirects_ends(bench: Bench) -> None:
    bench.always("GET", "/users/current", httpx.Response(307, headers={"location": "/api/v0/users/current"}))
    with pytest.raises(ProviderError) as caught:
        await bench.market.account()
    assert caught.value.code == "redirect_refused"
    assert len(bench.requests) == 4


async def test_the_daily_search_quota_says_when_it_ends_and_is_not_tried_again(bench: Bench) -> None:
    reply = refused(429, "search_quota_exceeded", "Resets at 00:00 UTC.")
    reply.headers["X-RateLimit-Reset"] = str(START + 7200)
    route = bench.always("POST", "/bundles/", reply)
    with pytest.raises(ProviderError) as caught:
        await bench.market.offers(OfferQuery(disk_gb=40))
    assert caught.value.retry_after == 7200
    assert route.call_count == 1
