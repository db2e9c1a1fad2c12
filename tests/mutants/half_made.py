"""Breaks of fleets in the making: when no more is rented, and what takes the place of an offer that is gone."""

from typing import Final

from tests.mutants.runner import Mutant

_ORDERS: Final = "server/vastai_workflow/steps/orders.py"
_FLEETS: Final = "server/vastai_workflow/steps/fleets.py"

_HALF: Final = "tests/tools/test_half_made_fleets.py"

MUTANTS: Final = (
    Mutant(
        "a fleet that can't be whole is rented on by a create",
        _ORDERS,
        "        if cant_be_whole(own):\n",
        "        if False:\n",
        (f"{_HALF}::test_a_create_that_goes_on_with_a_fleet_that_can_not_be_whole_sends_nothing_and_says_so",),
    ),
    Mutant(
        "a fleet that can't be whole stays planned where a release sees it",
        _FLEETS,
        "if dropped := await drop_planned(deps, orders, SHORT_FLEET):",
        "if dropped := 0:",
        (f"{_HALF}::test_all_or_nothing_rents_no_more_once_a_machine_came_that_is_not_as_agreed",),
    ),
    Mutant(
        "what is planned makes a fleet whole",
        _FLEETS,
        "return may_come + sum(map(_came, orders)) < orders[0].places",
        "return not may_come and sum(map(_came, orders)) < orders[0].places",
        (f"{_HALF}::test_all_or_nothing_rents_no_more_once_an_unclear_order_is_seen_not_to_have_rented",),
    ),
)
