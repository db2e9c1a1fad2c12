"""A process that sends an order, takes its account's lock, says so, and holds both until its input ends."""

import asyncio
import sys
from pathlib import Path

from tests.store.values import SteppedClock
from vastai_workflow.domain.ledger import OrderState
from vastai_workflow.store.sqlite import SqliteStore


async def main(folder: Path) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    async with store.account_lock(7):
        await store.move_order("o1", OrderState.SENT)
        sys.stdout.write("held\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
