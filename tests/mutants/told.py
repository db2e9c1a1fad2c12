"""Breaks of what is told and done where a key, a list, the ledger or the right to write is missing."""

from typing import Final

from tests.mutants.runner import Mutant

_RECONCILE: Final = "server/vastai_workflow/steps/reconcile.py"

_SETTLE: Final = "tests/cli/test_settle.py"

MUTANTS: Final = (
    Mutant(
        "read only, settle releases",
        _RECONCILE,
        "            if deps.caps.read_only:\n",
        "            if False:\n",
        (f"{_SETTLE}::test_read_only_it_sends_nothing_and_says_what_is_to_be_released",),
    ),
)
