"""Breaks of what is told and done where a key, a list, the ledger or the right to write is missing."""

from typing import Final

from tests.mutants.runner import Mutant

_CLI_SETTLE: Final = "server/vastai_workflow/cli/settle.py"
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
    Mutant(
        "settle tries an account's newest key alone",
        _CLI_SETTLE,
        "            if error.code not in _ANOTHER_KEY_MAY_WORK:\n",
        "            if error.code:\n",
        (f"{_SETTLE}::test_where_the_newest_key_of_an_account_does_not_work_an_older_one_settles",),
    ),
)
