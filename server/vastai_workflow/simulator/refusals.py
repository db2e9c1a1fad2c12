"""Every refusal the provider is documented or reported to give, in its known forms."""

from collections.abc import Mapping

from vastai_workflow.simulator.exchange import Refused, Reply
from vastai_workflow.simulator.switches import Switches

TOO_OFTEN = "API requests too frequent"
KNOWN: Mapping[str, tuple[int, str]] = {
    "no_such_ask": (410, "error 410/3907: no_such_ask Instance type {id} is no longer available."),
    "invalid_args": (400, "error 400/3467: Invalid args: not allowed"),
    "invalid_price": (400, "error 400/3468: invalid price"),
    "no_ssh_key_for_vm": (400, "error 400/3470: no ssh key for vm"),
    "insufficient_credit": (400, "Your account lacks credit; see the billing page."),
    "missing_billing": (400, "Your account lacks credit; see the billing page."),
    "spend_rate_limit": (400, "Your account's spend rate limit is reached."),
    "auth_error": (404, "Invalid user key"),
    "missing_scope": (403, "This API key lacks the permission for this route."),
    "tfa_required": (401, "Two Factor Authentication is required."),
    "session_expired": (404, "Session expired. Please log in again."),
    "no_such_instance": (404, "Instance {id} not found."),
    "not_found": (404, "Not found."),
    "invalid_request": (400, "Error in query parameters: dph_total is not a valid search key"),
    "resources_unavailable": (200, "Required resources are currently unavailable, state change queued."),
    "team_ssh_keys_not_supported": (400, "SSH keys are not supported in team context."),
}
"""Status and message by error code, as the fault `refuse` gives them."""


def known(code: str, status: int | None, number: int, *, code_in_message: bool) -> Refused:
    """A refusal by its code; a code that is not known is given as it is, with status 400."""
    usual, text = KNOWN.get(code, (400, f"{code}: refused"))
    text = text.format(id=number)
    if code_in_message:
        return Refused(status or usual, "invalid_args", text if code in text else f"{code} {text}")
    return Refused(status or usual, code, text)


def no_key() -> Refused:
    """No Authorization header and no key in the query."""
    return Refused(403, "auth_error", "This action requires login.")


def unknown_key(switches: Switches) -> Refused:
    """A key that never was, or is no more."""
    return Refused(switches.unknown_key_status, "auth_error", "Invalid user key")


def missing_scope(switches: Switches, scope: str) -> Refused:
    """A key without the permission of the route."""
    return Refused(switches.missing_scope_status, "forbidden", f"This API key lacks the {scope} permission.")


def too_many(switches: Switches, threshold: float, wait_s: float) -> Reply:
    """A 429 in the form that the switches ask for."""
    sentence = f"{TOO_OFTEN} endpoint threshold={threshold}"
    bodies: Mapping[str, object] = {
        "text": sentence,
        "text_colon": f"{TOO_OFTEN}: endpoint threshold={threshold}",
        "detail": {"detail": sentence},
        "error": {"success": False, "error": "rate_limit_exceeded", "msg": sentence},
        "message": {"success": False, "error": "rate_limit_exceeded", "message": sentence},
    }
    body = bodies[switches.too_many_form]
    headers: dict[str, str] = {}
    if switches.retry_after in {"header", "both"}:
        headers["Retry-After"] = str(max(1, round(wait_s + 0.5)))
    if switches.retry_after in {"body", "both"}:
        fields = body if isinstance(body, dict) else {"detail": sentence}
        body = {**fields, "retry_after": round(wait_s, 3)}
    is_text = isinstance(body, str)
    return Reply(body, 429, headers, "text/plain" if is_text else "application/json")


def quota_exceeded(now: float) -> Reply:
    """The daily search quota, which is back at 00:00 UTC."""
    day = 86_400
    headers = {"X-RateLimit-Reset": str((int(now) // day + 1) * day)}
    body = {"success": False, "error": "search_quota_exceeded", "msg": "Daily search quota exceeded"}
    return Reply(body, 429, headers)
