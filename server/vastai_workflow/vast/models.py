"""Reads the provider's rows into values: strict in ids, states and prices, lenient in the rest.

Where the provider says nothing about a lenient field, it is empty, zero or None, never a guess. The secrets that come
along (`api_key`, `instance_api_key`, `jupyter_token`, `sid`) have no field to land in.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, cast

from vastai_workflow.domain.market import Account, Charge, Instance, KeyEntry, Offer
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.domain.untrusted import clean

_COUNTRY: Final = re.compile(r"\b([A-Z]{2})\s*$")
_TEXT_CAP: Final = 256
_MESSAGE_CAP: Final = 500
_LONG_CAP: Final = 1024
_LARGEST: Final = Decimal(10) ** 15
_MAX_PORT: Final = 65535
_STATES: Final = ("actual_status", "intended_status", "cur_state", "next_state")

Row = Mapping[str, Any]


_NAME_CAP: Final = 40
_NAME: Final = re.compile(r"[\w ,._+/()'-]*")


class Unreadable(ValueError):
    """An answer, or a row of one, that does not hold what it must. The text names fields, never their values."""


def rows(body: Any, name: str) -> list[Any]:
    """The list under a name; Unreadable where there is none: a missing list is not an empty one."""
    items = _row(body).get(name)
    if not isinstance(items, list):
        raise Unreadable(f"no list of {name}")
    return cast("list[Any]", items)


def done(body: Any) -> None:
    """The answer to a change: an object without a no in it."""
    _row(body)


def page(body: Any) -> Row:
    """One page of a list: an object."""
    return _row(body)


def account(body: Any) -> Account:
    """`users/current`. The spendable balance is `credit` (the official client, reports)."""
    row = _row(body)
    return Account(
        id=_id(row, "id"),
        credit=Usd(_strict(row, "credit")),
        nickname=_text(row, "nickname") or None,
        username=_text(row, "username") or None,
        email=_text(row, "email") or None,
    )


def instance(value: Any) -> Instance:
    """One row of the v1 list or of the single read. `dph_total` includes the disk."""
    row = _row(value)
    states = [_state(row, name) for name in _STATES]
    return Instance(
        id=_id(row, "id"),
        label=_text(row, "label", _LONG_CAP),
        machine_id=_whole(row.get("machine_id")) or 0,
        gpu_name=_text(row, "gpu_name"),
        num_gpus=_whole(row.get("num_gpus")) or 0,
        gpu_ram_mb=_whole(row.get("gpu_ram")) or 0,
        disk_gb=_decimal(row.get("disk_space")) or Decimal(0),
        price=Rate(_strict(row, "dph_total")),
        actual_status=states[0],
        intended_status=states[1],
        cur_state=states[2],
        next_state=states[3],
        status_msg=_text(row, "status_msg", _MESSAGE_CAP),
        image=_text(row, "image_uuid", _LONG_CAP),
        runtype=_text(row, "image_runtype"),
        env=environment(row.get("extra_env")),
        start_date=_float(row.get("start_date")),
        started_there=_float(row.get("start_date")),
        end_date=_float(row.get("end_date")),
        is_bid=row.get("is_bid") is True,
        storage_price=_rate(row.get("storage_total_cost")),
        ssh_host=_text(row, "ssh_host") or None,
        ssh_port=_port(row.get("ssh_port")),
        public_ip=_text(row, "public_ipaddr") or None,
        direct_ssh_port=_direct_port(row.get("ports")),
    )


def single_instance(body: Any) -> Instance | None:
    """`{"instances": {...}}`; null is an instance that is not there (seen on the wire)."""
    row = _row(body)
    if "instances" not in row:
        raise Unreadable("no instances")
    return None if row["instances"] is None else instance(row["instances"])


def environment(value: Any) -> dict[str, str]:
    """`extra_env` in each form: pairs (the wire), an object, or "NAME=value" texts (the official description)."""
    if isinstance(value, dict):
        return {str(name): str(text) for name, text in cast("Mapping[Any, Any]", value).items()}
    found: dict[str, str] = {}
    for item in cast("list[Any]", value) if isinstance(value, list) else []:
        pair = cast("list[Any]", item) if isinstance(item, list) else str(item).split("=", 1)
        if len(pair) == 2:  # noqa: PLR2004 # a pair
            found[str(pair[0])] = str(pair[1])
    return found


def offer(value: Any, *, bid: bool) -> Offer:
    """One row of a search. The price is `dph_total`, or for an interruptible machine `min_bid` and the disk."""
    row = _row(value)
    price = Rate(_strict(row, "min_bid" if bid else "dph_total"))
    disk = _rate(row.get("storage_total_cost")) if bid else None
    region = _plain(row, "geolocation")
    country = _COUNTRY.search(region)
    return Offer(
        ask_id=_id(row, "ask_contract_id" if row.get("ask_contract_id") is not None else "id"),
        machine_id=_id(row, "machine_id"),
        host_id=_whole(row.get("host_id")) or 0,
        gpu_name=_plain(row, "gpu_name"),
        num_gpus=_whole(row.get("num_gpus")) or 0,
        gpu_ram_mb=_whole(row.get("gpu_ram")) or 0,
        price=price if disk is None else price + disk,
        disk_space_gb=_decimal(row.get("disk_space")) or Decimal(0),
        verified=row.get("verification") == "verified",
        rentable=row.get("rentable") is not False,
        rented=row.get("rented") is True,
        min_bid=_rate(row.get("min_bid")),
        reliability=_decimal(row.get("reliability", row.get("reliability2"))),
        cuda=_decimal(row.get("cuda_max_good")),
        inet_down_mbps=_decimal(row.get("inet_down")),
        inet_up_mbps=_decimal(row.get("inet_up")),
        down_price_per_gb=_usd(row.get("inet_down_cost")),
        up_price_per_gb=_usd(row.get("inet_up_cost")),
        region=region,
        country=country.group(1) if country else "",
        dlperf=_decimal(row.get("dlperf")),
        max_rental_s=_float(row.get("duration")),
        direct_ports=_whole(row.get("direct_port_count")) or 0,
        datacenter=row.get("hosting_type") == 1,
    )


def total_price(value: Any) -> float | None:
    """An offer's `dph_total` as a number for the next query; None where it has none."""
    return _float(_row(value).get("dph_total")) if isinstance(value, dict) else None


