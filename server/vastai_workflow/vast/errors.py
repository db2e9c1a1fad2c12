"""What a refusal of the provider means: one reading of status and body, for every endpoint.

The body decides before the status does: an unknown key is a 404 too, and a start without a free GPU is a 200. Forms and
codes are from the official docs and description, the official client, and reports; where a form is only reported, the
rule says so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from vastai_workflow.domain.errors import ProviderError, Uncertain
from vastai_workflow.vast import endpoints
from vastai_workflow.vast.scrub import quoted, shape
from vastai_workflow.vast.wire import UNREADABLE, Answer, Request

_THRESHOLD: Final = re.compile(r"threshold\s*=\s*(\d+(?:\.\d+)?)")
_BAD_KEY: Final = re.compile(r"(invalid|unknown|bad) (user|api)[ _-]?key|requires login|not logged in", re.IGNORECASE)
_SCOPE: Final = re.compile(r"permission|scope|not authori[sz]ed|not allowed|forbidden", re.IGNORECASE)
_SECOND_FACTOR: Final = re.compile(r"two[ -]factor|2fa|session expired", re.IGNORECASE)
_LONGEST_WAIT_S: Final = 366 * 86400.0

_TOO_MANY: Final = 429
_DENIED: Final = frozenset({401, 403})
_NOT_FOUND: Final = 404
_GONE: Final = 410
_OFFER_GONE: Final = frozenset({400, 404, 410})
_TRY_LATER: Final = frozenset({408, 425})
"""Time-out on the provider's side and "too early": not an answer to the request."""

_MAY_HAVE_WORKED: Final = frozenset({408, 409, 425})
_REMOVES_KEY: Final = (endpoints.DELETE_ACCOUNT_KEY, endpoints.DETACH_KEY)
_NO_SUCH_KEY: Final = frozenset({"no_ssh_key", "no_such_ssh_key"})
_PLAIN_REFUSALS: Final = frozenset(
    {"invalid_args", "invalid_id", "invalid_price", "invalid_request", "missing_billing", "no_ssh_key_for_vm"}
)
"""Codes that say the request itself is wrong, so that it had no effect."""


class NothingThere(ProviderError):
    """The 404 that means an empty list of SSH keys, or the no that means a key is gone already."""


class NoAnswer(ProviderError):
    """The request left, and no answer came: time-out, broken connection."""


@dataclass(frozen=True, slots=True)
class _Rule:
    code: str
    holds: Callable[[Answer], bool]
    means: str


def _word(answer: Answer, *codes: str) -> bool:
    """Whether a code stands in `error`, or as a word in the message, where some errors carry it alone."""
    return answer.code in codes or any(re.search(rf"\b{code}\b", answer.said) for code in codes if "_" in code)


def _rejected_key(answer: Answer) -> bool:
    if _BAD_KEY.search(answer.said):
        return True
    if answer.code != "auth_error":
        return answer.status == 401 and not answer.code and not _SCOPE.search(answer.said)  # noqa: PLR2004 # HTTP: not authenticated
    return answer.status not in _DENIED or answer.said == answer.code


def _lacks_scope(answer: Answer) -> bool:
    """401 or 403 in free text (official docs; the exact body is not established). HTML is somebody in between."""
    if answer.status not in _DENIED or not answer.fields:
        return False
    return answer.code in ("", "auth_error") or bool(_SCOPE.search(f"{answer.code} {answer.said}"))


_RULES: Final = (
    _Rule("search_quota_exceeded", lambda a: a.code == "search_quota_exceeded", "the daily search quota is used up"),
    _Rule(
        "spend_rate_limit", lambda a: _word(a, "spend_rate_limit"), "the provider limits how fast this account spends"
    ),
    _Rule(
        "rate_limited",
        lambda a: a.status == _TOO_MANY or a.code == "rate_limit_exceeded" or "requests too frequent" in a.said,
        "too many calls",
    ),
    _Rule("two_factor", lambda a: bool(_SECOND_FACTOR.search(a.said)), "the key needs a second factor"),
    _Rule("key_rejected", _rejected_key, "the provider does not accept the key"),
    _Rule(
        "no_such_ask",
        lambda a: a.status in _OFFER_GONE and _word(a, "no_such_ask"),
        "the offer is gone",
    ),
    _Rule(
        "insufficient_credit",
        lambda a: _word(a, "insufficient_credit") or "lacks credit" in a.said,
        "the account lacks credit",
    ),
    _Rule("resources_unavailable", lambda a: _word(a, "resources_unavailable"), "the GPU is not free"),
    _Rule("team_ssh_keys_not_supported", lambda a: _word(a, "team_ssh_keys_not_supported"), "a team holds no SSH keys"),
    _Rule(
        "no_such_instance",
        lambda a: a.status == _NOT_FOUND and a.code in ("no_such_instance", "not_found", "invalid_id"),
        "the provider knows no such instance",
    ),
    _Rule("scope_missing", _lacks_scope, "the key lacks a permission"),
)


