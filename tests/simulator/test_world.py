"""The market as a whole: seeds, clocks and other renters."""

import pytest

from tests.simulator.bench import Bench
from vastai_workflow.simulator.clock import ScaledClock, VirtualClock


async def test_a_seed_makes_the_same_market() -> None:
    first, again, other = Bench(seed=7), Bench(seed=7), Bench(seed=8)

    assert await first.offers() == await again.offers()
    assert await first.offers() != await other.offers()
    assert first.key == again.key != other.key


async def test_a_seed_makes_the_same_competition() -> None:
    first, again = Bench(seed=7, competitors_per_hour=30), Bench(seed=7, competitors_per_hour=30)
    first.advance(7200)
    for _ in range(72):
        again.advance(100)

    assert await first.offers() == await again.offers()


async def test_others_rent_give_back_and_move_prices() -> None:
    bench = Bench(competitors_per_hour=20)
    prices = [machine.price for machine in bench.world.market.machines]
    free = len(bench.world.market.free_asks())
    counts: set[int] = set()
    for _ in range(48):
        bench.advance(1800)
        counts.add(len(bench.world.market.free_asks()))

    assert min(counts) < free
    assert len(counts) > 2
    assert prices != [machine.price for machine in bench.world.market.machines]


async def test_without_competitors_the_market_stands_still() -> None:
    bench = Bench()
    before = [(row["id"], row["dph_total"]) for row in await bench.offers()]
    bench.advance(86_400)

    assert before == [(row["id"], row["dph_total"]) for row in await bench.offers()]


async def test_nobody_holds_a_card_twice() -> None:
    bench = Bench(offers=60, competitors_per_hour=60, credit="1000")
    for _ in range(20):
        for ask in bench.world.market.free_asks()[:1]:
            await bench.order(ask.id)
        bench.advance(600)
        holders = [holder for machine in bench.world.market.machines for holder in machine.holders.values()]
        ours = [one for one in bench.alive if one.holds_cards]
        assert sum(len(one.gpu_ids) for one in ours) == sum(holder.startswith("instance:") for holder in holders)


async def test_waiting_on_a_virtual_clock_takes_no_time() -> None:
    clock = VirtualClock(100.0)
    await clock.sleep(50)
    clock.advance(5)
    await clock.sleep(-3)

    assert clock.now() == 155
    with pytest.raises(ValueError, match="only goes forward"):
        clock.advance(-1)


async def test_a_scaled_clock_runs_faster() -> None:
    clock = ScaledClock(10_000.0, start=0.0)
    await clock.sleep(20)
    waited = clock.now()
    clock.advance(1_000_000)

    assert waited >= 20
    assert clock.now() >= 1_000_000
    with pytest.raises(ValueError, match="more than 0"):
        ScaledClock(0)
    with pytest.raises(ValueError, match="only goes forward"):
        clock.advance(-1)


async def test_an_unknown_route_is_not_found() -> None:
    reply = await Bench().send("GET", "/api/v0/nonsense/")

    assert (reply.status_code, reply.json()["error"]) == (404, "not_found")


async def test_keys_and_tokens_do_not_show_in_a_repr() -> None:
    bench = Bench()
    instance = await bench.running()
    shown = repr(bench.world.account) + repr(instance) + repr(instance.api_key)

    assert bench.key not in shown
    assert instance.api_key.secret not in shown
    assert instance.jupyter_token not in shown
