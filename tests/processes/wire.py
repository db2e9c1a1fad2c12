"""A relay between the server and the market that can stop at any piece of any message, in either direction."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

_PIECE = 2**16


class Wire:
    """Each piece of a request or a reply makes two steps: before it is passed on, and after."""

    def __init__(self, host: str, port: int) -> None:
        self._market = host, port
        self._at: Callable[[], Awaitable[None]] | None = None
        self._step = 0
        self.seen = 0
        """Steps since it was armed last."""

    def arm(self, step: int, reached: Callable[[], Awaitable[None]]) -> None:
        """Call `reached` once, at this step from now on (1 is the next); what was not passed on then never is."""
        self._step, self._at, self.seen = step, reached, 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, until either side closes it."""
        there, back = await asyncio.open_connection(*self._market)
        both = (asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(there, writer)))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            for end in (back, writer):
                end.close()

    async def _pass(self, source: StreamReader, sink: StreamWriter) -> None:
        with suppress(OSError):  # a killed process resets its connections
            while piece := await source.read(_PIECE):
                if await self._reached():
                    return
                sink.write(piece)
                await sink.drain()
                await self._reached()

    async def _reached(self) -> bool:
        self.seen += 1
        if self._at is None or self.seen != self._step:
            return False
        at, self._at = self._at, None
        await at()
        return True


@asynccontextmanager
async def wire(url: str) -> AsyncGenerator[tuple[Wire, str]]:
    """A relay to a market, and its address."""
    there = urlsplit(url)
    assert there.hostname is not None
    assert there.port is not None
    relay = Wire(there.hostname, there.port)
    listening = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    async with listening:
        yield relay, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
