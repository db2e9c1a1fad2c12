import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.vast.fakes import Bench, instance_row, offer_row
from vastai_workflow.domain.market import Account, KeyEntry
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.vast import models
from vastai_workflow.vast.models import Unreadable
from vastai_workflow.vast.wire import answer

NO_PORTS: list[Any] = [None, {}, [], [22], {"22/tcp": []}, {"22/tcp": None}, {"22/tcp": [{}]}, "22", {"22/tcp": ["x"]}]


def wire(value: Any) -> Any:
    """A value as it comes off the wire: numbers with a point are exact."""
    return answer(200, {}, json.dumps(value).encode()).body


def test_a_machine_is_read_with_exact_prices_and_its_addresses() -> None:
    found = models.instance(wire(instance_row()))
    assert found.price == Rate(Decimal("0.41"))
    assert found.storage_price == Rate(Decimal("0.008"))
    assert found.disk_gb == Decimal("40.0")
    assert (found.public_ip, found.direct_ssh_port) == ("203.0.113.7", 41022)
    assert (found.ssh_host, found.ssh_port) == ("ssh5.vast.ai", 15926)
    assert found.order_marker == "store.order"
    assert found.start_date == 1795530000.1


def test_a_machine_s_secrets_are_not_kept_or_shown() -> None:
    found = models.instance(wire(instance_row(instance_api_key="sesame")))
    assert "sesame" not in repr(found)


@pytest.mark.parametrize("ports", NO_PORTS)
def test_a_machine_without_mapped_ports_has_no_direct_address(ports: object) -> None:
    assert models.instance(wire(instance_row(ports=ports))).direct_ssh_port is None


def test_a_machine_just_created_is_read() -> None:
    row = instance_row(actual_status=None, status_msg=None, label=None, public_ipaddr=None, extra_env=None)
    for name in ("ports", "end_date", "ssh_host", "ssh_port", "image_uuid", "storage_total_cost"):
        del row[name]
    found = models.instance(wire(row))
    assert (found.actual_status, found.label, found.status_msg, found.public_ip, found.env) == (None, "", "", None, {})
    assert (found.ssh_host, found.ssh_port, found.end_date) == (None, None, None)


@pytest.mark.parametrize(
    "value", [[["A", "1"], ["B", "x=y"]], {"A": "1", "B": "x=y"}, {"A": 1, "B": "x=y"}, ["A=1", "B=x=y"]], ids=repr
)
def test_each_form_of_the_environment_is_read(value: object) -> None:
    assert models.environment(value) == {"A": "1", "B": "x=y"}


@pytest.mark.parametrize("value", [None, "", 5, [[]], [["A"]], [1], [None], [["A", "1", "2"]]], ids=repr)
def test_an_environment_in_no_known_form_is_empty(value: object) -> None:
    assert models.environment(value) == {}


def test_other_people_s_text_is_one_clean_line() -> None:
    found = models.instance(wire(instance_row(status_msg="\x1b[31mgo\nnow\u202e" + "x" * 9000, label="a\x00b")))
    assert found.status_msg.startswith("go now x")
    assert len(found.status_msg) == 500
    assert found.label == "a b"


@pytest.mark.parametrize("price", [None, "x", True, [], {}, "NaN", "Infinity", 1e300])
def test_a_price_that_is_no_number_is_not_read(price: object) -> None:
    with pytest.raises(Unreadable):
        models.instance(wire(instance_row(dph_total=price)))


@pytest.mark.parametrize(
    "text", ['{"id": NaN}', '{"id": Infinity}', "[" * 100_000, "", "{", b"\xff\xfe\x00".decode("latin-1")]
)
def test_what_is_no_json_has_no_body(text: str) -> None:
    reply = answer(200, {}, text.encode())
    with pytest.raises(Unreadable):
        models.account(reply.body)


def test_a_number_written_as_text_is_read() -> None:
    assert models.offer(wire(offer_row(1, num_gpus="2", dph_total="0.5")), bid=False).num_gpus == 2


def test_an_offer_is_read_with_its_country_and_traffic_price() -> None:
    found = models.offer(wire(offer_row(12)), bid=False)
    assert (found.ask_id, found.machine_id, found.country, found.datacenter) == (12, 120, "SE", True)
    assert found.price == Rate(Decimal("0.4"))
    assert found.down_price_per_gb == Usd(Decimal("0.002"))
    assert found.up_price_per_gb is None


@pytest.mark.parametrize(
    ("place", "country"),
    [("Sweden, SE", "SE"), (", US", "US"), ("US", "US"), ("Sweden", ""), (None, ""), ("Europe, SE ", "SE")],
)
def test_the_country_is_the_code_at_the_end(place: object, country: str) -> None:
    assert models.offer(wire(offer_row(1, geolocation=place)), bid=False).country == country


def test_an_interruptible_machine_s_price_is_its_lowest_bid() -> None:
    assert models.offer(wire(offer_row(1)), bid=True).price == Rate(Decimal("0.2"))


def test_the_account_is_read_without_its_key() -> None:
    body = {
        "id": 9,
        "username": "u",
        "email": "a@b.c",
        "credit": 12.5,
        "balance": 0,
        "api_key": "sesame",
        "sid": "sesame",
    }
    found = models.account(wire(body))
    assert found == Account(id=9, credit=Usd(Decimal("12.5")), username="u", email="a@b.c")
    assert "sesame" not in repr(found)


async def test_an_account_without_a_readable_credit_is_no_account(bench: Bench) -> None:
    bench.always("GET", "/users/current", httpx.Response(200, json={"id": 9, "balance": 5}))
    with pytest.raises(Exception, match="no credit"):
        await bench.market.account()


def test_deleted_keys_are_no_keys_and_each_name_of_the_line_is_read() -> None:
    rows = [
        {"id": 5, "public_key": "ssh-ed25519 AAAA me", "deleted_at": None, "private_key": "sesame"},
        {"id": 6, "key": "ssh-rsa BBBB"},
        {"id": 7, "public_key": "ssh-rsa CCCC", "deleted_at": 1754655150.4},
    ]
    assert models.account_keys(wire(rows)) == (KeyEntry(5, "ssh-ed25519 AAAA me"), KeyEntry(6, "ssh-rsa BBBB"))


@pytest.mark.parametrize(
    "listed", ['[{"id": 5, "public_key": "ssh-ed25519 AAAA"}]', [{"id": 5, "public_key": "ssh-ed25519 AAAA"}]]
)
def test_an_instance_s_keys_are_read_from_text_and_list(listed: object) -> None:
    assert models.instance_keys({"success": True, "ssh_keys": listed}) == (KeyEntry(5, "ssh-ed25519 AAAA"),)


@pytest.mark.parametrize("listed", ["no json", '{"a": 1}', 5, '["x"]'])
def test_keys_in_no_known_form_are_not_read_as_none(listed: object) -> None:
    with pytest.raises(Unreadable):
        models.instance_keys({"success": True, "ssh_keys": listed})


async def test_gpu_names_are_asked_for_without_the_key(bench: Bench) -> None:
    bench.always("GET", "/gpu_names/unique/", httpx.Response(200, json={"gpu_names": ["RTX 4090", "H100 SXM"]}))
    assert await bench.market.gpu_names() == ("RTX 4090", "H100 SXM")
    assert "authorization" not in bench.requests[0].headers
