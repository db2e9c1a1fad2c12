"""Breaks of what is told and done where a key, a list, the ledger or the right to write is missing."""

from typing import Final

from tests.mutants.runner import Mutant

_ADOPTION: Final = "server/vastai_workflow/steps/adoption.py"
_CLI_SETTLE: Final = "server/vastai_workflow/cli/settle.py"
_CHOSEN: Final = "server/vastai_workflow/steps/chosen.py"
_ENDING: Final = "server/vastai_workflow/steps/ending.py"
_ELSEWHERE: Final = "server/vastai_workflow/steps/elsewhere.py"
_ORDERS: Final = "server/vastai_workflow/steps/orders.py"
_PAGES: Final = "server/vastai_workflow/steps/own_pages.py"
_POWER: Final = "server/vastai_workflow/steps/power.py"
_PREFLIGHT: Final = "server/vastai_workflow/steps/preflight.py"
_RECONCILE: Final = "server/vastai_workflow/steps/reconcile.py"

_OURS: Final = "tests/tools/test_ends_of_ours.py"
_LESS: Final = "tests/tools/test_without_a_list.py"
_DISK: Final = "tests/tools/test_full_disk.py"
_OTHERS: Final = "tests/tools/test_other_accounts.py"
_UNSETTLED: Final = "tests/tools/test_orders_of_others.py"
_STATUS: Final = "server/vastai_workflow/steps/status.py"
_WHERE: Final = "tests/tools/test_where.py"
_AGAIN: Final = "tests/tools/test_keys_again.py"
_READY: Final = "tests/tools/test_readiness.py"
_PROBING: Final = "server/vastai_workflow/steps/probing.py"
_SECRETS: Final = "tests/tools/test_secrets.py"
_SETTLE: Final = "tests/cli/test_settle.py"