def refusal(request: Request, answer: Answer, *, now: float, secrets: tuple[str, ...] = ()) -> ProviderError:
    """The error for an answer that is no success. `now` in Unix seconds, to count down to a reset time."""
    said = quoted(answer.said, secrets)
    status = answer.status
    wait = retry_after(answer, now)
    if status >= 500:  # noqa: PLR2004 # HTTP: the server's own fault, whatever the body claims
        return ProviderError(
            "provider_down", f"got {status} from the provider: {said}", status=status, retry_after=wait
        )
    if 300 <= status < 400:  # noqa: PLR2004 # HTTP: redirects
        return ProviderError(
            "redirect_refused",
            f"got a redirect ({status}) for {request.endpoint.method} {request.path}, allowed an answer",
            status=status,
        )
    if request.endpoint == endpoints.ACCOUNT_KEYS and status == _NOT_FOUND and "no ssh keys" in answer.said.lower():
        return NothingThere("request_rejected", f"got 404: {said}", status=status)
    if request.endpoint in _REMOVES_KEY and answer.code in _NO_SUCH_KEY:
        return NothingThere("request_rejected", f"got {status}: {said}", status=status)
    for rule in _RULES:
        if rule.holds(answer):
            means = rule.means
            if rule.code == "scope_missing":
                means = f"{means}, {request.endpoint.scope or 'unknown'}, that {request.endpoint.name} needs"
            return ProviderError(rule.code, f"{means}; got {status}: {said}", status=status, retry_after=wait)
    if status in _TRY_LATER:
        return ProviderError(
            "provider_down", f"got {status} from the provider: {said}", status=status, retry_after=wait
        )
    what = "the provider has removed this call" if answer.code == "deprecated_endpoint" else "the provider says no"
    sent = shape(request, secrets)
    return ProviderError("request_rejected", f"{what}; got {status}: {said}; sent {sent}", status=status)


def unsure(answer: Answer, error: ProviderError) -> bool:
    """Whether a call that must not be repeated may have had its effect, although this answer is no success."""
    if answer.status in _MAY_HAVE_WORKED or error.code in ("provider_down", "redirect_refused"):
        return True
    return error.code == "request_rejected" and answer.code not in _PLAIN_REFUSALS


def uncertain(request: Request, error: ProviderError) -> Uncertain:
    """The same failure, for a call that is sent once only: look before anything is tried again."""
    return Uncertain(
        "unknown_effect",
        f"{request.endpoint.name} may have had its effect: {error.message}",
        status=error.status,
        retry_after=error.retry_after,
    )


def retry_after(answer: Answer, now: float) -> float | None:
    """Seconds that the provider asks to wait: header, body, reset time, or the threshold in its words."""
    asked = _seconds(answer.headers.get("retry-after"), now)
    if asked is None:
        asked = _seconds(answer.fields.get("retry_after"), now)
    if asked is None:
        reset = _seconds(answer.headers.get("x-ratelimit-reset"), now)
        asked = None if reset is None else max(reset - now, 0.0)
    if asked is None and (hint := _THRESHOLD.search(answer.said)):
        asked = float(hint.group(1))
    return None if asked is None else min(asked, _LONGEST_WAIT_S)


def readable(answer: Answer) -> bool:
    """Whether the body is JSON at all."""
    return answer.body is not UNREADABLE


def _seconds(value: object, now: float) -> float | None:
    """A number of seconds, or the time until an HTTP date; None for anything else."""
    try:
        number = float(str(value))
    except (ValueError, OverflowError):
        number = _until(str(value), now)
    return number if number is not None and 0 <= number < float("inf") else None


def _until(date: str, now: float) -> float | None:
    try:
        return max(parsedate_to_datetime(date).timestamp() - now, 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
