"""From spawn to the first answer, as a ratio to a bare SDK server with one tool (`bench/bare.py`); the goal is 1.10.

Pairs alternate, so that what else the machine does falls on both. The ratio is the median over the pairs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

GOAL: Final = 1.10
CLIENT: Final = {"name": "bench", "version": "1"}
META: Final = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
FIRST_MESSAGES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "2025-11-25 initialize": (
        "initialize",
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT},
    ),
    "2026-07-28 server/discover": ("server/discover", {"_meta": META}),
    "2026-07-28 tools/list": ("tools/list", {"_meta": META}),
}
BARE: Final = [sys.executable, str(Path(__file__).with_name("bare.py"))]
OURS: Final = [sys.executable, "-m", "vastai_workflow"]


def first_answer(command: list[str], message: bytes, folder: str) -> float:
    """Seconds from spawn to a good answer."""
    environment = {"HOME": folder, "VASTAI_WORKFLOW_STATE": folder}
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise SystemExit("no pipes")
        process.stdin.write(message)
        process.stdin.flush()
        line = process.stdout.readline()
        took = time.perf_counter() - started
        process.stdin.close()
    if "result" not in json.loads(line):
        raise SystemExit(f"{command} answers {line!r}")
    return took


def ratio(message: bytes, folder: str, pairs: int) -> float:
    ratios: list[float] = []
    for number in range(-1, pairs):  # the first pair warms the disk's cache
        first, second = (OURS, BARE) if number % 2 else (BARE, OURS)
        took = {tuple(command): first_answer(command, message, folder) for command in (first, second)}
        if number >= 0:
            ratios.append(took[tuple(OURS)] / took[tuple(BARE)])
    return median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        for name, (method, params) in FIRST_MESSAGES.items():
            message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n"
            print(f"{name:28} {ratio(message.encode(), folder, pairs):.2f} x a bare server (goal: {GOAL:.2f})")


if __name__ == "__main__":
    main()
