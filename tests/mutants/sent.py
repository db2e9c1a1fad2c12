"""Breaks of the sending: what stands on record before a create, when it is sent again, and who goes first."""

# ruff: noqa: E501 # texts stand as in the source

from typing import Final

from tests.mutants.runner import Mutant

_ORDERS: Final = "server/vastai_workflow/steps/orders.py"
_RUN: Final = "server/vastai_workflow/steps/run.py"
_CREATE: Final = "server/vastai_workflow/steps/create.py"
_LOCKS: Final = "server/vastai_workflow/store/locks.py"
_DATABASE: Final = "server/vastai_workflow/store/database.py"
_SQLITE: Final = "server/vastai_workflow/store/sqlite.py"

_C: Final = "tests/tools/test_create.py"
_ENDS: Final = "tests/tools/test_create_ends.py"
_END: Final = f"{_ENDS}::test_an_ambiguous_end_is_sent_once_blocks_the_account_and_is_settled"

MUTANTS: Final = (
    Mutant(
        "sent is written after the reply",
        _ORDERS,
        """        order = await deps.store.move_order(order.order_id, OrderState.SENT, sent)
        try:
            outcome = await run.opened.market.create(order.ask_id, request)
""",
        """        try:
            outcome = await run.opened.market.create(order.ask_id, request)
            order = await deps.store.move_order(order.order_id, OrderState.SENT, sent)
""",
        (f"{_C}::test_an_order_is_on_record_as_sent_while_its_request_is_under_way",),
    ),
    Mutant(
        "sent carries no time",
        _ORDERS,
        "OrderState.SENT, sent)",
        "OrderState.SENT)",
        (f"{_C}::test_an_order_is_not_called_not_rented_before_its_time_out_and_the_lists_delay",),
    ),
    Mutant(
        "the paid section has no shield",
        _ORDERS,
        "anyio.CancelScope(shield=True)",
        "anyio.CancelScope()",
        ("tests/tools/test_cancelled.py::test_a_create_that_is_cancelled_once_it_is_sent_ends_in_the_ledger",),
    ),
    Mutant(
        "the reply is judged outside the shield",
        _ORDERS,
        "            return\n        await _judge(run, order, outcome)\n",
        "            return\n    await _judge(run, order, outcome)\n",
        ("tests/tools/test_cancelled.py::test_a_create_that_is_cancelled_once_it_is_sent_ends_in_the_ledger",),
    ),
    Mutant(
        "what may have rented is called refused",
        _ORDERS,
        "to, facts = OrderState.UNKNOWN, OrderFacts(reason=reason)",
        "to, facts = OrderState.REFUSED, OrderFacts(reason=reason)",
        (f"{_END}[cut before the reply-hidden]",),
    ),
    Mutant(
        "the next order follows one that may have rented",
        _ORDERS,
        'run.stopped_by = Refusal("unsettled_order", f"order {order.order_id} may have rented: {reason}")',
        "pass",
        (f"{_C}::test_what_is_planned_behind_an_order_without_an_answer_stays_planned_and_is_gone_on_with",),
    ),
    Mutant(
        "an error that names a machine goes on renting",
        _ORDERS,
        "            await _drop_rest(run, ProviderError(code, message))\n            await look_again(run)\n",
        "            await look_again(run)\n",
        (f"{_ENDS}::test_a_fleet_stops_at_an_error_that_names_a_machine",),
    ),
    Mutant(
        "the next candidate without a list",
        _ORDERS,
        "    await look_again(run)\n    current = ",
        "    current = ",
        (f"{_ENDS}::test_a_refusal_that_lies_is_seen_through_by_the_list_before_another_try",),
    ),
    Mutant(
        "a 429 is repeated without a list",
        _ORDERS,
        "    await look_again(run)\n    current = ",
        '    if outcome.code != "rate_limited":\n        await look_again(run)\n    current = ',
        (f"{_ENDS}::test_a_refusal_that_lies_is_seen_through_by_the_list_before_another_try",),
    ),
    Mutant(
        "the next candidate though the list showed the order",
        _ORDERS,
        "if any(item.order_id == order.order_id and item.state is not OrderState.REFUSED for item in current):",
        "if False:",
        (f"{_ENDS}::test_a_refusal_that_lies_is_seen_through_by_the_list_before_another_try",),
    ),
    Mutant(
        "a gone offer is replaced twice",
        _ORDERS,
        "    if not _replaces_gone(order, current):\n",
        "    if True:\n",
        (f"{_C}::test_a_replacement_that_is_gone_too_is_not_replaced_again",),
    ),
    Mutant(
        "a gone offer is replaced twice where a wait came between",
        _ORDERS,
        "(before.reason == _GONE and before.ask_id != order.ask_id) or _replaces_gone(before, orders)",
        "before.reason == _GONE and before.ask_id != order.ask_id",
        (f"{_C}::test_a_replacement_that_had_to_wait_and_is_gone_then_is_not_replaced_again",),
    ),
    Mutant(
        "the next candidate above the ceiling",
        _RUN,
        "[item for item in run.ranked if ceiling is None or item.price <= ceiling]",
        "list(run.ranked)",
        (f"{_C}::test_no_candidate_above_the_ceiling_replaces_a_gone_offer",),
    ),
    Mutant(
        "the next candidate is one that another order has",
        _ORDERS,
        "{item.machine_id for item in orders}, again",
        "set[int](), again",
        (
            "tests/tools/test_half_made_fleets.py::test_an_offer_that_is_gone_or_dear_by_the_next_call_gives_its_turn_to_another",
        ),
    ),
    Mutant(
        "a known refusal goes on renting",
        _ORDERS,
        "    if outcome.code != _GONE:\n        await _drop_rest(run, ProviderError(outcome.code, outcome.message))\n",
        "    if outcome.code != _GONE:\n",
        (f"{_C}::test_a_known_refusal_rents_nothing_and_sends_nothing_more",),
    ),
    Mutant(
        "a plan that is done is planned again",
        _CREATE,
        "    if not await _own_orders(deps, workflow, plan):\n        await _admit",
        "    if True:\n        await _admit",
        (
            "tests/tools/test_fleet.py::test_a_fleet_too_big_for_one_call_is_gone_on_with_and_sends_no_order_twice",
            f"{_C}::test_a_wait_longer_than_the_call_is_gone_on_with_by_the_next_call",
        ),
    ),
    Mutant(
        "more orders than places",
        _CREATE,
        "taken = chosen[:free]",
        "taken = chosen",
        (f"{_ENDS}::test_what_is_planned_fits_the_places_that_are_left",),
    ),
    Mutant(
        "no account lock around a create",
        _CREATE,
        "async with deps.store.account_lock(opened.account.id):",
        "if True:",
        (f"{_C}::test_while_another_process_rents_for_the_account_a_create_is_refused",),
    ),
    Mutant(
        "no ledger is looked at before the gate",
        _CREATE,
        "    await look_again(run)\n    await _refuse_taken_key",
        "    run.instances = await opened.market.instances()\n    await _refuse_taken_key",
        (f"{_C}::test_an_order_of_a_lost_process_is_settled_before_anything_more_is_rented",),
    ),
    Mutant(
        "an account's lock is taken twice",
        _LOCKS,
        "        if account_id in held:\n            return None\n",
        "",
        (f"{_C}::test_while_another_process_rents_for_the_account_a_create_is_refused",),
    ),
    Mutant(
        "an account's file lock is shared",
        _LOCKS,
        "thread_local=False)",
        "thread_local=False, is_singleton=True)",
        ("tests/store/test_account_lock.py::test_two_stores_of_one_process_share_the_lock",),
    ),
    Mutant(
        "a commit does not wait for the disk",
        _DATABASE,
        '"PRAGMA synchronous = FULL"',
        '"PRAGMA synchronous = NORMAL"',
        ("tests/store/test_files.py::test_a_commit_waits_for_the_disk",),
    ),
    Mutant(
        "a move is said and not committed",
        _DATABASE,
        '                events = events_in(connection)\n                connection.execute("COMMIT")\n            except BaseException:  # also',
        '                events = events_in(connection)\n                connection.execute("ROLLBACK")\n            except BaseException:  # also',
        ("tests/store/test_ledger.py::test_a_move_keeps_its_facts_and_the_time_of_the_stores_clock",),
    ),
    Mutant(
        "a failed change is kept by half",
        _SQLITE,
        "            after = change(before)\n            connection.execute(\n",
        "            after = before\n            self._log(connection, before, before.state, facts or _NO_FACTS)\n"
        "            after = change(before)\n            connection.execute(\n",
        ("tests/store/test_ledger.py::test_a_move_keeps_its_facts_and_the_time_of_the_stores_clock",),
    ),
    Mutant(
        "two processes send one order",
        _DATABASE,
        '            connection.execute("BEGIN IMMEDIATE")\n            try:\n                yield connection\n',
        '            connection.execute("BEGIN DEFERRED")\n            try:\n                yield connection\n',
        (
            "tests/store/test_files.py::test_no_change_of_two_stores_is_lost",
            "tests/store/test_files.py::test_of_two_stores_that_send_one_order_only_one_does",
        ),
    ),
    Mutant(
        "any move is legal",
        "server/vastai_workflow/domain/ledger.py",
        "        if to not in TRANSITIONS[self.state]:\n            raise IllegalMoveError(self.order_id, self.state, to)\n",
        "",
        ("tests/store/test_files.py::test_of_two_stores_that_send_one_order_only_one_does",),
    ),
)
