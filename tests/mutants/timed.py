"""Breaks of what time proves, and of what is kept and told where calls fail: wrong clocks, lost notes."""

from typing import Final

from tests.mutants.runner import Mutant

_LEDGER: Final = "server/vastai_workflow/domain/ledger.py"
_SETTLE: Final = "server/vastai_workflow/steps/settle.py"
_RELEASES: Final = "server/vastai_workflow/steps/releases.py"

_CLOCKS: Final = "tests/steps/test_clocks.py"
_TOLD: Final = "tests/steps/test_told_later.py"

MUTANTS: Final = (
    Mutant(
        "an order's age is what the wall clock says",
        _LEDGER,
        "return min(told, passed if passed >= 0 else at.steady)",
        "return told",
        (
            f"{_CLOCKS}::test_a_clock_that_was_set_forward_does_not_settle_an_order_early",
            f"{_CLOCKS}::test_a_machine_that_began_anew_says_no_more_than_what_passed_since",
        ),
    ),
    Mutant(
        "a steady clock that began anew is believed",
        _LEDGER,
        "passed if passed >= 0 else at.steady",
        "passed if passed >= 0 else told",
        (f"{_CLOCKS}::test_a_machine_that_began_anew_says_no_more_than_what_passed_since",),
    ),
    Mutant(
        "an order of the future stays one",
        _SETTLE,
        "if order.sent_at is not None and order.sent_at <= now.unix:",
        "if order.sent_at is not None:",
        (
            f"{_CLOCKS}::test_a_rented_order_of_a_future_time_is_closed_once_its_machine_is_gone",
            f"{_CLOCKS}::test_a_clock_that_was_set_back_settles_an_order_two_minutes_after_it_was_sent",
        ),
    ),
    Mutant(
        "a list speaks of the time when it came",
        _SETTLE,
        "    if order.settles_in(asked) > 0:\n        return order\n",
        "    if order.settles_in(deps.moment()) > 0:\n        return order\n",
        (f"{_CLOCKS}::test_a_list_says_what_was_true_when_it_was_asked_for_however_long_it_takes",),
    ),
    Mutant(
        "the provider's times are taken for ours",
        "server/vastai_workflow/vast/market.py",
        "        if not ahead:\n            return found\n",
        "        return found\n",
        (
            f"{_CLOCKS}::test_a_clock_that_is_off_against_the_providers_loses_no_machine_and_keeps_no_double",
            f"{_CLOCKS}::test_a_machine_that_is_not_as_agreed_is_released_though_the_clocks_differ",
        ),
    ),
    Mutant(
        "a copy takes the place of a machine that ended elsewhere",
        _SETTLE,
        "first = order.instance_id is None and not",
        "first = not",
        (f"{_CLOCKS}::test_a_copy_that_a_person_made_after_ours_ended_elsewhere_is_neither_taken_nor_ended",),
    ),
    Mutant(
        "a late machine is in use only since it was found",
        _RELEASES,
        'or _is_the_users(work, instance):\n        work.tell(f"{why}.',
        'or may_be_in_use(order.late_since, work.deps.clock.now()):\n        work.tell(f"{why}.',
        (f"{_CLOCKS}::test_a_late_machine_that_began_long_ago_is_the_users_to_end",),
    ),
    Mutant(
        "a price that may have risen since ends a machine",
        _RELEASES,
        "if delivery.may_be_new and",
        "if False and",
        (f"{_CLOCKS}::test_a_machine_that_is_first_compared_after_hours_is_not_ended_for_its_price",),
    ),
    Mutant(
        "whose a machine is depends on our clock",
        _LEDGER,
        "for time in (self.sent_there, self.sent_at, self.created_at) if",
        "for time in (self.sent_at, self.created_at) if",
        (
            f"{_CLOCKS}::test_a_copy_made_after_the_clock_was_put_right_is_not_ended",
            f"{_CLOCKS}::test_a_double_is_released_after_the_clock_was_put_right",
        ),
    ),
    Mutant(
        "an order is young by the wall clock",
        _LEDGER,
        "            ages.append(at.steady - self.sent_steady)\n",
        "            ages.append(ages[0])\n",
        (
            f"{_CLOCKS}::test_a_fleet_in_use_is_not_released_because_the_clock_was_set_back",
            f"{_CLOCKS}::test_what_came_with_an_error_and_ran_is_not_ended_after_our_machine_began_anew",
        ),
    ),
    Mutant(
        "a machine that was called another's is ended when its mark is back",
        _RELEASES,
        ' or (order.reason or "").startswith(NOT_OURS)',
        "",
        (f"{_TOLD}::test_a_machine_whose_mark_was_hidden_for_a_while_is_not_ended_when_it_is_back",),
    ),
    Mutant(
        "a second machine that was stopped is ended",
        _RELEASES,
        "return condition(instance).state is State.STOPPED or may_be_in_use(",
        "return may_be_in_use(",
        (f"{_TOLD}::test_a_second_machine_that_somebody_stopped_is_the_users_to_end",),
    ),
    Mutant(
        "an order takes the machine that the user ends",
        "server/vastai_workflow/steps/adoption.py",
        "key=lambda one: (one.id in named, one.id)",
        "key=lambda one: (one.id not in named, one.id)",
        (f"{_TOLD}::test_of_two_machines_of_a_request_without_an_answer_the_one_that_the_user_keeps_stays",),
    ),
    Mutant(
        "an answer that was another order's counts",
        "server/vastai_workflow/steps/orders.py",
        "    if not any(other.live for other in others):\n        return outcome\n",
        "    if others or not others:\n        return outcome\n",
        (f"{_TOLD}::test_an_answer_that_names_another_orders_machine_proves_nothing",),
    ),
    Mutant(
        "after too many requests the list is read before the pause",
        "server/vastai_workflow/steps/orders.py",
        "        await run.deps.clock.sleep(wait)  # before the list",
        "        pass  # before the list",
        (f"{_TOLD}::test_after_too_many_requests_the_list_is_read_after_the_pause",),
    ),
    Mutant(
        "a wait that fails takes its notes with it",
        "server/vastai_workflow/steps/reconcile.py",
        "            keep(deps, account_id, settled.notes)  # should the rest fail\n",
        "",
        (f"{_TOLD}::test_a_release_is_told_though_the_wait_that_did_it_failed_at_its_next_look",),
    ),
    Mutant(
        "settle takes a fleet that is to be released for settled",
        "server/vastai_workflow/cli/settle.py",
        " or settled.owed or settled.short:",
        " or settled.owed:",
        (f"{_TOLD}::test_settle_is_1_while_a_short_fleet_is_still_to_be_released",),
    ),
    Mutant(
        "other owners' machines are told",
        "server/vastai_workflow/steps/elsewhere.py",
        "if o.owner == caller.owner and o.account_id != account_id",
        "if o.account_id != account_id",
        ("tests/tools/test_other_accounts.py",),
    ),
    Mutant(
        "a late machine that was taken back counts as a place",
        "server/vastai_workflow/steps/releases.py",
        "(order.state is OrderState.RELEASED and order.reason != CAME_LATE)",
        "order.state is OrderState.RELEASED",
        ("tests/steps/test_given_up.py",),
    ),
)
