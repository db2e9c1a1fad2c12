"""Breaks of the end: what is believed of a destroy, and a start that waits."""

from typing import Final

from tests.mutants.runner import Mutant

_ENDING: Final = "server/vastai_workflow/steps/ending.py"
_DESTROY: Final = "server/vastai_workflow/steps/destroy.py"
_POWER: Final = "server/vastai_workflow/steps/power.py"

_D: Final = "tests/tools/test_destroy.py"
_FOUR: Final = f"{_D}::test_of_an_end_of_four_that_half_fails_each_is_told_as_it_is_and_a_second_call_finishes"
_MACHINES: Final = "tests/tools/test_attacks_machines.py"

MUTANTS: Final = (
    Mutant(
        "a destroy's 200 is believed",
        _ENDING,
        "        return await market.instance(target.instance_id)\n    except",
        "        return None\n    except",
        (f"{_FOUR}[one's own page is down]",),
    ),
    Mutant(
        "the list alone says that it is gone",
        _ENDING,
        "    shown = listed.get(target.instance_id) or there\n",
        "    shown = listed.get(target.instance_id)\n",
        (f"{_D}::test_a_machine_that_a_list_forgets_is_not_called_gone",),
    ),
    Mutant(
        "its page alone says that it is gone",
        _ENDING,
        "    shown = listed.get(target.instance_id) or there\n",
        "    shown = there\n",
        (f"{_D}::test_a_machine_whose_page_is_gone_and_that_is_listed_is_not_called_gone",),
    ),
    Mutant(
        "without a list it is gone",
        _ENDING,
        "        return {target.instance_id: _by_page(_judged(deps, target, there, {}, since), error)",
        "        return {target.instance_id: _judged(deps, target, there, {}, since)",
        (f"{_FOUR}[the list is down]",),
    ),
    Mutant(
        "without an answer it is gone",
        _ENDING,
        '        return Look("unknown", error=there)\n',
        '        return Look("gone", State.GONE)\n',
        (f"{_FOUR}[the key is revoked midway]", f"{_D}::test_with_the_api_down_the_end_is_unknown"),
    ),
    Mutant(
        "a machine that is not listed yet is gone",
        _ENDING,
        'return Look("gone", State.GONE) if since >= target.lists_after else Look("unknown")',
        'return Look("gone", State.GONE)',
        (f"{_D}::test_a_machine_that_is_not_listed_yet_is_not_called_gone",),
    ),
    Mutant(
        "an end is asked for once",
        _ENDING,
        "        pending = [item for item, _ in asked if _worth_another_try(looks[item.instance_id])]\n",
        "        pending = []\n",
        (f"{_D}::test_a_200_without_effect_is_sent_again_while_there_is_time",),
    ),
    Mutant(
        "an end has no bound",
        _ENDING,
        "        if deps.clock.now() >= deadline:\n            break\n",
        "",
        (f"{_D}::test_an_end_of_many_is_bounded_and_gone_on_with",),
    ),
    Mutant(
        "what a reply named is ended without its mark",
        _ENDING,
        "if target.proven or await _carries_mark(deps, market, target):",
        "if True:",
        (f"{_MACHINES}::test_an_unlisted_machine_without_our_mark_is_not_destroyed",),
    ),
    Mutant(
        "the wish to end is not on record",
        _ENDING,
        "            await _intend(deps, target, reason)\n",
        "",
        ("tests/steps/test_settling.py::test_the_wish_to_destroy_is_on_record_before_the_request_leaves",),
    ),
    Mutant(
        "what is still there is released in the ledger",
        _ENDING,
        '    if final != "gone":\n        await deps.store.note_order',
        '    if final == "unknown":\n        await deps.store.note_order',
        (f"{_FOUR}[ignored]",),
    ),
    Mutant(
        "an id that nobody knows is gone",
        _DESTROY,
        'return End(instance_id, "unknown", reason="this key sees no machine with this id; nothing was sent")',
        'return End(instance_id, "gone", State.GONE)',
        (f"{_D}::test_an_id_that_does_not_exist_is_not_called_destroyed",),
    ),
    Mutant(
        "another's machine is ended as ours",
        _DESTROY,
        "    if strangers:\n",
        "    if False:\n",
        (f"{_D}::test_ours_and_anothers_in_one_call_wait_for_the_yes_to_the_other",),
    ),
    Mutant(
        "a queued start is left in the queue",
        _POWER,
        "    try:\n        await opened.market.stop(instance_id)\n    except ProviderError as failed:",
        "    try:\n        await opened.market.instance(instance_id)\n    except ProviderError as failed:",
        ("tests/tools/test_power.py::test_a_start_whose_gpu_is_taken_is_cancelled_and_reported",),
    ),
    Mutant(
        "a start is not on record before it is sent",
        _POWER,
        "        await reset_window(deps, instance_id, starting=True, started=True)\n",
        "        await reset_window(deps, instance_id, starting=True)\n",
        (
            "tests/steps/test_settling.py::test_a_start_that_got_no_answer_and_waits_for_its_gpu_is_cancelled_by_settling",
        ),
    ),
)
