"""An httpx transport into the simulator that fails as a socket would."""

from urllib.parse import parse_qsl

import httpx
from starlette.applications import Starlette

from vastai_workflow.simulator.answering import Asked, ConnectionDropped, ReplyTooLate, answered
from vastai_workflow.simulator.app import simulator_of


class SimulatedTransport(httpx.AsyncBaseTransport):
    """In-process HTTP to an app of `build_app`, past ASGI: bytes go in, and bytes come out.

    Raises `httpx.RemoteProtocolError` for a connection that breaks (before the reply or in it), and
    `httpx.ReadTimeout` when the reply comes later than the request's own read time-out.
    """

    def __init__(self, app: Starlette) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request into the app."""
        asked = Asked(
            method=request.method,
            path=request.url.path,
            query=dict(parse_qsl(request.url.query.decode(), keep_blank_values=True)),
            content=await request.aread(),
            base_url=f"{request.url.scheme}://{request.headers['host']}",
            authorization=request.headers.get("authorization", ""),
            timeout_s=request.extensions.get("timeout", {}).get("read"),
            local=True,
        )
        try:
            answer = await answered(simulator_of(self._app), asked)
        except ConnectionDropped as error:
            sentence = "Server disconnected without sending a response."
            raise httpx.RemoteProtocolError(sentence, request=request) from error
        except ReplyTooLate as error:
            raise httpx.ReadTimeout("the simulated reply came too late", request=request) from error
        if answer.cut:
            sentence = "peer closed connection without sending complete message body"
            raise httpx.RemoteProtocolError(sentence, request=request)
        return httpx.Response(answer.status, headers=answer.headers, content=answer.content)
