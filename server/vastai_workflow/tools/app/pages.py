"""The pages as `ui://` resources: put together from the files beside this module when a host first reads one.

A page is one HTML document with its style and script inside. It loads nothing: its own policy lets only this style and
this script run, by their digests, so that text that slipped in as markup could not act.
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from mcp.server.apps import APP_MIME_TYPE, Apps
from mcp.server.mcpserver.resources import FunctionResource

OFFERS: Final = "ui://vastai-workflow/offers.html"
FLEET: Final = "ui://vastai-workflow/fleet.html"

_RESOURCE_META: Final[dict[str, Any]] = {
    "ui": {"csp": {"connectDomains": [], "resourceDomains": []}, "prefersBorder": True}
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its address, its words in a list of resources, and the script of its own."""

    uri: str
    title: str
    description: str
    name: str


PAGES: Final = (
    Page(
        OFFERS, "Offers", "Price against performance, the plan, and choosing another offer. It rents nothing.", "offers"
    ),
    Page(FLEET, "Machines and money", "Machines by stage, what they cost, how long the balance lasts.", "fleet"),
)


def extension() -> Apps:
    """The extension that serves the pages; nothing is read before a host asks for one."""
    apps = Apps()
    for page in PAGES:
        apps.add_resource(
            FunctionResource(
                uri=page.uri,
                name=f"{page.name}.html",
                title=page.title,
                description=page.description,
                mime_type=APP_MIME_TYPE,
                meta=_RESOURCE_META,
                fn=lambda name=page.name: document(name),
            )
        )
    return apps


@cache
def document(name: str) -> str:
    """The whole page `name` (`offers`, `fleet`)."""
    style = _file("page.css")
    script = "".join(f"{_file(part)}\n" for part in ("host.js", "dom.js", "plot.js", f"{name}.js"))
    allowed = f"style-src {_digest(style)}; script-src {_digest(script)}"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    page = _file(f"{name}.html")
    for mark, text in (("{{policy}}", policy), ("{{style}}", style), ("{{script}}", script)):
        page = page.replace(mark, text)
    return page


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """How a policy names an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
