"""Breaks of fleets in the making: when no more is rented, and what takes the place of an offer that is gone."""

from typing import Final

from tests.mutants.runner import Mutant

_ORDERS: Final = "server/vastai_workflow/steps/orders.py"
_FLEETS: Final = "server/vastai_workflow/steps/fleets.py"

_AMID: Final = "tests/tools/test_amid_a_fleet.py"
_HALF: Final = "tests/tools/test_half_made_fleets.py"
_REST: Final = "tests/tools/test_rest_of_a_fleet.py"

MUTANTS: Final = (
    Mutant(
        "a fleet that can't be whole is rented on by a create",
        _ORDERS,
        "        if (why := unwanted(own)) is not None:\n",
        "        if (why := None) is not None:\n",
        (f"{_HALF}::test_a_create_that_goes_on_with_a_fleet_that_can_not_be_whole_sends_nothing_and_says_so",),
    ),
    Mutant(
        "a fleet that can't be whole stays planned where a release sees it",
        _FLEETS,
        "if why is not None and (dropped := await drop_planned(deps, orders, why)):",
        "if why is not None and (dropped := 0):",
        (f"{_HALF}::test_all_or_nothing_rents_no_more_once_a_machine_came_that_is_not_as_agreed",),
    ),
    Mutant(
        "what is planned makes a fleet whole",
        _FLEETS,
        "return may_come + sum(map(_came, orders)) + _spared(orders) < orders[0].places",
        "return not may_come and sum(map(_came, orders)) + _spared(orders) < orders[0].places",
        (f"{_HALF}::test_all_or_nothing_rents_no_more_once_an_unclear_order_is_seen_not_to_have_rented",),
    ),
    Mutant(
        "a planned offer that is gone drops all the rest",
        _ORDERS,
        "if refusal is not None and refusal.code in _ITS_OFFER:",
        "if False:",
        (f"{_HALF}::test_where_no_other_offer_fits_the_one_that_is_gone_is_dropped_alone",),
    ),
    Mutant(
        "the pace of searches takes the place of a gone offer",
        _ORDERS,
        "if error.code == _PACE:  # it keeps",
        "if False:  # it keeps",
        (f"{_HALF}::test_while_no_search_is_allowed_a_gone_offers_place_is_kept_and_the_next_call_fills_it",),
    ),
    Mutant(
        "a kept place is sent for its gone offer again",
        _ORDERS,
        "offer = None if _awaits_another(order, await _own(run)) else run.offer(order.ask_id)",
        "offer = run.offer(order.ask_id)",
        (f"{_HALF}::test_a_kept_place_is_not_sent_for_its_gone_offer_again_while_searches_still_show_it",),
    ),
    Mutant(
        "a plan's spare offers are not looked at",
        "server/vastai_workflow/steps/create.py",
        "[*wanted, *plan.spare][: max(ROWS, len(wanted))]",
        "wanted",
        (f"{_HALF}::test_in_a_large_market_a_sold_out_offer_is_replaced_right_after_the_search",),
    ),
    Mutant(
        "a fleet whose machines were destroyed on request is rented on",
        _FLEETS,
        "    if any(order.reason == ON_REQUEST for order in orders):\n        return GIVEN_UP\n",
        "",
        (f"{_HALF}::test_after_the_user_had_its_machines_destroyed_no_more_of_a_fleet_is_rented",),
    ),
    Mutant(
        "a fleet is called short of machines that the user gave up",
        _FLEETS,
        "sum(map(_came, orders)) + _spared(orders) < orders[0].places",
        "sum(map(_came, orders)) < orders[0].places",
        (f"{_AMID}::test_after_one_machine_of_a_half_made_fleet_was_ended_the_others_stay",),
    ),
    Mutant(
        "what the user gave up of a fleet may be rented by the same yes",
        "server/vastai_workflow/domain/ledger.py",
        " or (self.state is OrderState.DROPPED and self.reason == GIVEN_UP)",
        "",
        (f"{_AMID}::test_what_the_user_gave_up_of_a_fleet_needs_a_new_yes",),
    ),
    Mutant(
        "a look at the market ends what is planned",
        "server/vastai_workflow/steps/held.py",
        "return workflow.digest if yes is None or _differ(workflow, yes) else yes.digest",
        "return workflow.digest",
        (f"{_AMID}::test_a_look_amid_a_fleet_drops_nothing_of_it",),
    ),
    Mutant(
        "a changed field ends nothing that is planned",
        "server/vastai_workflow/steps/held.py",
        "return workflow.digest if yes is None or _differ(workflow, yes) else yes.digest",
        'return "" if yes is None else yes.digest',
        (f"{_AMID}::test_a_new_yes_to_other_fields_gives_what_was_planned_by_the_older_one_nothing",),
    ),
    Mutant(
        "a machine from elsewhere amid a fleet drops the rest of it",
        _ORDERS,
        "if refusal is not None and refusal.code == ASKS_TO_KEEP:",
        "if False:",
        (f"{_AMID}::test_a_machine_from_elsewhere_amid_a_fleet_is_asked_about_and_nothing_is_ended",),
    ),
    Mutant(
        "an order of the rest of a fleet takes its plan for the whole yes",
        "server/vastai_workflow/steps/create.py",
        "        places=confirmation.places,\n",
        "        places=len(workflow.plans[-1].chosen),\n",
        (
            f"{_REST}::test_once_the_rest_came_the_whole_fleet_is_told_and_nobody_is_asked_to_release_it",
            f"{_REST}::test_a_machine_that_comes_late_into_a_place_of_the_yes_is_kept",
        ),
    ),
    Mutant(
        "the rest of a fleet is planned and priced as the whole",
        "server/vastai_workflow/steps/offers.py",
        "        chosen = choosing.choose(ranked, left or values",
        "        chosen = choosing.choose(ranked, values",
        (f"{_REST}::test_a_plan_for_the_rest_of_a_fleet_has_and_prices_only_the_places_that_are_left",),
    ),
    Mutant(
        "all or nothing takes what there is",
        "server/vastai_workflow/domain/plan.py",
        "    if len(taken) < count and fleet != BEST_EFFORT:\n",
        "    if False:\n",
        (f"{_REST}::test_all_or_nothing_refuses_a_plan_for_fewer_with_both_counts",),
    ),
    Mutant(
        "a machine that is not as agreed makes a fleet whole",
        _FLEETS,
        ' or (order.reason or "").startswith(NOT_AS_AGREED)',
        "",
        ("tests/tools/test_fleet.py::test_all_or_nothing_releases_the_others_when_one_came_that_is_not_as_agreed",),
    ),
)
