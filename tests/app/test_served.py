"""The pages as the server gives them out: found by hosts, made of one file, and without effect on other clients."""

import base64
import hashlib
import re

import pytest
from mcp.client import Client
from mcp.client.extension import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.types import CallToolResult, TextResourceContents

from tests.stack import ERAS, Era, Stack, stack, text_of
from vastai_workflow.tools.app import pages
from vastai_workflow.tools.app.view import OFFERS_META

SHOWN = {"find_offers": pages.OFFERS, "instance_status": pages.FLEET, "wait_until_ready": pages.FLEET}
MOST_BYTES = 60_000
NAMES = [page.name for page in pages.PAGES]


async def found(s: Stack, workflow_id: str, *, apps: bool, era: Era) -> CallToolResult:
    """What find_offers answers a client that shows pages, or one that does not."""
    extensions = [advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})] if apps else []
    async with Client(s.server, mode=era, extensions=extensions) as client:
        return await client.call_tool("find_offers", {"workflow_id": workflow_id})


@pytest.mark.requirement("APP-1")
@pytest.mark.parametrize("era", ERAS)
async def test_each_tool_with_a_page_names_one_that_can_be_read(era: Era) -> None:
    async with stack(era=era) as s:
        tools = (await s.client.list_tools()).tools
        assert {tool.name: tool.meta["ui"]["resourceUri"] for tool in tools if tool.meta} == SHOWN
        listed = {resource.uri: resource for resource in (await s.client.list_resources()).resources}
        for address in SHOWN.values():
            assert listed[address].mime_type == APP_MIME_TYPE
            [content] = (await s.client.read_resource(address)).contents
            assert isinstance(content, TextResourceContents)
            assert content.mime_type == APP_MIME_TYPE
            assert content.text.startswith("<!doctype html>")
            assert content.meta is not None
            assert content.meta["ui"]["csp"] == {"connectDomains": [], "resourceDomains": []}


@pytest.mark.requirement("APP-1")
async def test_no_page_is_put_together_before_a_host_reads_one() -> None:
    pages.document.cache_clear()
    async with stack() as s:
        await s.client.list_tools()
        await s.client.list_resources()
        assert pages.document.cache_info().currsize == 0
        await s.client.read_resource(pages.FLEET)
        assert pages.document.cache_info().currsize == 1


@pytest.mark.requirement("APP-2")
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_one_small_file_that_loads_nothing(name: str) -> None:
    page = pages.document(name)
    assert len(page.encode()) < MOST_BYTES
    assert set(re.findall(r"[a-z]+://[^\s'\"]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"\s(?:src|href|action)=|url\(|@import|\bimport\b|\bfetch\(|XMLHttpRequest|WebSocket", page)


@pytest.mark.requirement("APP-2")
@pytest.mark.parametrize("name", NAMES)
def test_a_pages_own_policy_lets_only_its_style_and_its_script_run(name: str) -> None:
    page = pages.document(name)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    allowed = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert {rule: what for rule, what in allowed.items() if "sha256" not in what} == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for rule, tag in (("style-src", "style"), ("script-src", "script")):
        [text] = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[rule] == f"'sha256-{digest}'"


@pytest.mark.requirement("APP-3")
@pytest.mark.parametrize("name", NAMES)
def test_no_text_can_become_markup_or_code(name: str) -> None:
    page = pages.document(name)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|\beval\b|new Function", page)
    assert not re.findall(r"\son[a-z]+=|javascript:", page)
    assert page.count("<!--") == 0


@pytest.mark.requirement("APP-4")
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_without_pages_gets_the_same_answer(era: Era) -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        plain = await found(s, workflow_id, apps=False, era=era)
        shown = await found(s, workflow_id, apps=True, era=era)
        assert plain.meta is None or OFFERS_META not in plain.meta
        assert plain.structured_content is not None
        assert shown.structured_content is not None
        plans = plain.structured_content["plan_id"], shown.structured_content["plan_id"]
        assert text_of(shown).replace(plans[1], plans[0]) == text_of(plain)
        assert set(shown.structured_content) == set(plain.structured_content)
        assert shown.structured_content["offers"] == plain.structured_content["offers"]


@pytest.mark.requirement("APP-4")
@pytest.mark.parametrize("era", ERAS)
async def test_a_host_gets_every_fitting_offer_with_its_score_beside_the_answer(era: Era) -> None:
    async with stack() as s:
        workflow_id = await s.agreed(max_price_per_hour=2)
        shown = await found(s, workflow_id, apps=True, era=era)
        assert shown.meta is not None
        assert shown.structured_content is not None
        view = shown.meta[OFFERS_META]
        assert len(view["offers"]) == shown.structured_content["matches"] > len(shown.structured_content["offers"])
        assert all(offer["dlperf"] > 0 for offer in view["offers"])
        assert view["ceiling_per_hour"] == 2
