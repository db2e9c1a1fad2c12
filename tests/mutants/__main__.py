"""`python -m tests.mutants [WORD]...`: break the rules one by one, and exit with 1 where no test notices.

With words only the mutants run whose names contain one of them. Needs the installation for tests.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.mutants.catalogue import MUTANTS
from tests.mutants.runner import Fate, UnfitError, Verdict, check_all, copy_of, judge_all, table

PROJECT: Final = Path(__file__).parents[2]


def main() -> int:
    """Judge the mutants and print a table; 1 where one survived, is stale or did not run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Break the rules one by one.")
    parser.add_argument("words", nargs="*", help="only mutants whose names contain one of these")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default 2)")
    wanted = parser.parse_args()
    mutants = [one for one in MUTANTS if not wanted.words or any(word in one.name for word in wanted.words)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [copy_of(PROJECT, Path(folder) / str(job)) for job in range(max(wanted.jobs, 1))]
        try:
            check_all(mutants, copies)
        except UnfitError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        verdicts = judge_all(mutants, copies, _heard)
    sys.stderr.write("\n")
    sys.stdout.write("\n".join(table(verdicts)) + "\n")
    caught = sum(verdict.fate is Fate.CAUGHT for verdict in verdicts)
    sys.stdout.write(f"{caught} of {len(verdicts)} mutants caught in {time.monotonic() - began:.0f} s\n")
    return 0 if caught == len(verdicts) else 1


def _heard(verdict: Verdict) -> None:
    sys.stderr.write("." if verdict.fate is Fate.CAUGHT else f"\n{verdict.fate}: {verdict.mutant.name}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
