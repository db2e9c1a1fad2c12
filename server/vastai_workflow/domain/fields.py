"""The fields to agree on: one table with defaults, parsers and what a change of each means for the price.

A field's value is kept in canonical JSON form (decimals as strings), so that a digest over it is stable.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any, Final, cast

from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.untrusted import clean, holds_private_key, quoted, visible

ACTIONS: Final = ("offers", "create", "status", "ssh", "destroy", "billing")
OBJECTIVES: Final = ("price", "performance", "reliability")
POLICIES: Final = ("cheapest", "second_cheapest")
ALL_OR_NOTHING: Final = "all_or_nothing"
BEST_EFFORT: Final = "best_effort"
FLEETS: Final = (ALL_OR_NOTHING, BEST_EFFORT)
ANY_GPU: Final = "any"
MASK: Final = "(set, not shown)"

_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,1023}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PORT: Final = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?(?:/(tcp|udp))?")
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,40})?(e-[0-9]{1,2})?")
_UNSENDABLE: Final = re.compile("[\0\ud800-\udfff]")
_REGION: Final = re.compile(r"[A-Za-z]{2}")
_HASH: Final = re.compile(r"[A-Za-z0-9]{6,64}")
_MAX_PORT: Final = 65535
_MAX_ITEMS: Final = 64
"""For ports a limit of the provider (official docs), for regions and variables one of ours."""
_PRICE_STEP: Final = Decimal("0.0001")
"""What `Rate` shows: a price that is agreed to is the price that was shown."""
_FINE_STEP: Final = Decimal("0.000001")
_MAX_ENV: Final = 32768
_MAX_ONSTART: Final = 4096


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field: how to read it, what it is by default, whether the price hangs on it, how the user is asked."""

    name: str
    parse: Callable[[str, Any], Any]
    default: Any = None
    prices: bool = False
    ask: str = ""


def refuse(name: str, got: object, allowed: str) -> Refusal:
    """The refusal of a value: what came, what may come."""
    return Refusal(
        "invalid_argument", f"{name}: got {quoted(got, 80)}, allowed {allowed}", next_step="correct it, call again"
    )


