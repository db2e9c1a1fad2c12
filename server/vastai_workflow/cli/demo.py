"""`vastai-workflow demo`: the main job on a simulated market, through a real MCP client and the real stdio server."""

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vastai_workflow.cli.serve import speed

if TYPE_CHECKING:
    from mcp.client import Client

_SPEED = 30.0
_MOST_REPEATS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end, and nothing else")
    parser.add_argument("--seed", type=int, default=1, help="the market's seed (default: 1)")
    parser.add_argument("--speed", type=speed, default=_SPEED, help=f"times real time (default: {_SPEED:g})")


def run(args: argparse.Namespace) -> int:
    """0 when the machine was rented, seen ready, and seen to be gone; else 1, and `problem` says why."""
    show = Show(quiet=args.json)
    started = time.monotonic()
    outcome = asyncio.run(_drive(show, seed=args.seed, speed=args.speed))
    outcome["seconds"] = round(time.monotonic() - started, 1)
    if args.json:
        sys.stdout.write(json.dumps(outcome) + "\n")
    else:
        end = outcome.get("problem") or f"final state: {outcome['final_state']}"
        show.line(f"\n{outcome['tool_calls']} tool calls, {outcome['seconds']} s, {end}.")
    return 0 if outcome["ok"] else 1


@dataclass
class Show:
    """What a person sees of the dialog."""

    quiet: bool
    calls: int = field(default=0)

    def line(self, text: str) -> None:
        """A line on stdout, unless only the JSON is wanted."""
        if not self.quiet:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    def say(self, who: str, text: str) -> None:
        """Somebody's words."""
        first, *rest = text.splitlines() or [""]
        self.line(f"{who:>9}  {first}")
        for more in rest:
            self.line(f"{'':>9}  {more}")


async def _drive(show: Show, *, seed: int, speed: float) -> dict[str, Any]:
    from mcp.client import Client  # noqa: PLC0415 # other commands start without it
    from mcp.client.stdio import StdioServerParameters  # noqa: PLC0415 # the same

    command = ["-m", "vastai_workflow", "serve", "--simulate", "--seed", str(seed), "--speed", str(speed)]
    inherited = {name: value for name, value in os.environ.items() if name != "VAST_API_KEY"}
    server = StdioServerParameters(command=sys.executable, args=command, env=inherited)
    outcome: dict[str, Any] = {
        "ok": False,
        "tool_calls": 0,
        "instances": [],
        "readiness": None,
        "ssh": None,
        "cost_usd": None,
        "final_state": None,
    }
    async with Client(server) as client:
        try:
            await _main_job(client, show, outcome)
        except StoppedError as stopped:
            outcome["problem"] = str(stopped)
    outcome["ok"] = outcome["readiness"] == "gpu_ok" and outcome["final_state"] == "gone"
    outcome["tool_calls"] = show.calls
    return outcome


class StoppedError(Exception):
    """The job can't go on; the sentence says why."""


async def _main_job(client: "Client", show: Show, outcome: dict[str, Any]) -> None:
    show.say("user", "I need a 4090.")
    show.say("", "(an agent would now try to rent at once: the server refuses)")
    await _tried(client, show, "create_instances", {"workflow_id": "wf_none", "plan_id": "p_none"})
    proposal = await _call(client, show, "propose_fields", {"gpu_name": "RTX 4090"})
    workflow = {"workflow_id": proposal["workflow_id"]}
    await _tried(client, show, "create_instances", {**workflow, "plan_id": "p_none"})
    show.say("agent", proposal["questions"][0])
    show.say("user", "Yes.")
    await _call(client, show, "confirm_fields", {**workflow, "digest": proposal["digest"]})
    offers = await _call(client, show, "find_offers", workflow)
    await _to_the_end(client, show, "create_instances", {**workflow, "plan_id": offers["plan_id"]})
    waited = await _to_the_end(client, show, "wait_until_ready", workflow)
    if not waited["instances"]:
        raise StoppedError("nothing was rented")
    machine = waited["instances"][0]
    ssh: dict[str, Any] = machine["ssh"] or {}
    outcome["instances"] = [item["instance_id"] for item in waited["instances"]]
    outcome["readiness"] = machine["readiness"]
    outcome["ssh"] = {key: ssh.get(key) for key in ("host", "port", "user")}
    show.say("agent", f"Your machine answers: {ssh.get('command')}")
    show.say("user", "Thanks, I am done with it.")
    ended = await _call(client, show, "destroy_instances", {"instance_ids": [machine["instance_id"]]})
    end = ended["instances"][0]
    outcome["cost_usd"] = end["cost_usd"]
    outcome["final_state"] = end["final_state"]


async def _to_the_end(client: "Client", show: Show, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Calls are bounded: repeat one as long as its answer says so."""
    for _ in range(_MOST_REPEATS):
        answer = await _call(client, show, tool, arguments)
        if not answer["next_call"] or answer["next_call"]["tool"] != tool:
            return answer
    raise StoppedError(f"{tool} did not end")


async def _call(client: "Client", show: Show, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The structured answer of a call that has to succeed."""
    answer, text = await _tried(client, show, tool, arguments)
    if answer is None:
        raise StoppedError(f"{tool} was refused: {text}")
    return answer


async def _tried(
    client: "Client", show: Show, tool: str, arguments: dict[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    """Call a tool and show what a person would see of it; a refusal has a text only."""
    show.calls += 1
    told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    show.say("calls", f"{tool}({told})")

    seen: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        line = f"{progress:g}/{total or 0:g} {message or ''}"
        if line not in seen[-1:]:
            seen.append(line)
            show.say("...", line)

    result = await client.call_tool(tool, arguments, progress_callback=on_progress)
    text = next((block.text for block in result.content if block.type == "text"), "")
    show.say("refused" if result.is_error else "server", text)
    return result.structured_content, text
