"""The curl templates of `references/api.md`, run by a real shell against the market on this machine."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.vast.test_endpoints import SHELL_BLOCKS
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.service import running
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.world import World

BROKEN = ["empty_body", "truncated_json", "html_body", "drop_reply", "http_error_after_effect"]
HELPERS, *STEPS = SHELL_BLOCKS
ON_THE_MARKET_S_CLOCK = """
sleep() { curl --silent --output /dev/null --data "{\\"seconds\\": $1}" "$VAST_URL/__sim__/advance"; }
date() {
  curl --silent --data '{"seconds": 0}' "$VAST_URL/__sim__/advance" |
    python3 -c 'import json, sys; print(int(json.load(sys.stdin)["now"]))'
}
"""


async def shell(script: str, url: str, key: str, folder: Path) -> tuple[int, str, str]:
    """Run a script; gives its exit code, output and errors."""
    environment = {"PATH": os.environ["PATH"], "VAST_URL": url, "VAST_API_KEY": key}
    environment |= {"HOME": str(folder), "TMPDIR": str(folder)}
    process = await asyncio.create_subprocess_exec(
        "sh",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, errors = await process.communicate(f"{HELPERS}\n{ON_THE_MARKET_S_CLOCK}\n{script}".encode())
    return process.returncode or 0, out.decode(), errors.decode()


def step(words: str) -> str:
    """The template in which some words stand."""
    (found,) = [block for block in STEPS if words in block]
    return found


@pytest.mark.slow
async def test_a_machine_lives_and_ends_by_the_templates(tmp_path: Path) -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, switches=Switches(limits=False))
    (tmp_path / ".ssh").mkdir()
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGh3Y2FuYWRhZG9lc25vdGV4aXN0YXRhbGxvaGRlYXI me@example\n"
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(key)
    rent = step("v0/asks/").replace("ASK=123", """ASK=$(field "$found" 'a["offers"][0]["ask_contract_id"]')""")
    script = "\nset -e\n".join(
        [
            step("users/current"),
            step("bundles"),
            rent,
            "sleep 60",
            "instances",
            step("public_ipaddr"),
            step("KEY_BODY"),
            step('"stopped"').replace("\nonce", "\nsleep 60\nonce"),
            "sleep 60",
            step("request_logs"),
            "sleep 3600",
            step("DELETE"),
            step("charges"),
        ]
    )
    async with running(world, clock, ssh=False) as service:
        code, out, errors = await shell(script, service.url, service.api_key, tmp_path)
    assert (code, errors) == (0, "")
    (machine,) = world.past
    assert f"instance {machine.id}" in out
    assert f"{machine.id} running" in out
    assert "\ngone\n" in out
    assert f"('instance-{machine.id}'" in out
    assert world.requests["create"] == 1
    assert service.api_key not in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["empty_body", "truncated_json", "html_body", "drop_reply", "http_error_after_effect"]
)
async def test_a_broken_answer_is_asked_for_once_more_and_a_create_is_not(tmp_path: Path, fault: str) -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, switches=Switches(limits=False))
    faults = [Fault(fault, operation="create"), Fault(fault, operation="list")]
    offer = min(one.id for one in world.market.free_asks())
    async with running(world, clock, faults=faults, ssh=False) as service:
        create = step("v0/asks/").replace("ASK=123", f"ASK={offer}")
        _, out, errors = await shell(create, service.url, service.api_key, tmp_path)
        assert "instance" not in out
        assert "kept in" in errors
        clock.advance(120)
        code, out, errors = await shell("instances", service.url, service.api_key, tmp_path)
    assert (code, len(out.splitlines())) == (0, 1), errors
    assert (world.requests["create"], world.requests["list"]) == (1, 2)


@pytest.mark.slow
async def test_a_refusal_ends_the_chain(tmp_path: Path) -> None:
    clock = VirtualClock()
    world = World(1, now=clock.now, switches=Switches(limits=False))
    async with running(world, clock, ssh=False) as service:
        code, out, errors = await shell(step("users/current"), service.url, "f" * 64, tmp_path)
    assert code != 0
    assert out == ""
    assert "auth_error" in errors
    assert set(world.requests.values()) == {1}
