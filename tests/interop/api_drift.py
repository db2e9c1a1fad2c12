"""What changed in the provider's API, as far as the newest official client shows it: `make api-drift`.

The client's source is read, never run: its calls are compared with those on record, and with our table of endpoints.
The standard library and pip do it. Ends with 1 where something changed; `--write` puts the new calls on record.
"""

import argparse
import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from zipfile import ZipFile

from vastai_workflow.vast.endpoints import ENDPOINTS

PACKAGE: Final = "vastai"
RECORD: Final = Path(__file__).parent / "data" / "official-calls.txt"
_METHODS: Final = ("get", "post", "put", "delete", "patch")
_VERSIONED: Final = re.compile(r"/api/v\d+/")
_ADDRESS: Final = re.compile(r"[^\s/?]*(/api/v\d+/[\w/{}.-]*)(?:\?\S*)?")
_MENTIONED: Final = "ANY"


@dataclass(frozen=True)
class Calls:
    """A release of the client and its calls: `METHOD /api/vN/path/`, ids as `{}`, ANY where only the path is told."""

    release: str
    calls: frozenset[str]

    @classmethod
    def of_wheel(cls, wheel: Path) -> Self:
        """Read a downloaded wheel."""
        with ZipFile(wheel) as archive:
            sources = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")]
        calls = frozenset(call for source in sources for call in calls_in(source))
        return cls(wheel.name.split("-")[1], _without_mere_mentions(calls))

    @classmethod
    def on_record(cls) -> Self:
        """The release that was looked at last."""
        release, *calls = RECORD.read_text("utf-8").splitlines()
        return cls(release, frozenset(calls))

    def write(self) -> None:
        """Put them on record."""
        RECORD.write_text("".join(f"{line}\n" for line in (self.release, *sorted(self.calls, key=_by_path))), "utf-8")

    def has(self, method: str, path: str) -> bool:
        """Whether this call is made, or its path told without a method."""
        return not self.calls.isdisjoint({f"{method} {path}", f"{_MENTIONED} {path}"})


def calls_in(source: str) -> Iterator[str]:
    """Every call in a Python source whose path stands there, and every string that is such a path with its version."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            path = _text(node.args[0]) if node.args else ""
            if path.startswith("/"):
                yield f"{node.func.attr.upper()} {path if _VERSIONED.match(path) else f'/api/v0{path}'}"
        elif isinstance(node, ast.Constant | ast.JoinedStr) and (found := _ADDRESS.fullmatch(_text(node))):
            yield f"{_MENTIONED} {found[1]}"


def changes(before: Calls, now: Calls) -> list[str]:
    """What is new, what is gone, and which of our calls the client no longer makes; a line each."""
    lines = [f"new: {call}" for call in sorted(now.calls - before.calls, key=_by_path)]
    lines += [f"gone: {call}" for call in sorted(before.calls - now.calls, key=_by_path)]
    for endpoint in ENDPOINTS:
        path = endpoint.url_path().replace("None", "{}")
        if before.has(endpoint.method, path) and not now.has(endpoint.method, path):
            lines.append(f"OURS: {endpoint.name}, {endpoint.method} {path}, is no longer called")
    return lines


def download(requirement: str, folder: Path) -> Path:
    """The wheel of a release, by the ordinary pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), requirement], check=True)  # noqa: S603 # pip of this Python
    return next(folder.glob("*.whl"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the newest release with the record."""
    parser = argparse.ArgumentParser(description="Compare the newest official client's calls with those on record.")
    parser.add_argument("--write", action="store_true", help="put its calls on record")
    wanted = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        now = Calls.of_wheel(download(PACKAGE, Path(folder)))
    if wanted.write and not RECORD.exists():
        now.write()
    before = Calls.on_record()
    lines = changes(before, now)
    sys.stdout.write(f"{PACKAGE} {before.release} on record, {now.release} is the newest: {len(lines)} changes\n")
    sys.stdout.writelines(f"  {line}\n" for line in lines)
    if wanted.write:
        now.write()
    return 1 if lines and not wanted.write else 0


def _text(node: ast.expr) -> str:
    """A string as it stands, with `{}` for what is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "{}" if isinstance(node, ast.FormattedValue) else ""


def _without_mere_mentions(calls: frozenset[str]) -> frozenset[str]:
    """A path that is called needs no mention beside it."""
    called = {call.partition(" ")[2] for call in calls if not call.startswith(_MENTIONED)}
    return frozenset(call for call in calls if not call.startswith(_MENTIONED) or call.partition(" ")[2] not in called)


def _by_path(call: str) -> tuple[str, str]:
    method, _, path = call.partition(" ")
    return path, method


if __name__ == "__main__":
    sys.exit(main())
