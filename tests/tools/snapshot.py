"""The listed tools as a file: `python -m tests.tools.snapshot` writes it anew, a test compares it."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.stack import stack

FILE = Path(__file__).parent / "data" / "tools.json"


async def listed() -> list[dict[str, Any]]:
    """Every tool as a client of the server sees it."""
    async with stack() as s:
        tools = (await s.client.list_tools()).tools
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]


def write() -> None:
    """Write the snapshot."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(asyncio.run(listed()), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write()
