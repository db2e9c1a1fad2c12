import asyncio
import random

import httpx
import pytest

from tests.vast.fakes import START, Bench, Clock, create_request, offer_row, refused
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.market import NotRented, OfferQuery
from vastai_workflow.vast import endpoints
from vastai_workflow.vast.endpoints import Endpoint
from vastai_workflow.vast.errors import retry_after
from vastai_workflow.vast.limits import MAX_TRIES, MAX_WAIT_S, REPEAT_WITHIN_S, Limiter, Patience
from vastai_workflow.vast.wire import answer

ACCOUNT = httpx.Response(200, json={"id": 9, "credit": 1})
DONE = httpx.Response(200, json={"success": True})


def patience(clock: Clock, endpoint: Endpoint = endpoints.ACCOUNT, seed: int = 1) -> Patience:
    return Patience(endpoint, clock, random.Random(seed))  # noqa: S311 # jitter


def error(code: str = "provider_down", wait: float | None = None) -> ProviderError:
    return ProviderError(code, "no", retry_after=wait)


@pytest.mark.parametrize("endpoint", [one for one in endpoints.ENDPOINTS if one.pace.seconds], ids=lambda one: one.name)
async def test_no_endpoint_is_called_faster_than_it_publishes(endpoint: Endpoint) -> None:
    clock = Clock()
    limiter = Limiter(clock)
    began: list[float] = []
    for _ in range(endpoint.pace.calls + 2):
        try:
            async with limiter.turn(endpoint):
                began.append(clock.now())
        except ProviderError as refused_turn:
            await clock.sleep(refused_turn.retry_after or 0)
    calls = endpoint.pace.calls
    assert all(later - earlier >= endpoint.pace.seconds for earlier, later in zip(began, began[calls:], strict=False))


async def test_the_interval_counts_from_the_end_of_a_call() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    async with limiter.turn(endpoints.CREATE):
        await clock.sleep(3)
    async with limiter.turn(endpoints.CREATE):
        assert clock.now() == START + 3 + 4.5


async def test_start_stop_and_label_are_one_route_and_others_do_not_wait_for_them() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    for endpoint in (endpoints.START, endpoints.STOP, endpoints.LABEL, endpoints.DESTROY, endpoints.REBOOT):
        async with limiter.turn(endpoint):
            pass
    assert clock.waits == [1.0, 1.0]


async def test_waiters_come_through_in_the_order_they_asked() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    through: list[tuple[int, float]] = []

    async def one(number: int) -> None:
        async with limiter.turn(endpoints.DESTROY):
            through.append((number, clock.now() - START))

    await asyncio.gather(*(one(number) for number in range(4)))
    assert through == [(0, 0), (1, 3), (2, 6), (3, 9)]


async def test_the_eleventh_search_of_a_minute_is_told_to_wait_instead_of_sent(bench: Bench) -> None:
    route = bench.always("POST", "/bundles/", httpx.Response(200, json={"offers": [offer_row(1)]}))
    for _ in range(10):
        await bench.market.offers(OfferQuery(disk_gb=40))
    with pytest.raises(ProviderError) as caught:
        await bench.market.offers(OfferQuery(disk_gb=40))
    assert (caught.value.code, caught.value.retry_after, route.call_count) == ("rate_limited", 60, 10)
    bench.clock.time += 60
    assert await bench.market.offers(OfferQuery(disk_gb=40))


async def test_a_clock_that_goes_back_makes_nobody_wait_longer_than_the_interval() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    async with limiter.turn(endpoints.DESTROY):
        pass
    clock.time -= 86400
    async with limiter.turn(endpoints.DESTROY):
        assert clock.waits == [3.0]


async def test_a_call_that_failed_counts_for_the_pace_too() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    with pytest.raises(ProviderError):
        async with limiter.turn(endpoints.DESTROY):
            raise error()
    async with limiter.turn(endpoints.DESTROY):
        assert clock.waits == [3.0]


async def test_waits_grow_and_are_bounded_in_number() -> None:
    clock = Clock()
    waiting = patience(clock)
    for _ in range(MAX_TRIES - 1):
        await waiting.wait(error())
    with pytest.raises(ProviderError):
        await waiting.wait(error())
    assert len(clock.waits) == MAX_TRIES - 1
    for wait, base in zip(clock.waits, (0.5, 1.0, 2.0), strict=True):
        assert base / 2 <= wait <= base


async def test_two_callers_do_not_come_back_at_the_same_moment() -> None:
    one, other = Clock(), Clock()
    await patience(one, seed=1).wait(error())
    await patience(other, seed=2).wait(error())
    assert one.waits != other.waits


async def test_what_the_provider_asks_is_waited_and_never_less() -> None:
    clock = Clock()
    await patience(clock).wait(error("rate_limited", 7.0))
    assert 7.0 <= clock.waits[0] <= 7.5


