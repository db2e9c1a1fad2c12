from collections import Counter

import pytest

from tests.faults import naive
from tests.faults.failed import FAILED, STILL_FAILING, Failed
from tests.faults.runner import runner
from tests.faults.soak import EXPECTED, played

EACH = 40
QUICK = range(20)
SLOW = range(20, 60)
"""Chunks of schedules: 800 in the default tests, 1,600 more in CI."""


@pytest.fixture(scope="module")
def met() -> Counter[str]:
    """What the schedules of this run met."""
    return Counter()


@pytest.mark.requirement("FAULT-1")
@pytest.mark.parametrize("chunk", [*QUICK, *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in SLOW)])
async def test_no_fault_kill_or_race_costs_a_machine_that_nobody_agreed_to(chunk: int, met: Counter[str]) -> None:
    seeds = range(1 + chunk * EACH, 1 + (chunk + 1) * EACH)
    tally = await played(seeds)
    met.update({**tally.met, "schedules": tally.schedules})
    new = {seed: broken for seed, broken in tally.broken.items() if seed not in STILL_FAILING}
    assert new == {}, "replay: make replay SEED=..."
    assert [seed for seed in seeds if seed in STILL_FAILING and seed not in tally.broken] == [], "they hold: take out"


@pytest.mark.requirement("FAULT-2")
async def test_the_schedules_meet_every_fault_kill_act_and_final_state(met: Counter[str]) -> None:
    """The kinds in the default tests; with all of CI's schedules, each kill at each point as well."""
    if met["schedules"] < len(QUICK) * EACH:  # only a part was played, or the parts by other processes
        met.update((await played(range(1, 1 + len(QUICK) * EACH))).met)
    many = met["schedules"] > (len(SLOW) - 1) * EACH
    assert [name for name in EXPECTED if not met[name] and (many or not name.startswith("killed"))] == []


@pytest.mark.requirement("FAULT-3")
async def test_a_seed_replays_request_by_request() -> None:
    traces: list[str] = []
    for _ in range(2):
        async with runner() as kept:
            outcomes = [await kept.run(seed, verbose=True) for seed in (3, 5, 8)]
        traces.append("\n".join(line for outcome in outcomes for line in outcome.trace))
    assert "request create" in traces[0]
    assert traces[0] == traces[1]


@pytest.mark.requirement("FAULT-4")
@pytest.mark.parametrize(
    "failed",
    [
        pytest.param(one, id=one.name, marks=[pytest.mark.xfail(strict=True, reason=one.reason)] if one.fails else [])
        for one in FAILED
    ],
)
async def test_what_once_failed_holds(failed: Failed) -> None:
    async with runner() as kept:
        outcome = await kept.play(failed.schedule)
    assert outcome.broken is None, failed.schedule.words()


@pytest.mark.slow
@pytest.mark.requirement("FAULT-5")
async def test_under_the_same_faults_a_naive_client_rents_what_nobody_agreed_to_and_this_server_does_not() -> None:
    rows = await naive.compare()
    assert naive.table(rows) == naive.shown(), "run: python -m tests.faults.naive --write"
    assert sum(row.naive.unagreed for row in rows) > 0
    assert [row.name for row in rows if row.server.unagreed or row.server.unknown] == []
