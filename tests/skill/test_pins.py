import re
import tomllib
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.skill.rendered import PROJECT

METADATA: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = METADATA["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for lines in (METADATA["dependencies"], *EXTRAS.values()) for line in lines]
PINS = (PROJECT / "constraints.txt").read_text("utf-8").splitlines()


def test_every_dependency_has_an_upper_bound() -> None:
    open_ended = [one.name for one in REQUIREMENTS if not any(s.operator in {"<", "==", "~="} for s in one.specifier)]
    assert open_ended == []


def test_pins_are_names_and_versions_and_nothing_else() -> None:
    assert [line for line in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)] == []


def test_what_was_tested_is_what_is_allowed() -> None:
    pinned = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in PINS)}
    outside = [one.name for one in REQUIREMENTS if pinned.get(canonicalize_name(one.name), "none") not in one.specifier]
    assert outside == []
