"""Takes secrets out of what is shown or saved: provider text, request shapes, answers that could not be read."""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from vastai_workflow.domain.untrusted import clean
from vastai_workflow.vast.wire import UNREADABLE, Answer, Request

MASK: Final = "***"
QUOTE_CAP: Final = 200
_SHAPE_CAP: Final = 600
_VALUE_CAP: Final = 80
_SAVED_CAP: Final = 1_000_000
_SHORTEST_SECRET: Final = 4
"""Shorter env values ("1", "yes") are no secrets, and masking them would garble every text."""

_WORDS: Final = (
    r"(?:api_?key|token|passw(?:or)?d|passphrase|secret|private_?key|authorization|credential|image_login|onstart"
    r"|\bsid\b)"
)
_SECRET_NAME: Final = re.compile(_WORDS, re.IGNORECASE)
_ENVIRONMENT: Final = frozenset({"env", "extra_env", "environment"})
_BEARER: Final = re.compile(r"(?i)(bearer\s+)[^\s\"',;]+")
_STRING: Final = r'"(?:\\.|[^"\\])*"?'
# bounded repeats: a provider's text may be a megabyte of one letter, and that must not take minutes
_NAMED: Final = re.compile(
    rf"(?is)({_WORDS}[\w-]{{0,64}}\\{{0,16}}[\"']?\s{{0,64}}[:=]\s*)"
    rf"(?:{_STRING}|'[^']*'?|\\{{1,16}}\"(?:(?!\\{{1,16}}\").)*|[\[{{](?:{_STRING}|[^\"\]}}])*|[^\s,;}}\]&\"']+)"
)
_ENV_TEXT: Final = re.compile(rf'(?is)("(?:env|extra_env|environment)"\s*:\s*)(?:{_STRING}|[\s,:\[\]{{}}])+')


def quoted(words: str, secrets: Iterable[str] = ()) -> str:
    """Somebody else's words as one short quoted line without secrets; a page of HTML is only named."""
    if words.lstrip()[:1] == "<":
        return "an HTML page"
    line = clean(without(words, secrets), QUOTE_CAP).replace('"', "'")
    return f'"{line}"' if line else "no words"


def without(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with known secrets and everything that stands under a secret's name masked."""
    text = hidden(text, secrets)
    text = _ENV_TEXT.sub(rf'\g<1>"{MASK}"', text)
    return _NAMED.sub(rf'\g<1>"{MASK}"', _BEARER.sub(rf"\g<1>{MASK}", text))


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text with known secrets masked, as they are and as JSON has them."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, MASK).replace(json.dumps(secret)[1:-1], MASK)
    return text


def masked(value: Any, name: str = "") -> Any:
    """JSON with the values of secret names and of environments masked; the names stay."""
    if name.lower() in _ENVIRONMENT:
        return _masked_environment(value)
    if _SECRET_NAME.search(name) and value is not None and not isinstance(value, bool):
        return MASK
    if isinstance(value, dict):
        items = cast("Mapping[Any, Any]", value)
        return {str(key): masked(item, str(key)) for key, item in items.items()}
    if isinstance(value, list):
        return [masked(item) for item in cast("list[Any]", value)]
    return value


def shape(request: Request, secrets: Iterable[str] = ()) -> str:
    """The request as one line that can be shown: method, path, query and body, with secrets masked."""
    parts = [request.endpoint.method, request.path]
    for part in (dict(request.query), dict(request.body or {})):
        if part:
            short = {key: _shortened(value) for key, value in masked(part).items()}
            parts.append(json.dumps(short, default=str))
    return clean(without(" ".join(parts), secrets), _SHAPE_CAP)


def save(answer: Answer, secrets: Iterable[str], folder: Path | None = None) -> Path | None:
    """Keep an unreadable answer, scrubbed, in a private file (0600); None where this machine can't."""
    text = answer.text if answer.body is UNREADABLE else json.dumps(masked(answer.body), default=str, indent=1)
    try:
        handle, name = tempfile.mkstemp(prefix="vastai-answer-", suffix=".txt", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(f"HTTP {answer.status}\n\n{without(text, secrets)[:_SAVED_CAP]}")
    except OSError:
        return None
    return Path(name)


def _masked_environment(value: Any) -> Any:
    if isinstance(value, dict):
        return dict.fromkeys(map(str, cast("Mapping[Any, Any]", value)), MASK)
    if isinstance(value, list):
        return [_masked_pair(item) for item in cast("list[Any]", value)]
    return value if value is None else MASK


def _masked_pair(item: Any) -> Any:
    if isinstance(item, list) and item:
        return [cast("list[Any]", item)[0], MASK]
    return f"{item.partition('=')[0]}={MASK}" if isinstance(item, str) and "=" in item else MASK


def _shortened(value: Any) -> Any:
    return f"{value[:_VALUE_CAP]}…" if isinstance(value, str) and len(value) > _VALUE_CAP else value
