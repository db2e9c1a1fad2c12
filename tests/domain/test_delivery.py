"""What came against what was agreed: each fault, each boundary, and the one warning."""

from decimal import Decimal
from typing import Any

import pytest

from tests.domain.values import MICRO, an_instance, an_order
from vastai_workflow.domain.delivery import compare
from vastai_workflow.domain.money import Rate

CEILING = Decimal("0.5")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"gpu_name": "RTX 3090"}, "got RTX 3090, agreed RTX 4090"),
        ({"gpu_name": "RTX 4090 D"}, "got RTX 4090 D, agreed RTX 4090"),
        ({"num_gpus": 2}, "got 2 GPUs, agreed 1"),
        ({"gpu_ram_mb": 22107}, "got 22107 MB of GPU memory, agreed 24564 MB"),
        ({"gpu_ram_mb": 1}, "got 1 MB of GPU memory, agreed 24564 MB"),
        ({"disk_gb": Decimal("63.999")}, "got 63.999 GB of disk, agreed 64 GB"),
        ({"disk_gb": Decimal("0.5")}, "got 0.5 GB of disk, agreed 64 GB"),
        ({"price": Rate(CEILING + MICRO)}, "agreed at most $0.50/h"),
        ({"price": Rate.of("0.75")}, "got $0.75/h, agreed at most $0.50/h"),
    ],
)
def test_a_fault_says_what_came_and_what_was_agreed(changes: dict[str, Any], fault: str) -> None:
    found = compare(an_order(), an_instance(**changes))
    assert len(found.faults) == 1
    assert fault in found.faults[0]
    assert found.warnings == ()


def test_memory_may_be_a_tenth_less_and_no_more() -> None:
    assert compare(an_order(gpu_ram_mb=24000), an_instance(gpu_ram_mb=21600)).faults == ()
    assert len(compare(an_order(gpu_ram_mb=24000), an_instance(gpu_ram_mb=21599)).faults) == 1


def test_fewer_gpus_are_a_fault_too() -> None:
    assert compare(an_order(num_gpus=4), an_instance(num_gpus=3)).faults == ("got 3 GPUs, agreed 4",)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gpu_name": "rtx 4090"},
        {"gpu_ram_mb": 22108},
        {"gpu_ram_mb": 49140},
        {"disk_gb": Decimal(64)},
        {"disk_gb": Decimal(1000)},
        {"price": Rate.of("0.3")},
        {"price": Rate.of("0.4005")},
        # what a row does not say
        {"gpu_name": ""},
        {"num_gpus": 0},
        {"gpu_ram_mb": 0},
        {"disk_gb": Decimal(0)},
    ],
)
def test_what_fits_or_is_not_known_is_kept_in_silence(changes: dict[str, Any]) -> None:
    found = compare(an_order(), an_instance(**changes))
    assert (found.faults, found.warnings) == ((), ())


@pytest.mark.parametrize("price", [Decimal("0.4005") + MICRO, CEILING])
def test_dearer_than_planned_but_under_the_ceiling_is_said(price: Decimal) -> None:
    found = compare(an_order(), an_instance(price=Rate(price)))
    assert found.faults == ()
    assert found.warnings == (f"costs {Rate(price)}, planned $0.40/h",)


def test_every_fault_is_told() -> None:
    wrong = an_instance(gpu_name="A100", num_gpus=2, gpu_ram_mb=100, disk_gb=Decimal(8), price=Rate.of(9))
    assert len(compare(an_order(), wrong).faults) == 5
