"""All mutants."""

from typing import Final

from tests.mutants import agreed, answered, asked, ended, recorded, sent, settled
from tests.mutants.runner import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *agreed.MUTANTS,
    *answered.MUTANTS,
    *sent.MUTANTS,
    *asked.MUTANTS,
    *settled.MUTANTS,
    *ended.MUTANTS,
    *recorded.MUTANTS,
)
