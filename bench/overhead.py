"""A cheap call of ours as a ratio to the bare server's trivial one, both in memory, in both protocol eras.

The call is `instance_status` on an empty account; the market answers at once, in this process. Beside it: the API
client's list of instances alone, which the call cannot do without.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Final

from mcp.client import Client
from tests.stack import ERAS, stack

from bench.bare import server as bare

KEY: Final = "env:VAST_API_KEY"


async def seconds(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    """The median of some calls."""
    took: list[float] = []
    for _ in range(calls):
        started = time.perf_counter()
        await call()
        took.append(time.perf_counter() - started)
    return median(took)


async def compare(calls: int) -> None:
    for era in ERAS:
        async with stack(era=era) as ours, Client(bare, mode=era) as theirs:
            market = await ours.deps.markets.open(KEY)

            async def status(client: Client = ours.client) -> None:
                result = await client.call_tool("instance_status", {})
                if result.is_error:
                    raise SystemExit(result.content)

            async def add(client: Client = theirs) -> None:
                await client.call_tool("add", {"a": 1, "b": 2})

            for call in (status, add, market.instances):
                await seconds(call, 5)
            trivial = await seconds(add, calls)
            whole = await seconds(status, calls) / trivial
            asked = await seconds(market.instances, calls) / trivial
            print(f"{era:7} instance_status {whole:.1f} x a trivial call; one list of the market alone {asked:.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    asyncio.run(compare(parser.parse_args().calls))


if __name__ == "__main__":
    main()
