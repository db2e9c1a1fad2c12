"""Fields: what each takes and refuses, canonical forms, the digest, and what a person may see."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.values import THOROUGH, agreed_values
from vastai_workflow.domain import fields
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.fields import FIELDS, MASK, parse

SECRET = "hf_s3cr3t_value"

WRONG_TYPES: dict[str, list[Any]] = {
    "whole": ["1", "", True, False, 1.5, 1.0, None, [], {}, [1]],
    "number": [
        "abc",
        "",
        True,
        False,
        None,
        [],
        [0.5],
        {},
        " 0.5",
        "0,5",
        "1_0",
        "\u0660.\u0665",
        "+0.5",
        "-0.5",
        -0.5,
        -0.0,
    ],
    "not finite": [float("nan"), float("inf"), -float("inf"), "NaN", "Infinity", "-inf", "sNaN", Decimal("NaN")],
    "text": [
        1,
        True,
        None,
        [],
        {},
        "",
        "   ",
        "a\nb",
        "a\tb",
        "a\x00b",
        "a\x1b[31mb",
        "a\u202eb",
        "a\u200bb",
        "\ud800",
    ],
    "flag": ["true", "yes", 1, 0, None, []],
}

BAD: dict[str, list[Any]] = {
    "api_key_source": [*WRONG_TYPES["text"], "x" * 4097],
    "gpu_name": [*WRONG_TYPES["text"], "x" * 81, "_", "___", " _ "],
    "num_gpus": [*WRONG_TYPES["whole"], 0, -1, 65],
    "verified": WRONG_TYPES["flag"],
    "min_vram_gb": [*WRONG_TYPES["whole"], 0, -24, 1025],
    "regions": ["USA", "U", "", "U1", ["US", "Sweden"], [1], [None], [True], {"US": 1}, None, 1, ["US"] * 65, "US,DE"],
    "min_reliability": [*WRONG_TYPES["number"], *WRONG_TYPES["not finite"], 1.01, "1.0000001", 99],
    "min_cuda": [*WRONG_TYPES["number"], *WRONG_TYPES["not finite"], 0, 0.9, 100],
    "min_inet_down_mbps": [*WRONG_TYPES["whole"], 0, -1, 100_001],
    "image": [
        *(1, True, None, [], "", " ", "-x", "/x", "a b", "a\nb", "a;reboot", "a&b", "a|b", "$(id)", "`id`", "a>b"),
        *("a'b", 'a"b', "a\\b", "a{b}", "a*", "a?", "a!", "a#b", "a\x00", "a\x1b", "päckchen", "x" * 1025, "a\n"),
    ],
    "disk_gb": [*WRONG_TYPES["whole"], -64, 0, 7, 65537],
    "count": [*WRONG_TYPES["whole"], 0, -1, 65, 1000],
    "max_price_per_hour": [
        *WRONG_TYPES["number"],
        *WRONG_TYPES["not finite"],
        *(0, "0", 0.0009, 128.01, "128.00001", 1e400, 1e300, "1e-9999999", "1e999999999", "9" * 100_000),
    ],
    "fleet": ["all", "", None, 1, True, [], ["best_effort"], "BEST_EFFORT"],
    "objective": ["cheap", "", None, 1, True, [], {}],
    "policy": ["third_cheapest", "", None, 1, True, []],
    "ssh_key": [value for value in WRONG_TYPES["text"] if not isinstance(value, str) or not value.strip()],
    "label": [*WRONG_TYPES["text"], "x" * 61],
    "env": [
        *(
            "A=b",
            None,
            1,
            True,
            [],
            [["A", "b"]],
            {"": "x"},
            {"1A": "x"},
            {"A B": "x"},
            {"A-B": "x"},
            {"-p 80:80": "1"},
        ),
        *({"A": 1}, {"A": None}, {"A": True}, {"A": ["x"]}, {1: "x"}, {"A\n": "x"}, {"A": "x\0y"}, {"A": "\ud800"}),
        *({"VASTAI_WORKFLOW_ORDER": "s.o"}, {"A" * 65: "x"}, {"A": "x" * 32768}, {"Ä": "x"}),
        {f"A{n}": "" for n in range(65)},
    ],
    "onstart": [
        *(1, True, None, [], "", "x" * 4097, "a\0b", "\udfff"),
        *("a\x1b]\nb\x07", "a\rb", "a\x9bb", "a\u202eb", "a\u200bb", "a\u2028b", "a\u00a0b", "a\ue000b"),
    ],
    "ports": [
        *("8080", None, 1, {}, [True], [None], [80.0], ["http"], [""], ["0"], [0], [-1], ["65536"], [65536], ["80:0"]),
        *(
            ["80:65536"],
            ["80/icmp"],
            ["80:80:80"],
            ["80 80"],
            ["80\n"],
            ["\u0668\u0660"],
            ["-p 80:80"],
            [[80]],
            ["80"] * 65,
        ),
    ],
    "interruptible": WRONG_TYPES["flag"],
    "bid_per_hour": [*WRONG_TYPES["number"], *WRONG_TYPES["not finite"], 0, 128.01],
    "template_hash": [1, True, None, "", "abc", "x" * 65, "abc def", "abc;def", "abcdef\n", "äbcdef"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_with_what_came_and_what_may_come(name: str, value: Any) -> None:
    with pytest.raises(Refusal) as refused:
        parse(name, value)
    assert refused.value.code == "invalid_argument"
    assert refused.value.message.startswith(name)
    assert ": got " in refused.value.message
    assert ", allowed " in refused.value.message
    assert len(refused.value.message) < 500
    assert refused.value.message.isprintable()


def test_every_field_has_bad_values() -> None:
    assert set(BAD) == set(FIELDS)


@pytest.mark.parametrize(
    ("name", "value", "got", "allowed"),
    [
        ("count", 0, "got 0", "a whole number from 1 to 64 (machines)"),
        ("count", 1000, "got 1000", "a whole number from 1 to 64 (machines)"),
        ("count", "2", "got '2'", "a whole number"),
        ("count", True, "got True", "a whole number"),
        ("disk_gb", -64, "got -64", "from 8 to 65536 (GB)"),
        ("image", "a; rm -rf /", "got 'a; rm -rf /'", "without spaces or shell characters"),
        ("max_price_per_hour", float("nan"), "got nan", "from 0.001 to 128 ($/h per machine)"),
        ("verified", "true", "got 'true'", "true or false"),
        ("policy", "dearest", "got 'dearest'", "cheapest | second_cheapest"),
        ("regions", 5, "got 5", "two-letter country codes"),
        ("regions", ["Sweden"], "got ['Sweden']", "two-letter country codes"),
        ("ports", "8080", "got '8080'", "up to 64 of"),
        ("ports", ["99999"], "got '99999'", "up to 64 of"),
        ("ports", ["80"] * 65, "65 of them", "up to 64 of"),
        ("label", "a\nb", r"got 'a\nb'", "one line"),
        ("gpu_name", "_", "got '_'", "a GPU's name"),
        ("env", {"MY-NAME=x": ""}, "got 'MY-NAME'", "up to 64 of NAME: text"),
        ("env", {f"A{n}": "" for n in range(65)}, "65 of them", "up to 64 of NAME: text"),
        ("onstart", "a\x1b]\nb", "a text that does not fit", "line breaks and tabs"),
    ],
)
def test_a_refusal_is_exact(name: str, value: Any, got: str, allowed: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse(name, value)
    assert got in refused.value.message
    assert allowed in refused.value.message


@pytest.mark.parametrize(
    ("name", "value", "canonical"),
    [
        ("api_key_source", " file:keys/.vast_env ", "file:keys/.vast_env"),
        ("gpu_name", "RTX_4090", "RTX 4090"),
        ("gpu_name", "  RTX   4090 ", "RTX 4090"),
        ("gpu_name", "ANY", "any"),
        ("num_gpus", 1, 1),
        ("num_gpus", 64, 64),
        ("verified", False, False),
        ("min_vram_gb", 1, 1),
        ("min_vram_gb", 1024, 1024),
        ("min_inet_down_mbps", 1, 1),
        ("count", 1, 1),
        ("onstart", ":", ":"),
        ("onstart", "x" * 4096, "x" * 4096),
        ("ports", ["1:65535"], ["1:65535"]),
        ("regions", "us", ["US"]),
        ("regions", ["us", "DE", "US"], ["DE", "US"]),
        ("regions", [], []),
        ("min_reliability", 0, "0"),
        ("min_reliability", 1, "1"),
        ("min_reliability", 0.95, "0.95"),
        ("min_reliability", 1e-05, "0.00001"),
        ("min_reliability", "0.9500", "0.95"),
        ("min_cuda", 12.4, "12.4"),
        ("min_cuda", 99, "99"),
        ("min_inet_down_mbps", 100_000, 100_000),
        ("image", "pytorch/pytorch:latest", "pytorch/pytorch:latest"),
        ("image", "ghcr.io/a/b@sha256:" + "0" * 64, "ghcr.io/a/b@sha256:" + "0" * 64),
        ("image", "localhost:5000/a_b-c:1.2", "localhost:5000/a_b-c:1.2"),
        ("image", "x" * 1024, "x" * 1024),
        ("disk_gb", 8, 8),
        ("disk_gb", 65536, 65536),
        ("count", 64, 64),
        ("max_price_per_hour", "0.001", "0.001"),
        ("max_price_per_hour", 128, "128"),
        ("max_price_per_hour", 0.1 + 0.2, "0.3"),
        ("max_price_per_hour", Decimal("0.50"), "0.5"),
        ("max_price_per_hour", "0.50009", "0.5"),
        ("max_price_per_hour", "10", "10"),
        ("bid_per_hour", "0.12349", "0.1234"),
        ("fleet", "best_effort", "best_effort"),
        ("objective", "reliability", "reliability"),
        ("policy", "second_cheapest", "second_cheapest"),
        ("ssh_key", "ssh-ed25519 AAAA me\n", "ssh-ed25519 AAAA me"),
        ("label", " a b ", "a b"),
        ("label", "ö" * 60, "ö" * 60),
        ("env", {"B": "2\n3", "A": ""}, {"A": "", "B": "2\n3"}),
        ("env", {"A" * 64: "x" * (32768 - 64)}, {"A" * 64: "x" * (32768 - 64)}),
        ("env", {f"A{n}": "" for n in range(10, 74)}, {f"A{n}": "" for n in range(10, 74)}),
        ("onstart", "echo hi\n\tls", "echo hi\n\tls"),
        ("ports", ["8080"], ["8080:8080"]),
        ("ports", [8080, "53:53/udp", "8080:8080/tcp", "0022:22"], ["22:22", "53:53/udp", "8080:8080"]),
        ("ports", [], []),
        ("ports", [str(port) for port in range(1, 65)], sorted(f"{port}:{port}" for port in range(1, 65))),
        ("interruptible", True, True),
        ("template_hash", "4e17788f74f075dd9aab7d0d4427968f", "4e17788f74f075dd9aab7d0d4427968f"),
    ],
)
def test_a_good_value_gets_its_canonical_form(name: str, value: Any, canonical: Any) -> None:
    found = parse(name, value)
    assert found == canonical
    assert type(found) is type(canonical)


TEXTS = st.one_of(st.text(max_size=90), st.text("RTX_ 4090any\n", max_size=12))
WHOLES = st.integers(-2, 200)
NUMBERS = st.one_of(
    st.decimals(0, 130, places=8), st.floats(0, 130), st.decimals(0, 130, places=3).map(str), st.integers(0, 130)
)
PORTS = st.one_of(
    st.integers(0, 70_000), st.from_regex(r"[0-9]{1,5}(:[0-9]{1,5})?(/udp|/tcp)?", fullmatch=True), st.text(max_size=3)
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "api_key_source": TEXTS,
    "gpu_name": TEXTS,
    "num_gpus": WHOLES,
    "verified": st.booleans(),
    "min_vram_gb": WHOLES,
    "regions": st.one_of(st.text("usde", max_size=2), st.lists(st.text("usDE", min_size=2, max_size=2))),
    "min_reliability": st.one_of(NUMBERS, st.floats(0, 1), st.decimals(0, 1)),
    "min_cuda": NUMBERS,
    "min_inet_down_mbps": WHOLES,
    "image": st.text("ab./:@-_ ;", min_size=1, max_size=20),
    "disk_gb": WHOLES,
    "count": WHOLES,
    "max_price_per_hour": NUMBERS,
    "fleet": st.sampled_from(fields.FLEETS),
    "objective": st.sampled_from(fields.OBJECTIVES),
    "policy": st.sampled_from(fields.POLICIES),
    "ssh_key": TEXTS,
    "label": TEXTS,
    "env": st.dictionaries(st.text("AB_1=", max_size=4), st.text(max_size=9), max_size=3),
    "onstart": st.text(),
    "ports": st.lists(PORTS, max_size=4),
    "interruptible": st.booleans(),
    "bid_per_hour": NUMBERS,
    "template_hash": st.text("abc0", max_size=66),
}


@pytest.mark.parametrize("name", list(FIELDS))
def test_a_canonical_form_is_stable_and_survives_json(name: str) -> None:
    taken: list[Any] = []

    @THOROUGH
    @given(value=LIKELY[name])
    def stable(value: Any) -> None:
        try:
            once = parse(name, value)
        except Refusal:
            return
        assert parse(name, once) == once
        assert json.loads(json.dumps(once)) == once
        taken.append(once)

    stable()
    assert taken


@THOROUGH
@given(price=st.decimals("0.001", "128", places=9))
def test_the_agreed_ceiling_is_never_above_what_the_user_named_and_is_what_is_shown(price: Decimal) -> None:
    kept = parse("max_price_per_hour", str(price))
    assert price - Decimal("0.0001") < Decimal(kept) <= price
    assert Decimal(str(fields.shown("max_price_per_hour", kept))) == Decimal(kept)


OTHER: dict[str, Any] = {
    "api_key_source": "cli",
    "gpu_name": "H100",
    "num_gpus": 2,
    "verified": False,
    "min_vram_gb": 24,
    "regions": ["SE"],
    "min_reliability": 0.9,
    "min_cuda": 12,
    "min_inet_down_mbps": 100,
    "image": "ubuntu:24.04",
    "disk_gb": 65,
    "count": 2,
    "max_price_per_hour": 0.5001,
    "fleet": "best_effort",
    "objective": "performance",
    "policy": "second_cheapest",
    "ssh_key": "SHA256:other",
    "label": "bob",
    "env": {"A": "b"},
    "onstart": "echo",
    "ports": ["80"],
    "interruptible": True,
    "bid_per_hour": 0.2,
    "template_hash": "abcdef12",
}


def test_the_digest_changes_with_every_single_field_and_with_the_account() -> None:
    assert set(OTHER) == set(FIELDS)
    values = agreed_values()
    seen = {fields.digest(values, account_id=7), fields.digest(values, account_id=8)}
    seen.add(fields.digest(values, account_id=None))
    for name, value in OTHER.items():
        seen.add(fields.digest({**values, name: parse(name, value)}, account_id=7))
    assert len(seen) == 3 + len(FIELDS)


def test_a_field_that_is_gone_changes_the_digest() -> None:
    values = agreed_values()
    for name in values:
        rest = {kept: value for kept, value in values.items() if kept != name}
        assert fields.digest(rest, account_id=7) != fields.digest(values, account_id=7)


VALUES = st.fixed_dictionaries(
    {
        "image": st.sampled_from(["a", "b"]),
        "disk_gb": st.integers(8, 10),
        "count": st.integers(1, 3),
        "max_price_per_hour": st.sampled_from(["0.5", "0.51"]),
        "regions": st.lists(st.sampled_from(["DE", "SE"]), unique=True).map(sorted),
        "env": st.dictionaries(st.sampled_from(["A", "B", "C"]), st.sampled_from(["x", "y"])),
        "verified": st.booleans(),
    }
)


@THOROUGH
@given(values=VALUES, other=VALUES, order=st.randoms(use_true_random=False))
def test_two_digests_are_equal_exactly_where_the_values_are(
    values: dict[str, Any], other: dict[str, Any], order: Any
) -> None:
    names = list(values)
    order.shuffle(names)
    shuffled = {name: values[name] for name in names}
    shuffled["env"] = dict(reversed(list(values["env"].items())))
    assert fields.digest(shuffled, account_id=7) == fields.digest(values, account_id=7)
    assert (fields.digest(values, account_id=7) == fields.digest(other, account_id=7)) is (values == other)


def test_true_is_not_one_in_a_digest() -> None:
    assert fields.digest_of({"a": True}) != fields.digest_of({"a": 1})
    assert fields.digest_of({"a": "1"}) != fields.digest_of({"a": 1})
    assert len(fields.digest_of({})) == 16


def test_a_fingerprint_tells_a_change_without_telling_the_value() -> None:
    kept = fields.fingerprint(SECRET, "w1")
    assert kept == fields.fingerprint(SECRET, "w1")
    assert kept not in {fields.fingerprint(SECRET + "x", "w1"), fields.fingerprint(SECRET, "w2")}
    assert SECRET not in kept
    assert len(kept) == 16


def test_a_value_of_env_is_never_shown() -> None:
    shown = fields.shown("env", parse("env", {"HF_TOKEN": SECRET, "B": "x"}))
    assert shown == {"HF_TOKEN": MASK, "B": MASK}


@pytest.mark.parametrize(
    "value",
    [
        f"HF_TOKEN={SECRET}",
        [f"HF_TOKEN={SECRET}"],
        {f"HF_TOKEN={SECRET}": ""},
        {"HF_TOKEN": SECRET + "\0"},
        {"HF_TOKEN": [SECRET]},
        {"HF_TOKEN": {"value": SECRET}},
        {"HF_TOKEN": SECRET * 4000},
        {"HF_TOKEN": SECRET, "1": "x"},
    ],
)
def test_a_refused_env_tells_no_value(value: Any) -> None:
    with pytest.raises(Refusal) as refused:
        parse("env", value)
    assert SECRET not in refused.value.sentence


def test_a_refused_start_script_is_not_repeated() -> None:
    with pytest.raises(Refusal) as refused:
        parse("onstart", SECRET + "\0")
    assert SECRET not in refused.value.sentence


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("max_price_per_hour", "0.5", 0.5),
        ("bid_per_hour", "0.2", 0.2),
        ("min_reliability", "0.95", 0.95),
        ("min_cuda", "12.4", 12.4),
        ("image", "ubuntu:24.04", "ubuntu:24.04"),
        ("count", 3, 3),
        ("regions", ["SE"], ["SE"]),
        ("onstart", "echo a\n\x1b[31mecho b", "echo a echo b"),
    ],
)
def test_what_a_person_sees(name: str, value: Any, shown: Any) -> None:
    assert fields.shown(name, value) == shown


def test_a_long_start_script_is_shown_cut() -> None:
    shown = fields.shown("onstart", "x" * 4096)
    assert len(shown) == 120
    assert shown.endswith("…")


def test_the_defaults() -> None:
    assert fields.defaults() == {
        "api_key_source": "env:VAST_API_KEY",
        "gpu_name": "RTX 4090",
        "num_gpus": 1,
        "verified": True,
        "image": "pytorch/pytorch:latest",
        "disk_gb": 64,
        "count": 1,
        "objective": "price",
        "policy": "cheapest",
    }


def test_every_default_is_canonical() -> None:
    assert all(parse(name, value) == value for name, value in fields.defaults().items())


@pytest.mark.parametrize(
    ("given_values", "needed"),
    [
        ({}, ("ssh_key", "max_price_per_hour")),
        ({"ssh_key": "k", "max_price_per_hour": "1"}, ()),
        ({"ssh_key": "k", "max_price_per_hour": "1", "count": 2}, ("fleet",)),
        ({"ssh_key": "k", "max_price_per_hour": "1", "count": 2, "fleet": "best_effort"}, ()),
        ({"ssh_key": "k", "max_price_per_hour": "1", "interruptible": True}, ("bid_per_hour",)),
        ({"ssh_key": "k", "max_price_per_hour": "1", "interruptible": False}, ()),
        ({"ssh_key": "k", "max_price_per_hour": "1", "image": None}, ("image",)),
    ],
)
def test_what_is_still_needed(given_values: dict[str, Any], needed: tuple[str, ...]) -> None:
    assert fields.still_needed({**fields.defaults(), **given_values}) == needed


def test_nothing_known_needs_everything_that_a_create_is_built_from() -> None:
    assert fields.still_needed({}) == (
        "api_key_source",
        "gpu_name",
        "image",
        "disk_gb",
        "count",
        "ssh_key",
        "max_price_per_hour",
    )


def test_every_field_that_may_be_needed_has_a_question() -> None:
    everything = fields.still_needed({"count": 2, "interruptible": True})
    assert all(FIELDS[name].ask.endswith("?") for name in everything)


def test_the_fields_that_a_price_hangs_on() -> None:
    free = {name for name, spec in FIELDS.items() if not spec.prices}
    assert free == {
        *("image", "max_price_per_hour", "fleet", "ssh_key", "label", "env", "onstart", "template_hash"),
    }
