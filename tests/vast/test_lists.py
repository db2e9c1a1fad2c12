from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.vast.fakes import Bench, instance_row, listed, refused
from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.market import Charge
from vastai_workflow.domain.money import Usd


def billed(*rows: dict[str, Any], token: str | None = None) -> httpx.Response:
    return httpx.Response(200, json={"success": True, "next_token": token, "results": list(rows)})


def charge_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "start": 1793491200,
        "end": 1793750400,
        "type": "instance",
        "source": "instance-31415926",
        "description": "4 days",
        "amount": 38.421,
    }
    return row | changes


async def test_all_pages_make_the_list(bench: Bench) -> None:
    bench.script(
        "GET",
        "/instances/",
        listed(instance_row(1), instance_row(2), token="one", total=5),
        listed(instance_row(3), instance_row(4), token="two", total=5),
        listed(instance_row(5), total=5),
    )
    assert [one.id for one in await bench.market.instances()] == [1, 2, 3, 4, 5]
    assert [request.url.params.get("after_token") for request in bench.requests] == [None, "one", "two"]
    assert {request.url.path for request in bench.requests} == {"/api/v1/instances/"}


async def test_a_list_of_nothing_is_a_list_only_if_it_says_so(bench: Bench) -> None:
    bench.always("GET", "/instances/", listed())
    assert await bench.market.instances() == ()


async def test_a_list_of_nothing_that_does_not_say_whether_there_is_more_is_no_list(bench: Bench) -> None:
    bench.always("GET", "/instances/", httpx.Response(200, json={"success": True, "instances": []}))
    with pytest.raises(ProviderError) as caught:
        await bench.market.instances()
    assert caught.value.code == "incomplete_list"


def without(*names: str) -> dict[str, Any]:
    row = instance_row(2)
    for name in names:
        del row[name]
    return row


@pytest.mark.parametrize(
    "pages",
    [
        [listed(instance_row(1), total=2)],
        [listed(instance_row(1), instance_row(2), total=1)],
        [listed(total=1)],
        [listed(instance_row(1), instance_row(1))],
        [listed(instance_row(1), token="again", total=9)],
        [
            listed(instance_row(1), token="one", total=2),
            httpx.Response(200, json={"success": True, "next_token": None}),
        ],
        [httpx.Response(200, json={"success": True, "total_instances": 0, "next_token": None})],
        [httpx.Response(200, json={"success": True, "instances": None, "next_token": None})],
        [httpx.Response(200, json={"success": True, "instances": {}, "next_token": None})],
        [httpx.Response(200, json={"success": True, "instances": []})],
        [httpx.Response(200, json={"success": False, "instances": [], "next_token": None})],
        [httpx.Response(200, json={"error": "oops", "instances": [], "next_token": None})],
        [httpx.Response(200, json={"instances": [], "next_token": 7})],
        [httpx.Response(200, json={"instances": [], "next_token": None, "total_instances": "none"})],
        *([listed(instance_row(1), bad)] for bad in (without("id"), without("cur_state"), without("dph_total"))),
        [listed(instance_row(1), instance_row(2, id=True))],
        [listed(instance_row(1), instance_row(2, id=-2))],
        [listed(instance_row(1), instance_row(2, dph_total=None))],
        [listed(instance_row(1), instance_row(2, dph_total="free"))],
        [listed(instance_row(1), instance_row(2, actual_status=5))],
    ],
    ids=lambda pages: pages[-1].text[:90],
)
async def test_a_list_that_may_lack_a_machine_is_no_list(bench: Bench, pages: list[httpx.Response]) -> None:
    bench.script("GET", "/instances/", *pages, *pages)
    with pytest.raises(ProviderError) as caught:
        await bench.market.instances()
    assert caught.value.code == "incomplete_list"
    assert len(bench.requests) <= 4


async def test_a_list_that_changed_while_it_was_read_is_read_again(bench: Bench) -> None:
    bench.script("GET", "/instances/", listed(instance_row(1), total=2), listed(instance_row(1), instance_row(2)))
    assert [one.id for one in await bench.market.instances()] == [1, 2]


async def test_pages_without_end_are_given_up(bench: Bench) -> None:
    def endless(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params.get("after_token", "0")) + 1
        return listed(instance_row(page), token=str(page), total=10**6)

    bench.route("GET", "/instances/", endless)
    with pytest.raises(ProviderError) as caught:
        await bench.market.instances()
    assert caught.value.code == "incomplete_list"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (refused(404, "auth_error", "Invalid user key"), "key_rejected"),
        (refused(410, "deprecated_endpoint"), "request_rejected"),
        (httpx.Response(502), "provider_down"),
        (httpx.Response(200, text=""), "unreadable_answer"),
        (httpx.Response(200, text="<html>"), "unreadable_answer"),
        (httpx.Response(200, json=[]), "unreadable_answer"),
        (httpx.Response(200, text="null"), "unreadable_answer"),
    ],
)
async def test_a_failed_list_is_never_an_empty_one(bench: Bench, reply: httpx.Response, code: str) -> None:
    bench.script("GET", "/instances/", listed(instance_row(1), token="one", total=2), reply)
    with pytest.raises(ProviderError) as caught:
        await bench.market.instances()
    assert caught.value.code == code


async def test_one_instance_is_read_by_its_id(bench: Bench) -> None:
    bench.always("GET", "/instances/7/", httpx.Response(200, json={"instances": instance_row(7)}))
    found = await bench.market.instance(7)
    assert found is not None
    assert found.id == 7
    assert bench.requests[0].url.params["owner"] == "me"


async def test_null_is_an_instance_that_is_not_there(bench: Bench) -> None:
    bench.always("GET", "/instances/7/", httpx.Response(200, json={"instances": None}))
    assert await bench.market.instance(7) is None


@pytest.mark.parametrize("body", [{}, {"instances": instance_row(8)}, {"instances": []}, [], None], ids=repr)
async def test_an_answer_that_is_not_about_this_instance_does_not_end_it(bench: Bench, body: object) -> None:
    bench.always("GET", "/instances/7/", httpx.Response(200, json=body))
    with pytest.raises(ProviderError) as caught:
        await bench.market.instance(7)
    assert caught.value.code == "unreadable_answer"


async def test_charges_come_from_all_pages_with_exact_amounts(bench: Bench) -> None:
    bench.script("GET", "/charges/", billed(charge_row(), token="one"), billed(charge_row(source=None, amount=-5)))
    rows = await bench.market.charges(1793491200.7, 1794096000.2)
    assert rows[0] == Charge("instance", "instance-31415926", "4 days", Usd(Decimal("38.421")), 1793491200, 1793750400)
    assert rows[0].instance_id == 31415926
    assert (rows[1].source, rows[1].amount, rows[1].instance_id) == ("", Usd(Decimal(-5)), None)


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, json={"success": False, "error": "Invalid date range", "count": 0, "results": []}),
        httpx.Response(200, json={"success": True}),
        billed(charge_row(amount=None)),
        billed(charge_row(), token="same"),
    ],
    ids=lambda reply: reply.text[:80],
)
async def test_a_bill_that_lacks_a_row_is_no_bill(bench: Bench, reply: httpx.Response) -> None:
    bench.always("GET", "/invoices/", reply)
    with pytest.raises(ProviderError) as caught:
        await bench.market.invoices(1, 2)
    assert caught.value.code == "incomplete_list"


async def test_no_ssh_keys_is_an_empty_list(bench: Bench) -> None:
    bench.always("GET", "/ssh/", httpx.Response(404, json={"success": False, "msg": "No SSH keys found for the user."}))
    assert await bench.market.account_keys() == ()
