import json
import logging
import stat
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from tests.vast.fakes import KEY, Bench, create_request, instance_row, refused
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.vast.market import VastMarket
from vastai_workflow.vast.scrub import masked, quoted, without

Operation = Callable[[VastMarket], Awaitable[object]]
SECRETS = ("jupyter-sesame", "hf_sesame", "instance-sesame", "pass-sesame", "key-sesame", KEY)
ANSWER = json.dumps(
    {
        "api_key": "key-sesame",
        "instances": [instance_row(instance_api_key="instance-sesame", password="pass-sesame")],
        "msg": f"for {KEY}",
    }
)


async def failure_of(call: Awaitable[object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize(
    "content", [ANSWER, ANSWER[:-1], ANSWER[:-40], ANSWER.replace('"id": 31415926', '"id": null')], ids=len
)
async def test_an_answer_that_can_t_be_read_is_saved_without_secrets_for_the_user_alone(
    bench: Bench, content: str
) -> None:
    route = bench.always("GET", "/instances/7/", httpx.Response(200, text=content))
    error = await failure_of(bench.market.instance(7))
    (path,) = bench.saved
    text = path.read_text()
    assert error.code == "unreadable_answer"
    assert str(path) in error.message
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert route.call_count == 2
    assert "RTX 4090" in text
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("content", ["", "  ", "{", "<html></html>", "null", "[]", '"text"', "NaN", '{"id": 1e5'])
async def test_an_empty_or_broken_answer_is_asked_for_once_more(bench: Bench, content: str) -> None:
    good = httpx.Response(200, json={"id": 9, "credit": 1})
    route = bench.script("GET", "/users/current", httpx.Response(200, text=content), good)
    assert (await bench.market.account()).id == 9
    assert route.call_count == 2
    assert bench.saved == []


async def test_a_start_is_not_sent_again_for_an_empty_answer(bench: Bench) -> None:
    route = bench.always("PUT", "/instances/7/", httpx.Response(200, text=""))
    error = await failure_of(bench.market.start(7))
    assert (error.code, route.call_count, len(bench.saved)) == ("unknown_effect", 1, 1)


async def test_a_folder_that_takes_no_file_leaves_the_error_without_one(bench: Bench) -> None:
    bench.always("GET", "/users/current", httpx.Response(200, text="{"))
    bench.answers_dir.rmdir()
    error = await failure_of(bench.market.account())
    assert "could not be saved" in error.message


@pytest.mark.parametrize(
    "text",
    [
        '{"api_key": "sesame"}',
        '{"api_key": "sesame',
        '{"instance_api_key":"sesame","a":1}',
        '{"jupyter_token" : "se\\"sesame"}',
        "{'password': 'sesame'}",
        "password=sesame&x=1",
        "Authorization: Bearer sesame",
        '{"headers": {"authorization": "Bearer sesame"}}',
        '{"key": "{\\"private_key\\": \\"sesame\\"}"}',
        '{"secrets": {"HF": "sesame", "B": "sesame"}}',
        '{"secret_list": ["sesame", "sesame"]}',
        '{"extra_env": [["HF", "sesame"], ["B", "x]]sesame"]], "id": 5}',
        '{"extra_env": [["HF", "ses',
        '{"env": {"HF": "sesame", "B": "sesame',
        '{"onstart": "curl -u a:sesame x"}',
        "token: sesame",
        "API_KEY=sesame",
    ],
)
def test_what_stands_under_a_secret_s_name_is_masked_in_any_text(text: str) -> None:
    assert "ses" not in without(text)


def test_masking_keeps_what_is_no_secret() -> None:
    body = {
        "id": 7,
        "label": "lab",
        "env": {"A": "x"},
        "extra_env": [["A", "x"], "B=y", 5],
        "api_key": "k",
        "token": None,
    }
    assert masked(body) == {
        "id": 7,
        "label": "lab",
        "env": {"A": "***"},
        "extra_env": [["A", "***"], "B=***", "***"],
        "api_key": "***",
        "token": None,
    }


def test_a_short_env_value_does_not_garble_the_words() -> None:
    assert quoted("error 400: 1 of 1", ("1", "yes")) == '"error 400: 1 of 1"'


CALLS: list[Operation] = [
    lambda market: market.account(),
    lambda market: market.instances(),
    lambda market: market.start(7),
    lambda market: market.destroy(7),
    lambda market: market.create(5, create_request()),
    lambda market: market.attach_key(7, "ssh-ed25519 AAAA"),
    lambda market: market.charges(1, 2),
    lambda market: market.logs(7, tail=5, daemon=True),
]
REPLIES: list[httpx.Response | Exception] = [
    refused(404, "auth_error", f"Invalid user key {KEY}"),
    refused(400, "x", f"bad request {KEY}"),
    refused(200, KEY, KEY),
    httpx.Response(500, text=KEY),
    httpx.Response(429, text=KEY, headers={"Retry-After": KEY}),
    httpx.Response(200, text=KEY),
    httpx.Response(200, text=f'{{"api_key": "{KEY}'),
    httpx.Response(302, headers={"location": f"https://x.example/{KEY}"}),
    httpx.ReadTimeout(KEY),
    httpx.ConnectError(KEY),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
async def test_the_key_is_in_a_header_and_nowhere_else(
    bench: Bench, call: Operation, reply: httpx.Response | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for method in ("GET", "PUT", "POST", "DELETE"):
        bench.always(method, ".*", reply)
    try:
        shown = repr(await call(bench.market))
    except ProviderError as error:
        shown = "".join(traceback.format_exception(error)) + error.sentence + repr(error)
    shown += caplog.text + repr(bench.client) + repr(bench.market) + repr(vars(bench.client))
    shown += "".join(path.read_text() for path in bench.saved)
    assert KEY not in shown
    for request in bench.requests:
        assert KEY not in str(request.url)
        assert KEY.encode() not in request.content
        assert request.headers["authorization"] == f"Bearer {KEY}"


def test_a_link_planted_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    from vastai_workflow.vast.scrub import save  # noqa: PLC0415 # used here alone
    from vastai_workflow.vast.wire import answer  # noqa: PLC0415 # the same

    paths = {save(answer(200, {}, b"x"), (), tmp_path) for _ in range(3)}
    assert len(paths) == 3