def _whole(low: int, high: int, unit: str = "") -> Callable[[str, Any], int]:
    def parse(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise refuse(name, value, f"a whole number from {low} to {high}{unit}")
        return value

    return parse


def _number(low: str, high: str, unit: str, step: Decimal = _FINE_STEP) -> Callable[[str, Any], str]:
    def parse(name: str, value: Any) -> str:
        text = str(value).lower()
        number = Decimal(text) if _NUMBER.fullmatch(text) else None
        if number is None or not Decimal(low) <= number <= Decimal(high):
            raise refuse(name, value, f"a number from {low} to {high}{unit}")
        return f"{number.quantize(step, ROUND_DOWN).normalize():f}"

    return parse


def _one_of(*words: str) -> Callable[[str, Any], str]:
    def parse(name: str, value: Any) -> str:
        if value not in words:
            raise refuse(name, value, " | ".join(words))
        return str(value)

    return parse


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise refuse(name, value, "true or false")
    return value


def _text(cap: int) -> Callable[[str, Any], str]:
    def parse(name: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > cap:
            raise refuse(name, value, f"a text of 1 to {cap} characters")
        text = value.strip()
        if not all(map(visible, text)):
            raise refuse(name, value, "one line without control or invisible characters")
        return text

    return parse


def _source(name: str, value: Any) -> str:
    """Where a key is; one that was given by mistake for its place is not repeated."""
    if not isinstance(value, str) or holds_private_key(value) or not all(map(visible, value)):
        raise refuse(name, "something else (not shown)", "env:NAME, file:PATH, cli or keyring")
    return _text(4096)(name, value)


def _ssh_key(name: str, value: Any) -> str:
    """Any text: what it holds is told by whoever reads keys, which repeats none."""
    if not isinstance(value, str) or not value.strip():
        raise refuse(name, type(value).__name__, "a public key, or the path of one")
    return value.strip()


def _gpu_name(name: str, value: Any) -> str:
    text = " ".join(_text(80)(name, value).replace("_", " ").split())
    if not text:
        raise refuse(name, value, "a GPU's name such as RTX 4090, or any")
    return ANY_GPU if text.lower() == ANY_GPU else text


def _image(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _IMAGE.fullmatch(value):
        raise refuse(
            name, value, "a container image such as pytorch/pytorch:latest, without spaces or shell characters"
        )
    return value


def _items(name: str, value: Any, allowed: str) -> list[Any]:
    if not isinstance(value, list):
        raise refuse(name, value, allowed)
    items = cast("list[Any]", value)
    if len(items) > _MAX_ITEMS:
        raise refuse(name, f"{len(items)} of them", allowed)
    return items


def _regions(name: str, value: Any) -> list[str]:
    allowed = "a list of two-letter country codes such as ['US', 'DE']"
    items = _items(name, [value] if isinstance(value, str) else value, allowed)
    if not all(isinstance(item, str) and _REGION.fullmatch(item) for item in items):
        raise refuse(name, items, allowed)
    return sorted({item.upper() for item in items})


def _ports(name: str, value: Any) -> list[str]:
    allowed = "up to 64 of '8080', '8080:8080' or '53:53/udp'"
    return sorted({_port(name, item, allowed) for item in _items(name, value, allowed)})


def _port(name: str, item: Any, allowed: str) -> str:
    match = _PORT.fullmatch(str(item)) if isinstance(item, str | int) else None
    if not match:
        raise refuse(name, item, allowed)
    outer, inner, protocol = match.group(1), match.group(2) or match.group(1), match.group(3)
    if not all(1 <= int(number) <= _MAX_PORT for number in (outer, inner)):
        raise refuse(name, item, allowed)
    return f"{int(outer)}:{int(inner)}{'/udp' if protocol == 'udp' else ''}"


def _env(name: str, value: Any) -> dict[str, str]:
    allowed = "an object of up to 64 of NAME: text, NAME 64 at most, without VASTAI_WORKFLOW_, 32768 characters in all"
    if not isinstance(value, dict):
        raise refuse(name, type(value).__name__, allowed)
    items = cast("dict[Any, Any]", value)
    if len(items) > _MAX_ITEMS:
        raise refuse(name, f"{len(items)} of them", allowed)
    for key, text in items.items():
        if not isinstance(key, str) or not _VARIABLE.fullmatch(key) or key.startswith("VASTAI_WORKFLOW_"):
            raise refuse(name, str(key).partition("=")[0], allowed)  # behind a "=" may stand a secret
        if not isinstance(text, str) or _UNSENDABLE.search(text):
            raise refuse(f"{name}.{key}", type(text).__name__, f"{allowed}, no NUL and no half characters")
    if sum(len(key) + len(text) for key, text in items.items()) > _MAX_ENV:
        raise refuse(name, "more", allowed)
    return dict(sorted(items.items()))


def _template(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise refuse(name, value, "a template's hash id")
    return value


def _onstart(name: str, value: Any) -> str:
    """A script that can be read whole in the question: what a terminal would hide or run on is refused."""
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_ONSTART or not all(map(_in_script, value)):
        allowed = f"a script of 1 to {_MAX_ONSTART} characters, of control and invisible ones only line breaks and tabs"
        raise refuse(name, "a text that does not fit", allowed)
    return value


def _in_script(char: str) -> bool:
    return char in "\n\t" or char.isprintable()


FIELDS: Final[Mapping[str, FieldSpec]] = {
    spec.name: spec
    for spec in (
        FieldSpec("api_key_source", _source, "env:VAST_API_KEY", prices=True, ask="where is the API key?"),
        FieldSpec("gpu_name", _gpu_name, "RTX 4090", prices=True, ask="which exact GPU, or any?"),
        FieldSpec("num_gpus", _whole(1, 64), 1, prices=True),
        FieldSpec("verified", _flag, default=True, prices=True),
        FieldSpec("min_vram_gb", _whole(1, 1024, " (GB per GPU)"), prices=True, ask="a minimum of GPU memory?"),
        FieldSpec("regions", _regions, prices=True, ask="only some regions?"),
        FieldSpec("min_reliability", _number("0", "1", ""), prices=True, ask="a minimum reliability?"),
        FieldSpec("min_cuda", _number("1", "99", ""), prices=True),
        FieldSpec("min_inet_down_mbps", _whole(1, 100_000, " (Mb/s)"), prices=True),
        FieldSpec("image", _image, "pytorch/pytorch:latest", ask="which container image?"),
        FieldSpec("disk_gb", _whole(8, 65536, " (GB)"), 64, prices=True, ask="how much disk (GB)?"),
        FieldSpec("count", _whole(1, 64, " (machines)"), 1, prices=True, ask="how many machines?"),
        FieldSpec(
            "max_price_per_hour",
            _number("0.001", "128", " ($/h per machine)", _PRICE_STEP),
            ask="at most how much per hour?",
        ),
        FieldSpec("fleet", _one_of(*FLEETS), ask="all machines or none, or as many as there are?"),
        FieldSpec("objective", _one_of(*OBJECTIVES), "price", prices=True),
        FieldSpec("policy", _one_of(*POLICIES), "cheapest", prices=True),
        FieldSpec("ssh_key", _ssh_key, ask="which SSH public key?"),
        FieldSpec("label", _text(60)),
        FieldSpec("env", _env),
        FieldSpec("onstart", _onstart),
        FieldSpec("ports", _ports, prices=True),
        FieldSpec("interruptible", _flag, prices=True),
        FieldSpec(
            "bid_per_hour",
            _number("0.001", "128", " ($/h per machine)", _PRICE_STEP),
            prices=True,
            ask="which bid per hour?",
        ),
        FieldSpec("template_hash", _template),
    )
}
"""Every field by name, in the order of the dialog."""


def parse(name: str, value: Any) -> Any:
    """A value in canonical form; Refusal `invalid_argument` with got and allowed."""
    return FIELDS[name].parse(name, value)


def defaults() -> dict[str, Any]:
    """The fields that have a value before anybody said anything."""
    return {name: spec.default for name, spec in FIELDS.items() if spec.default is not None}


def still_needed(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields without which nothing can be rented, given the others."""
    needed = ["api_key_source", "gpu_name", "image", "disk_gb", "count", "ssh_key", "max_price_per_hour"]
    if values.get("count", 1) > 1:
        needed.append("fleet")
    if values.get("interruptible"):
        needed.append("bid_per_hour")
    return tuple(name for name in needed if values.get(name) is None)


def shown(name: str, value: Any) -> Any:
    """A value as a person may see it: secrets masked, decimals as numbers, long texts cut."""
    if name == "env":
        return dict.fromkeys(value, MASK)
    if name == "onstart":
        return clean(value, 120)
    if name in {"max_price_per_hour", "bid_per_hour", "min_reliability", "min_cuda"}:
        return float(value)
    return value


def digest(
    values: Mapping[str, Any], *, account_id: int | None, workflow_id: str = "", active: Sequence[int] = ()
) -> str:
    """What a yes is bound to: every field (label, SSH key and ceiling are fields), the account, and what was shown.

    With the workflow and the machines that ran in it, so that a yes to one question is none to another.
    """
    shown_with = {"account": account_id, "workflow": workflow_id, "active": sorted(active)}
    return digest_of({"fields": dict(values), **shown_with})


def fingerprint(secret: str, salt: str) -> str:
    """A secret value's stand-in in the digest: tells a change without telling the value."""
    return hashlib.sha256(f"{salt}\0{secret}".encode()).hexdigest()[:16]


def digest_of(body: Mapping[str, Any]) -> str:
    """64 bits of SHA-256 over canonical JSON: short enough to be repeated, too long to be hit by a change."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
