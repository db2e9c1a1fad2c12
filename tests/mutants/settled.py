"""Breaks of the settling: whose a machine is, when an order rented nothing, and what is released."""

from typing import Final

from tests.mutants.runner import Mutant

_LEDGER: Final = "server/vastai_workflow/domain/ledger.py"
_SETTLE: Final = "server/vastai_workflow/steps/settle.py"
_RELEASES: Final = "server/vastai_workflow/steps/releases.py"
_VIEW: Final = "server/vastai_workflow/steps/fleet_view.py"

_C: Final = "tests/tools/test_create.py"
_MACHINES: Final = "tests/tools/test_attacks_machines.py"
_SETTLING: Final = "tests/steps/test_settling.py"
_GIVEN_UP: Final = "tests/steps/test_given_up.py"
_END: Final = "tests/tools/test_create_ends.py::test_an_ambiguous_end_is_sent_once_blocks_the_account_and_is_settled"

MUTANTS: Final = (
    Mutant(
        "a copy of our mark is ours",
        _LEDGER,
        "return sent - CLOCK_SKEW_S <= started_there <= sent + CREATE_TIMEOUT_S + CLOCK_SKEW_S",
        "return True",
        (f"{_C}::test_a_machine_with_a_copy_of_our_mark_is_reported_and_left_alone",),
    ),
    Mutant(
        "any store's mark is ours",
        _LEDGER,
        "return order_id if dot and store in store_ids and order_id else None",
        "return order_id if dot and order_id else None",
        ("tests/domain/test_ledger.py::test_a_mark_leads_back_to_its_order_in_its_store_alone",),
    ),
    Mutant(
        "any machine under the order's id is the order's",
        _VIEW,
        "return marked_by(instance, store_ids) == order.order_id",
        "return True",
        (f"{_MACHINES}::test_anothers_machine_that_a_reply_names_is_not_used_as_ours",),
    ),
    Mutant(
        "the lists' delay is forgotten",
        _LEDGER,
        "SETTLES_S: Final = CREATE_TIMEOUT_S + VISIBILITY_S",
        "SETTLES_S: Final = CREATE_TIMEOUT_S",
        (f"{_C}::test_an_order_is_not_called_not_rented_before_its_time_out_and_the_lists_delay",),
    ),
    Mutant(
        "absent orders rented nothing at once",
        _SETTLE,
        "    if order.settles_in(asked) > 0:\n        return order\n",
        "",
        (f"{_C}::test_an_order_is_not_called_not_rented_before_its_time_out_and_the_lists_delay",),
    ),
    Mutant(
        "a late machine finds no order",
        _LEDGER,
        "OrderState.NOT_RENTED: frozenset({OrderState.RENTED}),",
        "OrderState.NOT_RENTED: frozenset(),",
        (f"{_C}::test_a_machine_that_shows_up_after_all_is_taken_on_record",),
    ),
    Mutant(
        "an order of a dead process is settled",
        _LEDGER,
        "UNSETTLED: Final = frozenset({OrderState.SENT, OrderState.UNKNOWN})",
        "UNSETTLED: Final = frozenset({OrderState.UNKNOWN})",
        (f"{_C}::test_an_order_of_a_lost_process_is_settled_before_anything_more_is_rented",),
    ),
    Mutant(
        "a second machine of an order is kept",
        _SETTLE,
        "        await release_double(work, order, instance)\n",
        "        return\n",
        (f"{_END}[two machines-shown]",),
    ),
    Mutant(
        "a machine under another id is lost",
        _SETTLE,
        "        return await store.note_order(order.order_id, facts)\n",
        "        return order\n",
        (f"{_END}[another id-shown]",),
    ),
    Mutant(
        "a new machine that no list shows is gone",
        _SETTLE,
        "if order.instance_id is None or (named is None and new):",
        "if order.instance_id is None:",
        (f"{_SETTLING}::test_a_create_that_answers_late_is_not_called_ended_before_a_list_can_show_its_machine",),
    ),
    Mutant(
        "a machine that a list forgets is gone",
        _SETTLE,
        "    if there is not None and made_by(there, order, deps.store.store_ids):\n        return  # the list lags\n",
        "    there = None\n",
        (f"{_SETTLING}::test_a_machine_that_a_list_forgets_is_not_given_up",),
    ),
    Mutant(
        "a late machine beyond its places is kept",
        _RELEASES,
        "if surplus <= 0 or order not in late[-surplus:]:",
        "if True:",
        (f"{_MACHINES}::test_a_machine_that_shows_up_after_its_place_was_used_again_is_released_and_told",),
    ),
    Mutant(
        "a late machine within its places is released",
        _RELEASES,
        "if surplus <= 0 or order not in late[-surplus:]:",
        "if False:",
        (
            f"{_C}::test_a_machine_that_shows_up_after_all_is_taken_on_record",
            f"{_END}[an effect when it is given up already-shown]",
        ),
    ),
    Mutant(
        "of late machines the first one goes",
        _RELEASES,
        "if surplus <= 0 or order not in late[-surplus:]:",
        "if surplus <= 0 or order not in late[:surplus]:",
        (f"{_GIVEN_UP}::test_of_two_late_machines_for_one_place_the_one_that_was_ordered_last_is_released",),
    ),
    Mutant(
        "what ended elsewhere and is listed again is ended",
        _RELEASES,
        "    if order.reason == ELSEWHERE or",
        "    if",
        (f"{_GIVEN_UP}::test_a_machine_that_ended_elsewhere_and_is_listed_again_is_named_and_not_ended",),
    ),
    Mutant(
        "an order of the future waits",
        _SETTLE,
        "not order.created_at <= now < order.created_at + CONFIRMATION_LIFE_S:",
        "not now < order.created_at + CONFIRMATION_LIFE_S:",
        (f"{_GIVEN_UP}::test_an_order_that_was_planned_in_the_future_is_dropped_and_never_sent",),
    ),
    Mutant(
        "what is not as agreed is kept",
        _RELEASES,
        "    if not faults:\n",
        "    if True:\n",
        ("tests/tools/test_market_lies.py::test_a_machine_that_is_not_what_was_agreed_is_released_and_reported",),
    ),
    Mutant(
        "a machine above the ceiling is kept",
        "server/vastai_workflow/domain/delivery.py",
        "if instance.price.per_hour > order.ceiling_per_hour:",
        "if False:",
        (
            "tests/tools/test_market_lies.py::test_a_machine_that_is_not_what_was_agreed_is_released_and_reported",
            "tests/domain/test_delivery.py",
        ),
    ),
    Mutant(
        "what came with an error and ran is released when it stops",
        _RELEASES,
        "    if not order.young(deps.moment(), STILLBORN_S):\n        return False\n"
        "    return (await deps.store.window(instance.id)).gpu_s == 0\n",
        "    return True\n",
        (
            f"{_MACHINES}::test_a_machine_that_came_with_an_error_and_ran_is_not_ended_when_it_is_stopped",
            f"{_C}::test_a_machine_that_came_with_an_error_and_cannot_serve_is_released",
        ),
    ),
    Mutant(
        "a queued start is left in the queue by settling",
        _RELEASES,
        "        await work.market.stop(instance.id)\n",
        "        pass\n",
        (f"{_SETTLING}::test_a_start_that_got_no_answer_and_waits_for_its_gpu_is_cancelled_by_settling",),
    ),
    Mutant(
        "an offer that an order holds is chosen again",
        "server/vastai_workflow/steps/outlook.py",
        "return tuple(offer for offer in offers if offer.ask_id not in held)",
        "return tuple(offers)",
        (f"{_SETTLING}::test_an_offer_that_the_account_holds_is_not_chosen_again_though_a_search_shows_it",),
    ),
    Mutant(
        "settling at the first use ends machines",
        "server/vastai_workflow/steps/reconcile.py",
        "may_end=False)",
        "may_end=True)",
        (f"{_SETTLING}::test_a_double_that_a_crash_left_is_named_at_once_and_released_by_the_wait",),
    ),
    Mutant(
        "an order is closed by hand while its request may be under way",
        "server/vastai_workflow/steps/reconcile.py",
        "    if left > 0:\n",
        "    if False:\n",
        (f"{_SETTLING}::test_an_order_whose_request_may_be_under_way_is_not_closed_by_hand",),
    ),
    Mutant(
        "a copied ledger keeps its id",
        "server/vastai_workflow/steps/settle.py",
        "order_id = marked_by(instance, work.deps.store.store_ids)",
        "order_id = marked_by(instance, (work.deps.store.store_id,))",
        ("tests/tools/test_ledgers.py",),
    ),
    Mutant(
        "a late machine that may be in use is ended",
        _RELEASES,
        "if not order.can_have_made(instance.started_there) or _is_the_users(",
        "if False and bool(",
        (f"{_SETTLING}::test_a_late_machine_that_may_be_in_use_is_left_to_the_user_when_another_comes",),
    ),
    Mutant(
        "a machine of an unknown age is ours",
        _LEDGER,
        "        if started_there is None:\n            return False\n",
        "        if started_there is None:\n            return True\n",
        (f"{_SETTLING}::test_a_second_machine_whose_age_is_not_known_is_left_to_the_user",),
    ),
    Mutant(
        "any first machine with a mark is taken",
        _SETTLE,
        "first = order.instance_id is None and not compare(order, instance).faults",
        "first = order.instance_id is None",
        (f"{_SETTLING}::test_a_copy_that_is_the_first_machine_seen_of_an_order_is_not_ended_for_being_another_gpu",),
    ),
    Mutant(
        "a machine that a list forgets gives way to its double",
        _SETTLE,
        "    if named is None and order.instance_id is not None and order.rented_price_per_hour is not None:\n",
        "    if False:\n",
        (f"{_SETTLING}::test_a_list_that_forgets_a_machine_and_shows_its_double_does_not_swap_the_two",),
    ),
    Mutant(
        "an account that was settled once is never looked at again",
        "server/vastai_workflow/steps/reconcile.py",
        "    return all(seconds >= now.steady - settled_at for seconds in shown_for if seconds >= 0)\n",
        "    return True or bool(shown_for and now)\n",
        (f"{_SETTLING}::test_a_second_machine_that_lists_show_after_the_wait_is_named_by_the_next_call_and_released",),
    ),
    Mutant(
        "a second machine that may be in use is ended",
        "server/vastai_workflow/steps/releases.py",
        "    if _is_the_users(work, instance):\n",
        "    if False:\n",
        (f"{_SETTLING}::test_a_second_machine_that_is_found_after_hours_is_the_users_to_end_and_named_in_each_look",),
    ),
    Mutant(
        "a second machine is shown without whose it is",
        "server/vastai_workflow/steps/fleet_view.py",
        '    Origin.OURS: " (made by a request of this server, beside the machine that it was to make)",\n',
        "",
        (f"{_SETTLING}::test_a_second_machine_that_is_found_after_hours_is_the_users_to_end_and_named_in_each_look",),
    ),
    Mutant(
        "a release that is not seen is forgotten",
        _SETTLE,
        "deps.settled_accounts.pop(account_id, None)",
        "pass",
        (f"{_SETTLING}::test_a_release_that_is_not_seen_yet_stays_a_problem_until_it_is",),
    ),
    Mutant(
        "a short fleet is not looked for after a start",
        "server/vastai_workflow/steps/reconcile.py",
        "owed=(*settled.owed, *short)",
        "owed=settled.owed",
        (f"{_SETTLING}::test_a_fleet_that_a_crash_left_short_is_named_by_the_first_call_and_released_by_the_wait",),
    ),
    Mutant(
        "what a fleet took back counts as had",
        "server/vastai_workflow/steps/fleets.py",
        "frozenset({CAME_LATE, SHORT_FLEET})",
        "frozenset({CAME_LATE})",
        (f"{_SETTLING}::test_a_fleet_whose_first_machine_was_taken_back_does_not_keep_a_late_one_alone",),
    ),
)