MUTANTS: Final = (
    Mutant(
        "a machine that an end took on record is not known to have come late",
        _ADOPTION,
        '{"late_since": deps.clock.now(), "warnings": (CAME_AFTER_ALL,)}',
        '{"warnings": (CAME_AFTER_ALL,)}',
        (f"{_OURS}::test_a_machine_beyond_the_yes_that_an_end_was_asked_for_and_missed_is_released_by_the_next_wait",),
    ),
    Mutant(
        "the host key of a machine that ended elsewhere stays pinned",
        _ENDING,
        "        await deps.prober.forget(order.instance_id)\n",
        "        pass\n",
        ("tests/tools/test_bad_hosts.py::test_the_pin_of_a_machine_that_ended_elsewhere_goes_when_that_is_seen",),
    ),
    Mutant(
        "a machine that was judged is tried again at each look",
        _PROBING,
        "                _worth_it(window, started)\n",
        "                True\n",
        (f"{_READY}::test_a_machine_that_was_judged_within_the_last_minute_is_not_tried_again[wrong_gpu]",),
    ),
    Mutant(
        "the ssh command asks to trust whoever answers",
        "server/vastai_workflow/steps/login.py",
        "'yes' if pinned else 'accept-new'",
        "'ask'",
        ("tests/tools/test_readiness.py::test_progress_arrives_and_the_answer_says_how_to_connect",),
    ),
    Mutant(
        "a path with a space is two in the ssh command",
        "server/vastai_workflow/steps/login.py",
        "    return f'\"{escaped}\"'\n",
        "    return escaped\n",
        ("tests/steps/test_inventory.py::test_a_line_of_ssh_config_holds_one_keyword_and_one_value",),
    ),
    Mutant(
        "a command to log in is given for a refused address",
        _STATUS,
        " or window.reason == _BAD or ",
        " or ",
        (f"{_WHERE}::test_no_command_to_log_in_is_given_for_an_address_that_is_refused",),
    ),
    Mutant(
        "the old address of a machine that moved is told",
        _STATUS,
        "    if has_moved := login.moved(window, instance) and readiness in _SEEN:\n",
        "    if has_moved := False:\n",
        (f"{_WHERE}::test_after_a_move_that_nobody_here_caused_no_old_address_is_given_and_a_wait_finds_the_new_one",),
    ),
    Mutant(
        "a machine that moved is not looked at for a minute",
        "server/vastai_workflow/steps/probing.py",
        "                or moved(window, instance)\n",
        "",
        (f"{_WHERE}::test_after_a_move_that_nobody_here_caused_no_old_address_is_given_and_a_wait_finds_the_new_one",),
    ),
    Mutant(
        "a key that was taken from the account comes back by an earlier yes",
        "server/vastai_workflow/steps/create.py",
        "    await _refuse_taken_key(run, plan)\n",
        "",
        (f"{_AGAIN}::test_a_key_that_was_taken_from_the_account_does_not_come_back_by_an_earlier_yes",),
    ),
    Mutant(
        "attaching a key is not bounded",
        "server/vastai_workflow/steps/keys.py",
        "    if deps.clock.now() >= deadline:\n",
        "    if False:\n",
        (f"{_AGAIN}::test_attaching_to_a_large_fleet_ends_in_time_and_says_where_it_stopped",),
    ),
    Mutant(
        "one machine that refuses a key hides the others",
        "server/vastai_workflow/steps/keys.py",
        "        if len(machines.ids) == 1:\n",
        "        if machines.ids:\n",
        (f"{_AGAIN}::test_a_machine_that_refuses_a_key_hides_no_other_and_is_told_with_its_reason",),
    ),
    Mutant(
        "a card passes for the dearer module",
        "server/vastai_workflow/access/gpus.py",
        " or not may_be_built_alike(name, gpu_name):\n",
        ":\n",
        ("tests/access/test_gpus.py::test_a_card_is_no_module_and_one_for_servers_none_for_desks",),
    ),
    Mutant(
        "the time that a machine was ready counts as trying",
        _PROBING,
        ' and window.stage != "gpu_ok"  # the',
        "  # the",
        (f"{_WHERE}::test_a_machine_that_falls_silent_after_it_was_ready_is_tried_for_two_whole_minutes_from_then",),
    ),
    Mutant(
        "the two minutes go on where they stood before a machine was ready",
        _PROBING,
        '    tried_s = 0.0 if window.stage == "gpu_ok" else window.tried_s',
        "    tried_s = window.tried_s",
        (f"{_WHERE}::test_a_machine_that_falls_silent_after_it_was_ready_is_tried_for_two_whole_minutes_from_then",),
    ),
    Mutant(
        "a damaged host key is called a changed one",
        "server/vastai_workflow/access/session.py",
        '    (asyncssh.PermissionDenied, "auth_refused",',
        '    (asyncssh.HostKeyNotVerifiable, "host_key_changed", ""),\n    (asyncssh.PermissionDenied, "auth_refused",',
        ("tests/access/test_probe.py::test_a_damaged_host_key_is_no_changed_one",),
    ),
    Mutant(
        "a private key that OpenSSH refuses is used",
        "server/vastai_workflow/access/identity.py",
        " and not bared:\n",
        ":\n",
        ("tests/access/test_probe.py::test_a_private_key_that_others_can_read_is_not_used",),
    ),
    Mutant(
        "our private key may be read by its group",
        "server/vastai_workflow/access/keys.py",
        "stat.S_IMODE(private.stat().st_mode) & 0o077",
        "stat.S_IMODE(private.stat().st_mode) & 0o007",
        ("tests/access/test_keys.py::test_our_pair_that_others_can_read_is_refused_with_the_chmod",),
    ),
    Mutant(
        "a refusal repeats a private key",
        "server/vastai_workflow/domain/untrusted.py",
        '    return "a private key (not shown)" if holds_private_key(text) else clean(text, cap)\n',
        "    return clean(text, cap)\n",
        (f"{_SECRETS}::test_a_private_key_in_whatever_argument_is_refused_and_none_of_it_comes_back",),
    ),
    Mutant(
        "what is called a fingerprint is believed to be one",
        "server/vastai_workflow/steps/removed_keys.py",
        "        if not _FINGERPRINT.fullmatch(public_key):\n",
        "        if not public_key:\n",
        (f"{_SECRETS}::test_a_damaged_fingerprint_is_refused_by_its_form",),
    ),
    Mutant(
        "read only, settle releases",
        _RECONCILE,
        "            if deps.caps.read_only:\n",
        "            if False:\n",
        (f"{_SETTLE}::test_read_only_it_sends_nothing_and_says_what_is_to_be_released",),
    ),
    Mutant(
        "settle tries an account's newest key alone",
        _CLI_SETTLE,
        "            if error.code not in _ANOTHER_KEY_MAY_WORK:\n",
        "            if error.code:\n",
        (f"{_SETTLE}::test_where_the_newest_key_of_an_account_does_not_work_an_older_one_settles",),
    ),
    Mutant(
        "an unknown order's machine is a stranger's",
        _ADOPTION,
        "    if not await _made_unseen(deps, account_id, shown, named):\n",
        "    if shown or not shown:\n",
        (f"{_OURS}::test_the_machine_of_an_unknown_order_is_ended_at_once_as_ours_and_on_record_with_its_cost",),
    ),
    Mutant(
        "any copy of a mark of an order without a machine is ours to end",
        _ADOPTION,
        "            and order.can_have_made(instance.started_there)\n",
        "",
        (f"{_OURS}::test_a_copy_of_a_mark_is_no_proof_that_a_machine_is_ours",),
    ),
    Mutant(
        "a machine is adopted while another call rents",
        _ADOPTION,
        "    async with deps.store.account_lock(account_id):\n",
        "    if True:\n",
        (
            f"{_OURS}::test_while_another_call_rents_an_unknown_orders_machine_is_asked_for_again_not_called_a_strangers",
        ),
    ),
    Mutant(
        "without a list any machine's page will do",
        _PAGES,
        "if item.ours), failed",
        "if item), failed",
        (f"{_LESS}::test_without_a_list_nothing_is_sent_to_a_machine_whose_page_does_not_show_our_mark",),
    ),
    Mutant(
        "without a list machines are started too",
        _CHOSEN,
        "        if not stops:\n            raise\n",
        "",
        (f"{_LESS}::test_without_a_list_nothing_is_started",),
    ),
    Mutant(
        "without a list a stranger is stopped with ours",
        _CHOSEN,
        "        if {item.instance.id for item in active} != set(ids):\n            raise\n",
        "",
        (f"{_LESS}::test_without_a_list_nothing_is_sent_to_a_machine_whose_page_does_not_show_our_mark",),
    ),
    Mutant(
        "without a list its own page says that it is gone",
        _ENDING,
        '    if look.final == "still there":\n        return look\n',
        "    if look.final:\n        return look\n",
        (f"{_LESS}::test_while_lists_stay_incomplete_our_machine_is_ended_on_the_proof_of_its_own_page",),
    ),
    Mutant(
        "a machine that the ledger could not keep is not told",
        _ORDERS,
        "        run.notes.append(_not_on_record(order, outcome))\n",
        "",
        (f"{_DISK}::test_a_machine_that_could_not_be_put_on_record_is_told_with_its_id_and_how_to_end_it",),
    ),
    Mutant(
        "after a ledger that could not be written the next order is sent",
        _ORDERS,
        "        run.stopped_by = error\n        return\n    match",
        "        return\n    match",
        (f"{_DISK}::test_without_an_answer_and_without_a_ledger_it_is_told_that_a_machine_may_have_been_rented",),
    ),
    Mutant(
        "an order that was cut short waits for the next process",
        _RECONCILE,
        "(not amid and _seen_since(",
        "(_seen_since(",
        (f"{_DISK}::test_once_the_ledger_can_be_written_the_next_call_puts_the_machine_on_record",),
    ),
    Mutant(
        "machines of ours on another account are not told",
        _ELSEWHERE,
        "o.owner == caller.owner and o.account_id != account_id",
        "o.owner == caller.owner and o.account_id == 0",
        (f"{_OTHERS}::test_machines_on_an_account_that_the_key_does_not_see_are_told_with_how_to_reach_them",),
    ),
    Mutant(
        "that a start may still work is not told",
        _POWER,
        "            lost = True\n",
        "",
        (
            "tests/tools/test_power.py::test_a_start_that_works_long_after_it_got_no_answer_is_shown_as_running_and_billed",
        ),
    ),
    Mutant(
        "preflight is silent about an order that another process sends",
        _PREFLIGHT,
        "states=tuple(UNSETTLED))",
        "states=())",
        (f"{_UNSETTLED}::test_an_order_that_another_process_is_sending_just_now_is_told",),
    ),
)
