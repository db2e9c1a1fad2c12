"""`vastai-workflow simulate`: the Vast.ai market on a loopback port, until it is told to stop."""

import argparse
import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING

from vastai_workflow.cli.serve import speed

if TYPE_CHECKING:
    from vastai_workflow.simulator.faults import Fault

_LAST_PORT = 65_535


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= _LAST_PORT):
        msg = f"got {text}, allowed: 0 to {_LAST_PORT}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--port", type=_port, default=0, help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--seed", type=int, default=1, help="the market's seed (default: 1)")
    parser.add_argument("--speed", type=speed, default=1.0, help="how much faster than real time (default: 1)")
    parser.add_argument("--offers", type=int, default=60, help="number of offers (default: 60)")
    parser.add_argument(
        "--competitors", type=float, default=0.0, metavar="N", help="rentals by others an hour (default: 0)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[:k=v]...",
        help="a scheduled fault, for example drop_reply:operation=create:nth=3 (may be given several times)",
    )
    parser.add_argument("--list-faults", action="store_true", help="print the faults and their settings, and stop")
    parser.add_argument("--no-ssh", action="store_true", help="give instances addresses that nothing answers on")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 2 for arguments that cannot be."""
    from vastai_workflow.simulator import faults as catalogue  # noqa: PLC0415 - other commands start without it

    if args.list_faults:
        for name, rule in sorted(catalogue.FAULTS.items()):
            settings = "".join(f":{key}={value}" for key, value in rule.settings.items())
            sys.stdout.write(f"{name}{settings} ({rule.operation}): {rule.about}\n")
        return 0
    try:
        faults = [catalogue.Fault.parse(text) for text in args.fault]
    except ValueError as error:
        sys.stderr.write(f"vastai-workflow simulate: {error}\n")
        return 2
    return asyncio.run(_serve(args, faults))


async def _serve(args: argparse.Namespace, faults: "list[Fault]") -> int:
    from vastai_workflow.simulator.clock import ScaledClock  # noqa: PLC0415 - other commands start without it
    from vastai_workflow.simulator.service import running  # noqa: PLC0415 - as above
    from vastai_workflow.simulator.world import World  # noqa: PLC0415 - as above

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        clock = ScaledClock(args.speed)
        world = World(args.seed, now=clock.now, offers=args.offers, competitors_per_hour=args.competitors)
        async with running(world, clock, port=args.port, faults=faults, ssh=not args.no_ssh) as service:
            greeting = {"url": service.url, "api_key": service.api_key, "seed": args.seed}
            sys.stdout.write(json.dumps(greeting) + "\n")
            sys.stdout.flush()
            await stop.wait()
    except (ValueError, OSError) as error:
        sys.stderr.write(f"vastai-workflow simulate: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="vastai-workflow simulate", description=__doc__)
    add_arguments(_parser)
    sys.exit(run(_parser.parse_args()))
