import httpx
import pytest
from pydantic import SecretStr

from tests.vast.fakes import KEY, Bench, create_request, refused, sent_json
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.market import MaybeRented, NotRented, Rented, RentedWithError

NO_ASK = "error 404/3603: no_such_ask Instance type by id 5 is not available."
HTML = "<html>Bad gateway</html>"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (refused(404, "invalid_args", NO_ASK), "no_such_ask"),
        (
            refused(410, "no_such_ask", "error 410/3907: no_such_ask Instance type 5 is no longer available."),
            "no_such_ask",
        ),
        (refused(400, "no_such_ask", "stale"), "no_such_ask"),
        (
            refused(400, "insufficient_credit", "Your account lacks credit; see the billing page."),
            "insufficient_credit",
        ),
        (refused(400, "invalid_args", "error 400/3467: Invalid args: disk"), "request_rejected"),
        (refused(400, "invalid_price", "too low"), "request_rejected"),
        (refused(400, "no_ssh_key_for_vm", "no key"), "request_rejected"),
        (refused(403, "invalid_args", "host may only rent own machine"), "request_rejected"),
        (refused(404, "auth_error", "Invalid user key"), "key_rejected"),
        (refused(401, "auth_error", "Invalid user key"), "key_rejected"),
        (refused(403, "auth_error", "This action requires login."), "key_rejected"),
        (refused(401, None, "no permission: instance_write"), "scope_missing"),
        (refused(403, None, "no permission: instance_write"), "scope_missing"),
        (refused(401, None, "Two Factor Authentication needed"), "two_factor"),
        (refused(400, "spend_rate_limit", "new account"), "spend_rate_limit"),
        (refused(403, "spend_rate_limit", "new account"), "spend_rate_limit"),
        (httpx.Response(429, text="API requests too frequent: endpoint threshold=4.5"), "rate_limited"),
        (httpx.Response(429, json={"detail": "API requests too frequent endpoint threshold=4.5"}), "rate_limited"),
        (refused(429, "rate_limit_exceeded", "too frequent"), "rate_limited"),
        (httpx.Response(429), "rate_limited"),
        (httpx.Response(429, text=HTML), "rate_limited"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.status_code),
)
async def test_a_known_refusal_proves_that_nothing_was_rented(bench: Bench, reply: httpx.Response, code: str) -> None:
    route = bench.always("PUT", "/asks/5/", reply)
    outcome = await bench.market.create(5, create_request())
    assert isinstance(outcome, NotRented)
    assert (outcome.code, route.call_count) == (code, 1)


@pytest.mark.parametrize(
    "reply",
    [
        httpx.ReadTimeout("late"),
        httpx.WriteTimeout("late"),
        httpx.ReadError("reset"),
        httpx.WriteError("broken pipe"),
        httpx.CloseError("closed"),
        httpx.RemoteProtocolError("cut in the body"),
        httpx.DecodingError("bad gzip"),
        httpx.Response(500, json={"success": False, "error": "no_such_ask"}),
        httpx.Response(502, text=HTML),
        httpx.Response(503, json={"success": False, "error": "insufficient_credit"}),
        httpx.Response(408, text="time-out"),
        refused(409, "invalid_args"),
        refused(425, "invalid_args"),
        refused(400, "something_new"),
        refused(404, "invalid_args", "another thing is missing"),
        refused(404, None, "not found"),
        refused(400, "no_such_instance"),
        refused(400, "auth_error", "Invalid user key"),
        refused(410, "deprecated_endpoint"),
        refused(200, "something_new"),
        refused(200, "insufficient_credit"),
        refused(200, None),
        httpx.Response(400, json={"success": True, "error": "invalid_args"}),
        httpx.Response(403, text=HTML),
        httpx.Response(401),
        httpx.Response(404, text="no_such_ask?"[:7]),
        httpx.Response(301, headers={"location": "https://console.vast.ai/api/v0/asks/5/"}),
        httpx.Response(307, headers={"location": "https://elsewhere.example/"}),
        httpx.Response(204),
        httpx.Response(200),
        httpx.Response(200, text='{"success": true, "new_contract": 123'),
        httpx.Response(200, text=HTML),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"success": True}),
        httpx.Response(200, json={"success": True, "new_contract": None}),
        httpx.Response(200, json={"success": True, "new_contract": True}),
        httpx.Response(200, json={"success": True, "new_contract": -1}),
        httpx.Response(200, json={"success": True, "new_contract": 1.5}),
    ],
    ids=lambda value: f"{value!r}-{value.text[:60]}" if isinstance(value, httpx.Response) else repr(value),
)
async def test_everything_else_leaves_the_order_unknown_and_is_sent_once(
    bench: Bench, reply: httpx.Response | Exception
) -> None:
    route = bench.always("PUT", "/asks/5/", reply)
    outcome = await bench.market.create(5, create_request())
    assert isinstance(outcome, MaybeRented)
    assert outcome.reason
    assert route.call_count == 1
    assert bench.clock.waits == []


