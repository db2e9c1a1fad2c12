"""Breaks of the person's own yes: what they type, what a no means, and for which asking an answer counts."""

# texts stand as in the source

from typing import Final

from tests.mutants.runner import Mutant

_WORKFLOW: Final = "server/vastai_workflow/domain/workflow.py"
_WORDS: Final = "server/vastai_workflow/domain/asking.py"
_POLICY: Final = "server/vastai_workflow/steps/asking.py"
_CONFIRMING: Final = "server/vastai_workflow/steps/confirming.py"
_APPROVING: Final = "server/vastai_workflow/steps/approving.py"
_CLIENT: Final = "server/vastai_workflow/tools/asking.py"
_DIALOG: Final = "server/vastai_workflow/tools/dialog.py"
_PAGE: Final = "server/vastai_workflow/tools/approval_page.py"

_ASKED: Final = "tests/tools/test_asked.py"
_ANSWERS: Final = "tests/tools/test_answers.py"
_APPROVE: Final = "tests/cli/test_approve.py"
_NOES: Final = "tests/tools/test_noes.py"
_OPEN: Final = "tests/tools/test_unanswered.py"
_MEANWHILE: Final = "tests/tools/test_meanwhile.py::test_a_no_that_comes_first_counts"
_BY_PAGE: Final = "tests/tools/test_approval_page.py"

