"""The local meter: GPU while it ran, disk since it was made."""

import pytest

from tests.domain.values import NOW, an_instance
from vastai_workflow.domain.meter import burn_rate, cost, storage_rate
from vastai_workflow.domain.money import ZERO, Rate, Usd

MACHINE = an_instance(price=Rate.of("0.4"), storage_price=Rate.of("0.04"), start_date=NOW)
HOUR = 3600


@pytest.mark.parametrize(
    ("gpu_s", "now", "dollars"),
    [
        (0, NOW, "0"),
        (HOUR, NOW + HOUR, "0.4"),
        (0, NOW + HOUR, "0.04"),
        (HOUR, NOW + 10 * HOUR, "0.76"),
        (10, NOW - HOUR, "0.001"),
    ],
)
def test_the_gpu_costs_while_it_ran_and_the_disk_since_the_start(gpu_s: float, now: float, dollars: str) -> None:
    assert cost(MACHINE, gpu_s, now) == Usd.of(dollars)


def test_where_the_start_is_not_known_the_disk_costs_as_long_as_the_gpu() -> None:
    assert cost(an_instance(price=Rate.of("0.4"), storage_price=Rate.of("0.04")), HOUR, NOW) == Usd.of("0.4")


def test_where_the_disks_price_is_not_known_it_is_in_the_gpus() -> None:
    assert cost(an_instance(start_date=NOW), HOUR, NOW + 10 * HOUR) == Usd.of("0.4")
    assert storage_rate(an_instance()) == ZERO


def test_a_disk_dearer_than_the_machine_makes_no_negative_gpu() -> None:
    odd = an_instance(price=Rate.of("0.01"), storage_price=Rate.of("0.04"), start_date=NOW)
    assert cost(odd, HOUR, NOW + HOUR) == Usd.of("0.04")


def test_what_burns_now() -> None:
    assert burn_rate(MACHINE, gpu_billed=True) == Rate.of("0.4")
    assert burn_rate(MACHINE, gpu_billed=False) == Rate.of("0.04")
