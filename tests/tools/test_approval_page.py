"""The approval page: who gets in, what it shows, and which answers it takes."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path

import httpx
import pytest

from tests.stack import Stack, stack
from tests.tools.acts import follow, states, stranger
from vastai_workflow.domain.audit import Kind
from vastai_workflow.domain.workflow import Confirmation
from vastai_workflow.tools.approval_page import ApprovalPage, Door

ADDRESS = "127.0.0.1:4711"
SECRET = "abcdefgh23456789"
FIELD = re.compile(r"name=(token|code) value=(\w+)")
NAMED = re.compile(r"To agree, type [^:]*: <strong>([^<]+)</strong>")


class Browser(httpx.AsyncClient):
    """Keeps cookies, follows redirects, and sends its page's address along."""

    def __init__(self, page: ApprovalPage) -> None:
        super().__init__(transport=httpx.ASGITransport(page.app()), base_url=f"http://{ADDRESS}", follow_redirects=True)
        self.room = "/not-yet/"

    async def enters(self, secret: str = SECRET) -> str:
        """The page behind the door."""
        entered = await self.post("/enter", data={"secret": secret}, headers={"origin": f"http://{ADDRESS}"})
        self.room = entered.url.path if entered.history else self.room
        return entered.text

    async def answers(self, form: dict[str, str], *, headers: dict[str, str] | None = None) -> httpx.Response:
        """What the page says to an answer."""
        return await self.post(f"{self.room}answer", data=form, headers=headers)


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[Stack, ApprovalPage]]:
    """A server whose client can't ask, and the page beside it."""
    async with stack(approval="human") as s:
        yield s, ApprovalPage(s.deps, "local", Door(SECRET, s.deps.new_id), ADDRESS)


async def yeses(s: Stack) -> list[Confirmation]:
    return [item for workflow in await s.deps.store.workflows("local") for item in workflow.confirmations]


def form_in(page: str) -> dict[str, str]:
    """The hidden fields of the first form, and the value that its question names."""
    named = NAMED.search(page)
    assert named is not None
    return {**dict(FIELD.findall(page)[:2]), "value": unescape(named[1]), "say": "yes"}


@pytest.mark.requirement("APPROVE-3")
async def test_the_person_sees_the_question_and_agrees_by_its_value() -> None:
    async with served() as (s, page), Browser(page) as browser:
        proposal = await s.call("propose_fields")
        shown = await browser.enters()
        assert "Rent 1 machine (RTX 4090)" in shown
        assert "never above $" in shown
        answered = await browser.answers(form_in(shown))
        assert "Agreed: tell your agent to go on." in answered.text
        assert "No question is open." in answered.text
        [given] = await yeses(s)
        assert given.by == "you, on the approval page"
        assert states(await follow(s, await follow(s, proposal))) == ["rented"]


@pytest.mark.requirement("APPROVE-3")
async def test_nobody_gets_in_without_the_secret_nor_with_it_a_second_time() -> None:
    async with served() as (s, page), Browser(page) as browser, Browser(page) as other:
        await s.call("propose_fields")
        assert (await browser.get("/")).status_code == 401
        assert "Rent 1 machine" not in (await browser.get("/")).text
        for wrong in ("", "abc", SECRET.upper()):
            assert "not the secret" in await browser.enters(wrong)
        assert "Rent 1 machine" in await browser.enters()
        assert "not the secret" in await other.enters()
        other.cookies.set("vastai-workflow-approvals", SECRET)
        assert (await other.get(browser.room)).status_code == 401
        assert "Rent 1 machine" in (await browser.get(browser.room)).text


@pytest.mark.requirement("APPROVE-3")
async def test_no_other_page_lets_a_browser_in() -> None:
    async with served() as (s, page), Browser(page) as browser:
        await s.call("propose_fields")
        for elsewhere, status in (
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"host": "evil.example"}, 421),
        ):
            refused = await browser.post("/enter", data={"secret": SECRET}, headers=elsewhere)
            assert refused.status_code == status
            assert "set-cookie" not in refused.headers
        assert "Rent 1 machine" in await browser.enters()


@pytest.mark.requirement("APPROVE-3")
async def test_after_ten_wrong_ones_the_secret_is_none_any_more() -> None:
    async with served() as (_, page), Browser(page) as browser:
        for number in range(10):
            await browser.enters(str(number))
        assert "not the secret" in await browser.enters()


