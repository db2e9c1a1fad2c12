"""Each bad host is told by how far it came, why, and one sentence; in time, whatever it sends."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import asyncssh
import pytest

from tests.access.bad_hosts import BAD_HOSTS, INSTANCE_ID, PLENTY_S, BadHost
from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.access.probe import SshProber
from vastai_workflow.steps.ports import LocalKey, ProbeTarget


@pytest.fixture(params=BAD_HOSTS, ids=[one.__name__ for one in BAD_HOSTS])
async def bad_host(
    request: pytest.FixtureRequest,
    local_key: LocalKey,
    host_keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey],
    hosts: KnownHosts,
) -> AsyncGenerator[BadHost]:
    host: BadHost = request.param(local_key.public_key, host_keys[0], hosts)
    yield host
    await host.close()


def pass_time(seconds: float) -> None:
    """Let so much time pass at once on the running event loop: no test waits, and a slow machine decides nothing."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds


@pytest.mark.requirement("SSH-5")
async def test_a_bad_host_is_told_truly_and_in_time_and_used_once_it_is_well(
    bad_host: BadHost, hosts: KnownHosts, local_key: LocalKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    address = await bad_host.start()
    prober = SshProber(hosts)
    target = ProbeTarget(INSTANCE_ID, (address,), local_key, "RTX 4090", 1, 24564, local_market=True)
    for _ in range(max(bad_host.well_after, 1)):
        looking = asyncio.create_task(prober.probe(target, timeout_s=PLENTY_S))
        if bad_host.silent:
            await bad_host.mute.wait()
            pass_time(PLENTY_S)
        report = await looking
        assert (report.stage, report.reason) == (bad_host.stage, bad_host.reason)
        assert report.detail == bad_host.told()
        assert (report.host, report.port) == address
    if bad_host.well_after:
        assert (await prober.probe(target, timeout_s=PLENTY_S)).stage == "gpu_ok"
    assert caplog.text == ""


@pytest.mark.requirement("SSH-5")
def test_every_reason_that_a_look_can_end_with_has_its_line_in_the_reference(reference: str) -> None:
    assert {one.reason for one in BAD_HOSTS if f"`{one.reason}`" not in reference} == set()


@pytest.fixture
def reference() -> str:
    return (Path(__file__).parents[2] / "references" / "ssh.md").read_text()
