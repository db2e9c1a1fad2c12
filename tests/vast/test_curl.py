"""Each request as a curl line: what was sent, for a shell, with every secret masked."""

import json
import shlex

import httpx
import pytest
from pydantic import SecretStr

from tests.vast.fakes import KEY, Bench, create_request
from vastai_workflow.domain.errors import ProviderError

AUTHORIZATION = '-H "Authorization: Bearer $VAST_API_KEY"'


def parts(line: str) -> tuple[str, str, list[str], str | None]:
    """Method, address, headers and body, as a shell would hand them over."""
    words = shlex.split(line)
    assert words[:3] == ["curl", "-sS", "-X"]
    headers = [words[place + 1] for place, word in enumerate(words) if word == "-H"]
    body = words[words.index("-d") + 1] if "-d" in words else None
    return words[3], words[4], headers, body


@pytest.mark.requirement("RESOURCE-3")
async def test_a_line_says_what_was_sent_and_masks_every_secret(bench: Bench) -> None:
    bench.always("PUT", "/asks/5/", httpx.Response(200, json={"success": True, "new_contract": 7}))
    request = create_request(
        env={"HF_TOKEN": SecretStr("hf_sesame"), "A": SecretStr("it's $HOME `x`")},
        onstart="curl -H 'X: on-sesame'",
        label="it's mine; rm -rf /",
    )
    await bench.market.create(5, request)
    [call] = bench.calls
    method, address, headers, body = parts(call.curl)
    [sent] = bench.requests
    assert (method, address) == (sent.method, str(sent.url))
    assert headers == ["Authorization: Bearer $VAST_API_KEY", "Content-Type: application/json"]
    assert AUTHORIZATION in call.curl
    assert body is not None
    shown, was = json.loads(body), json.loads(sent.content)
    assert set(shown["env"]) == set(was["env"])
    assert set(shown["env"].values()) == {"***"}
    assert shown["onstart"] == "***"
    kept = set(was) - {"env", "onstart"}
    assert {name: shown[name] for name in kept} == {name: was[name] for name in kept}
    assert not [secret for secret in (KEY, "sesame", "$HOME") if secret in call.curl]
    assert (call.answer, call.changes, call.at) == ("status 200", True, bench.clock.time)


@pytest.mark.requirement("RESOURCE-3")
async def test_a_look_is_told_with_its_query_and_no_key_where_none_is_sent(bench: Bench) -> None:
    bench.always("GET", "/instances/7/", httpx.Response(200, json={"instances": None}))
    bench.always("GET", "/gpu_names/unique/", httpx.Response(200, json={"gpu_names": ["RTX 4090"]}))
    await bench.market.instance(7)
    await bench.market.gpu_names()
    look, names = bench.calls
    assert parts(look.curl) == ("GET", str(bench.requests[0].url), ["Authorization: Bearer $VAST_API_KEY"], None)
    assert parts(names.curl) == ("GET", str(bench.requests[1].url), [], None)
    assert not look.changes
    assert not names.changes


@pytest.mark.requirement("RESOURCE-3")
async def test_each_try_is_told_with_what_came_of_it(bench: Bench) -> None:
    bench.script(
        "GET",
        "/users/current",
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(503, text=KEY),
        httpx.Response(200, json={"id": 9, "credit": 1}),
    )
    await bench.market.account()
    assert [call.answer for call in bench.calls] == [
        *("nothing was sent (ConnectError)", "no answer", "status 503", "status 200"),
    ]


@pytest.mark.requirement("RESOURCE-3")
async def test_the_key_is_masked_wherever_an_agent_puts_it(bench: Bench) -> None:
    bench.always("POST", "/ssh/", httpx.Response(400, json={"success": False, "error": "bad"}))
    with pytest.raises(ProviderError):
        await bench.market.add_account_key(f"ssh-ed25519 AAAA {KEY}")
    [call] = bench.calls
    assert KEY not in call.curl
    assert "ssh-ed25519 AAAA ***" in call.curl