def gpu_names(body: Any) -> tuple[str, ...]:
    """The canonical names, with spaces."""
    return tuple(clean(name, _TEXT_CAP) for name in rows(body, "gpu_names") if isinstance(name, str))


def account_keys(body: Any) -> tuple[KeyEntry, ...]:
    """The account's SSH keys: a bare list; deleted ones are left out."""
    if not isinstance(body, list):
        raise Unreadable("no list of SSH keys")
    return _keys(cast("list[Any]", body))


def instance_keys(body: Any) -> tuple[KeyEntry, ...]:
    """An instance's SSH keys: a list, or the JSON text of one (official docs)."""
    listed = _row(body).get("ssh_keys")
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except (ValueError, RecursionError):
            raise Unreadable("ssh_keys is no JSON") from None
    if listed is not None and not isinstance(listed, list):
        raise Unreadable("no list of ssh_keys")
    return _keys(cast("list[Any]", listed or []))


def charge(value: Any) -> Charge:
    """One row of charges or invoices."""
    row = _row(value)
    return Charge(
        kind=_text(row, "type"),
        source=_text(row, "source"),
        description=_text(row, "description"),
        amount=Usd(_strict(row, "amount")),
        start=_float(row.get("start")),
        end=_float(row.get("end")),
    )


def result_url(body: Any) -> str:
    """Where a requested log will be."""
    url = _row(body).get("result_url")
    if not isinstance(url, str):
        raise Unreadable("no result_url")
    return url


def _keys(items: list[Any]) -> tuple[KeyEntry, ...]:
    kept: list[KeyEntry] = []
    for item in items:
        row = _row(item)
        line = row.get("public_key", row.get("key"))
        if row.get("deleted_at") is None and isinstance(line, str):
            kept.append(KeyEntry(_id(row, "id"), clean(line, 16 * _LONG_CAP)))
    return tuple(kept)


def _row(value: Any) -> Row:
    if not isinstance(value, dict):
        raise Unreadable("no object")
    return cast("Row", value)


def _id(row: Row, name: str) -> int:
    number = _whole(row.get(name))
    if number is None or number <= 0:
        raise Unreadable(f"no {name}")
    return number


def _state(row: Row, name: str) -> str | None:
    if name not in row:
        raise Unreadable(f"no {name}")
    word = row[name]
    if word is not None and not isinstance(word, str):
        raise Unreadable(f"{name} is no word")
    return None if word is None else clean(word, _TEXT_CAP)


def _text(row: Row, name: str, cap: int = _TEXT_CAP) -> str:
    value = row.get(name)
    return clean(value, cap) if isinstance(value, str) else ""


def _plain(row: Row, name: str) -> str:
    """A name as hosts may write it, short and without marks; empty for anything that could be a sentence of its own."""
    text = _text(row, name, _NAME_CAP)
    return text if _NAME.fullmatch(text) else ""


def _decimal(value: Any) -> Decimal | None:
    """A finite number of a sane size, also where the provider wrote it as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        number = Decimal(value.strip() if isinstance(value, str) else value)
    except ArithmeticError:
        return None
    return number if number.is_finite() and abs(number) < _LARGEST else None


def _strict(row: Row, name: str) -> Decimal:
    number = _decimal(row.get(name))
    if number is None:
        raise Unreadable(f"no {name}")
    return number


def _rate(value: Any) -> Rate | None:
    number = _decimal(value)
    return None if number is None else Rate(number)


def _usd(value: Any) -> Usd | None:
    number = _decimal(value)
    return None if number is None else Usd(number)


def _float(value: Any) -> float | None:
    number = _decimal(value)
    return None if number is None else float(number)


def _whole(value: Any) -> int | None:
    number = _decimal(value)
    return int(number) if number is not None and number == number.to_integral_value() else None


def _port(value: Any) -> int | None:
    number = _whole(value)
    return number if number is not None and 0 < number <= _MAX_PORT else None


def _direct_port(ports: Any) -> int | None:
    """`{"22/tcp": [{"HostPort": "41022"}]}` while it runs; absent, empty or a list of numbers otherwise."""
    mapped = cast("Row", ports).get("22/tcp") if isinstance(ports, dict) else None
    first = cast("list[Any]", mapped)[0] if isinstance(mapped, list) and mapped else None
    return _port(cast("Row", first).get("HostPort")) if isinstance(first, dict) else None
