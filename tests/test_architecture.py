"""The house's rules, read from the source."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "server" / "vastai_workflow"
ROOT = "vastai_workflow"
MAX_LINES = 400

ADAPTERS = ("vast", "access", "store")
MAY_IMPORT = {
    "domain": {"domain"},
    "steps": {"domain", "steps"},
    "tools": {"domain", "steps", "tools"},
    **{adapter: {"domain", "steps.ports", adapter} for adapter in ADAPTERS},
    "simulator": {"simulator"},
    "settings": {"domain"},
    "server": {"domain", "steps", "tools", "settings", "server"},
    "cli": {"domain", "steps", "tools", "settings", "server", *ADAPTERS, "simulator", "cli"},
    "__main__": {"cli"},
    "__init__": set[str](),
}
"""What a room may import of the project: a room, or one module of it."""

OUTSIDE_WORLD = {
    *("anyio", "asyncio", "asyncssh", "filelock", "httpx", "mcp", "platformdirs", "starlette", "uvicorn"),
    *(
        "os",
        "random",
        "secrets",
        "shutil",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "threading",
        "time",
        "urllib.request",
    ),
}
"""What the pure domain does without."""

HEAVY = ("httpx", "asyncssh", "starlette.applications", "sqlite3", "uvicorn")
LIGHT = ("vastai_workflow.server", "vastai_workflow.settings", "vastai_workflow.steps.ports")
"""What must start fast: modules that load nothing heavy, beyond what `mcp.server` loads where they import it."""

MODULES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
TESTS = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((PROJECT / "tests").rglob("*.py"))}


def name_of(path: Path) -> str:
    """`steps.ports` for steps/ports.py, `steps` for steps/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path) for path in MODULES}


def imported(path: Path, tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in the file, in full; names of a package count as modules if they are."""
    package = [ROOT, *path.relative_to(PACKAGE).parent.parts] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner.removeprefix(f"{ROOT}.") in NAMES or module == "unittest" else module


def of_the_project(path: Path, tree: ast.Module) -> Iterator[str]:
    return (name.removeprefix(f"{ROOT}.") for name in imported(path, tree) if name.startswith(f"{ROOT}."))


def within(name: str, allowed: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in allowed)


def found_in(trees: dict[Path, ast.Module], *places: str) -> list[tuple[Path, ast.Module]]:
    return [(path, tree) for path, tree in trees.items() if within(name_of(path), set(places))]


def where(path: Path, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
    return f"{path.relative_to(PROJECT)}:{node.lineno}"


def test_each_room_imports_only_what_lies_below_it() -> None:
    strange = [
        f"{name_of(path)} imports {name}"
        for path, tree in MODULES.items()
        for name in of_the_project(path, tree)
        if not within(name, MAY_IMPORT[name_of(path).split(".")[0]])
    ]
    assert strange == []


def test_the_domain_is_pure() -> None:
    impure = [
        f"{name_of(path)} imports {name}"
        for path, tree in found_in(MODULES, "domain")
        for name in imported(path, tree)
        if within(name, OUTSIDE_WORLD)
    ]
    assert impure == []


def test_the_readers_of_imports_see_every_form() -> None:
    tree = ast.parse(
        "import vastai_workflow.store.sqlite as a\n"
        "from vastai_workflow.steps import ports, nothing\n"
        "from vastai_workflow import simulator\n"
        "from . import errors\n"
        "from ..vast.client import Client\n"
        "def late():\n    from vastai_workflow.tools import render\n"
    )
    assert list(of_the_project(PACKAGE / "domain" / "x.py", tree)) == [
        "store.sqlite",
        "steps.ports",
        "steps",
        "simulator",
        "domain.errors",
        "vast.client",
        "tools.render",
    ]


def test_modules_fit_a_readers_head() -> None:
    long = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines >= MAX_LINES} == {}


def test_every_module_says_its_job_in_one_sentence() -> None:
    first_lines = {name_of(path): (ast.get_docstring(tree) or "").partition("\n")[0] for path, tree in MODULES.items()}
    assert [name for name, line in first_lines.items() if not line.endswith(".")] == []


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert [name for name in NAMES if drawers & set(name.split("."))] == []


def test_fakes_are_working_peers() -> None:
    mocked = [
        str(path.relative_to(PROJECT))
        for path, tree in TESTS.items()
        for name in imported(path, tree)
        if within(name, {"unittest.mock", "mock", "pytest_mock"})
    ]
    assert mocked == []


def test_tests_do_not_wait_for_the_wall_clock() -> None:
    sleeps = {"time.sleep", "asyncio.sleep", "anyio.sleep"}
    waiting = [
        where(path, node)
        for path, tree in TESTS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in sleeps and ast.unparse(node) != "asyncio.sleep(0)"
    ]
    assert waiting == []


def test_nothing_is_printed_where_the_protocol_speaks() -> None:
    printing = [
        where(path, node)
        for path, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert printing == []


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Bare, `Exception` or `BaseException`, unless it ends in a bare `raise`: that one only cleans up."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in kinds)
    last = handler.body[-1]
    return broad and not (isinstance(last, ast.Raise) and last.exc is None)


def test_only_the_servers_boundary_catches_everything() -> None:
    with_a_reason = re.compile(r"# noqa: BLE001\W+\w.{9,}")
    caught = [
        where(path, node)
        for path, tree in MODULES.items()
        if name_of(path) != "server"
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
        if not with_a_reason.search(path.read_text(encoding="utf-8").splitlines()[node.lineno - 1])
    ]
    assert caught == []


def test_the_environment_is_read_on_the_command_line_only() -> None:
    readers = re.compile(r"\b(environb?|getenvb?)\b")
    reading = [
        where(path, node)
        for path, tree in MODULES.items()
        if not within(name_of(path), {"cli", "settings"})
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os" and readers.fullmatch(node.attr))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and readers.search(ast.unparse(node)))
    ]
    assert reading == []


def loaded_by(module: str) -> set[str]:
    """Which heavy modules a fresh interpreter has after an import."""
    code = f"import json, sys, {module}; json.dump([name for name in {HEAVY!r} if name in sys.modules], sys.stdout)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)  # noqa: S603  # our own code
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", LIGHT)
def test_what_must_start_fast_loads_nothing_heavy(module: str) -> None:
    extra = loaded_by(module)
    assert not extra or extra <= loaded_by("mcp.server")
