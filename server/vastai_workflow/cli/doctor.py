"""`vastai-workflow doctor`: checks what the server will need, and says what to do about what is missing."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from vastai_workflow.domain.errors import WorkflowError

if TYPE_CHECKING:
    from vastai_workflow.steps.deps import Deps

Check = Callable[["Deps"], Awaitable[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--key", default="env:VAST_API_KEY", help="key source to check (default: env:VAST_API_KEY)")
    parser.add_argument("--store", metavar="FOLDER", help="where the ledger is (default: the user's state folder)")


def run(args: argparse.Namespace) -> int:
    """0 when all is well, 1 when something needs a hand."""
    from vastai_workflow.cli.wiring import RealMarket  # noqa: PLC0415 # --help starts without it
    from vastai_workflow.settings import Settings  # noqa: PLC0415 # the same

    settings = Settings.from_environment(os.environ, state=args.store)
    sys.stdout.write(f"ok    settings: {settings.vast_url}, approval {settings.approval}, ledger in {settings.state}\n")
    return asyncio.run(_check_all(RealMarket(settings, dict(os.environ)), args.key))


async def _check_all(market: "RealMarketLike", source: str) -> int:
    deps = await market.make()
    checks: dict[str, Check] = {
        "ledger": _ledger,
        "SSH key": _ssh_key,
        "account": lambda found: _account(found, source),
        "machines": lambda found: _machines(found, source),
    }
    failed: list[str] = []
    for name, check in checks.items():
        if name == "machines" and "account" in failed:
            continue  # it would only say the same again
        try:
            sys.stdout.write(f"ok    {name}: {await check(deps)}\n")
        except WorkflowError as error:
            failed.append(name)
            sys.stdout.write(f"FAIL  {name}: {error.sentence}\n")
    await market.close(deps)
    return 1 if failed else 0


async def _ledger(deps: "Deps") -> str:
    from vastai_workflow.domain.ledger import UNSETTLED  # noqa: PLC0415 # with the others

    unsettled = await deps.store.orders(states=tuple(UNSETTLED))
    return f"{len(unsettled)} unsettled orders"


async def _ssh_key(deps: "Deps") -> str:
    key = await deps.keys.resolve(None)
    where = "without its private half here" if key.private_key_path is None else f"private half {key.private_key_path}"
    return f"{key.fingerprint}, {where}"


async def _account(deps: "Deps", source: str) -> str:
    from vastai_workflow.domain.label import label_for  # noqa: PLC0415 # with the others

    account = await (await deps.markets.open(source)).account()
    return f"{label_for(account)!r}, balance {account.credit}"


async def _machines(deps: "Deps", source: str) -> str:
    instances = await (await deps.markets.open(source)).instances()
    return f"{len(instances)} on the account"


if TYPE_CHECKING:
    from vastai_workflow.cli.wiring import RealMarket as RealMarketLike