@pytest.mark.requirement("APPROVE-3")
async def test_an_answer_from_elsewhere_is_none() -> None:
    async with served() as (s, page), Browser(page) as browser, Browser(page) as other:
        await s.call("propose_fields")
        form = form_in(await browser.enters())
        without_token = {name: value for name, value in form.items() if name != "token"}
        attempts = [
            (await other.post(f"{browser.room}answer", data=form), 403),
            (await browser.answers(without_token), 403),
            (await browser.answers({**form, "token": "0" * 64}), 403),
            (await browser.answers(form, headers={"origin": "http://evil.example"}), 403),
            (await browser.answers(form, headers={"origin": "null"}), 403),
            (await browser.answers(form, headers={"host": "evil.example"}), 421),
            (await browser.get(f"{browser.room}answer", params=form), 405),
            (await browser.answers({**form, "more": "x" * 5000}), 403),
        ]
        assert [done.status_code for done, _ in attempts] == [status for _, status in attempts]
        assert await yeses(s) == []


@pytest.mark.parametrize("value", ["9.99", "", "yes"])
@pytest.mark.requirement("APPROVE-3")
async def test_another_value_confirms_nothing_and_the_question_stays(value: str) -> None:
    async with served() as (s, page), Browser(page) as browser:
        await s.call("propose_fields")
        form = form_in(await browser.enters())
        answered = await browser.answers({**form, "value": value})
        assert answered.status_code == 409
        assert "nothing was confirmed" in answered.text
        assert form_in(answered.text) == form
        assert await yeses(s) == []


@pytest.mark.parametrize("name", ["nothing", "no"])
@pytest.mark.requirement("APPROVE-3")
async def test_an_empty_field_is_never_the_value_that_is_asked_for(name: str, tmp_path: Path) -> None:
    async with stack(approval="human", folder=tmp_path) as s:
        page = ApprovalPage(s.deps, "local", Door(SECRET, s.deps.new_id), ADDRESS)
        (tmp_path / name).write_text(s.world.api_key)
        (tmp_path / name).chmod(0o600)
        await s.call("propose_fields", api_key_source=f"file:{name}")
        async with Browser(page) as browser:
            form = form_in(await browser.enters())
            assert form["value"] == name
            without = {field: value for field, value in form.items() if field != "value"}
            for empty in ({**form, "value": ""}, {**form, "value": "  "}, without):
                assert (await browser.answers(empty)).status_code == 409
            assert "Declined" in (await browser.answers({**form, "say": "no"})).text
            assert "Agreed" in (await browser.answers(form_in((await browser.get(browser.room)).text))).text


@pytest.mark.requirement("APPROVE-3")
async def test_a_no_is_one_whatever_was_typed_and_the_code_is_used_up() -> None:
    async with served() as (s, page), Browser(page) as browser:
        proposal = await s.call("propose_fields")
        form = form_in(await browser.enters())
        declined = await browser.answers({**form, "say": "no"})
        assert "Declined: nothing was confirmed, nothing was spent." in declined.text
        late = await browser.answers(form)
        assert late.status_code == 409
        assert await yeses(s) == []
        noted = [(event.by, event.code) for event in await s.deps.store.trail() if event.kind is Kind.REFUSED]
        assert noted == [("you, on the approval page", "no_such_question")]
        workflow = await s.deps.store.workflow(proposal["workflow_id"])
        assert workflow is not None
        assert workflow.declined == (proposal["digest"],)


@pytest.mark.requirement("APPROVE-3")
async def test_an_answer_that_comes_too_late_says_what_the_person_can_do() -> None:
    async with served() as (s, page), Browser(page) as browser:
        await s.call("propose_fields")
        form = form_in(await browser.enters())
        s.clock.advance(1800)
        late = await browser.answers(form)
        assert late.status_code == 409
        assert "The question is older than 30 minutes: if you still want it, tell your agent" in late.text
        assert "No question is open." in late.text
        assert await yeses(s) == []


@pytest.mark.requirement("APPROVE-3")
async def test_other_peoples_text_is_text_and_nothing_is_loaded_or_run() -> None:
    async with served() as (s, page), Browser(page) as browser:
        other = stranger(s, label="<script>alert(1)</script>")
        await s.refusal("destroy_instances", instance_ids=[other])
        await browser.enters()
        shown = await browser.get(browser.room)
        assert "&lt;script&gt;" in shown.text
        assert "<script" not in shown.text
        policy = shown.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert shown.headers["cache-control"] == "no-store"


@pytest.mark.requirement("APPROVE-3")
async def test_the_cookie_is_for_this_page_alone() -> None:
    async with served() as (_, page), Browser(page) as browser:
        browser.follow_redirects = False
        entered = await browser.post("/enter", data={"secret": SECRET})
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert SECRET not in cookie
        room = entered.headers["location"]
        assert f"path={room};" in cookie
        assert len(room) > len("//") + 8
        assert "cookie" not in browser.build_request("GET", "http://127.0.0.1:4712/").headers
        assert "cookie" not in browser.build_request("GET", f"http://{ADDRESS}/").headers
        assert (await browser.get(room)).status_code == 200
        assert (await browser.get("/another/", headers={"cookie": cookie.partition(";")[0]})).status_code == 401
