"""Stands between a client and its server on stdio, passes every line on, and keeps a copy of what was said.

`python tap.py FILE COMMAND...`; standard library only, since other people's clients start it, wherever they are.
"""

import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import IO


def passed_on(source: IO[bytes], sink: IO[bytes], file: IO[bytes], who: bytes) -> None:
    """Each line to the other side, and into the file as `who`, a tab, and the line."""
    for line in iter(source.readline, b""):
        file.write(who + b"\t" + line)
        sink.write(line)
        sink.flush()
    sink.close()


def main() -> int:
    """The server's exit code; the file is added to, since some clients start a server for each call."""
    place, *command = sys.argv[1:]
    with (
        Path(place).open("ab", buffering=0) as file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server,  # noqa: S603 # the client's words
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        given = (sys.stdin.buffer, server.stdin, file, b"client")
        Thread(target=passed_on, args=given, daemon=True).start()  # a client may keep its end open
        passed_on(server.stdout, sys.stdout.buffer, file, b"server")
        return server.wait()


if __name__ == "__main__":
    sys.exit(main())
