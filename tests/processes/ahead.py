"""Settle a ledger as if 200 s had passed: no request that was sent can be under way any more.

`python -m tests.processes.ahead FOLDER`, with VAST_URL and VAST_API_KEY set.
"""

import asyncio
import os
import sys
from pathlib import Path

from vastai_workflow.cli.clock import SystemClock
from vastai_workflow.cli.wiring import adapters
from vastai_workflow.settings import Settings
from vastai_workflow.steps.listing import list_instances
from vastai_workflow.steps.reconcile import settle_now
from vastai_workflow.store.sqlite import SqliteStore


class Ahead(SystemClock):
    """The real clock, 200 s ahead."""

    def steady(self) -> float:
        """Seconds since the machine started."""
        return super().steady() + 200.0

    def now(self) -> float:
        """Unix seconds."""
        return super().now() + 200.0


async def settle_ahead(folder: Path, url: str, api_key: str) -> None:
    """Settle the key's account on the ledger in a folder, beside whatever works on it."""
    environment = {"VAST_API_KEY": api_key, "VAST_URL": url}
    settings = Settings.from_environment(environment, state=str(folder))
    deps = adapters(settings, environment, Ahead(), folder.parent)
    market = await deps.markets.open("env:VAST_API_KEY")
    account = await market.account()
    await settle_now(deps, market, account.id, await list_instances(deps, market))
    await deps.markets.aclose()
    assert isinstance(deps.store, SqliteStore)
    await deps.store.aclose()


if __name__ == "__main__":
    asyncio.run(settle_ahead(Path(sys.argv[1]), os.environ["VAST_URL"], os.environ["VAST_API_KEY"]))
