"""Breaks of what was agreed: the gate's rules, the facts that it gets, the yes, and its places.

Not here: the digest of the plan, the very yes of an order and the values of env. Each stands beside another check that
catches the same, against a draft that changes between the two.
"""

# ruff: noqa: E501 # texts stand as in the source

from typing import Final

from tests.mutants.runner import Mutant

_GATE: Final = "server/vastai_workflow/domain/gate.py"
_ORDERS: Final = "server/vastai_workflow/steps/orders.py"
_CREATE: Final = "server/vastai_workflow/steps/create.py"
_DIALOG: Final = "server/vastai_workflow/steps/dialog.py"
_CHANGES: Final = "server/vastai_workflow/steps/changes.py"
_CONFIRMING: Final = "server/vastai_workflow/steps/confirming.py"
_PURPOSES: Final = "server/vastai_workflow/steps/purposes.py"
_LEDGER: Final = "server/vastai_workflow/domain/ledger.py"

_VIEW: Final = "server/vastai_workflow/steps/fleet_view.py"
_UNLISTED: Final = "tests/tools/test_not_listed_yet.py"

_REMOVED: Final = "server/vastai_workflow/steps/removed_keys.py"
_UNKEY: Final = "tests/tools/test_removed_keys.py"
_AGAIN: Final = "tests/tools/test_keys_again.py"

_RULES: Final = "tests/domain/test_gate_rules.py"
_BY_TOOLS: Final = "tests/tools/test_gate.py"


def _skipped(rule: str, *tests: str) -> Mutant:
    """A mutant whose gate does not ask one rule before it rents."""
    return Mutant(f"the gate skips {rule}", _GATE, f"        {rule},\n", "", tests)


