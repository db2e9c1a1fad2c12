"""The whole server over the simulated market in this process, on one virtual clock; only SSH is a short cut.

`Stack` is what most tests need: a real MCP client of the real server, the real client of the API over an in-process
transport, the real store in memory. `ShortcutProber` stands for SSH: it looks at the simulated machine itself.
"""

import hashlib
import itertools
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx
from mcp.client import Client
from mcp.client.session import ElicitationFnT
from mcp.types import CallToolResult
from starlette.applications import Starlette

from vastai_workflow.domain.caps import Caps
from vastai_workflow.server import REFUSAL_META, WorkflowServer, build_server
from vastai_workflow.simulator.app import build_app
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World
from vastai_workflow.steps.calls import note
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.ports import Clock, Keys, LocalKey, Prober, ProbeReport, ProbeTarget
from vastai_workflow.store.sqlite import SqliteStore
from vastai_workflow.vast.key_sources import VastMarkets

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl tester"
QUICK = Switches(loading_s=6.0)
"""Images are small here, so that fewer looks lead to a machine."""
Era = Literal["auto", "legacy"]
ERAS: tuple[Era, Era] = ("auto", "legacy")
"""The client's default is the modern protocol; `legacy` shakes hands as of 2025-11-25."""


class FixedKeys:
    """One SSH key, known by its blob."""

    async def resolve(self, value: str | None) -> LocalKey:
        """The given public key, or the usual one."""
        text = value or PUBLIC_KEY
        return LocalKey(text, self.fingerprint(text), Path("id"))

    def fingerprint(self, public_key: str) -> str:
        """Made of the blob alone."""
        hashed = hashlib.sha256(public_key.split()[1].encode()).digest()
        return f"SHA256:{b64encode(hashed).decode().rstrip('=')}"

    def same(self, one: str, other: str) -> bool:
        """Same type and blob."""
        return one.split()[:2] == other.split()[:2]


class ShortcutProber:
    """Says what an SSH login would find, by looking at the simulated machine."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.targets: list[ProbeTarget] = []
        self.reports: list[ProbeReport] = []
        """Answers to give first, oldest first, at the machine's address if they have one; then the truth."""
        self.forgotten: list[int] = []
        self.lost: set[int] = set()
        """Machines whose pin is gone until the next login."""

    @property
    def known_hosts_file(self) -> Path:
        """No file is written."""
        return Path("known_hosts")

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:  # noqa: ARG002 # the port's
        """Log in with the key that the machine has, or not."""
        self.targets.append(target)
        if self.reports:
            report = self.reports.pop(0)
            host, port = target.addresses[0]
            return report if report.host is None else replace(report, host=host, port=port)
        machine = self.world.instances.get(target.instance_id)
        if machine is None or machine.actual != "running":
            return ProbeReport("none", reason="refused", detail="nothing listens")
        blobs = {key.public_key.split()[1] for key in machine.ssh_keys.values()}
        host, port = target.addresses[0]
        if target.key.public_key.split()[1] not in blobs:
            return ProbeReport("port_open", host, port, reason="auth_refused", detail="the key is not accepted")
        self.lost.discard(target.instance_id)
        return ProbeReport("gpu_ok", host, port, host_key_fingerprint="SHA256:host")

    async def is_pinned(self, instance_id: int, fingerprint: str | None) -> bool:  # noqa: ARG002 # the port's
        """Unless the file was lost."""
        return instance_id not in self.lost

    async def forget(self, instance_id: int) -> bool:
        """Remember what was forgotten."""
        self.forgotten.append(instance_id)
        return True


