"""An httpx transport into the simulator that fails as a socket would."""

import httpx
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from vastai_workflow.simulator.app import TIMEOUT_IN_SCOPE, ConnectionDropped, ReplyTooLate


class SimulatedTransport(httpx.AsyncBaseTransport):
    """In-process HTTP to an app of `build_app`.

    Raises `httpx.RemoteProtocolError` for a connection that breaks (before the reply or in it), and
    `httpx.ReadTimeout` when the reply comes later than the request's own read time-out.
    """

    def __init__(self, app: Starlette) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request into the app."""
        timeout_s: float | None = request.extensions.get("timeout", {}).get("read")

        async def with_timeout(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app({**scope, TIMEOUT_IN_SCOPE: timeout_s}, receive, send)

        try:
            return await httpx.ASGITransport(with_timeout).handle_async_request(request)
        except ConnectionDropped as error:
            sentence = (
                "peer closed connection without sending complete message body"
                if error.in_body
                else "Server disconnected without sending a response."
            )
            raise httpx.RemoteProtocolError(sentence, request=request) from error
        except ReplyTooLate as error:
            raise httpx.ReadTimeout("the simulated reply came too late", request=request) from error
