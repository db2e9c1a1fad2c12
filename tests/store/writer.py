"""A process that moves one order after another, and tells each move once the store says that it is kept.

`python -m tests.store.writer FOLDER`: the folder holds planned orders. It stops when all are moved, or is killed.
"""

import asyncio
import sys
from pathlib import Path

from tests.store.values import SteppedClock
from vastai_workflow.domain.ledger import OrderFacts, OrderState
from vastai_workflow.store.sqlite import SqliteStore


async def main(folder: Path) -> None:
    store = SqliteStore(folder, clock=SteppedClock())
    for number, order in enumerate(await store.orders(states=[OrderState.PLANNED]), start=1):
        for to, facts in (
            (OrderState.SENT, OrderFacts(sent_at=float(number))),
            (OrderState.RENTED, OrderFacts(instance_id=number)),
        ):
            await store.move_order(order.order_id, to, facts)
            sys.stdout.write(f"{order.order_id} {to}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
