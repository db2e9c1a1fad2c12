import httpx
import pytest

from tests.vast.fakes import KEY, START, Bench
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.vast.hosts import is_loopback, may_hold_logs
from vastai_workflow.vast.logs import MAX_BYTES

S3 = "https://s3.amazonaws.com/vast.ai/instance_logs/abc.log"


def asked(bench: Bench, url: str = S3) -> None:
    bench.always("PUT", "/instances/request_logs/7/", httpx.Response(200, json={"success": True, "result_url": url}))


def stored(bench: Bench, *replies: httpx.Response | Exception, url: str = S3) -> None:
    left = list(replies)

    def answered(request: httpx.Request) -> httpx.Response:
        bench.requests.append(request)
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    bench.router.get(url).mock(side_effect=answered)


async def test_a_log_is_fetched_without_the_key_when_it_is_there(bench: Bench) -> None:
    asked(bench)
    stored(bench, httpx.Response(404), httpx.Response(403), httpx.ReadTimeout("x"), httpx.Response(200, text="a\nb\n"))
    assert await bench.market.logs(7, tail=50, daemon=False) == "a\nb"
    assert bench.requests[0].content == b'{"tail":"50"}'
    assert all("authorization" not in request.headers for request in bench.requests[1:])
    assert all(KEY not in str(request.headers) for request in bench.requests[1:])


async def test_the_daemon_s_log_is_asked_for_by_its_flag(bench: Bench) -> None:
    asked(bench)
    stored(bench, httpx.Response(200, text="x"))
    await bench.market.logs(7, tail=5, daemon=True)
    assert bench.requests[0].content == b'{"tail":"5","daemon_logs":"true"}'


async def test_a_log_that_never_comes_is_given_up_after_ten_seconds(bench: Bench) -> None:
    asked(bench)
    stored(bench, httpx.Response(404))
    with pytest.raises(ProviderError, match="not ready"):
        await bench.market.logs(7, tail=5, daemon=False)
    assert 9 <= bench.clock.now() - START <= 10


async def test_only_the_newest_lines_of_a_long_log_are_kept(bench: Bench) -> None:
    asked(bench)
    stored(bench, httpx.Response(200, text="".join(f"line {number}\n" for number in range(100_000))))
    text = await bench.market.logs(7, tail=10**6, daemon=False)
    assert len(text) <= MAX_BYTES
    assert text.endswith("line 99999")
    assert await bench.market.logs(7, tail=2, daemon=False) == "line 99998\nline 99999"


async def test_bytes_that_are_no_text_are_replaced(bench: Bench) -> None:
    asked(bench)
    stored(bench, httpx.Response(200, content=b"a\xff\xfeb"))
    assert await bench.market.logs(7, tail=5, daemon=False) == "a\ufffd\ufffdb"


@pytest.mark.parametrize("status", [301, 302, 400, 401])
async def test_another_answer_for_a_log_is_an_error_and_no_redirect_is_followed(bench: Bench, status: int) -> None:
    asked(bench)
    stored(bench, httpx.Response(status, headers={"location": "http://169.254.169.254/"}))
    with pytest.raises(ProviderError) as caught:
        await bench.market.logs(7, tail=5, daemon=False)
    assert caught.value.code == "unreadable_answer"
    assert len(bench.requests) == 2


REFUSED = [
    "http://s3.amazonaws.com/x.log",
    "https://169.254.169.254/latest/meta-data",
    "https://127.0.0.1/x.log",
    "https://[::1]/x.log",
    "https://localhost/x.log",
    "https://10.0.0.1/x.log",
    "https://2130706433/x.log",
    "https://0x7f.1/x.log",
    "https://amazonaws.com.evil.example/x.log",
    "https://notvast.ai/x.log",
    "https://evil.example/vast.ai",
    "https://s3.amazonaws.com@evil.example/x.log",
    "https://me:pw@s3.amazonaws.com/x.log",
    "https://s3.amazonaws.com:8443/x.log",
    "https://ec2-10-0-0-1.compute-1.amazonaws.com/x.log",
    "file:///etc/passwd",
    "ftp://s3.amazonaws.com/x",
    "//s3.amazonaws.com/x",
    "",
    "https://",
    "https://[",
    "\x00",
]


@pytest.mark.parametrize("address", REFUSED)
async def test_a_log_is_fetched_from_nowhere_else(bench: Bench, address: str) -> None:
    asked(bench, address)
    with pytest.raises(ProviderError) as caught:
        await bench.market.logs(7, tail=5, daemon=False)
    assert caught.value.code == "redirect_refused"
    assert len(bench.requests) == 1


@pytest.mark.parametrize(
    "address",
    [
        S3,
        "https://vast-logs.s3.us-east-1.amazonaws.com/a.log",
        "https://s3-us-west-2.amazonaws.com/a",
        "https://logs.vast.ai/a",
    ],
)
def test_the_provider_s_own_hosts_and_s3_may_hold_logs(address: str) -> None:
    assert may_hold_logs(httpx.URL(address), httpx.URL("https://console.vast.ai"))


async def test_a_local_market_s_logs_come_from_itself(local_bench: Bench) -> None:
    url = "http://127.0.0.1:8931/logs/x.log"
    asked(local_bench, url)
    stored(local_bench, httpx.Response(200, text="x"), url=url)
    assert await local_bench.market.logs(7, tail=5, daemon=False) == "x"


@pytest.mark.parametrize("address", ["http://127.0.0.1:22/x", "http://127.0.0.2:8931/x", S3])
def test_a_local_market_s_logs_come_from_no_other_port(address: str) -> None:
    assert not may_hold_logs(httpx.URL(address), httpx.URL("http://127.0.0.1:8931"))


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("10.0.0.1", False),
        ("console.vast.ai", False),
        ("localhost.evil.example", False),
        ("0.0.0.0", False),  # noqa: S104 # no bind
        ("", False),
    ],
)
def test_a_host_is_this_machine_by_its_address_alone(host: str, *, local: bool) -> None:
    assert is_loopback(host) == local
