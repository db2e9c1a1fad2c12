"""Calls the provider with one key: paced, repeated where that is harmless, and never with the key in sight."""

import random
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
from pydantic import SecretStr

from vastai_workflow.domain.errors import ProviderError, Refusal
from vastai_workflow.domain.ledger import CREATE_TIMEOUT_S
from vastai_workflow.steps.ports import ApiCall, Clock
from vastai_workflow.vast.curl import curl
from vastai_workflow.vast.errors import NoAnswer, readable, refusal, uncertain, unsure
from vastai_workflow.vast.hosts import is_loopback
from vastai_workflow.vast.limits import Limiter, Patience
from vastai_workflow.vast.models import Unreadable
from vastai_workflow.vast.scrub import save
from vastai_workflow.vast.wire import Answer, Request, answer

DEFAULT_URL: Final = "https://console.vast.ai"
CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = CREATE_TIMEOUT_S
"""Between two bytes of any answer. A create as a whole has no more either, since settling an order counts on that."""
_MAX_REDIRECTS: Final = 3
_SAME_CLOCK_S: Final = 10.0
"""Clocks that differ by less are taken for the same: an answer takes a while too."""
_NOTHING_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

T = TypeVar("T")


class Client:
    """One key's connection. Holds the pace of every route, so one key needs one client."""

    def __init__(
        self,
        key: SecretStr,
        *,
        base_url: str = DEFAULT_URL,
        clock: Clock,
        chance: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
        answers_dir: Path | None = None,
        on_call: Callable[[ApiCall], None] | None = None,
    ) -> None:
        """`chance` gives the jitter; `answers_dir` takes unreadable answers (None: the system's temporary folder).

        `on_call` hears of each request once it is over.
        """
        self.base_url = checked_url(base_url)
        self.is_local = is_loopback(self.base_url.host)
        self.clock = clock
        self._key = key
        self._chance = chance
        self._answers_dir = answers_dir
        self._on_call = on_call
        self.limiter = Limiter(clock)
        self.ahead_s = 0.0
        """How far the provider's clock is ahead of ours, by its newest answer; less than that took is not seen."""
        self.http = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            headers={"User-Agent": "vastai-workflow", "Accept": "application/json"},
            trust_env=not self.is_local,
        )

    async def call(self, request: Request, read: Callable[[Any], T]) -> T:
        """Send, repeat where the endpoint may be repeated, and read the body.

        ProviderError for every refusal; `Uncertain` where a call that is sent once may have had its effect.
        """
        patience = Patience(request.endpoint, self.clock, self._chance)
        repeatable = request.endpoint.repeatable
        while True:
            try:
                reply = await self._answered(request)
            except ProviderError as error:
                if not repeatable:
                    raise
                await patience.wait(error)
                continue
            try:
                return read(reply.body)
            except Unreadable as broken:
                if not (repeatable and patience.reads_again()):
                    raise self.unreadable(request, reply, str(broken)) from None

    async def exchange(self, request: Request) -> Answer:
        """One turn, one request, one answer, whatever it says. `unreachable` where nothing was sent, else NoAnswer."""
        async with self.limiter.turn(request.endpoint):
            began, said = self.clock.now(), "no answer"
            try:
                response = await self._send(request)
                said = f"status {response.status_code}"
            except _NOTHING_SENT as error:
                failure = type(error).__name__
                said = f"nothing was sent ({failure})"
            except httpx.RequestError as error:
                raise NoAnswer(
                    "unreachable", f"no answer to {request.endpoint.name} ({type(error).__name__})"
                ) from None
            else:
                self._compare_clocks(response)
                return answer(response.status_code, response.headers, response.content)
            finally:
                self._tell(request, began, said)
        raise ProviderError("unreachable", f"no connection to {self.base_url.host} ({failure}); nothing was sent")

    def refusal(self, request: Request, reply: Answer) -> ProviderError | None:
        """The error of an answer, None for a success."""
        if reply.succeeded:
            return None
        return refusal(request, reply, now=self.clock.now(), secrets=self._secrets(request))

    def unreadable(self, request: Request, reply: Answer, why: str) -> ProviderError:
        """The error for a success that can't be read; the answer is saved, scrubbed, and the error names the file."""
        path = save(reply, self._secrets(request), self._answers_dir)
        kept = f"saved to {path}" if path else "it could not be saved"
        what = why if readable(reply) else ("an empty body" if not reply.text.strip() else "no JSON")
        error = ProviderError(
            "unreadable_answer",
            f"got {what} for {request.endpoint.name} with status {reply.status}, allowed the documented answer; {kept}",
            status=reply.status,
        )
        return error if request.endpoint.repeatable else uncertain(request, error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def _answered(self, request: Request) -> Answer:
        """One try: the answer of a success, else the error that it means."""
        once = not request.endpoint.repeatable
        try:
            reply = await self.exchange(request)
        except NoAnswer as lost:
            if once:
                raise uncertain(request, lost) from None
            raise
        error = self.refusal(request, reply)
        if error is None:
            return reply
        raise uncertain(request, error) if once and unsure(reply, error) else error

    async def _send(self, request: Request) -> httpx.Response:
        """One request; a GET follows redirects on the same origin, and nothing else follows any."""
        endpoint = request.endpoint
        headers = {"Authorization": f"Bearer {self._key.get_secret_value()}"} if endpoint.scope else {}
        body = None if endpoint.method == "GET" else dict(request.body or {})
        url = _url(f"{str(self.base_url).rstrip('/')}{request.path}", tuple(request.query.items()))
        built = self.http.build_request(endpoint.method, url, headers=headers, json=body)
        response = await self.http.send(built)
        for _ in range(_MAX_REDIRECTS):
            onward = response.next_request
            if endpoint.method != "GET" or onward is None or not _same_origin(onward.url, self.base_url):
                break
            response = await self.http.send(onward)
        return response

    def _compare_clocks(self, response: httpx.Response) -> None:
        """RFC 9110: a server with a clock sends a Date, in whole seconds. One that can't be read says nothing."""
        try:
            said = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
        except (ValueError, OverflowError):
            return
        ahead = said - self.clock.now()
        self.ahead_s = ahead if abs(ahead) > _SAME_CLOCK_S else 0.0

    def _tell(self, request: Request, began: float, said: str) -> None:
        if self._on_call is not None:
            line = curl(request, self.base_url, self._secrets(request))
            self._on_call(ApiCall(began, line, said, changes=request.endpoint.scope.endswith("_write")))

    def _secrets(self, request: Request) -> tuple[str, ...]:
        return (self._key.get_secret_value(), *request.secrets)


@lru_cache(maxsize=256)
def _url(text: str, query: tuple[tuple[str, str], ...]) -> httpx.URL:
    """Taken apart once: most calls ask the same few routes."""
    return httpx.URL(text, params=dict(query)) if query else httpx.URL(text)


def checked_url(base_url: str) -> httpx.URL:
    """The base URL: https, or http to this machine alone, since the key travels with every call."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if not url.host or not (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host))) or url.userinfo:
        raise Refusal(
            "invalid_argument",
            "VAST_URL: got another kind of URL, allowed https://HOST, or http://127.0.0.1:PORT on this machine",
            next_step="correct VAST_URL",
        )
    return url


def _same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)
