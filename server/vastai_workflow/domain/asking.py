"""Questions to the person: their codes, how they are put, and which typed value is a yes."""

import base64
import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from vastai_workflow.domain.money import Rate
from vastai_workflow.domain.workflow import Question

CODE_LENGTH: Final = 8
FORMS: Final[Mapping[str, str]] = {
    "ceiling": "the price limit in $/h",
    "machine": "the machine's id",
    "fingerprint": "the last four characters of the key's fingerprint",
    "key": "the name of the key source",
}
"""What the person types, by the question's form."""

_PRICE: Final = re.compile(r"\$?([0-9]{1,6}(?:\.[0-9]{1,6})?)")
_LAST: Final = 4


def code_of(nonce: str, about: str, digest: str) -> str:
    """A short name for one asking of one question; `nonce` is random, so a later asking has another name."""
    hashed = hashlib.sha256(f"{nonce}\0{about}\0{digest}".encode()).digest()
    return base64.b32encode(hashed).decode()[:CODE_LENGTH].lower()


def put(question: Question) -> str:
    """The whole message to the person. Its code makes it differ from every other asking, also of the same."""
    return (
        f"{question.text}\nTo agree, type {FORMS[question.form]}: {question.answer}\n"
        f"To change something, decline and say what. (question {question.code})"
    )


def unchanged(waiting: Question, newer: Question) -> bool:
    """Whether a question that waits says the same as a newer one, all but a balance that drifted a little."""
    if waiting.balance is None or newer.balance is None or not waiting.balance.near(newer.balance):
        return waiting.text == newer.text
    return waiting.text.replace(str(waiting.balance), str(newer.balance), 1) == newer.text


def fits(question: Question, typed: str) -> bool:
    """Whether the typed value is the one that was asked for; a price also with its sign, and with spaces around."""
    value = typed.strip()
    if question.form != "ceiling":
        return value == question.answer
    price = _PRICE.fullmatch(value)
    return price is not None and Decimal(price[1]) == question.ceiling_per_hour


def ceiling_answer(ceiling: Rate) -> str:
    """A ceiling as the person types it."""
    return str(ceiling).removeprefix("$").removesuffix("/h")


def fingerprint_answer(fingerprint: str) -> str:
    """The part of a fingerprint that the person types."""
    return fingerprint[-_LAST:]


def source_answer(source: str) -> str:
    """The part of a key source that the person types: the file's or the variable's name, or the word itself."""
    _, _, place = source.partition(":")
    return place.replace("\\", "/").rstrip("/").rpartition("/")[2] or source
