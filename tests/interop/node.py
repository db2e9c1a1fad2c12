"""Programs from the Node registry, with a Node of their own, in a folder of their own."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = (
    "node@22",
    "@modelcontextprotocol/inspector@2.12.0",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/client@2.4.0",
)
INSTALL_S = 600
TIMEOUT_S = 120


@dataclass(frozen=True)
class NodePackages:
    """Where they are."""

    place: Path

    @classmethod
    def installed(cls, place: Path, packages: Sequence[str] = PACKAGES) -> "NodePackages":
        """Newly installed by the npm of this machine; everything else runs on the Node that came along, if one did."""
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages]
        subprocess.run(command, cwd=place, check=True, timeout=INSTALL_S, stdin=subprocess.DEVNULL)  # noqa: S603 # fixed words
        return cls(place)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the programs in its folder, with a home of its own."""
        modules = self.place / "node_modules"
        programs = os.pathsep.join([str(modules / "node" / "bin"), str(modules / ".bin"), os.environ["PATH"]])
        return subprocess.run(  # noqa: S603 # a program that was installed above
            [program, *arguments],
            cwd=self.place,
            env={"PATH": programs, "HOME": str(self.place), "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
