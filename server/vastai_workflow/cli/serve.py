"""`vastai-workflow serve` (and no command at all): the MCP server on stdio."""

import argparse
import gc
import math
import os

DEFAULT_SPEED = 10.0


def speed(text: str) -> float:
    """How many times faster than real time a simulated market runs, from the command line: a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        msg = f"got {text}, allowed: a number of more than 0"
        raise argparse.ArgumentTypeError(msg)
    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    where = parser.add_mutually_exclusive_group()  # a simulated market's ledger goes with it
    where.add_argument("--simulate", action="store_true", help="rent on a simulated market: costs nothing")
    where.add_argument("--store", metavar="FOLDER", help="where the ledger is (default: the user's state folder)")
    parser.add_argument("--seed", type=int, default=1, help="with --simulate: the market's seed (default: 1)")
    parser.add_argument(
        "--speed", type=speed, default=DEFAULT_SPEED, help=f"with --simulate: times real time ({DEFAULT_SPEED:g})"
    )
    parser.add_argument("--approval", choices=("human", "relayed", "auto"), help="whose yes counts (default: auto)")
    parser.add_argument("--read-only", action="store_true", help="refuse every write")


def run(args: argparse.Namespace) -> int:
    """Serve until the client hangs up."""
    from vastai_workflow.settings import Settings  # noqa: PLC0415 # --help starts without it

    settings = Settings.from_environment(os.environ, state=args.store, approval=args.approval, read_only=args.read_only)
    gc.disable()  # nothing made while starting is garbage, and looking for some takes a tenth of the time
    from vastai_workflow.cli.wiring import RealMarket, SimulatedMarket  # noqa: PLC0415 # bad settings are told at once
    from vastai_workflow.server import build_server  # noqa: PLC0415 # the same

    market = (
        SimulatedMarket(settings, seed=args.seed, speed=args.speed)
        if args.simulate
        else RealMarket(settings, dict(os.environ))
    )
    server = build_server(market.make, market.close, log_level=settings.log_level)
    gc.freeze()
    gc.enable()
    server.run()
    return 0