MUTANTS: Final = (
    Mutant(
        "whatever is typed is a yes",
        _POLICY,
        "    if not fits(question, typed):",
        "    if False:",
        (f"{_ASKED}::test_another_value_confirms_nothing_and_is_asked_again",),
    ),
    Mutant(
        "a key file's path may hide what it is",
        "server/vastai_workflow/vast/key_files.py",
        "    if not all(map(visible, str(chosen))):",
        "    if False:",
        ("tests/tools/test_key_sources.py::test_a_path_that_would_show_as_another_is_refused_where_it_is_resolved",),
    ),
    Mutant(
        "a question moves the terminal's cursor",
        "server/vastai_workflow/cli/terminal.py",
        "screen.write(clean_lines(question, _MOST))",
        "screen.write(question)",
        (f"{_APPROVE}::test_nothing_in_a_question_moves_the_cursor_of_the_terminal",),
    ),
    Mutant(
        "what was typed before a question answers it",
        "server/vastai_workflow/cli/terminal.py",
        "            _drop_typed(keyboard)\n",
        "",
        (f"{_APPROVE}::test_what_was_typed_before_the_question_stood_there_answers_nothing",),
    ),
    Mutant(
        "a long question is cut",
        "server/vastai_workflow/cli/terminal.py",
        "    if len(question) > _MOST:\n",
        "    if False:\n",
        (f"{_APPROVE}::test_a_question_stands_whole_on_the_terminal_or_is_refused",),
    ),
    Mutant(
        "a key's question hides whose machine it opens",
        "server/vastai_workflow/steps/keys.py",
        "attach_question(chosen.fingerprint, names, strangers)",
        "attach_question(chosen.fingerprint, names)",
        ("tests/tools/test_purposes.py::test_the_question_of_a_key_names_the_machines_and_those_not_rented_here",),
    ),
    Mutant(
        "a start script hides a part of itself from the question",
        "server/vastai_workflow/domain/fields.py",
        " or not all(map(_in_script, value)):",
        " or _UNSENDABLE.search(value):",
        ("tests/tools/test_input.py::test_a_field_with_a_bad_value_says_what_is_allowed",),
    ),
    Mutant(
        "the most that a yes allows is told for one machine alone",
        "server/vastai_workflow/domain/question.py",
        'each" if count == 1 else',
        'each" if count else',
        ("tests/domain/test_question.py::test_the_question_says_all_that_is_agreed_to",),
    ),
    Mutant(
        "a no to what is done to a machine is forgotten in another workflow",
        _WORKFLOW,
        "for item in (self, *others) for mark in item.declined",
        "for item in (self,) for mark in item.declined",
        (f"{_NOES}::test_a_no_to_what_is_done_to_a_machine_holds_in_every_workflow",),
    ),
    Mutant(
        "a yes in another workflow outlives a no",
        _POLICY,
        "        if other.workflow_id != workflow_id and _without_yes",
        "        if other.workflow_id == workflow_id and _without_yes",
        (f"{_NOES}::test_a_no_ends_the_yes_to_the_same_that_was_given_in_another_workflow",),
    ),
    Mutant(
        "any price is the ceiling",
        _WORDS,
        "return price is not None and Decimal(price[1]) == question.ceiling_per_hour",
        "return price is not None",
        (f"{_ASKED}::test_another_value_confirms_nothing_and_is_asked_again",),
    ),
    Mutant(
        "the form fills itself in",
        "server/vastai_workflow/tools/forms.py",
        'Field(title="Price limit, $/h"',
        'Field("", title="Price limit, $/h"',
        (f"{_ASKED}::test_the_form_has_one_typed_value_without_a_default",),
    ),
    Mutant(
        "a form goes to a client that only opens addresses",
        "server/vastai_workflow/tools/surface.py",
        "if declared is None or (declared.form is None and declared.url is not None):",
        "if declared is None:",
        ("tests/tools/test_declared.py::test_a_client_that_only_opens_addresses_is_sent_no_form_and_its_agent_asks",),
    ),
    Mutant(
        "a decline is a yes",
        _DIALOG,
        '    if said.action != "accept":',
        '    if said.action == "cancel":',
        (f"{_ASKED}::test_a_no_confirms_nothing_and_says_so_with_the_other_ways",),
    ),
    Mutant(
        "an agent says yes after the person said no",
        _POLICY,
        'own = deps.approval == "human" or workflow.takes_only_their_own(marks)',
        'own = deps.approval == "human"',
        (f"{_ASKED}::test_after_a_no_no_agent_reports_a_yes_from_whatever_client",),
    ),
    Mutant(
        "an agent says yes with approval human",
        _POLICY,
        'own = deps.approval == "human" or workflow.takes_only_their_own(marks)',
        "own = workflow.takes_only_their_own(marks)",
        ("tests/tools/test_gate.py::test_with_approval_human_an_agents_word_is_no_yes",),
    ),
    Mutant(
        "a client that can ask relays",
        _POLICY,
        '    if caller.asks and (own or deps.approval == "auto"):',
        "    if caller.asks and own:",
        (f"{_ASKED}::test_one_question_to_the_person_leads_to_a_machine_and_the_agent_asks_nothing",),
    ),
    Mutant(
        "an earlier yes outlives a no",
        _POLICY,
        "        if item.open_at(now) and no.ends(item)",
        "        if False",
        (f"{_ASKED}::test_a_no_ends_an_earlier_yes_to_the_very_same",),
    ),
    Mutant(
        "a yes to an earlier proposal outlives a no to rent",
        _POLICY,
        "        if item.open_at(now) and no.ends(item)",
        "        if item.open_at(now) and no.ends(item) and item.digest == no.digest",
        (
            f"{_NOES}::test_a_no_to_rent_ends_the_yes_of_its_workflow_to_an_earlier_proposal",
            f"{_NOES}::test_a_no_to_a_start_at_another_price_ends_the_yes_to_the_earlier_one",
        ),
    ),
    Mutant(
        "a machine that was declined comes in by the question to rent",
        _WORKFLOW,
        "        return (self.digest, *map(keep_mark, self.shown_active))",
        "        return (self.digest,)",
        (f"{_NOES}::test_a_machine_that_was_not_wanted_beside_takes_their_own_yes_in_the_next_question_too",),
    ),
    Mutant(
        "an agent says yes to a question of yesterday",
        _CONFIRMING,
        "    if not asked_at <= now < asked_at + CONFIRMATION_LIFE_S:",
        "    if False:",
        (f"{_NOES}::test_a_reported_yes_to_a_question_of_yesterday_is_none",),
    ),
    Mutant(
        "each asking has the same code",
        _WORDS,
        'f"{nonce}\\0{about}\\0{digest}"',
        'f"{about}\\0{digest}"',
        (f"{_ANSWERS}::test_an_old_answer_is_none_to_the_same_proposal_made_again",),
    ),
    Mutant(
        "a second answer is a second yes",
        _CONFIRMING,
        "        waiting = current.question(question.code)\n",
        "        waiting = current.question(question.code) or question\n",
        (f"{_ANSWERS}::test_two_answers_at_once_are_one_yes",),
    ),
    Mutant(
        "a late answer counts",
        _CONFIRMING,
        "        if not waiting.open_at(deps.clock.now()):",
        "        if False:",
        (f"{_ANSWERS}::test_an_answer_after_half_an_hour_is_none",),
    ),
    Mutant(
        "a code stands for what was not in its question",
        _POLICY,
        "waiting is not None and unchanged(waiting, question) and",
        "waiting is not None and",
        (
            f"{_APPROVE}::test_a_code_is_not_good_for_a_machine_that_came_after_its_question",
            f"{_APPROVE}::test_a_code_stands_for_one_text",
            f"{_ANSWERS}::test_an_answer_to_a_text_that_was_renewed_is_none",
        ),
    ),
    Mutant(
        "a balance that fell is told as before",
        _WORDS,
        " or not waiting.balance.near(newer.balance):",
        ":",
        (f"{_APPROVE}::test_a_code_stands_for_one_text",),
    ),
    Mutant(
        "a question that is shown again lives on",
        _POLICY,
        '("text", "balance", "code", "asked_at")',
        '("text", "balance", "code")',
        (f"{_APPROVE}::test_a_question_that_is_shown_again_is_as_old_as_before",),
    ),
    Mutant(
        "a call that was cut short leaves no trace",
        _CLIENT,
        "await asking.note_no(deps, asked.told.workflow_id, question, caller_of(ctx).unanswered, said=False)",
        "pass",
        (f"{_ANSWERS}::test_a_call_that_is_cut_short_while_the_person_is_asked_confirms_nothing",),
    ),
    Mutant(
        "a question that nobody answers leaves no trace",
        _CLIENT,
        "    await asking.note_put(deps, asked.told.workflow_id, question)\n",
        "",
        (
            f"{_OPEN}::test_a_question_that_was_dropped_takes_no_agents_yes_also_after_a_restart",
            f"{_OPEN}::test_while_the_person_thinks_no_agent_says_yes",
        ),
    ),
    Mutant(
        "a proposal forgets that a question was not answered",
        "server/vastai_workflow/steps/dialog.py",
        "        unanswered=current.unanswered,\n",
        "        unanswered=(),\n",
        (f"{_OPEN}::test_a_question_that_was_dropped_takes_no_agents_yes_also_after_a_restart",),
    ),
    Mutant(
        "a question about a machine waits for its answer in one workflow alone",
        _WORKFLOW,
        "for item in (self, *others) for mark in item.unanswered",
        "for item in (self,) for mark in item.unanswered",
        (f"{_OPEN}::test_what_is_done_to_a_machine_waits_for_the_person_in_every_workflow",),
    ),
    Mutant(
        "no sign of life while the person is asked",
        _CLIENT,
        "        await ctx.report_progress(beat, beats, ",
        "        print(beat, beats, ",
        (f"{_ANSWERS}::test_the_old_era_hears_every_ten_seconds_that_its_user_is_being_asked",),
    ),
    Mutant(
        "the person is asked for ever",
        _CLIENT,
        "    asking_now.cancel()\n",
        "    await anyio.sleep_forever()\n",
        (f"{_ANSWERS}::test_a_person_who_does_not_answer_in_half_an_hour_agreed_to_nothing",),
    ),
    Mutant(
        "nothing typed at the terminal is no no",
        "server/vastai_workflow/cli/approve.py",
        "question, typed or None, BY)",
        "question, typed, BY)",
        (f"{_APPROVE}::test_nothing_and_no_decline_and_then_no_agent_says_yes",),
    ),
    Mutant(
        "an empty field of the page is the word nothing",
        _PAGE,
        'given.get("value", "")',
        'given.get("value", "nothing")',
        (f"{_BY_PAGE}::test_an_empty_field_is_never_the_value_that_is_asked_for",),
    ),
    Mutant(
        "a key file named no can't be agreed to",
        _APPROVING,
        "(not is_no(typed) or fits(question, typed))",
        "not is_no(typed)",
        (f"{_APPROVE}::test_a_key_file_with_the_name_of_a_no_is_agreed_to_by_its_name",),
    ),
    Mutant(
        "a terminal's no is forgotten",
        _APPROVING,
        "    await note_no(deps, workflow.workflow_id, question, by, said=True)\n",
        "",
        (f"{_APPROVE}::test_nothing_and_no_decline_and_then_no_agent_says_yes",),
    ),
    Mutant(
        "the page takes an answer from any page",
        _PAGE,
        'not _same(given.get("token", ""), self.door.token())',
        "False",
        (f"{_BY_PAGE}::test_an_answer_from_elsewhere_is_none",),
    ),
    Mutant(
        "the page answers to any name",
        _PAGE,
        'if request.headers.get("host") != self.address:',
        "if False:",
        (f"{_BY_PAGE}::test_an_answer_from_elsewhere_is_none",),
    ),
    Mutant(
        "the page's cookie goes to every server of this machine",
        _PAGE,
        'path=f"/{self.door.room}/", httponly',
        'path="/", httponly',
        (f"{_BY_PAGE}::test_the_cookie_is_for_this_page_alone",),
    ),
    Mutant(
        "any page lets a browser in",
        _PAGE,
        """            return wrong
        cookie = self""",
        """            pass
        cookie = self""",
        (f"{_BY_PAGE}::test_no_other_page_lets_a_browser_in",),
    ),
    Mutant(
        "questions that are too old are shown",
        _APPROVING,
        "        if question.open_at(now)\n",
        "",
        (f"{_BY_PAGE}::test_an_answer_that_comes_too_late_says_what_the_person_can_do",),
    ),
    Mutant(
        "an earlier yes answers a later question",
        _CONFIRMING,
        " and given.at >= question.asked_at",
        "",
        (f"{_APPROVE}::test_an_earlier_yes_is_no_answer_to_a_later_question_that_was_replaced",),
    ),
    Mutant(
        "a code that is too old is named again",
        _POLICY,
        "unchanged(waiting, question) and waiting.open_at(deps.clock.now()):",
        "unchanged(waiting, question):",
        (f"{_APPROVE}::test_a_question_that_is_shown_again_is_as_old_as_before",),
    ),
    Mutant(
        "a simulated market is as late as its oldest question",
        "server/vastai_workflow/cli/approve.py",
        "VirtualClock(max(asked))",
        "VirtualClock(min(asked))",
        (f"{_APPROVE}::test_a_simulated_market_is_as_late_as_its_newest_question",),
    ),
    Mutant(
        "a no right before an agent's yes to rent is not seen",
        _CONFIRMING,
        "        require_relayed(deps, caller, current, (*current.rent_marks, *map(keep_mark, told.acknowledge)))\n",
        "",
        (f"{_MEANWHILE}[_rent]",),
    ),
    Mutant(
        "a no right before an agent's yes to keep a machine is not seen",
        _CONFIRMING,
        "(*current.rent_marks, *map(keep_mark, told.acknowledge)))",
        "current.rent_marks)",
        (f"{_MEANWHILE}[_keep]",),
    ),
    Mutant(
        "a no right before an agent's yes to a key source is not seen",
        _CONFIRMING,
        "        require_relayed(deps, caller, current, (key_mark(current.value(KEY_FIELD)),))\n",
        "",
        (f"{_MEANWHILE}[_key]",),
    ),
    Mutant(
        "a no right before an agent's yes of its own is not seen",
        _CONFIRMING,
        "current.with_marks_of(seen), question.marks)",
        "seen, question.marks)",
        (f"{_MEANWHILE}[_purpose]",),
    ),
    Mutant(
        "the page's secret is good twice",
        _PAGE,
        "if self._inside or self._tries",
        "if self._tries",
        (f"{_BY_PAGE}::test_nobody_gets_in_without_the_secret_nor_with_it_a_second_time",),
    ),
)
