"""Both pages as a person meets them: narrow and wide, light and dark, by screen reader, and shut in."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.app.hosting import AppHost, Kit, app_host

pytestmark = pytest.mark.interop

LOOKS = [(width, scheme) for width in (320, 800) for scheme in ("light", "dark")]


async def shown(h: AppHost, page: str) -> None:
    """A page with something on it."""
    if page == "offers":
        await h.open("find_offers", await h.agreed(gpu_name="any", max_price_per_hour=1))
        await h.app.locator("#plot .point").first.wait_for()
        return
    workflow, _ = await h.rented()
    h.stranger(label="training run of last week")
    await h.call("wait_until_ready", **workflow, timeout_s=60)
    await h.rented()
    await h.open("instance_status", {})
    await h.app.locator("#plot svg").wait_for()


@pytest.mark.requirement("APP-10")
@pytest.mark.parametrize("page", ["offers", "fleet"])
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
async def test_a_page_fits_its_width_and_has_no_fault_for_screen_readers(
    kit: Kit, tmp_path: Path, page: str, width: int, scheme: str
) -> None:
    async with app_host(kit, tmp_path, width=width, scheme=scheme) as h:
        await shown(h, page)
        assert await h.inside("document.documentElement.scrollWidth") == width
        assert await h.faults() == []
        if page == "fleet":
            await h.app.get_by_role("button", name="Destroy machine").last.click()
            assert await h.faults() == []
        assert await h.inside("document.documentElement.scrollWidth") == width
        await h.picture(f"{page}-{width}-{scheme}")


@pytest.mark.requirement("APP-2")
@pytest.mark.parametrize("page", ["offers", "fleet"])
async def test_nothing_leaves_a_page_even_if_markup_got_in(kit: Kit, tmp_path: Path, page: str) -> None:
    async with app_host(kit, tmp_path) as h:
        await shown(h, page)
        before = list(h.requests)
        await h.inside(
            """new Promise((blocked) => {
              document.addEventListener('securitypolicyviolation', blocked, { once: true });
              const markup = '<img src="http://127.0.0.1:9/" onerror="document.title=1">';
              document.body.insertAdjacentHTML('beforeend', markup);
            }).then(() => null)"""
        )
        assert h.requests == before == ["http://host.test/", "http://host.test/host.js"]
        assert await h.inside("document.title") != "1"


@pytest.mark.requirement("APP-10")
async def test_theme_colours_and_time_zone_are_the_hosts(kit: Kit, tmp_path: Path) -> None:
    from playwright.async_api import expect  # noqa: PLC0415 # a plain test run is without the extra `browser`

    async with app_host(kit, tmp_path) as h:
        found = await h.page.evaluate("(given) => host.call('find_offers', given)", await h.agreed())
        colours = {"--color-background-primary": "rgb(1, 2, 3)"}
        dark = {"theme": "dark", "timeZone": "Asia/Kolkata", "styles": {"variables": colours}}
        await h.open("find_offers", {}, context=dark, result=found)
        there = datetime.fromtimestamp(found["structuredContent"]["expires_at"], timezone(timedelta(hours=5.5)))
        await expect(h.app.locator("#plan-figures")).to_contain_text(f"{there:%H:%M}")
        body, root = h.app.locator("body"), h.app.locator("html")
        await expect(body).to_have_css("background-color", "rgb(1, 2, 3)")
        await expect(root).to_have_css("color-scheme", "dark")
        light = {"theme": "light", "styles": {"variables": {"--color-background-primary": "rgb(9, 9, 9)"}}}
        await h.page.evaluate("(changed) => host.context(changed)", light)
        await expect(body).to_have_css("background-color", "rgb(9, 9, 9)")
        await expect(root).to_have_css("color-scheme", "light")


@pytest.mark.requirement("APP-10")
async def test_the_host_is_told_the_height_that_the_page_needs(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await shown(h, "offers")
        await h.page.wait_for_function("host.sizes.at(-1) > 800")
        assert await h.inside("document.documentElement.scrollHeight <= window.innerHeight")
