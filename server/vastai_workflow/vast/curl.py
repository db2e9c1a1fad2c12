"""A request as the curl line that a person can read and check: with the key's variable in place of the key."""

import json
import shlex
from collections.abc import Iterable

import httpx

from vastai_workflow.domain.untrusted import clean
from vastai_workflow.vast.scrub import hidden, masked
from vastai_workflow.vast.wire import Request

_CAP = 4000


def curl(request: Request, base_url: httpx.URL, secrets: Iterable[str] = ()) -> str:
    """One line for a POSIX shell; secrets and values of variables are masked."""
    endpoint = request.endpoint
    url = httpx.URL(f"{str(base_url).rstrip('/')}{request.path}", params=dict(request.query) or None)
    parts = ["curl", "-sS", "-X", endpoint.method, shlex.quote(str(url))]
    if endpoint.scope:
        parts += ["-H", '"Authorization: Bearer $VAST_API_KEY"']
    if endpoint.method != "GET":
        body = json.dumps(masked(dict(request.body or {})), default=str, separators=(",", ":"))
        parts += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(hidden(body, secrets))]
    return clean(hidden(" ".join(parts), secrets), _CAP)