MUTANTS: Final = (
    _skipped("writes_allowed", f"{_RULES}::test_the_rules_of_each_purpose"),
    _skipped("fields_confirmed", f"{_RULES}::test_the_rules_of_each_purpose"),
    _skipped("yes_given", f"{_RULES}::test_the_rules_of_each_purpose"),
    _skipped(
        "yes_to_this",
        "tests/tools/test_attacks.py::test_whenever_the_draft_changes_what_is_rented_is_what_was_agreed",
        f"{_RULES}::test_no_purpose_does_without_a_good_yes",
    ),
    _skipped(
        "yes_unexpired",
        f"{_RULES}::test_the_rules_of_each_purpose",
    ),
    _skipped("yes_unspent", f"{_BY_TOOLS}::test_another_plan_on_a_spent_yes_lists_what_exists_and_points_to_it"),
    _skipped(
        "same_account",
        f"{_BY_TOOLS}::test_another_accounts_key_rents_nothing_on_the_first_ones_yes",
        f"{_RULES}::test_no_purpose_does_without_a_good_yes",
    ),
    _skipped(
        "nothing_unsettled",
        "tests/tools/test_create.py::test_an_order_of_a_lost_process_is_settled_before_anything_more_is_rented",
    ),
    _skipped(
        "all_acknowledged", f"{_BY_TOOLS}::test_a_machine_that_appears_after_the_yes_is_refused_until_acknowledged"
    ),
    _skipped("offer_fits", f"{_RULES}::test_the_rules_of_each_purpose"),
    _skipped("under_ceiling", f"{_RULES}::test_the_rules_of_each_purpose"),
    _skipped("under_caps", f"{_BY_TOOLS}::test_the_operators_cap_on_machines_counts_all_of_the_account"),
    Mutant(
        "a yes from the future counts",
        _GATE,
        "if confirmation.at <= facts.now < confirmation.expires_at:",
        "if facts.now < confirmation.expires_at:",
        (f"{_RULES}::test_a_rule_refuses_and_the_gate_with_it",),
    ),
    Mutant(
        "one place more than agreed",
        _GATE,
        "facts.places_taken < confirmation.places",
        "facts.places_taken <= confirmation.places",
        (f"{_BY_TOOLS}::test_another_plan_on_a_spent_yes_lists_what_exists_and_points_to_it",),
    ),
    Mutant(
        "the total cap forgets what runs",
        _GATE,
        "together = facts.burning + (price or ZERO)",
        "together = price or ZERO",
        (f"{_BY_TOOLS}::test_the_operators_total_cap_counts_what_runs_already",),
    ),
    Mutant(
        "one machine more than the operator's cap",
        _GATE,
        "facts.running >= caps.max_instances",
        "facts.running > caps.max_instances",
        (f"{_BY_TOOLS}::test_the_operators_cap_on_machines_counts_all_of_the_account",),
    ),
    Mutant(
        "a person is asked to rent what a cap will refuse",
        _DIALOG,
        "    return under_caps(facts)",
        "    return None",
        ("tests/tools/test_asked.py::test_where_an_operators_cap_will_refuse_the_person_is_told_before_a_question",),
    ),
    Mutant(
        "a start without ceiling and caps",
        _GATE,
        "Purpose.START: _PRICED",
        "Purpose.START: _YES",
        ("tests/tools/test_purposes.py::test_the_operators_caps_bind_a_start",),
    ),
    Mutant(
        "another's machine ends without a yes",
        _GATE,
        "Purpose.END: _YES",
        "Purpose.END: ()",
        (f"{_RULES}::test_the_rules_of_each_purpose",),
    ),
    Mutant(
        "released places count as free",
        _LEDGER,
        "frozenset({OrderState.DROPPED, OrderState.REFUSED, OrderState.NOT_RENTED})",
        "frozenset({OrderState.DROPPED, OrderState.REFUSED, OrderState.NOT_RENTED, OrderState.RELEASED})",
        (f"{_BY_TOOLS}::test_a_spent_yes_whose_machines_are_gone_points_to_a_new_proposal",),
    ),
    Mutant(
        "the gate is asked once and not for each order",
        _ORDERS,
        "refusal = await gate_of(run, order)\n",
        "refusal = None\n",
        ("tests/tools/test_fleet.py::test_a_cap_that_is_reached_in_the_middle_drops_the_rest",),
    ),
    Mutant(
        "a plan for other fields is begun",
        _CREATE,
        "if plan.digest != workflow.digest and not own:",
        "if False:",
        ("tests/tools/test_create.py::test_a_plan_for_other_fields_is_refused_also_while_machines_run",),
    ),
    Mutant(
        "machines are never asked about",
        _ORDERS,
        "unacknowledged=tuple(sorted({item.instance.id for item in active} - acknowledged - own)),",
        "unacknowledged=(),",
        (f"{_BY_TOOLS}::test_a_machine_that_appears_after_the_yes_is_refused_until_acknowledged",),
    ),
    Mutant(
        "what no list shows yet is not asked about",
        _VIEW,
        "        return False\n    return (await deps.store.window(order.instance_id)).seen_at == 0",
        "        return False\n    return False",
        (
            f"{_UNLISTED}::test_a_yes_that_did_not_know_of_a_machine_rents_nothing_beside_it_before_a_list_shows_it",
            f"{_UNLISTED}::test_status_preflight_and_billing_name_and_price_a_machine_that_no_list_shows_yet",
        ),
    ),
    Mutant(
        "what no list shows is new for ever",
        _VIEW,
        " or order.age(deps.moment()) >= SETTLES_S:",
        ":",
        (f"{_UNLISTED}::test_a_machine_that_ended_elsewhere_unseen_is_not_called_new_for_ever",),
    ),
    Mutant(
        "unsettled orders do not reach the gate",
        _ORDERS,
        "unsettled=tuple(item.order_id for item in others if item.state in UNSETTLED),",
        "unsettled=(),",
        (
            "tests/tools/test_create_ends.py::test_an_ambiguous_end_is_sent_once_blocks_the_account_and_is_settled[the request is lost-shown]",
        ),
    ),
    Mutant(
        "machines that no list shows yet do not count",
        _ORDERS,
        "running=len(active) + len(unlisted),",
        "running=len(active),",
        (
            "tests/tools/test_attacks_machines.py::test_a_machine_that_no_list_shows_counts_though_its_reply_named_a_listed_one",
        ),
    ),
    Mutant(
        "what machines cost that no list shows yet does not count",
        _VIEW,
        "disk_gb=Decimal(order.disk_gb),\n        price=order.price,",
        "disk_gb=Decimal(order.disk_gb),\n        price=ZERO,",
        ("tests/tools/test_gate.py::test_the_operators_total_cap_counts_what_was_rented_since_the_list_was_read",),
    ),
    Mutant(
        "an old plan's prices count for ever",
        _CREATE,
        "if run.deps.clock.now() >= plan.expires_at:",
        "if False:",
        ("tests/tools/test_create.py::test_a_plan_of_more_than_ten_minutes_is_made_anew_also_while_machines_run",),
    ),
    Mutant(
        "all or nothing on too few places",
        _CREATE,
        'if free < len(chosen) and workflow.values.get("fleet") == "all_or_nothing":',
        "if False:",
        ("tests/tools/test_attacks.py::test_all_or_nothing_does_not_rent_one_on_the_place_that_is_left",),
    ),
    Mutant(
        "any digest is the one that was shown",
        _CHANGES,
        "if digest == workflow.digest and digest:",
        "if digest:",
        (f"{_BY_TOOLS}::test_another_digest_than_the_user_saw_is_refused_with_what_changed",),
    ),
    Mutant(
        "a yes without a digest is a yes",
        _CHANGES,
        "if digest == workflow.digest and digest:",
        "if digest == workflow.digest or digest is None:",
        (f"{_BY_TOOLS}::test_a_relayed_yes_without_a_digest_is_no_yes",),
    ),
    Mutant(
        "a yes before a price is a yes",
        _DIALOG,
        "price_shown=look is not None and bool(look.chosen)",
        "price_shown=True",
        (f"{_BY_TOOLS}::test_a_yes_before_a_price_was_shown_is_no_yes",),
    ),
    Mutant(
        "the same yes told twice gives its places twice",
        _CONFIRMING,
        "if current is not None and current.at >= workflow.shown_at:",
        "if False:",
        (f"{_BY_TOOLS}::test_the_same_yes_told_twice_gives_its_places_once",),
    ),
    Mutant(
        "a yes of its own is good for many calls",
        _PURPOSES,
        'current.model_copy(update={"spent_at": now})',
        "current",
        ("tests/tools/test_purposes.py::test_a_yes_to_start_is_spent_by_one_start",),
    ),
    Mutant(
        "a yes of its own is used up by a call that sends nothing",
        _PURPOSES,
        "    return Yes(deps, home.workflow_id, facts, intent.again)",
        "    yes = Yes(deps, home.workflow_id, facts, intent.again)\n    await yes.spend()\n    return yes",
        (f"{_AGAIN}::test_a_call_that_fails_before_it_changes_a_key_leaves_the_yes_for_the_next",),
    ),
    Mutant(
        "a yes of its own is not looked at again when it is used",
        _PURPOSES,
        "first_refusal(replace(self._facts, now=now, confirmation=current))",
        "first_refusal(self._facts)",
        (
            f"{_AGAIN}::test_two_calls_at_once_on_one_yes_attach_once",
            f"{_AGAIN}::test_a_yes_whose_time_is_up_when_the_request_would_leave_attaches_nothing",
        ),
    ),
    Mutant(
        "a yes of its own is good for other machines",
        _PURPOSES,
        "if item.purpose is intent.purpose and set(item.instance_ids) == set(intent.instance_ids)",
        "if item.purpose is intent.purpose",
        (
            "tests/tools/test_purposes.py::test_a_yes_to_one_machine_is_none_to_another",
            "tests/tools/test_purposes.py::test_without_its_own_yes_nothing_is_sent_and_with_it_it_works_once",
        ),
    ),
    Mutant(
        "a newer yes to stop hides the one to destroy",
        _PURPOSES,
        "(pair[1].detail == intent.detail, pair[1].at)",
        "pair[1].at",
        ("tests/tools/test_purposes.py::test_a_yes_to_destroy_counts_after_a_newer_one_to_stop",),
    ),
    Mutant(
        "a yes to stop is a yes to destroy",
        _PURPOSES,
        '"detail": intent.detail,\n            "ceiling"',
        '"ceiling"',
        ("tests/tools/test_purposes.py::test_a_yes_to_stop_is_none_to_destroy",),
    ),
    Mutant(
        "a question is answered whenever",
        "server/vastai_workflow/domain/workflow.py",
        "return self.asked_at <= now < self.asked_at + CONFIRMATION_LIFE_S",
        "return True",
        ("tests/tools/test_attacks.py::test_a_question_is_not_answered_half_an_hour_later",),
    ),
    Mutant(
        "any SSH key goes from our machine at once",
        _REMOVED,
        "if _agreed(deps, item) != named[item.instance.id]]",
        "if item.order is None]",
        (f"{_UNKEY}::test_another_key_on_our_machine_and_any_key_on_anothers_take_a_yes_each",),
    ),
    Mutant(
        "an agreed SSH key goes from anybody's machine at once",
        _REMOVED,
        "others = [item.instance.id for item in machines.machines if _agreed(deps, item) != named[item.instance.id]]",
        "others = [i for i, key in named.items() if key not in {o.ssh_key.fingerprint for o in await deps.store.orders() if o.ssh_key}]",
        (f"{_UNKEY}::test_another_key_on_our_machine_and_any_key_on_anothers_take_a_yes_each",),
    ),
    Mutant(
        "an SSH key goes from the account without a yes",
        _REMOVED,
        "    await spend(deps, caller, opened, Intent(Purpose.DETACH, (), question, again, detail=fingerprint))\n",
        "    del question, again\n",
        (f"{_UNKEY}::test_from_the_account_a_key_goes_by_a_yes_of_its_own_and_the_machines_that_keep_it_are_named",),
    ),
    Mutant(
        "a yes to take one SSH key from the account is one to all",
        _REMOVED,
        "question, again, detail=fingerprint)",
        'question, again, detail="SHA256:any")',
        (f"{_UNKEY}::test_a_yes_to_take_one_key_is_none_to_another_key_machine_or_purpose",),
    ),
    Mutant(
        "an SSH key is gone from a 200 alone",
        _REMOVED,
        "Fate.STILL_THERE if left else gone",
        "gone",
        (f"{_UNKEY}::test_a_success_that_took_nothing_away_is_called_still_there",),
    ),
    Mutant(
        "an SSH key that was taken away is given back freely",
        _LEDGER,
        "return None if self.ssh_key_removed else self.ssh_key",
        "return self.ssh_key",
        (f"{_UNKEY}::test_a_key_that_was_taken_away_is_given_back_by_no_wait_and_by_no_call_without_a_yes",),
    ),
    Mutant(
        "after a recycle the old container is the new one",
        "server/vastai_workflow/steps/readiness_window.py",
        "return bool(host_key) and host_key == window.recycled_key and",
        "return False and",
        (
            "tests/tools/test_bad_hosts.py::test_after_a_recycle_the_old_container_is_not_taken_for_the_new_one[new key]",
        ),
    ),
    Mutant(
        "a refused recycle renews the host key",
        "server/vastai_workflow/steps/power.py",
        "OrderFacts(host_key=order.host_key)",
        "OrderFacts()",
        ("tests/tools/test_bad_hosts.py::test_a_recycle_that_the_provider_refuses_renews_no_host_key",),
    ),
)
