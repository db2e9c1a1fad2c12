"""One request and its answer as values: what is sent, what came back, and whether it reads as a success."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NoReturn, cast

from vastai_workflow.vast.endpoints import Endpoint

UNREADABLE: Final = object()
"""The body of an answer that is empty or no JSON; None is a JSON null."""

_OK: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Request:
    """A call of an endpoint. `secrets` are texts that must not come back in an error (the user's env values)."""

    endpoint: Endpoint
    id: int | None = None
    key_id: int | None = None
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def path(self) -> str:
        """The path under the base URL."""
        return self.endpoint.url_path(self.id, self.key_id)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers (lower-case names), text, and the JSON body with exact numbers."""

    status: int
    headers: Mapping[str, str]
    text: str = field(repr=False)
    body: Any = field(repr=False)

    @property
    def fields(self) -> Mapping[str, Any]:
        """The body's fields; empty where it is no JSON object."""
        body: object = self.body
        return cast("Mapping[str, Any]", body) if isinstance(body, dict) else {}

    @property
    def code(self) -> str:
        """The provider's own error code, or an empty text."""
        code = self.fields.get("error")
        return code.strip().lower() if isinstance(code, str) else ""

    @property
    def said(self) -> str:
        """The provider's words: `msg`, `message`, `detail`, the code, else the plain text. Untrusted."""
        for name in ("msg", "message", "detail", "error"):
            words = self.fields.get(name)
            if isinstance(words, str) and words.strip():
                return words
        return self.text if self.body is UNREADABLE else ""

    @property
    def succeeded(self) -> bool:
        """2xx and nothing in the body that says no; a start without a free GPU is a 200 that says no."""
        if self.status not in _OK:
            return False
        success = self.fields.get("success")
        if success is None:
            return not self.code
        return success not in (False, "false")

    @property
    def new_contract(self) -> int | None:
        """The instance that a create names, whatever else it says."""
        number = self.fields.get("new_contract")
        if isinstance(number, str) and number.isascii() and number.isdecimal():
            number = int(number)
        return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None


def answer(status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    """Read a reply. Numbers with a point stay exact; NaN, infinity and bottomless nesting are no JSON."""
    text = content.decode("utf-8", "replace")
    try:
        body: Any = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        body = UNREADABLE
    return Answer(status, {name.lower(): value for name, value in headers.items()}, text, body)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
