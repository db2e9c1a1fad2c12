"""Every promise has a test, and every mark names a promise."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import REQUIREMENTS

TESTS = Path(__file__).parent


def marks_in(path: Path) -> Iterator[str]:
    """The ids of `pytest.mark.requirement(...)` on test functions and classes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.requirement":
                    yield ast.literal_eval(decorator.args[0])


@pytest.fixture(scope="module")
def marked() -> dict[str, list[str]]:
    """The files that mark each id."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for requirement in marks_in(path):
            found.setdefault(requirement, []).append(path.name)
    return found


def test_every_requirement_has_a_test(marked: dict[str, list[str]]) -> None:
    assert sorted(REQUIREMENTS.keys() - marked.keys()) == []


def test_every_mark_names_a_requirement(marked: dict[str, list[str]]) -> None:
    assert {name: files for name, files in marked.items() if name not in REQUIREMENTS} == {}


@pytest.mark.parametrize("sentence", REQUIREMENTS.values(), ids=REQUIREMENTS)
def test_a_requirement_is_one_sentence(sentence: str) -> None:
    assert sentence.endswith(".")
    assert ". " not in sentence
