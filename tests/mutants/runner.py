"""Runs mutants: each alone in a copy of the project, against the tests that are to catch it.

A mutant is caught when one of its tests fails. The same tests have to pass in an unbroken copy, so that nothing is
caught by a test that fails anyway; a copy has to import its own `server/`; a text that is gone makes a mutant stale.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Final

LEFT_OUT: Final = (".git", ".venv", "build", "dist", "node_modules", "__pycache__", ".*_cache", "*.egg-info")
_PATIENCE_S: Final = 120.0
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_WHERE: Final = "import vastai_workflow; print(vastai_workflow.__file__)"


class Fate(StrEnum):
    """What became of a mutant. Only `caught` is good: `broken` tests did not run, `stale` was not applied."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"
    STALE = "STALE"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One break. `old` stands exactly once in `file` (a path in the project); `tests` are pytest's node ids."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A mutant's fate, and the first test that failed, or why there is none."""

    mutant: Mutant
    fate: Fate
    by: str


class UnfitError(Exception):
    """The check itself can't be trusted: a test fails without a mutant, or a copy imports another server."""


def copy_of(project: Path, folder: Path) -> Path:
    """The project without what is made or installed."""
    return Path(shutil.copytree(project, folder, ignore=shutil.ignore_patterns(*LEFT_OUT)))


def stale(mutant: Mutant, project: Path) -> str | None:
    """Why a mutant can't be applied; None where it can."""
    path = project / mutant.file
    times = path.read_text("utf-8").count(mutant.old) if path.is_file() else 0
    return None if times == 1 else f"its text stands {times} times in {mutant.file}, allowed once"


def check(copy: Path, tests: Sequence[str]) -> None:
    """The copy imports its own server, and the tests pass in it; UnfitError where not."""
    found = _python(copy, "-c", _WHERE).stdout.strip()
    if not Path(found).resolve().is_relative_to(copy.resolve()):
        raise UnfitError(f"the copy in {copy} imports {found or 'nothing'}, allowed its own server/")
    done = _pytest(copy, tests)
    if done.returncode != 0:
        raise UnfitError(f"tests fail without any mutant:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


def judge(mutant: Mutant, copy: Path) -> Verdict:
    """Apply a mutant to a copy, run its tests, and put the text back."""
    if why := stale(mutant, copy):
        return Verdict(mutant, Fate.STALE, why)
    path = copy / mutant.file
    text = path.read_text("utf-8")
    _write(path, text.replace(mutant.old, mutant.new))
    try:
        done = _pytest(copy, mutant.tests)
    except subprocess.TimeoutExpired:
        return Verdict(mutant, Fate.BROKEN, f"no end within {_PATIENCE_S:.0f} s")
    finally:
        _write(path, text)
    if done.returncode == 0:
        return Verdict(mutant, Fate.SURVIVED, "all its tests pass")
    first = _FAILED.search(done.stdout)
    if done.returncode != 1 or first is None:
        return Verdict(mutant, Fate.BROKEN, f"pytest ended with {done.returncode}: {done.stdout[-300:].strip()}")
    return Verdict(mutant, Fate.CAUGHT, first.group(1).rpartition("/")[2])


def judge_all(mutants: Sequence[Mutant], copies: Sequence[Path], heard: Callable[[Verdict], None]) -> list[Verdict]:
    """Judge them all, one at a time in each copy, in the order given; `heard` is told each as it comes."""
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(mutant: Mutant) -> Verdict:
        copy = free.get()
        try:
            verdict = judge(mutant, copy)
        finally:
            free.put(copy)
        heard(verdict)
        return verdict

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(one, mutants))


def check_all(mutants: Sequence[Mutant], copies: Sequence[Path]) -> None:
    """Run every test that a mutant names once without any, in turn over the copies; UnfitError where one fails."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    shares = [tests[at :: len(copies)] for at in range(min(len(copies), len(tests)))]
    with ThreadPoolExecutor(len(copies)) as pool:
        list(pool.map(check, copies, shares))


def table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """One line a mutant."""
    width = max((len(verdict.mutant.name) for verdict in verdicts), default=0)
    for verdict in verdicts:
        yield f"{verdict.fate:8}  {verdict.mutant.name:{width}}  {verdict.by}"


def _pytest(copy: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    options = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--override-ini=addopts=")
    return _python(copy, "-m", "pytest", *options, *tests)


def _python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a copy. Its `server/` comes before an editable install, which stands at the end of the path."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "server")}
    command = [sys.executable, *arguments]
    return subprocess.run(  # noqa: S603 # our own interpreter
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )


def _write(path: Path, text: str) -> None:
    """Write a module and forget its compiled form, which may look fresh within one second."""
    path.write_text(text, "utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
