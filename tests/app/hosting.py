"""A host of MCP Apps in headless Chromium, with the real server on stdio behind it, on a simulated market."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.interop.node import NodePackages
from vastai_workflow.simulator.clock import ScaledClock
from vastai_workflow.simulator.renting import rent
from vastai_workflow.simulator.service import Service, running
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.world import World

if TYPE_CHECKING:
    from playwright.async_api import Frame, FrameLocator, Page

PACKAGES: Final = (
    "@modelcontextprotocol/ext-apps@2.0.4",
    "@modelcontextprotocol/client@2.4.0",
    "axe-core@4.14.1",
    "esbuild@0.28.2",
)
HOST: Final = Path(__file__).with_name("host.mjs")
SCREENSHOTS: Final = Path("build/screenshots")
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
_QUIET: Final = (
    "--no-sandbox",  # CI runs as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
)
_ADDRESS: Final = "http://host.test/"
_LONGEST_LINE: Final = 2**22
_FRAME: Final = """<!doctype html><html lang="en"><meta name="color-scheme" content="light dark"><title>host</title>
<style>body{margin:0}iframe{border:0;width:100%;display:block}</style>
<body><script src="host.js"></script></body></html>"""
PATIENCE_S: Final = 60.0


@dataclass(frozen=True)
class Kit:
    """What was installed: the host's script in one piece, and the accessibility checker."""

    host: str
    axe: str

    @classmethod
    def installed(cls, place: Path) -> "Kit":
        """Newly installed from the Node registry, into a folder of its own."""
        node = NodePackages.installed(place, PACKAGES)
        (place / HOST.name).write_text(HOST.read_text())
        built = node.run("esbuild", HOST.name, "--bundle", "--format=iife", "--outfile=host.js", "--log-level=error")
        if built.returncode != 0:
            raise subprocess.SubprocessError(built.stderr)
        return cls((place / "host.js").read_text(), (place / "node_modules/axe-core/axe.min.js").read_text())


@dataclass
class AppHost:
    """A browser window with a host in it, the app's page inside, and the market behind the server."""

    page: "Page"
    market: Service
    clock: ScaledClock
    kit: Kit
    width: int
    requests: list[str]
    """Every request that left a page, whichever; what a policy blocks does not."""
    calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Every tool call that the server was sent."""

    @property
    def app(self) -> "FrameLocator":
        """Inside the frame."""
        return self.page.frame_locator("iframe")

    async def call(self, tool: str, **given: Any) -> dict[str, Any]:
        """The structured answer of a call as the agent makes it."""
        result = await self.page.evaluate("([name, given]) => host.call(name, given)", [tool, given])
        assert not result.get("isError"), result
        return result["structuredContent"]

    async def open(self, tool: str, given: Mapping[str, Any], **options: Any) -> None:
        """Call a tool and show its page with the result."""
        await self.page.evaluate("([name, given, how]) => host.open(name, given, how)", [tool, dict(given), options])

    async def host(self, what: str) -> Any:
        """Evaluate in the host's page."""
        return await self.page.evaluate(what)

    async def inside(self, what: str) -> Any:
        """Evaluate in the app's page."""
        return await self.page.frames[1].evaluate(what)

    async def pass_time(self, seconds: int) -> None:
        """Let the browser's clock jump (it was installed), and what the page then sends arrive."""
        await self.page.clock.fast_forward(seconds * 1000)
        await self.inside(
            """new Promise((arrived) => {
              window.addEventListener('message', (event) => event.data.id === 'last' && arrived());
              window.parent.postMessage({ jsonrpc: '2.0', id: 'last', method: 'ping' }, '*');
            })"""
        )

    async def faults(self) -> list[str]:
        """What the accessibility checker finds in the app's page."""
        return await faults_in(self.page.frames[1], self.kit)

    async def picture(self, name: str) -> None:
        """Keep what the app shows, all of it."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.set_viewport_size(
            {"width": self.width, "height": await self.host("document.body.scrollHeight")}
        )
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    async def agreed(self, **fields: Any) -> dict[str, Any]:
        """A workflow whose fields have the user's yes, as the argument of later calls."""
        proposal = await self.call("propose_fields", **fields)
        workflow = {"workflow_id": proposal["workflow_id"]}
        await self.call("confirm_fields", **workflow, digest=proposal["digest"])
        return workflow

    async def rented(self, **fields: Any) -> tuple[dict[str, Any], list[int]]:
        """A workflow with its machines rented."""
        workflow = await self.agreed(**fields)
        plan = await self.call("find_offers", **workflow)
        made = await self.call("create_instances", **workflow, plan_id=plan["plan_id"])
        return workflow, [order["instance_id"] for order in made["orders"]]

    def stranger(self, **order: Any) -> int:
        """A machine of the account that somebody else's tool rented."""
        world = self.market.world
        ask = next(ask for ask in world.market.free_asks() if ask.num_gpus == 1)
        machine = rent(world, world.account, ask.id, {"image": "other/image", "disk": 10, "label": "mine", **order})
        self.clock.advance(120)
        world.settle()
        return machine.id


