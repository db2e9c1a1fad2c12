import re
from pathlib import Path

import pytest

from tests.skill import rendered
from vastai_workflow.domain.errors import CATALOGUE
from vastai_workflow.domain.gate import RULES, STAGES, Stage


@pytest.mark.parametrize("name", rendered.BLOCKS)
def test_the_document_shows_what_the_code_says(name: str) -> None:
    _, render = rendered.BLOCKS[name]
    assert rendered.shown(name) == render(), "run: make docs"


def test_no_document_has_a_block_that_nobody_renders() -> None:
    documents = [*rendered.PROJECT.glob("*.md"), *(rendered.PROJECT / "references").glob("*.md")]
    texts = [path.read_text("utf-8") for path in documents]
    marks = [mark for text in texts for mark in re.findall(r"^<!-- (\w+) -->$", text, re.MULTILINE)]
    assert sorted(marks) == sorted(rendered.BLOCKS)


def test_the_diagram_has_every_stage_and_every_move() -> None:
    moves = {
        (stage.value, leads.value)
        for stage, events in STAGES.items()
        for leads in events.values()
        if isinstance(leads, Stage) and leads is not stage
    }
    arrows = set(re.findall(r"^ {4}(\w+) --> (\w+): ", rendered.stage_diagram(), re.MULTILINE))
    assert arrows == moves
    assert {stage for move in moves for stage in move} == {stage.value for stage in Stage}


def test_the_tables_are_whole() -> None:
    assert len(rendered.error_table().splitlines()) == 2 + len(CATALOGUE)
    asked = {rule for rules in RULES.values() for rule in rules}
    assert len(rendered.rule_table().splitlines()) == 2 + len(asked)
    assert all(rule.__doc__ for rule in asked)


def test_a_stale_block_is_written_anew_and_the_rest_stays(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("before\n<!-- errors -->\nold \\1\n<!-- /errors -->\nafter\n", "utf-8")
    rendered.write_block(document, "errors", "new \\1")
    rendered.write_block(document, "errors", "new \\1")
    assert document.read_text("utf-8") == "before\n<!-- errors -->\nnew \\1\n<!-- /errors -->\nafter\n"
