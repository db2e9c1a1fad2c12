"""The same create in five clients: one machine each, by the user's own yes; what was said is kept."""

import pytest

from tests.interop.node import NodePackages
from tests.interop.transcripts import CASES, KEPT, outcome_of

pytestmark = pytest.mark.interop


@pytest.mark.requirement("ASK-1")
@pytest.mark.requirement("POLICY-2")
@pytest.mark.parametrize("name", CASES)
async def test_a_create_ends_with_one_machine_and_the_users_own_yes_on_record(node: NodePackages, name: str) -> None:
    case = CASES[name]
    outcome = await outcome_of(case, node)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.txt").write_text(outcome.transcript)
    assert outcome.versions == {case.version}
    assert len(outcome.machines) == 1
    assert outcome.agreed_by == [case.yes]
