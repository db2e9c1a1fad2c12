"""The mutation check itself: what it calls caught, survived, broken and stale, in a project of three lines."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.runner import Fate, Mutant, UnfitError, check, check_all, copy_of, judge, judge_all, table

TEST = "test_tiny.py::test_double"
TINY = Mutant("three for two", "server/vastai_workflow/__init__.py", "2 * x", "3 * x", (TEST,))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose package has the name of ours, as a copy has."""
    package = tmp_path / "project" / "server" / "vastai_workflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def double(x):\n    return 2 * x  # twice\n")
    (tmp_path / "project" / "test_tiny.py").write_text(
        "from vastai_workflow import double\n\n\ndef test_double():\n    assert double(2) == 4\n"
    )
    (tmp_path / "project" / ".git").mkdir()
    return copy_of(tmp_path / "project", tmp_path / "copy")


def test_a_break_that_a_test_notices_is_caught_and_the_text_is_put_back(project: Path) -> None:
    verdict = judge(TINY, project)
    assert (verdict.fate, verdict.by) == (Fate.CAUGHT, "test_tiny.py::test_double")
    assert judge(replace(TINY, new="2 * x + 0"), project).fate is Fate.SURVIVED
    check(project, [TEST])


def test_a_break_that_no_test_notices_survives(project: Path) -> None:
    harmless = replace(TINY, name="x + x", new="x + x")
    [verdict] = judge_all([harmless], [project], lambda _: None)
    assert verdict.fate is Fate.SURVIVED
    assert list(table([verdict])) == ["SURVIVED  x + x  all its tests pass"]


@pytest.mark.parametrize("old", ["4 * x", " "])
def test_a_text_that_is_gone_or_there_twice_makes_a_mutant_stale(project: Path, old: str) -> None:
    assert judge(replace(TINY, old=old), project).fate is Fate.STALE


def test_a_break_that_keeps_the_tests_from_running_is_not_caught(project: Path) -> None:
    assert judge(replace(TINY, new="2 *"), project).fate is Fate.BROKEN
    assert judge(replace(TINY, tests=("test_tiny.py::test_nothing",)), project).fate is Fate.BROKEN


def test_tests_that_fail_without_a_mutant_catch_nothing(project: Path) -> None:
    (project / "test_tiny.py").write_text("def test_double():\n    assert False\n")
    with pytest.raises(UnfitError, match="without any mutant"):
        check_all([TINY], [project])


def test_a_copy_that_imports_another_server_is_no_copy(project: Path, tmp_path: Path) -> None:
    (project / "server" / "vastai_workflow" / "__init__.py").unlink()
    (project / "server" / "vastai_workflow").rmdir()
    with pytest.raises(UnfitError, match="allowed its own"):
        check(project, [TEST])


def test_what_is_made_or_installed_is_not_copied(project: Path) -> None:
    assert not (project / ".git").exists()


def test_every_mutant_has_a_name_of_its_own_and_breaks_something() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30
    assert all(mutant.old != mutant.new and mutant.tests for mutant in MUTANTS)