async def faults_in(page: "Page | Frame", kit: Kit) -> list[str]:
    """What the accessibility checker finds, as rule and element."""
    await page.evaluate(kit.axe)
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
    return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]


@asynccontextmanager
async def app_host(  # noqa: PLR0913 # what tests vary, each by its name
    kit: Kit,
    place: Path,
    *,
    era: str = "auto",
    apps: bool = True,
    asks: bool = False,
    approval: str = "auto",
    width: int = 800,
    scheme: str = "light",
    offers: int = 60,
) -> AsyncGenerator[AppHost]:
    """A window of a width, in a colour scheme; a server that a client with or without apps talks to in an era.

    `asks`: the client can ask its user, who agrees. `approval`: whose yes the server takes.
    """
    clock = ScaledClock(1.0)
    world = World(1, now=clock.now, offers=offers, switches=Switches(limits=False))
    async with (
        running(world, clock) as market,
        _serving(market, place, approval) as server,
        window(width, scheme) as page,
    ):
        shown = AppHost(page, market, clock, kit, width, [])
        await _connect(shown, server)
        relay = asyncio.create_task(_relay(server, page))
        try:
            await page.evaluate("(given) => host.connect(...given)", [era, apps, asks])
            yield shown
        finally:
            relay.cancel()


@asynccontextmanager
async def window(width: int, scheme: str) -> AsyncGenerator["Page"]:
    """An empty page of a width, in a colour scheme."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 # a plain test run is without the extra `browser`

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_browser(), args=list(_QUIET))
        look: Any = {"color_scheme": scheme, "viewport": {"width": width, "height": 720}, "reduced_motion": "reduce"}
        yield await browser.new_page(**look)
        await browser.close()


def _browser() -> str:
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    assert found is not None, f"none of {', '.join(_BROWSERS)} is installed"
    return found


@asynccontextmanager
async def _serving(market: Service, place: Path, approval: str) -> AsyncGenerator[Process]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "VASTAI_WORKFLOW_STATE": str(place / "state"),
        "VASTAI_WORKFLOW_APPROVAL": approval,
        "VAST_URL": market.url,
        "VAST_API_KEY": market.api_key,
    }
    command = (sys.executable, "-m", "vastai_workflow")
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, env=environment, limit=_LONGEST_LINE
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def _connect(shown: AppHost, server: Process) -> None:
    """The host's page, and its way to the server's input."""
    served = {_ADDRESS: ("text/html", _FRAME), f"{_ADDRESS}host.js": ("text/javascript", shown.kit.host)}

    async def serve(route: Any) -> None:
        shown.requests.append(route.request.url)
        kind, body = served.get(route.request.url, (None, None))
        await (route.abort() if kind is None else route.fulfill(content_type=kind, body=body))

    async def to_server(line: str) -> None:
        message = json.loads(line)
        if message.get("method") == "tools/call":
            shown.calls.append({"tool": message["params"]["name"], **message["params"].get("arguments", {})})
        assert server.stdin is not None
        server.stdin.write(f"{line}\n".encode())
        await server.stdin.drain()

    await shown.page.route("**/*", serve)
    await shown.page.expose_function("toServer", to_server)  # pyright: ignore[reportUnknownMemberType] # its Callable is bare
    await shown.page.goto(_ADDRESS)


async def _relay(server: Process, page: "Page") -> None:
    """The server's output to the host's client, line by line."""
    assert server.stdout is not None
    while line := await server.stdout.readline():
        await page.evaluate("(line) => fromServer(line)", line.decode())
