"""The real server over streamable HTTP on loopback, for clients that speak nothing else; tests only.

`python -m tests.interop.http_server`: the first line on stdout is the address.
"""

import asyncio
import os
import socket
import sys

import uvicorn

from vastai_workflow.cli.wiring import SimulatedMarket
from vastai_workflow.server import build_server
from vastai_workflow.settings import Settings


async def serve() -> None:
    """Until SIGTERM."""
    market = SimulatedMarket(Settings.from_environment(os.environ), seed=1, speed=10.0)
    app = build_server(market.make, market.close).streamable_http_app()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp\n")
        sys.stdout.flush()
        await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve([listening])


if __name__ == "__main__":
    asyncio.run(serve())
