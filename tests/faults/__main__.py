"""Play schedules: one seed with its whole trace, or many on all cores."""

import argparse
import asyncio
import sys

from tests.faults.runner import runner
from tests.faults.schedule import schedule_of
from tests.faults.soak import report, soak


async def replay(seed: int) -> bool:
    """One seed in words, request by request; true if all invariants held."""
    sys.stdout.write(schedule_of(seed).words() + "\n")
    async with runner() as kept:
        outcome = await kept.run(seed, verbose=True)
    sys.stdout.write("\n".join(outcome.trace) + "\n")
    sys.stdout.write(f"seed {seed}: {'all invariants held' if outcome.broken is None else outcome.broken}\n")
    return outcome.broken is None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, with its trace")
    parser.add_argument("--schedules", type=int, default=2000, help="play so many (2000)")
    parser.add_argument("--first", type=int, default=1, help="from this seed on (1)")
    given = parser.parse_args()
    if given.seed is not None:
        return 0 if asyncio.run(replay(given.seed)) else 1
    tally = soak(given.first, given.schedules)
    sys.stdout.write("\n".join(report(tally)) + "\n")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