@pytest.mark.parametrize("contract", [31415926, "31415926"])
async def test_a_success_names_the_instance(bench: Bench, contract: object) -> None:
    body = {"success": True, "new_contract": contract, "instance_api_key": "sesame"}
    bench.always("PUT", "/asks/5/", httpx.Response(200, json=body))
    assert await bench.market.create(5, create_request()) == Rented(31415926)


@pytest.mark.parametrize("status", [200, 400, 404, 410, 429, 500, 502])
@pytest.mark.parametrize("error", ["no_such_ask", "insufficient_credit", "auth_error", "something_new"])
async def test_an_error_that_names_an_instance_is_a_rented_machine(bench: Bench, status: int, error: str) -> None:
    bench.always("PUT", "/asks/5/", refused(status, error, new_contract=31415926))
    outcome = await bench.market.create(5, create_request())
    assert isinstance(outcome, RentedWithError)
    assert outcome.instance_id == 31415926


@pytest.mark.parametrize("error", [httpx.ConnectError("no"), httpx.ConnectTimeout("no"), httpx.PoolTimeout("no")])
async def test_a_connection_that_never_stood_sent_nothing(bench: Bench, error: Exception) -> None:
    route = bench.always("PUT", "/asks/5/", error)
    with pytest.raises(ProviderError, match="nothing was sent") as caught:
        await bench.market.create(5, create_request())
    assert (caught.value.code, route.call_count) == ("unreachable", 1)


@pytest.mark.parametrize(
    ("headers", "words", "seconds"),
    [({"retry-after": "12"}, "x", 12), ({}, "threshold=4.5", 4.5), ({}, "too frequent", None)],
)
async def test_a_429_says_how_long_to_wait_and_the_client_does_not_wait_itself(
    bench: Bench, headers: dict[str, str], words: str, seconds: float | None
) -> None:
    bench.always("PUT", "/asks/5/", httpx.Response(429, headers=headers, text=words))
    outcome = await bench.market.create(5, create_request())
    assert isinstance(outcome, NotRented)
    assert outcome.retry_after == seconds
    assert bench.clock.waits == []


async def test_the_marker_wins_over_the_user_s_environment(bench: Bench) -> None:
    bench.always("PUT", "/asks/5/", httpx.Response(200, json={"success": True, "new_contract": 1}))
    theirs = {"HF_TOKEN": SecretStr("hf_sesame"), "VASTAI_WORKFLOW_ORDER": SecretStr("store.another")}
    ports = ("8080:8080", "53:53/udp")
    await bench.market.create(5, create_request(order_marker="store.order", env=theirs, ports=ports))
    assert sent_json(bench.requests[0])["env"] == {
        "HF_TOKEN": "hf_sesame",
        "-p 8080:8080": "1",
        "-p 53:53/udp": "1",
        "VASTAI_WORKFLOW_ORDER": "store.order",
    }


async def test_the_user_s_secrets_do_not_come_back_in_an_outcome(bench: Bench) -> None:
    words = f"Invalid args: HF_TOKEN=hf_sesame onstart='curl -u me:pw x' {KEY}"
    for ask, reply in ((5, refused(400, "invalid_args", words)), (6, refused(500, "x", words))):
        bench.always("PUT", f"/asks/{ask}/", reply)
        outcome = await bench.market.create(ask, create_request(onstart="curl -u me:pw x"))
        assert not isinstance(outcome, Rented)
        for secret in ("hf_sesame", "me:pw", KEY):
            assert secret not in repr(outcome)


async def test_an_answer_to_a_create_that_can_t_be_read_is_kept_for_a_person(bench: Bench) -> None:
    bench.always("PUT", "/asks/5/", httpx.Response(200, text='{"new_contract": 12, "instance_api_key": "sesame"'))
    outcome = await bench.market.create(5, create_request())
    assert isinstance(outcome, MaybeRented)
    (path,) = bench.saved
    assert str(path) in outcome.reason
    assert "12" in path.read_text()
    assert "sesame" not in path.read_text()
