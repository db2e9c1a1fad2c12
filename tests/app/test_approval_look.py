"""The approval page in a browser: at the door, with questions, after an answer; narrow and wide, light and dark."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn

from tests.app.hosting import SCREENSHOTS, Kit, faults_in, window
from tests.stack import Stack, stack
from tests.tools.acts import stranger
from vastai_workflow.tools.approval_page import ApprovalPage, Door

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.interop

SECRET = "abcdefgh23456789"
LOOKS = [(width, scheme) for width in (320, 800) for scheme in ("light", "dark")]


@asynccontextmanager
async def served(s: Stack) -> AsyncGenerator[str]:
    """The page's address, while it is served."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        app = ApprovalPage(s.deps, "local", Door(SECRET, s.deps.new_id), address).app()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        running = asyncio.create_task(server.serve([listening]))
        yield f"http://{address}/"
        server.should_exit = True
        await running


async def looks_right(page: "Page", kit: Kit, width: int, picture: str) -> None:
    """It fits, can be read by everybody, and is kept."""
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    assert await faults_in(page, kit) == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"approval-{picture}.png", full_page=True)


@pytest.mark.requirement("APPROVE-3")
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
async def test_the_page_is_readable_at_the_door_with_questions_and_after_answers(
    kit: Kit, width: int, scheme: str
) -> None:
    async with stack(approval="human") as s, served(s) as address, window(width, scheme) as page:
        await page.goto(address)
        await looks_right(page, kit, width, f"door-{width}-{scheme}")
        await page.get_by_label("secret").fill("another")
        await page.keyboard.press("Enter")
        assert "not the secret" in await page.get_by_role("status").inner_text()
        await page.get_by_label("secret").fill(SECRET)
        await page.keyboard.press("Enter")
        await page.get_by_text("No question is open.").wait_for()
        await looks_right(page, kit, width, f"empty-{width}-{scheme}")
        other = stranger(s, label="training run of last week")
        proposal = await s.call("propose_fields", count=2, fleet="best_effort")
        await s.refusal("destroy_instances", instance_ids=[other])
        await page.get_by_text("Look again").click()
        rent = page.get_by_role("form", name="Rent 2 machines")
        await rent.get_by_label("To agree").fill("9.99")
        await page.keyboard.press("Enter")
        assert "Got another value" in await page.get_by_role("status").inner_text()
        await looks_right(page, kit, width, f"{width}-{scheme}")
        paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) < 200) == (scheme == "dark")
        destroy = page.get_by_role("form", name=f"Destroy {other}")
        await destroy.get_by_role("button", name="Decline").click()
        await destroy.get_by_text("You did not agree when you were asked.").wait_for()
        await looks_right(page, kit, width, f"declined-{width}-{scheme}")
        ceiling = next(row["value"] for row in proposal["fields"] if row["name"] == "max_price_per_hour")
        await rent.get_by_label("To agree").fill(str(ceiling))
        await rent.get_by_role("button", name="Agree").click()
        assert await page.get_by_role("status").inner_text() == "Agreed: tell your agent to go on."
        assert (await s.call("confirm_fields", workflow_id=proposal["workflow_id"]))["confirmation"] is not None