@dataclass
class Stack:
    """A running client and all that stands behind it."""

    client: Client
    server: WorkflowServer
    deps: Deps
    world: World
    clock: VirtualClock
    prober: ShortcutProber
    app: Any
    environment: dict[str, str]
    caller: Caller = field(default_factory=lambda: Caller("local", "tester"))

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a call that has to succeed."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, text_of(result)
        assert result.structured_content is not None
        return result.structured_content

    async def refusal(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The refusal of a call that has to be refused: code, message, missing, ask_user, next_call."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, text_of(result)
        assert result.structured_content is None
        assert result.meta is not None
        return result.meta[REFUSAL_META]

    async def agreed(self, **fields: Any) -> str:
        """A workflow whose fields have the user's yes; answers its id."""
        proposal = await self.call("propose_fields", **fields)
        await self.call("confirm_fields", workflow_id=proposal["workflow_id"], digest=proposal["digest"])
        return proposal["workflow_id"]

    async def rented(self, **fields: Any) -> tuple[str, list[int]]:
        """A workflow with its machines rented; answers its id and theirs."""
        workflow_id = await self.agreed(**fields)
        plan = await self.call("find_offers", workflow_id=workflow_id)
        made = await self.call("create_instances", workflow_id=workflow_id, plan_id=plan["plan_id"])
        return workflow_id, [order["instance_id"] for order in made["orders"] if order["state"] == "rented"]

    async def ready(self, **fields: Any) -> tuple[str, list[int]]:
        """The same, waited for."""
        workflow_id, machines = await self.rented(**fields)
        waited = await self.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
        assert [item["readiness"] for item in waited["instances"]] == ["gpu_ok"] * len(machines)
        return workflow_id, machines

    def creates_sent(self) -> int:
        """How often the market was asked to rent."""
        return self.world.requests["create"]

    def running(self) -> list[int]:
        """The machines that the market bills now, whatever anybody believes."""
        return sorted(self.world.instances)


def text_of(result: CallToolResult) -> str:
    """What a model that sees only text would read."""
    return "\n".join(block.text for block in result.content if block.type == "text")


class _Host:
    """A server that serves one stack after another: registering the tools takes longer than most tests."""

    def __init__(self) -> None:
        self.serves: tuple[Deps, Callable[[Deps], Awaitable[None]]] | None = None
        self.server = build_server(self._make, self._close)

    async def _make(self) -> Deps:
        assert self.serves is not None
        return self.serves[0]

    async def _close(self, deps: Deps) -> None:
        assert self.serves is not None
        await self.serves[1](deps)


class _Hosts:
    """Servers that are built; no two stacks that live at once share one."""

    def __init__(self) -> None:
        self._idle: list[_Host] = []

    @contextmanager
    def one(self, deps: Deps, close: Callable[[Deps], Awaitable[None]]) -> Generator[WorkflowServer]:
        """A server over these dependencies."""
        host = self._idle.pop() if self._idle else _Host()
        host.serves = deps, close
        yield host.server
        self._idle.append(host)  # after a failure it is not used again


_HOSTS = _Hosts()
_LATER_IDS = itertools.count(10**6, 10**6)
"""Where the ids of a further server on a ledger begin."""


@asynccontextmanager
async def stack(  # noqa: PLR0913 # what tests vary, each by its name
    *faults: Fault,
    era: Era = "auto",
    folder: Path | None = None,
    seed: int = 1,
    offers: int = 40,
    switches: Switches | None = None,
    caps: Caps | None = None,
    store: SqliteStore | None = None,
    world: World | None = None,
    clock: VirtualClock | None = None,
    own_clock: Clock | None = None,
    approval: Literal["human", "relayed", "auto"] = "auto",
    transport_to: Callable[[Starlette], httpx.AsyncBaseTransport] = SimulatedTransport,
    keys: Keys | None = None,
    real_prober: Prober | None = None,
    person: ElicitationFnT | None = None,
    pause: Callable[[float], Awaitable[None]] = anyio.sleep,
    approve_with: Callable[[str], str] = "vastai-workflow approve {}".format,
) -> AsyncGenerator[Stack]:
    """A fresh market and server; pass `world`, `clock` and `store` of another stack for a second server beside it.

    `person`: who answers where the client can ask; without one it can't. `own_clock`: the server's, where it is not the
    market's.
    """
    clock = clock or VirtualClock()
    world = world or World(seed, now=clock.now, offers=offers, switches=switches or QUICK)
    app = build_app(world, faults, clock=clock)
    prober = ShortcutProber(world)
    environment = {"VAST_API_KEY": world.api_key}
    ids = iter(range(1 if store is None else next(_LATER_IDS), 10**9))
    home = folder or Path("/nonexistent")

    def transport() -> httpx.AsyncBaseTransport:
        return transport_to(app)

    own_clock = own_clock or clock
    markets = VastMarkets(
        environment=environment,
        cwd=home,
        home=home,
        clock=own_clock,
        base_url="http://127.0.0.1:1",
        transport=transport,
        answers_dir=folder,
        on_call=note,
    )
    deps = Deps(
        clock=own_clock,
        store=store or SqliteStore(":memory:", clock=clock),
        markets=markets,
        keys=keys or FixedKeys(),
        prober=real_prober or prober,
        caps=caps or Caps(),
        new_id=lambda size: f"{next(ids):0{size}d}",
        approval=approval,
        pause=pause,
        approve_with=approve_with,
    )

    async def close(_: Deps) -> None:
        await markets.aclose()

    failed: Exception | None = None
    with _HOSTS.one(deps, close) as server:
        async with Client(server, mode=era, elicitation_callback=person) as client:
            try:
                yield Stack(client, server, deps, world, clock, prober, app, environment)
            except Exception as error:  # noqa: BLE001 # raised again below: the client's task group would wrap it
                failed = error
    if failed is not None:
        raise failed
