"""Breaks of the record and of what the server tells besides tools: the audit trail, prompts, resources, completions."""

from typing import Final

from tests.mutants.runner import Mutant

_AUDIT: Final = "server/vastai_workflow/domain/audit.py"
_SERVER: Final = "server/vastai_workflow/server.py"
_SCHEMA: Final = "server/vastai_workflow/store/schema.py"
_STEP: Final = "server/vastai_workflow/steps/audit.py"
_BY_STORE: Final = "tests/store/test_trail.py"
_BY_TOOLS: Final = "tests/tools/test_audit.py"

MUTANTS: Final = (
    Mutant(
        "a yes is not noticed by the ledger",
        "server/vastai_workflow/store/sqlite.py",
        "            trail.append(connection, noticed(found, changed, self._clock.now()))\n",
        "",
        (f"{_BY_STORE}::test_a_yes_is_on_the_trail_with_the_change_that_gave_widened_or_spent_it",),
    ),
    Mutant(
        "whoever agreed to rent acknowledged what came later",
        _AUDIT,
        '"by": now.kept_by or now.by',
        '"by": now.by',
        (f"{_BY_TOOLS}::test_what_an_agent_relayed_is_not_on_the_trail_as_a_persons_word",),
    ),
    Mutant(
        "a yes that was taken back leaves no trace",
        _AUDIT,
        "    if now.withdrawn_by and not before.withdrawn_by:",
        "    if False:",
        (f"{_BY_TOOLS}::test_each_no_and_each_yes_that_it_takes_back_is_on_the_trail_with_who_said_it",),
    ),
    Mutant(
        "only the first no is on record",
        _AUDIT,
        "no == before.last_no",
        "before.last_no is not None",
        (f"{_BY_TOOLS}::test_each_no_and_each_yes_that_it_takes_back_is_on_the_trail_with_who_said_it",),
    ),
    Mutant(
        "a refusal leaves no trace",
        _SERVER,
        "        await trail.record(deps, [event])\n",
        "",
        (f"{_BY_TOOLS}::test_from_the_first_refusal_to_the_end_everything_is_on_the_trail_with_who_and_digest",),
    ),
    Mutant(
        "an end that was asked for leaves no trace",
        "server/vastai_workflow/steps/ending.py",
        "deps, [end_event(deps, Kind.DESTROY, sender, item.instance_id, item.orders, reason) for item in targets]",
        "deps, []",
        (f"{_BY_TOOLS}::test_a_machine_that_is_not_ours_is_on_the_trail_from_the_question_to_its_end",),
    ),
    Mutant(
        "the audit trail can be shortened",
        _SCHEMA,
        "SELECT RAISE(ABORT, 'audit events are never deleted')",
        "SELECT 1",
        (f"{_BY_STORE}::test_the_trail_is_only_added_to",),
    ),
    Mutant(
        "the trail follows the clock instead of the writing",
        "server/vastai_workflow/store/trail.py",
        "sorted(lines, key=lambda line: line[0])",
        "sorted(lines, key=lambda line: line[1].at)",
        (
            f"{_BY_STORE}::test_orders_stand_on_the_trail_with_their_yes_in_the_order_of_writing_whatever_the_clock_does",
        ),
    ),
    Mutant(
        "a message is kept with what an agent put into it",
        _AUDIT,
        'what=clean(_LIKE_A_KEY.sub("***", error.message), _MESSAGE_CAP)',
        "what=clean(error.message, _MESSAGE_CAP)",
        (f"{_BY_TOOLS}::test_no_key_and_no_secret_value_is_on_the_trail_wherever_an_agent_puts_it",),
    ),
    Mutant(
        "a trail that can't be written stops a release",
        _STEP,
        "    except WorkflowError as error:\n",
        "    except ZeroDivisionError as error:\n",
        (f"{_BY_TOOLS}::test_a_trail_that_can_not_be_written_stops_no_release_and_no_destroy",),
    ),
    Mutant(
        "a trail that can't be written hides a refusal",
        _SERVER,
        "    except Exception as error:  # noqa: BLE001 # the boundary: a refusal is told, whatever else is broken\n",
        "    except ZeroDivisionError as error:\n",
        (f"{_BY_TOOLS}::test_a_trail_that_can_not_be_written_leaves_a_refusal_as_it_is",),
    ),
    Mutant(
        "the calls of a workflow are anybody's",
        "server/vastai_workflow/tools/resources.py",
        "        await steps.owned(await deps_of(ctx), caller_of(ctx), workflow_id)\n",
        "        await deps_of(ctx)\n",
        ("tests/tools/test_calls.py::test_anothers_workflow_is_as_unknown_as_one_that_never_was",),
    ),
    Mutant(
        "a curl line shows the values of variables",
        "server/vastai_workflow/vast/curl.py",
        "json.dumps(masked(dict(request.body or {})), default",
        "json.dumps(dict(request.body or {}), default",
        ("tests/vast/test_curl.py::test_a_line_says_what_was_sent_and_masks_every_secret",),
    ),
    Mutant(
        "anybody's machines are suggested",
        "server/vastai_workflow/tools/completions.py",
        " if order.owner == caller.owner]",
        "]",
        ("tests/tools/test_completions.py::test_anothers_machines_are_not_suggested",),
    ),
    Mutant(
        "a digest is of another text than the one that is read",
        "server/vastai_workflow/tools/skill.py",
        "hashlib.sha256(content(name)).hexdigest()",
        "hashlib.sha256(content(name).strip()).hexdigest()",
        ("tests/tools/test_skill.py::test_the_skill_is_listed_with_its_head_and_a_digest_of_every_file",),
    ),
)
