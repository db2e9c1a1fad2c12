"""The create: its body, exactly as the official client sends it, and what its answer proves."""

from collections.abc import Mapping
from typing import Any, Final

from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.market import (
    ORDER_VARIABLE,
    CreateOutcome,
    CreateRequest,
    MaybeRented,
    NotRented,
    Rented,
    RentedWithError,
)
from vastai_workflow.vast.wire import Answer

RUNTYPE: Final = "ssh_direc ssh_proxy"
"""SSH by the direct and the proxy address. The missing t is the provider's (official client)."""

FREE_TEXT: Final = "(free text)"
"""Stands for a denial that is a JSON object with words but no code."""

KNOWN_REFUSALS: Final = frozenset(
    {
        (400, "no_such_ask"),
        (404, "no_such_ask"),
        (410, "no_such_ask"),
        (400, "insufficient_credit"),
        (400, "invalid_args"),
        (400, "invalid_price"),
        (400, "no_ssh_key_for_vm"),
        (403, "invalid_args"),
        (401, "auth_error"),
        (403, "auth_error"),
        (404, "auth_error"),
        (401, FREE_TEXT),
        (403, FREE_TEXT),
        (400, "spend_rate_limit"),
        (402, "spend_rate_limit"),
        (403, "spend_rate_limit"),
    }
)
"""Status and code of the only answers, besides 429, that prove that nothing was rented (official docs, reported)."""

_TOO_MANY: Final = 429
_DENIALS: Final = frozenset({"key_rejected", "scope_missing", "two_factor"})


def create_body(request: CreateRequest) -> dict[str, Any]:
    """The body of `PUT /asks/{id}/`. With a template the runtype is the template's, as in the official client."""
    env = {name: value.get_secret_value() for name, value in request.env.items()}
    ports = {f"-p {port}": "1" for port in request.ports}
    body: dict[str, Any] = {
        "client_id": "me",
        "image": request.image or None,
        "env": {**env, **ports, ORDER_VARIABLE: request.order_marker},
        "price": None if request.bid is None else float(request.bid.per_hour),
        "disk": float(request.disk_gb),
        "label": request.label,
        "extra": None,
        "onstart": request.onstart,
        "image_login": None,
        "python_utf8": False,
        "lang_utf8": False,
        "use_jupyter_lab": False,
        "jupyter_dir": None,
        "force": False,
        "cancel_unavail": True,
        "template_hash_id": request.template_hash,
        "user": None,
    }
    if request.template_hash is None:
        body["runtype"] = RUNTYPE
    return body


def secrets_of(request: CreateRequest) -> tuple[str, ...]:
    """The texts of a create that must not come back in an error."""
    onstart = () if request.onstart is None else (request.onstart,)
    return (*(value.get_secret_value() for value in request.env.values()), *onstart)


def refusal_key(answer: Answer, error: ProviderError) -> tuple[int, str]:
    """Where a refusal would stand in `KNOWN_REFUSALS`. `no_such_ask` may stand in the words alone."""
    if error.code == "no_such_ask":
        return answer.status, "no_such_ask"
    if not answer.code and answer.said and answer.fields and error.code in _DENIALS:
        return answer.status, FREE_TEXT
    return answer.status, answer.code


def outcome(answer: Answer, error: ProviderError | None) -> CreateOutcome:
    """What a readable answer to a create proves; `error` is its refusal where it is no success."""
    instance_id = answer.new_contract
    if error is None:
        return Rented(instance_id) if instance_id else MaybeRented("the provider says yes and names no instance")
    if instance_id:
        return RentedWithError(instance_id, error.code, error.message)
    if answer.status == _TOO_MANY or (not _says_yes(answer.fields) and refusal_key(answer, error) in KNOWN_REFUSALS):
        return NotRented(error.code, error.message, error.retry_after)
    return MaybeRented(error.message)


def _says_yes(fields: Mapping[str, Any]) -> bool:
    return fields.get("success") not in (None, False, "false")
