"""Breaks of SSH access: host keys, logins, keys, and what is handed over to other engines."""

from typing import Final

from tests.mutants.runner import Mutant

_HOST_KEYS: Final = "tests/tools/test_host_keys.py"
_LARGE: Final = "tests/tools/test_large_fleets.py"
_PROBE: Final = "tests/access/test_probe.py"
_PROBING: Final = "server/vastai_workflow/steps/probing.py"
_READINESS: Final = "tests/tools/test_readiness.py"
_UNKEY: Final = "tests/tools/test_removed_keys.py"

MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "a login under way pins a host key that was forgotten",
        "server/vastai_workflow/access/known_hosts.py",
        "if wanted and times_forgotten in {None, self._forgotten[instance_id]}:",
        "if wanted:",
        (f"{_PROBE}::test_a_login_that_is_under_way_when_the_host_key_is_forgotten_pins_none",),
    ),
    Mutant(
        "a machine that ended while it was tried keeps its host key",
        _PROBING,
        "return any(other.order_id == order.order_id and other.live for other in orders)",
        "return True",
        (f"{_HOST_KEYS}::test_a_machine_that_another_process_ended_while_it_was_tried_leaves_no_host_key",),
    ),
    Mutant(
        "a machine is handed over as pinned whose host key was lost",
        "server/vastai_workflow/steps/status.py",
        "return not await deps.prober.is_pinned(window.instance_id, host_key)",
        "return False",
        (
            f"{_HOST_KEYS}::test_a_machine_whose_pin_alone_was_lost_is_left_out_with_what_helps",
            f"{_HOST_KEYS}::test_where_the_pins_were_lost_nothing_is_handed_over_until_a_wait_finds_the_same_keys",
        ),
    ),
    Mutant(
        "a pin counts whose host key is another than that on record",
        "server/vastai_workflow/access/probe.py",
        "pinned is not None and fingerprint in {None, known_hosts.fingerprint(pinned)}",
        "pinned is not None",
        (f"{_HOST_KEYS}::test_a_machine_whose_pin_somebody_changed_is_left_out_and_not_blamed",),
    ),
    Mutant(
        "a changed pin is believed rather than the ledger",
        "server/vastai_workflow/access/probe.py",
        "return pinned if target.host_key in {None, known_hosts.fingerprint(pinned)} else None",
        "return pinned",
        (f"{_PROBE}::test_a_changed_pin_does_not_make_a_host_with_several_keys_show_another_one",),
    ),
    Mutant(
        "any host key takes the place of the pinned one",
        "server/vastai_workflow/access/known_hosts.py",
        "(recorded == shown and known != line)",
        "known != line",
        ("tests/access/test_known_hosts.py::test_only_the_key_on_record_takes_the_place_of_another",),
    ),
    Mutant(
        "a host key that is not the one on record is believed",
        "server/vastai_workflow/access/probe.py",
        "known = target.host_key or (",
        "known = (",
        (f"{_HOST_KEYS}::test_another_host_key_is_not_pinned_in_place_of_a_lost_one",),
    ),
    Mutant(
        "a host key that is not on record is pinned without a login",
        "server/vastai_workflow/access/probe.py",
        " and best.host_key and best.host_key.get_fingerprint() == target.host_key:",
        ":",
        (f"{_PROBE}::test_without_the_private_key_a_lost_pin_comes_back_only_by_the_key_on_record",),
    ),
    Mutant(
        "an SSH key that may still be there is told as taken away",
        "server/vastai_workflow/steps/status.py",
        "if not window.unkeyed_at:",
        "if False:",
        (f"{_UNKEY}::test_a_key_is_told_as_taken_away_once_a_list_shows_it_gone_and_not_before",),
    ),
    Mutant(
        "a machine without a login counts as ready",
        "server/vastai_workflow/steps/readiness.py",
        "_KEYLESS if report.keyless else report.readiness",
        '"ready" if report.keyless else report.readiness',
        (f"{_UNKEY}::test_machines_without_their_key_are_not_counted_as_ready",),
    ),
    Mutant(
        "a machine that ended elsewhere has no cost",
        "server/vastai_workflow/steps/ending.py",
        "if facts.cost_usd is None and not (facts.reason",
        "if False and not (facts.reason",
        ("tests/tools/test_reports.py::test_a_machine_that_ended_elsewhere_keeps_the_cost_that_was_seen_last",),
    ),
    Mutant(
        "what a login saw before a restart counts after it",
        _PROBING,
        "return kept if anew else _after(",
        "return _after(",
        (f"{_HOST_KEYS}::test_what_a_login_saw_of_a_machine_that_was_restarted_meanwhile_does_not_count",),
    ),
    Mutant(
        "anybody may put a key in the place of ours",
        "server/vastai_workflow/access/keys.py",
        "stat.S_IMODE(folder.stat().st_mode) & 0o022",
        "False",
        ("tests/access/test_keys.py::test_a_folder_of_our_pair_that_others_can_write_to_is_refused_with_the_chmod",),
    ),
    Mutant(
        "a look goes on after the end of its call",
        _PROBING,
        "max(min(_PROBE_S, self._deadline - started), _LEAST_S)",
        "_PROBE_S",
        (f"{_READINESS}::test_a_look_has_no_more_time_than_the_call_has_left",),
    ),
    Mutant(
        "every machine of a fleet is tried at once",
        _PROBING,
        "anyio.CapacityLimiter(AT_ONCE)",
        "anyio.CapacityLimiter(1000)",
        (f"{_LARGE}::test_no_more_machines_are_tried_at_once_than_a_process_has_open_files_for",),
    ),
    Mutant(
        "a machine that lost a key is said to keep it",
        "server/vastai_workflow/steps/removed_keys.py",
        "_agreed(deps, item) == fingerprint and not item.order.ssh_key_removed:",
        "_agreed(deps, item) == fingerprint:",
        (f"{_UNKEY}::test_a_machine_that_lost_the_key_before_is_not_named_as_one_that_keeps_it",),
    ),
    Mutant(
        "the user's agent is lent to machines",
        "server/vastai_workflow/access/probe.py",
        "            agent_path=None,\n            agent_forwarding=False,\n",
        "            agent_forwarding=True,\n",
        (f"{_PROBE}::test_no_agent_is_lent_to_a_machine_and_the_users_own_ssh_config_is_not_read",),
    ),
    Mutant(
        "the user's own ssh_config leads a login elsewhere",
        "server/vastai_workflow/access/probe.py",
        "            config=None,\n",
        "",
        (f"{_PROBE}::test_no_agent_is_lent_to_a_machine_and_the_users_own_ssh_config_is_not_read",),
    ),
    Mutant(
        "a machine that refused the login is handed over",
        "server/vastai_workflow/steps/inventory.py",
        "report.host is not None and seen",
        "report.host is not None",
        ("tests/tools/test_reports.py::test_only_a_machine_that_let_in_or_whose_key_is_elsewhere_is_handed_over",),
    ),
    Mutant(
        "a machine without nvidia-smi is not handed over",
        "server/vastai_workflow/steps/inventory.py",
        'seen = report.ready or report.readiness == "ssh_ok"',
        "seen = report.ready",
        ("tests/tools/test_reports.py::test_only_a_machine_that_let_in_or_whose_key_is_elsewhere_is_handed_over",),
    ),
    Mutant(
        "a key that is refused is looked for at each look",
        "server/vastai_workflow/steps/readiness.py",
        " - window.keyed_at > _KEY_AGAIN_S:",
        " - window.keyed_at > 0:",
        (f"{_READINESS}::test_a_key_that_a_machine_refuses_is_looked_for_every_half_minute_and_not_at_each_look",),
    ),
)
