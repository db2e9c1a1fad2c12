"""What the client sends, beside what the official command line was recorded to send for the same operation."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tests.vast.fakes import DATA, Bench, create_request, instance_row, listed, sent_json
from vastai_workflow.domain.market import CreateRequest, OfferQuery
from vastai_workflow.domain.money import Rate
from vastai_workflow.vast import endpoints
from vastai_workflow.vast.endpoints import Endpoint
from vastai_workflow.vast.market import VastMarket
from vastai_workflow.vast.renting import create_body

RECORDED: list[dict[str, Any]] = json.loads((DATA / "cli-wire.json").read_text())
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAA user@x"
Operation = Callable[[VastMarket], Awaitable[object]]

SAME: list[tuple[str, Operation]] = [
    ("vastai show user --raw", lambda market: market.account()),
    ("vastai show instances --raw", lambda market: market.instances()),
    ("vastai show instance 31415926 --raw", lambda market: market.instance(31415926)),
    ("vastai start instance 31415926 --raw", lambda market: market.start(31415926)),
    ("vastai stop instance 31415926 --raw", lambda market: market.stop(31415926)),
    ("vastai reboot instance 31415926", lambda market: market.reboot(31415926)),
    ("vastai recycle instance 31415926", lambda market: market.recycle(31415926)),
    ("vastai destroy instance 31415926 -y --raw", lambda market: market.destroy(31415926)),
    ("vastai show ssh-keys --raw", lambda market: market.account_keys()),
    ("vastai delete ssh-key 5", lambda market: market.delete_account_key(5)),
    ("vastai detach ssh 31415926 5", lambda market: market.detach_key(31415926, 5)),
    (f'vastai create ssh-key "{PUBLIC_KEY}"', lambda market: market.add_account_key(PUBLIC_KEY)),
]


def recorded(command: str) -> dict[str, Any]:
    """The request of a command, from its last recording (the first one of all also looks up the user's role)."""
    return [one for one in RECORDED if one["command"] == command][-1]["requests"][0]


def sent(request: httpx.Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.url.path,
        "query": dict(request.url.params),
        "body": sent_json(request),
    }


@pytest.fixture
def answering(bench: Bench) -> Bench:
    """Answers every operation in the short."""
    account: dict[str, Any] = {
        "success": True,
        "id": 9,
        "credit": 1,
        "result_url": "https://s3.amazonaws.com/x",
        "ssh_keys": [],
    }
    listing: dict[str, Any] = {"results": [], "next_token": None, "new_contract": 1, "offers": []}
    bench.always("GET", "/instances/", listed())
    bench.always("GET", "/instances/31415926/", httpx.Response(200, json={"instances": instance_row()}))
    bench.always("GET", "/ssh/", httpx.Response(200, json=[]))
    for method in ("GET", "PUT", "POST", "DELETE"):
        bench.always(method, ".*", httpx.Response(200, json=account | listing))
    bench.router.get("https://s3.amazonaws.com/x").mock(return_value=httpx.Response(200, text="a log"))
    return bench


@pytest.mark.parametrize(("command", "operation"), SAME, ids=[command for command, _ in SAME])
async def test_the_request_is_the_official_client_s(answering: Bench, command: str, operation: Operation) -> None:
    await operation(answering.market)
    assert [sent(request) for request in answering.requests] == [recorded(command)]


async def test_attaching_a_key_differs_in_the_line_break_at_its_end_alone(answering: Bench) -> None:
    await answering.market.attach_key(31415926, f"{PUBLIC_KEY}\n")
    official = recorded("vastai attach ssh 31415926 KEY.pub")
    official["body"]["ssh_key"] = official["body"]["ssh_key"].rstrip("\n")
    assert sent(answering.requests[0]) == official


async def test_bills_differ_in_the_length_of_a_page_alone(answering: Bench) -> None:
    await answering.market.charges(1793491200, 1794096000)
    await answering.market.invoices(1793491200, 1794096000)
    range_ = "--start-date 2026-11-01 --end-date 2026-11-08"
    charges = recorded(f"vastai show invoices-v1 --charges {range_} --limit 50 --raw")
    invoices = recorded(f"vastai show invoices-v1 --invoices {range_} --raw")
    for official in (charges, invoices):
        official["query"]["limit"] = "100"
    assert [sent(request) for request in answering.requests] == [charges, invoices]


async def test_logs_are_asked_for_as_texts(answering: Bench) -> None:
    await answering.market.logs(31415926, tail=50, daemon=False)
    await answering.market.logs(31415926, tail=50, daemon=True)
    container = recorded("vastai logs 31415926 --tail 50 --filter err")
    daemon = recorded("vastai logs 31415926 --daemon-logs")
    del container["body"]["filter"]
    daemon["body"]["tail"] = "50"
    assert [sent(request) for request in answering.requests] == [container, daemon]


CREATE = (
    "vastai create instance 123 --image pytorch/pytorch:latest --disk 40 --ssh --direct --label lab "
    '--env "-e FOO=bar -p 8080:8080 -h box" --onstart-cmd "echo hi" --cancel-unavail --raw'
)


BID = (
    "vastai create instance 123 --image x --jupyter --direct --jupyter-lab --bid_price 0.2 "
    '--login "-u bob -p tok docker.io" --raw'
)


async def test_the_create_is_the_official_client_s_and_the_order_s_marker(answering: Bench) -> None:
    agreed = create_request(env={"FOO": SecretStr("bar")}, ports=("8080:8080",), onstart="echo hi")
    await answering.market.create(123, agreed)
    official = recorded(CREATE)
    del official["body"]["env"]["-h"]
    official["body"]["env"]["VASTAI_WORKFLOW_ORDER"] = "store.order"
    assert sent(answering.requests[0]) == official
    assert list(sent_json(answering.requests[0])) == list(official["body"])


@pytest.mark.parametrize(
    ("command", "agreed"),
    [
        ("vastai create instance 123 --template_hash abc --raw", create_request(image="", template_hash="abc")),
        (BID, create_request(image="x", bid=Rate.of("0.2"))),
    ],
    ids=["template", "bid"],
)
def test_a_template_and_a_bid_stand_where_the_official_client_puts_them(command: str, agreed: CreateRequest) -> None:
    official = recorded(command)["body"]
    body = create_body(agreed)
    assert list(body) == list(official)
    for name in ("image", "price", "template_hash_id", "client_id", "extra", "user", "force"):
        assert body[name] == official[name]
    assert type(body["price"]) is type(official["price"])


async def test_the_search_uses_the_official_client_s_names_and_operators(answering: Bench) -> None:
    query = OfferQuery(disk_gb=40, gpu_name="RTX 4090", num_gpus=1, min_vram_mb=20000, regions=("US", "CA"))
    await answering.market.offers(query)
    official = next(one["requests"][0] for one in RECORDED if "geolocation in [US,CA]" in one["command"])
    launched = next(one["requests"][0] for one in RECORDED if one["command"].startswith("vastai launch"))
    request = sent(answering.requests[0])
    assert (request["method"], request["path"]) == (official["method"], official["path"])
    body = request["body"]
    known = official["body"] | {"rented": launched["body"]["q"]["rented"]}
    assert set(body) <= set(known)
    for name in ("verified", "external", "rentable", "rented", "gpu_name", "gpu_ram", "geolocation", "order", "type"):
        assert body[name] == known[name]
    assert body["allocated_storage"] == known["allocated_storage"]


@pytest.mark.parametrize(
    ("command", "endpoint"),
    [
        ("vastai change bid 31415926 --price 0.3", endpoints.BID),
        ("vastai label instance 31415926 newlabel", endpoints.LABEL),
    ],
)
def test_the_calls_that_people_make_by_hand_are_the_official_client_s(command: str, endpoint: Endpoint) -> None:
    official = recorded(command)
    assert (official["method"], official["path"]) == (endpoint.method, endpoint.url_path(31415926))
