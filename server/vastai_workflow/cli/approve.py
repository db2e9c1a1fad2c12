"""`vastai-workflow approve`: answer your agent's question yourself, on your own terminal."""

import argparse
import asyncio
import base64
import os
import secrets
import socket
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
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("code", metavar="CODE", nargs="?", help="the question's code, which your agent tells you")
    which.add_argument("--page", action="store_true", help="answer all questions in a browser on this machine")
    parser.add_argument("--store", metavar="FOLDER", help="where the ledger is (default: the user's state folder)")
    parser.add_argument("--simulated", action="store_true", help="the ledger is that of a simulated market")


def run(args: argparse.Namespace) -> int:
    """0 where you agreed, 1 where you did not."""
    from vastai_workflow.cli.terminal import ask  # noqa: PLC0415 # --help starts without it
    from vastai_workflow.cli.wiring import RealMarket  # noqa: PLC0415 # the same
    from vastai_workflow.domain.errors import Refusal  # noqa: PLC0415 # the same
    from vastai_workflow.settings import Settings  # noqa: PLC0415 # the same
    from vastai_workflow.store.folder import LEDGER  # noqa: PLC0415 # the same

    settings = Settings.from_environment(os.environ, state=args.store)
    if not args.page and not (settings.state / LEDGER).is_file():
        raise Refusal(
            "no_such_question",
            f"no ledger is in {settings.state}, so nothing was asked there",
            next_step="give the folder that your agent's command names: --store FOLDER",
        )
    market = RealMarket(settings, dict(os.environ))

    async def work() -> int:
        deps = await market.make()
        if args.simulated:
            deps = await _on_its_clock(deps)
        try:
            return await _page(deps) if args.page else await approve(deps, args.code, ask)
        finally:
            await market.close(deps)

    try:
        return asyncio.run(work())
    except KeyboardInterrupt:  # Ctrl-C ends the page, and answers no question
        return AGREED if args.page else NOT_AGREED


async def approve(deps: "Deps", code: str, ask: "Callable[[str], str]") -> int:
    """Show the question, take the value that it names, and say what came of it."""
    from vastai_workflow.cli.terminal import tell  # noqa: PLC0415 # with the others
    from vastai_workflow.domain.asking import FORMS  # noqa: PLC0415 # with the others
    from vastai_workflow.domain.errors import Refusal  # noqa: PLC0415 # with the others
    from vastai_workflow.steps import approving  # noqa: PLC0415 # with the others
    from vastai_workflow.tools.surface import LOCAL_OWNER  # noqa: PLC0415 # with the others

    workflow, question = await approving.by_code(deps, LOCAL_OWNER, code, BY)
    declines = "Nothing" if approving.is_no(question.answer) else "Nothing, or no,"
    typed = ask(
        f"{question.text}\nTo agree, type {FORMS[question.form]}: {question.answer}\n"
        f"{declines} declines.\n{FORMS[question.form]}:"
    )
    try:
        agreed = await approving.answer(deps, workflow, question, typed or None, BY)
    except Refusal as refusal:
        if refusal.code != "wrong_answer":
            raise
        tell(f"{refusal.message}. Run the command again to answer.")
        return NOT_AGREED
    tell("agreed: tell your agent to go on" if agreed else "declined: nothing was confirmed, nothing was spent")
    return AGREED if agreed else NOT_AGREED


async def _on_its_clock(deps: "Deps") -> "Deps":
    """A simulated market has a faster clock, in another process: its newest question says what time it is there."""
    from vastai_workflow.simulator.clock import VirtualClock  # noqa: PLC0415 # with the others
    from vastai_workflow.tools.surface import LOCAL_OWNER  # noqa: PLC0415 # with the others

    workflows = await deps.store.workflows(LOCAL_OWNER)
    asked = [question.asked_at for workflow in workflows for question in workflow.questions]
    return replace(deps, clock=VirtualClock(max(asked))) if asked else deps


async def _page(deps: "Deps") -> int:
    """Serve the approval page on the loopback interface until the person stops it."""
    import uvicorn  # noqa: PLC0415 # heavy, and only here

    from vastai_workflow.cli.terminal import show  # noqa: PLC0415 # with the others
    from vastai_workflow.tools.approval_page import ApprovalPage, Door  # noqa: PLC0415 # starlette is heavy
    from vastai_workflow.tools.surface import LOCAL_OWNER  # noqa: PLC0415 # with the others

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        door = Door(base64.b32encode(secrets.token_bytes(10)).decode().lower(), deps.new_id)
        show(f"Open http://{address}/ and type this secret there: {door.secret}\nCtrl-C ends it.")
        app = ApprovalPage(deps, LOCAL_OWNER, door, address).app()
        await uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off")).serve([listening])
    return AGREED
