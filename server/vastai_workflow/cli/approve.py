"""`vastai-workflow approve`: answer your agent's question yourself, on your own terminal."""

import argparse
import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vastai_workflow.steps.deps import Deps

AGREED: Final = 0
NOT_AGREED: Final = 1
BY: Final = "you, on the terminal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("code", metavar="CODE", help="the question's code, which your agent tells you")
    parser.add_argument("--store", metavar="FOLDER", help="where the ledger is (default: the user's state folder)")
    parser.add_argument("--simulated", action="store_true", help="the ledger is that of a simulated market")


def run(args: argparse.Namespace) -> int:
    """0 where you agreed, 1 where you did not."""
    from vastai_workflow.cli.terminal import ask  # noqa: PLC0415 # --help starts without it
    from vastai_workflow.cli.wiring import RealMarket  # noqa: PLC0415 # the same
    from vastai_workflow.settings import Settings  # noqa: PLC0415 # the same

    market = RealMarket(Settings.from_environment(os.environ, state=args.store), dict(os.environ))

    async def work() -> int:
        deps = await market.make()
        try:
            return await approve(await _on_its_clock(deps, args.code) if args.simulated else deps, args.code, ask)
        finally:
            await market.close(deps)

    return asyncio.run(work())


async def approve(deps: "Deps", code: str, ask: "Callable[[str], str]") -> int:
    """Show the question, take the value that it names, and say what came of it."""
    from vastai_workflow.cli.terminal import tell  # noqa: PLC0415 # with the others
    from vastai_workflow.domain.asking import FORMS  # noqa: PLC0415 # with the others
    from vastai_workflow.domain.errors import Refusal  # noqa: PLC0415 # with the others
    from vastai_workflow.steps import approving  # noqa: PLC0415 # with the others
    from vastai_workflow.tools.surface import LOCAL_OWNER  # noqa: PLC0415 # with the others

    workflow, question = await approving.by_code(deps, LOCAL_OWNER, code)
    typed = ask(
        f"{question.text}\nTo agree, type {FORMS[question.form]}: {question.answer}\n"
        f"Nothing, or no, declines.\n{FORMS[question.form]}:"
    )
    try:
        agreed = await approving.answer(deps, workflow, question, typed, BY)
    except Refusal as refusal:
        if refusal.code != "wrong_answer":
            raise
        tell(f"{refusal.message}. Run the command again to answer.")
        return NOT_AGREED
    tell("agreed: tell your agent to go on" if agreed else "declined: nothing was confirmed, nothing was spent")
    return AGREED if agreed else NOT_AGREED


async def _on_its_clock(deps: "Deps", code: str) -> "Deps":
    """A simulated market has a faster clock, in another process: the question's own time stands for it."""
    from vastai_workflow.simulator.clock import VirtualClock  # noqa: PLC0415 # with the others
    from vastai_workflow.tools.surface import LOCAL_OWNER  # noqa: PLC0415 # with the others

    found = [
        question
        for workflow in await deps.store.workflows(LOCAL_OWNER)
        if (question := workflow.question(code)) is not None
    ]
    return replace(deps, clock=VirtualClock(found[0].asked_at)) if found else deps
