"""Which adapter stands behind which port: the real ones, or the simulator on a loopback port of this process.

Everything heavy is imported when a call first needs it, so that the server answers its first message at once.
"""

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vastai_workflow.settings import Settings, default_state

if TYPE_CHECKING:
    from vastai_workflow.steps.deps import Deps
    from vastai_workflow.steps.ports import Clock

SIMULATED_KEY: Final = "VAST_API_KEY"


def new_id(size: int) -> str:
    """Random text from `size` random bytes."""
    return secrets.token_urlsafe(size)


class RealMarket:
    """The provider itself."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment

    async def make(self) -> "Deps":
        """Build the adapters; nothing is opened or sent yet."""
        from vastai_workflow.cli.clock import SystemClock  # noqa: PLC0415 # as said above

        return adapters(self._settings, self._environment, SystemClock(), Path.home())

    async def close(self, deps: "Deps") -> None:
        """Close connections."""
        await deps.markets.aclose()


class SimulatedMarket:
    """A market in this process, on a loopback port, with a ledger and an SSH key of its own that go with it."""

    def __init__(self, settings: Settings, *, seed: int, speed: float) -> None:
        self._settings = settings
        self._seed = seed
        self._speed = speed
        self._stack = AsyncExitStack()

    async def make(self) -> "Deps":
        """Start the market at the first call."""
        from vastai_workflow.simulator.clock import ScaledClock  # noqa: PLC0415 # as said above
        from vastai_workflow.simulator.service import running  # noqa: PLC0415 # as said above
        from vastai_workflow.simulator.world import World  # noqa: PLC0415 # as said above

        clock = ScaledClock(self._speed)
        service = await self._stack.enter_async_context(running(World(self._seed, now=clock.now), clock))
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vastai-workflow-")))
        settings = replace(self._settings, vast_url=service.url, state=folder)
        deps = adapters(settings, {SIMULATED_KEY: service.api_key}, clock, folder)
        return replace(deps, approve_with=approve_with(folder, "--simulated"))

    async def close(self, deps: "Deps") -> None:
        """Stop the market and remove its ledger."""
        await deps.markets.aclose()
        await self._stack.aclose()


def approve_with(state: Path, *more: str) -> Callable[[str], str]:
    """The whole command that answers the question of a code: this Python, since its programs may be on no path."""
    folder = [] if state == default_state() else ["--store", str(state)]

    def command(code: str) -> str:
        words = [sys.executable, "-m", "vastai_workflow", "approve", code, *folder, *more]
        return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)

    return command


def adapters(settings: Settings, environment: Mapping[str, str], clock: "Clock", home: Path) -> "Deps":
    """The steps' dependencies over the real adapters."""
    from vastai_workflow.access.keys import SshKeys  # noqa: PLC0415 # as said above
    from vastai_workflow.access.known_hosts import KnownHosts  # noqa: PLC0415 # as said above
    from vastai_workflow.access.probe import SshProber  # noqa: PLC0415 # as said above
    from vastai_workflow.steps.calls import note  # noqa: PLC0415 # as said above
    from vastai_workflow.steps.deps import Deps  # noqa: PLC0415 # as said above
    from vastai_workflow.store.sqlite import SqliteStore  # noqa: PLC0415 # as said above
    from vastai_workflow.vast.key_sources import VastMarkets  # noqa: PLC0415 # as said above

    known_hosts = KnownHosts(settings.state / "known_hosts")
    return Deps(
        clock=clock,
        store=SqliteStore(settings.state, clock=clock),
        markets=VastMarkets(
            environment=environment,
            cwd=Path.cwd(),
            home=home,
            clock=clock,
            base_url=settings.vast_url,
            on_call=note,
        ),
        keys=SshKeys(home=home, state_dir=settings.state),
        prober=SshProber(known_hosts, agent_path=environment.get("SSH_AUTH_SOCK")),
        caps=settings.caps,
        new_id=new_id,
        approval=settings.approval,
        approve_with=approve_with(settings.state),
    )
