"""All mutants."""

from typing import Final

from tests.mutants import agreed, answered, asked, ended, half_made, reached, recorded, sent, settled, timed, told
from tests.mutants.runner import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *agreed.MUTANTS,
    *answered.MUTANTS,
    *sent.MUTANTS,
    *half_made.MUTANTS,
    *asked.MUTANTS,
    *settled.MUTANTS,
    *timed.MUTANTS,
    *ended.MUTANTS,
    *reached.MUTANTS,
    *recorded.MUTANTS,
    *told.MUTANTS,
)
