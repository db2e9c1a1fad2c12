"""The approval page: a person answers open questions in a browser, let in by a secret that only a terminal showed.

No script runs on it, and nothing is loaded. It answers to its own address only, and takes an answer only from itself.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from vastai_workflow.domain.asking import FORMS
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.steps import approving

if TYPE_CHECKING:
    from vastai_workflow.domain.workflow import Question
    from vastai_workflow.steps.deps import Deps

BY: Final = "you, on the approval page"

_COOKIE: Final = "vastai-workflow-approvals"
_TRIES: Final = 10
_MOST_BYTES: Final = 4096
_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "form{border:1px solid;border-radius:.5rem;padding:1rem;margin:1rem 0}"
    "input,button{font:inherit;padding:.4rem .6rem;margin:.25rem .5rem .25rem 0}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(slots=True)
class Door:
    """Lets in one browser: the secret is good once, and not after ten wrong ones."""

    secret: str
    new_id: Callable[[int], str]
    _tries: int = 0
    _inside: str = field(default="", repr=False)

    def enter(self, typed: str) -> str | None:
        """The cookie of the browser that knows the secret; None for any other, and once somebody is in."""
        self._tries += 1
        if self._inside or self._tries > _TRIES or not _same(typed.strip(), self.secret):
            return None
        self._inside = self.new_id(32)
        return self._inside

    def known(self, cookie: str) -> bool:
        """Whether this is the browser that was let in."""
        return bool(self._inside) and _same(cookie, self._inside)

    def token(self) -> str:
        """What a form of this page carries, so that no other page can send it."""
        return hmac.new(self._inside.encode(), b"form", hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """The pages. `address`: host and port under which it is served, and no other."""

    deps: "Deps"
    owner: str
    door: Door
    address: str

    def app(self) -> Starlette:
        """The routes."""
        return Starlette(
            routes=[
                Route("/", self.questions),
                Route("/enter", self.enter, methods=["POST"]),
                Route("/answer", self.answer, methods=["POST"]),
            ]
        )

    async def questions(self, request: Request) -> Response:
        """Every open question with its form; the door for a browser that is not in."""
        if (wrong := self._strange(request)) is not None:
            return wrong
        return await self._shown("") if self._inside(request) else _page(_DOOR, status=401)

    async def enter(self, request: Request) -> Response:
        """Let in who types the secret."""
        if (wrong := self._strange(request)) is not None:
            return wrong
        cookie = self.door.enter((await _form(request)).get("secret", ""))
        if cookie is None:
            return _page("<p>That is not the secret, or it was used already. Start the command again.</p>", status=403)
        inside = RedirectResponse("/", status_code=303, headers=_HEADERS)
        inside.set_cookie(_COOKIE, cookie, httponly=True, samesite="strict")
        return inside

    async def answer(self, request: Request) -> Response:
        """Take a yes, by the value that its question names, or a no."""
        if (wrong := self._strange(request)) is not None:
            return wrong
        given = await _form(request)
        if not self._inside(request) or not _same(given.get("token", ""), self.door.token()):
            return _page("<p>This answer does not come from the page. Open it again.</p>", status=403)
        try:
            workflow, question = await approving.by_code(self.deps, self.owner, given.get("code", ""))
            typed = "no" if given.get("say") == "no" else given.get("value", "").strip() or "nothing"
            agreed = await approving.answer(self.deps, workflow, question, typed, BY)
        except Refusal as refusal:
            return await self._shown(refusal.message, status=409)
        return await self._shown("Agreed: tell your agent to go on." if agreed else "Declined. Nothing was spent.")

    def _strange(self, request: Request) -> Response | None:
        """A request that was meant for another address, or sent by another page."""
        origin = request.headers.get("origin")
        if request.headers.get("host") != self.address:
            return _page("<p>Not served under this address.</p>", status=421)
        if origin not in {None, f"http://{self.address}"}:
            return _page("<p>Sent by another page.</p>", status=403)
        return None

    def _inside(self, request: Request) -> bool:
        return self.door.known(request.cookies.get(_COOKIE, ""))

    async def _shown(self, note: str, *, status: int = 200) -> Response:
        waiting = await approving.waiting(self.deps, self.owner)
        forms = "".join(_asked(question, self.door.token()) for _, question in waiting)
        told = f"<p role=status><strong>{escape(note)}</strong></p>" if note else ""
        return _page(told + (forms or "<p>No question is open.</p>"), status=status)


_DOOR: Final = (
    "<form method=post action=/enter><label>The secret that your terminal shows "
    "<input name=secret autocomplete=off autofocus></label><button>Enter</button></form>"
)


def _asked(question: "Question", token: str) -> str:
    """One question's form. Nothing in it is filled in."""
    return (
        f"<form method=post action=/answer><p>{escape(question.text)}</p>"
        f"<p>To agree, type {escape(FORMS[question.form])}: <strong>{escape(question.answer)}</strong></p>"
        f"<input type=hidden name=token value={token}><input type=hidden name=code value={question.code}>"
        f"<label>{escape(FORMS[question.form])} <input name=value autocomplete=off></label>"
        "<button name=say value=yes>Agree</button><button name=say value=no>Decline</button></form>"
    )


def _page(body: str, *, status: int = 200) -> HTMLResponse:
    html = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Your agent asks</title><style>{_STYLE}</style><main><h1>Your agent asks</h1>{body}</main></html>"
    )
    return HTMLResponse(html, status_code=status, headers=_HEADERS)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; nothing of a large one."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            return {}
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _same(one: str, other: str) -> bool:
    """Compared in the same time, wherever they differ."""
    return hmac.compare_digest(one.encode(), other.encode())