async def test_a_longer_wait_than_the_bound_is_handed_to_the_caller() -> None:
    clock = Clock()
    waiting = patience(clock)
    await waiting.wait(error("rate_limited", 20.0))
    with pytest.raises(ProviderError) as caught:
        await waiting.wait(error("rate_limited", 12.0))
    assert caught.value.retry_after == 12
    assert sum(clock.waits) <= MAX_WAIT_S


async def test_a_time_out_is_repeated_once_and_not_for_minutes(bench: Bench) -> None:
    def slow(_: httpx.Request) -> Exception:
        bench.clock.time += 60
        return httpx.ReadTimeout("late")

    route = bench.route("GET", "/users/current", slow)
    with pytest.raises(ProviderError) as caught:
        await bench.market.account()
    assert caught.value.code == "unreachable"
    assert route.call_count == 2
    assert bench.clock.now() - START < 60 + REPEAT_WITHIN_S


@pytest.mark.parametrize("code", ["request_rejected", "key_rejected", "search_quota_exceeded", "spend_rate_limit"])
async def test_what_will_not_change_is_not_tried_again(code: str) -> None:
    clock = Clock()
    with pytest.raises(ProviderError):
        await patience(clock).wait(error(code, 1.0))
    assert clock.waits == []


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(429, text="API requests too frequent"),
        httpx.Response(500, text="x"),
        httpx.Response(503, text="x"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("cut"),
        httpx.ConnectError("no"),
    ],
    ids=repr,
)
async def test_a_read_comes_through_after_failures_that_pass(bench: Bench, failure: httpx.Response | Exception) -> None:
    route = bench.script("GET", "/users/current", failure, failure, ACCOUNT)
    assert (await bench.market.account()).id == 9
    assert route.call_count == 3
    assert len(bench.clock.waits) == 2


async def test_a_read_is_given_up_after_four_tries(bench: Bench) -> None:
    route = bench.always("GET", "/users/current", httpx.Response(503))
    with pytest.raises(ProviderError) as caught:
        await bench.market.account()
    assert (caught.value.code, route.call_count) == ("provider_down", 4)


@pytest.mark.parametrize("method", ["stop", "destroy"])
async def test_stop_and_destroy_are_repeated(bench: Bench, method: str) -> None:
    route = bench.script("PUT", ".*", httpx.Response(502), DONE)
    other = bench.script("DELETE", ".*", httpx.Response(502), DONE)
    await getattr(bench.market, method)(7)
    assert route.call_count + other.call_count == 2


@pytest.mark.parametrize(
    "reply", [httpx.Response(429, text="x"), httpx.Response(502), httpx.ReadTimeout("late")], ids=repr
)
@pytest.mark.parametrize("method", ["start", "reboot", "recycle"])
async def test_start_reboot_and_recycle_are_sent_once(
    bench: Bench, method: str, reply: httpx.Response | Exception
) -> None:
    route = bench.always("PUT", ".*", reply)
    with pytest.raises(ProviderError):
        await getattr(bench.market, method)(7)
    assert (route.call_count, bench.clock.waits) == (1, [])


async def test_two_creates_keep_their_distance(bench: Bench) -> None:
    bench.always("PUT", "/asks/.*", refused(410, "no_such_ask"))
    outcomes = [await bench.market.create(ask, create_request()) for ask in (5, 6)]
    assert [type(outcome) for outcome in outcomes] == [NotRented, NotRented]
    assert bench.clock.waits == [4.5]


@pytest.mark.parametrize(
    ("headers", "content", "seconds"),
    [
        ({"Retry-After": "3"}, b"x", 3),
        ({"Retry-After": "2.5"}, b'{"retry_after": 9}', 2.5),
        ({"Retry-After": "Wed, 18 Nov 2026 11:06:50 GMT"}, b"x", 10),
        ({"Retry-After": "Tue, 18 Nov 2025 11:06:50 GMT"}, b"x", 0),
        ({"X-RateLimit-Reset": str(START + 30)}, b"x", 30),
        ({"X-RateLimit-Reset": str(START - 30)}, b"x", 0),
        ({}, b'{"retry_after": 9}', 9),
        ({}, b'{"retry_after": "9"}', 9),
        ({}, b"API requests too frequent: endpoint threshold=4.5", 4.5),
        ({}, b'{"detail": "API requests too frequent endpoint threshold=3.0"}', 3),
        ({}, b'{"error": "rate_limit_exceeded", "msg": "endpoint threshold=1"}', 1),
        ({"Retry-After": "soon"}, b"x", None),
        ({"Retry-After": "nan"}, b"x", None),
        ({"Retry-After": "inf"}, b"x", None),
        ({"Retry-After": "-5"}, b"x", None),
        ({"Retry-After": "9e999"}, b"x", None),
        ({"Retry-After": ""}, b"x", None),
        ({}, b"", None),
        ({}, b"[1]", None),
    ],
)
def test_each_way_of_saying_how_long_to_wait_is_read(
    headers: dict[str, str], content: bytes, seconds: float | None
) -> None:
    assert retry_after(answer(429, headers, content), START) == seconds
