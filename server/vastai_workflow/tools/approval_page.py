"""The approval page: a person answers open questions in a browser, let in by a secret that only a terminal showed.

No script runs on it, and nothing is loaded. It answers to its own address only, and takes an answer only from itself.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final, Literal
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
    ":root{color-scheme:light dark;--paper:light-dark(#fff,#1b1c1f);--panel:light-dark(#f5f5f2,#26282c);"
    "--ink:light-dark(#1b1c1f,#ededeb);--quiet:light-dark(#565a61,#b1b5bc);--rule:light-dark(#d8d8d3,#43464c);"
    "--mark:light-dark(#1a53b8,#86b3ff);--on-mark:light-dark(#fff,#10131a);--good:light-dark(#1d6b3a,#7fd39b);"
    "--bad:light-dark(#b3261e,#ff9d94)}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}"
    "main{max-width:40rem;margin:0 auto;padding:1.5rem 1rem}"
    "h1{font-size:1.25rem;line-height:1.3;margin:0}h2{font-size:1rem;line-height:1.4;margin:0 0 .5rem}"
    "p{margin:0 0 .75rem}p:last-child{margin-bottom:0}a{color:var(--mark)}"
    ".quiet{color:var(--quiet);font-size:.875rem}button~.quiet{margin-top:.75rem}"
    "form,.empty{background:var(--panel);border:1px solid var(--rule);border-radius:.5rem;padding:1rem;margin:1rem 0}"
    ".note{border-left:4px solid;padding:.25rem .75rem;margin:1rem 0 0}.good{color:var(--good)}.bad{color:var(--bad)}"
    "label{display:block}p+label{margin-top:1rem}"
    "input,button{font:inherit;color:inherit;min-height:2.75rem;border:1px solid var(--quiet);border-radius:.375rem}"
    "input{display:block;width:100%;max-width:20rem;margin:.375rem 0 .75rem;padding:.25rem .625rem}"
    "input{background:var(--paper)}"
    "button{padding:.25rem 1.25rem;margin-right:.5rem;background:none;cursor:pointer}"
    ".yes{background:var(--mark);border-color:var(--mark);color:var(--on-mark);font-weight:600}"
    ":focus-visible{outline:2px solid var(--mark);outline-offset:2px}"
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
    """Lets in one browser: the secret is good once, and not after ten wrong ones.

    `room` is the first part of every address behind it. Browsers send a cookie to each port of a host, so it is of
    this path alone: what else is served on this machine gets none.
    """

    secret: str
    new_id: Callable[[int], str]
    _tries: int = 0
    room: str = field(default="", repr=False)
    _inside: str = field(default="", repr=False)

    def enter(self, typed: str) -> str | None:
        """The cookie of the browser that knows the secret; None for any other, and once somebody is in."""
        self._tries += 1
        if self._inside or self._tries > _TRIES or not _same(typed.strip(), self.secret):
            return None
        self._inside, self.room = self.new_id(32), self.new_id(16)
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
                Route("/", self.at_the_door),
                Route("/enter", self.enter, methods=["POST"]),
                Route("/{room}/", self.questions),
                Route("/{room}/answer", self.answer, methods=["POST"]),
            ]
        )

    async def at_the_door(self, request: Request) -> Response:
        """The door, for everybody: a browser that is in has its own address."""
        return self._strange(request) or _page(_DOOR, status=401)

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
            wrong = "That is not the secret, or it was used already. Look at the terminal, or start the command again."
            return _page(_note(wrong, "bad") + _DOOR, status=403)
        inside = RedirectResponse(f"/{self.door.room}/", status_code=303, headers=_HEADERS)
        inside.set_cookie(_COOKIE, cookie, path=f"/{self.door.room}/", httponly=True, samesite="strict")
        return inside

    async def answer(self, request: Request) -> Response:
        """Take a yes, by the value that its question names, or a no."""
        if (wrong := self._strange(request)) is not None:
            return wrong
        given = await _form(request)
        if not self._inside(request) or not _same(given.get("token", ""), self.door.token()):
            return _page(_note("This answer does not come from the page. Open it again.", "bad"), status=403)
        try:
            workflow, question = await approving.by_code(self.deps, self.owner, given.get("code", ""), BY)
            typed = None if given.get("say") == "no" else given.get("value", "")
            agreed = await approving.answer(self.deps, workflow, question, typed, BY)
        except Refusal as refusal:
            return await self._shown(_note(_why(refusal), "bad"), status=409)
        if agreed:
            return await self._shown(_note("Agreed: tell your agent to go on.", "good"))
        return await self._shown(_note("Declined: nothing was confirmed, nothing was spent."))

    def _strange(self, request: Request) -> Response | None:
        """A request that was meant for another address, or sent by another page."""
        origin = request.headers.get("origin")
        if request.headers.get("host") != self.address:
            return _page(_note("Not served under this address.", "bad"), status=421)
        if origin not in {None, f"http://{self.address}"}:
            return _page(_note("Sent by another page.", "bad"), status=403)
        return None

    def _inside(self, request: Request) -> bool:
        here = _same(request.path_params["room"], self.door.room)
        return here and self.door.known(request.cookies.get(_COOKIE, ""))

    async def _shown(self, note: str, *, status: int = 200) -> Response:
        waiting = await approving.waiting(self.deps, self.owner)
        asked = [
            (question, any(mark in workflow.declined for mark in question.marks)) for workflow, question in waiting
        ]
        forms = "".join(
            _asked(question, self.door.token(), declined=declined)
            for question, declined in sorted(asked, key=lambda pair: pair[1])
        )
        return _page(note + (forms or _EMPTY) + _AGAIN, status=status)


_DOOR: Final = (
    "<form method=post action=/enter><label>Type the secret that your terminal shows"
    "<input name=secret autocomplete=off spellcheck=false autofocus></label><button class=yes>Enter</button></form>"
)
_EMPTY: Final = (
    "<div class=empty><p>No question is open.</p><p class=quiet>Your agent tells you when there is one.</p></div>"
)
_AGAIN: Final = "<p class=quiet><a href=.>Look again</a></p>"


def _note(text: str, kind: Literal["", "good", "bad"] = "") -> str:
    """What came of the last answer; screen readers read it out."""
    return f"<p role=status class='note {kind}'>{escape(text)}</p>"


def _why(refusal: Refusal) -> str:
    """Why an answer was not taken. Another value can be typed again here; else the next step is said."""
    text = refusal.message if refusal.code == "wrong_answer" else f"{refusal.message}: {refusal.next_step}"
    return f"{text[:1].upper()}{text[1:]}."


def _asked(question: "Question", token: str, *, declined: bool) -> str:
    """One question's form. Nothing in it is filled in. `declined`: they did not agree to it when they were asked."""
    before = "<p class=bad>You did not agree when you were asked. If you want it after all, agree here.</p>"
    asked, mark, rest = question.text.partition("? ")
    name = f"q-{question.code}"
    return (
        f"<form method=post action=answer aria-labelledby={name}><h2 id={name}>{escape(asked + mark.strip())}</h2>"
        f"<p>{escape(rest)}</p>{before if declined else ''}"
        f"<input type=hidden name=token value={token}><input type=hidden name=code value={question.code}>"
        f"<label>To agree, type {escape(FORMS[question.form])}: <strong>{escape(question.answer)}</strong>"
        "<input name=value autocomplete=off spellcheck=false></label>"
        "<button name=say value=yes class=yes>Agree</button><button name=say value=no>Decline</button>"
        f"<p class=quiet>Question {question.code}. To change something, decline and tell your agent what.</p></form>"
    )


def _page(body: str, *, status: int = 200) -> HTMLResponse:
    html = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<meta name=color-scheme content='light dark'>"
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
