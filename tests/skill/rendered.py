"""The generated blocks of the documents, from the code they tell about; `python -m tests.skill.rendered --write`.

A block stands between `<!-- NAME -->` and `<!-- /NAME -->`. Without `--write` it is only compared.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from vastai_workflow.cli import COMMANDS
from vastai_workflow.domain.errors import CATALOGUE
from vastai_workflow.domain.gate import RULES, STAGES, Event, Stage
from vastai_workflow.server import TOOLS
from vastai_workflow.tools.surface import Tool
from vastai_workflow.vast.endpoints import render_table

PROJECT: Final = Path(__file__).parents[2]
_COLUMNS: Final = "100"


def tool_table() -> str:
    """Every registered tool, in the order of the list."""
    rows = [f"| `{tool.function.__name__}` | {tool.title} | {_kind(tool)} |" for tool in TOOLS]
    return "\n".join(["| tool | what it is for | kind |", "|---|---|---|", *rows])


def _kind(tool: Tool) -> str:
    if tool.read_only:
        return "read"
    return "write, destructive" if tool.destructive else "write"


def help_block() -> str:
    """What `--help` prints, for the program and each of its commands."""
    return "\n".join(["```text", *(_help_of(*command) for command in ((), *((name,) for name in COMMANDS))), "```"])


def _help_of(*command: str) -> str:
    line = [sys.executable, "-m", "vastai_workflow", *command, "--help"]
    environment = {**os.environ, "COLUMNS": _COLUMNS, "NO_COLOR": "1"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 # our own program
    return f"$ {' '.join(['vastai-workflow', *command, '--help'])}\n{done.stdout}"


def stage_diagram() -> str:
    """The moves of `STAGES` as a Mermaid diagram; what leaves a stage as it is, or is refused, is no arrow."""
    moves: dict[tuple[Stage, Stage], list[Event]] = {}
    for stage, events in STAGES.items():
        for event, leads in events.items():
            if isinstance(leads, Stage) and leads is not stage:
                moves.setdefault((stage, leads), []).append(event)
    arrows = [f"    {start} --> {end}: {', '.join(events)}" for (start, end), events in moves.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {Stage.PROPOSED}", *arrows, "```"])


def create_table() -> str:
    """What `create_instances` gets in each stage: the one event that spends."""
    answers = {stage: events[Event.CREATE] for stage, events in STAGES.items()}
    rows = [
        f"| `{stage}` | {'the rules of `rent`' if isinstance(leads, Stage) else f'refused: `{leads}`'} |"
        for stage, leads in answers.items()
    ]
    return "\n".join(["| stage | what `create_instances` meets |", "|---|---|", *rows])


def rule_table() -> str:
    """For each purpose, the rules in the order in which they are asked."""
    rules = list(dict.fromkeys(rule for asked in RULES.values() for rule in asked))
    heads = ["rule", *(f"`{purpose}`" for purpose in RULES)]
    rows = [
        [(rule.__doc__ or "").strip().removesuffix("."), *("yes" if rule in asked else "" for asked in RULES.values())]
        for rule in rules
    ]
    return "\n".join([_row(heads), _row(["---"] * len(heads)), *(_row(row) for row in rows)])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def error_table() -> str:
    """Every code with its meaning and what helps."""
    rows = [_row([f"`{code}`", kind.meaning, kind.next_step]) for code, kind in CATALOGUE.items()]
    return "\n".join([_row(["code", "what it means", "what helps"]), _row(["---"] * 3), *rows])


BLOCKS: Final[Mapping[str, tuple[str, Callable[[], str]]]] = {
    "tools": ("README.md", tool_table),
    "help": ("README.md", help_block),
    "stages": ("references/workflow.md", stage_diagram),
    "create": ("references/workflow.md", create_table),
    "rules": ("references/workflow.md", rule_table),
    "errors": ("references/errors.md", error_table),
    "endpoints": ("references/api.md", render_table),
}
"""Every block: the document it stands in, and what makes it."""


def shown(name: str) -> str:
    """A block as the document has it; ValueError where it is missing or there twice."""
    document, _ = BLOCKS[name]
    found = re.findall(_pattern(name), (PROJECT / document).read_text("utf-8"), re.DOTALL)
    if len(found) != 1:
        msg = f"{document}: got {len(found)} blocks {name}, allowed one"
        raise ValueError(msg)
    return str(found[0])


def write_block(path: Path, name: str, body: str) -> None:
    """Put a block's new body between its marks; everything else stays."""
    block = f"<!-- {name} -->\n{body}\n<!-- /{name} -->"
    path.write_text(re.sub(_pattern(name), lambda _: block, path.read_text("utf-8"), flags=re.DOTALL), "utf-8")


def _pattern(name: str) -> str:
    return rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->"


def main() -> int:
    """Compare all blocks, or write them; 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(description="Compare the generated blocks of the documents with the code.")
    parser.add_argument("--write", action="store_true", help="write them anew")
    wanted = parser.parse_args()
    stale = {name: body for name, (_, render) in BLOCKS.items() if shown(name) != (body := render())}
    for name, body in stale.items():
        document, _ = BLOCKS[name]
        if wanted.write:
            write_block(PROJECT / document, name, body)
        sys.stdout.write(f"{document}: block {name} {'written' if wanted.write else 'is stale'}\n")
    return 1 if stale and not wanted.write else 0


if __name__ == "__main__":
    sys.exit(main())
