"""An instance's log: asked for, then fetched without the key from where the provider put it, up to a cap."""

from typing import Final

import httpx

from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.vast import models
from vastai_workflow.vast.client import Client
from vastai_workflow.vast.endpoints import LOGS
from vastai_workflow.vast.hosts import may_hold_logs
from vastai_workflow.vast.wire import Request

MAX_BYTES: Final = 256 * 1024
READY_WITHIN_S: Final = 10.0
_POLL_S: Final = 0.5
_MAX_READ: Final = 16 * MAX_BYTES
"""Of a longer log the end is wanted, but no more than this is read to get there."""
_NOT_READY: Final = frozenset({403, 404})
_OK: Final = 200


async def fetch(client: Client, instance_id: int, *, tail: int, daemon: bool) -> str:
    """The newest lines, 256 KB at most; raises `unreadable_answer` where no log appears within ten seconds."""
    body = {"tail": str(tail)} | ({"daemon_logs": "true"} if daemon else {})
    address = await client.call(Request(LOGS, instance_id, body=body), models.result_url)
    url = _checked(address, client)
    until = client.clock.now() + READY_WITHIN_S
    while (content := await _content(client, url)) is None:
        if client.clock.now() + _POLL_S > until:
            raise ProviderError(
                "unreadable_answer",
                f"the log of instance {instance_id} was not ready within {READY_WITHIN_S:.0f} s",
                next_step="call read_logs again",
            )
        await client.clock.sleep(_POLL_S)
    return "\n".join(content.decode("utf-8", "replace").splitlines()[-tail:])


def _checked(address: str, client: Client) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        url = httpx.URL()
    if not may_hold_logs(url, client.base_url):
        raise ProviderError(
            "redirect_refused",
            "got a log address on another host, allowed https on vast.ai or S3",
            next_step="nothing: the log is not fetched from there",
        )
    return url


async def _content(client: Client, url: httpx.URL) -> bytes | None:
    """The end of what stands there; None while it is not there yet, or the host does not answer."""
    kept = b""
    read = 0
    try:
        async with client.http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            if response.status_code in _NOT_READY or response.is_server_error:
                return None
            if response.status_code != _OK:
                raise ProviderError(
                    "unreadable_answer",
                    f"got status {response.status_code} for the log, allowed 200",
                    status=response.status_code,
                )
            async for chunk in response.aiter_bytes(MAX_BYTES):
                kept = (kept + chunk)[-MAX_BYTES:]
                read += len(chunk)
                if read >= _MAX_READ:
                    break
    except httpx.RequestError:
        return None
    return kept
