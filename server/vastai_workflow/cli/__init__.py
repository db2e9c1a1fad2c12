"""The command line: one module a command; without a command it serves on stdio."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "serve": "the MCP server on stdio (the default)",
    "simulate": "the Vast.ai market on this machine, for trying and testing",
    "demo": "the main job, from the first question to the verified end, on a simulated market",
    "approve": "answer your agent's question yourself, on your own terminal",
    "settle": "find out what became of every order, and say what is still unknown",
    "log": "every yes, order, destroy and refusal on record, the newest last",
    "doctor": "check settings, key, account, SSH key and ledger",
}


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(prog="vastai-workflow", description="Rent GPUs on Vast.ai through an agent.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        import_module(f"vastai_workflow.cli.{name}").add_arguments(command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what the user can mend is said in a sentence, with exit code 2."""
    from vastai_workflow.domain.errors import WorkflowError  # noqa: PLC0415 # --help starts without it

    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help"}):
        given = ["serve", *given]
    args = parser().parse_args(given)
    try:
        code: int = import_module(f"vastai_workflow.cli.{args.command}").run(args)
    except WorkflowError as error:
        sys.stderr.write(f"vastai-workflow: {error.sentence}\n")
        return 2
    return code
