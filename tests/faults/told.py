"""What an answer says of machines: by its rows and sentences, not by a number that stands somewhere in it."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import zip_longest
from typing import Any, Final, cast


class Said(StrEnum):
    """What an agent learned of one machine."""

    RUNS = "runs"
    OURS = "is this server's"
    NOT_OURS = "runs, and is not ours"
    RELEASING = "is being released"
    ENDED = "is gone"
    TO_DECIDE = "is the user's to decide"


TOLD_OF_AN_END: Final = frozenset({Said.RELEASING, Said.ENDED, Said.TO_DECIDE})
"""Either tells that a machine came that should not run; that a row lists it does not."""
AGAIN: Final = "call destroy_instances again"
MORE_TO_DO: Final = (
    "call wait_until_ready",
    AGAIN,
    "call stop_instances",
    "another call is renting",
)
"""Sentences after which an agent is not done."""
_MACHINES: Final = re.compile(r"\bmachines? (\d+(?:, \d+)*)")
_GONE: Final = re.compile(r"released: gone|\bis gone\b|\(all or nothing\): gone")
_GOING: Final = re.compile(
    r"to be released|release is not seen|cost money until released|runs without its fleet|\(all or nothing\): "
    r"|was to be destroyed and is still there"
)
_UNTRUSTED: Final = frozenset({"label", "fields", "warnings", "reason"})


def said_in(answer: Mapping[str, Any]) -> dict[int, set[Said]]:
    """All that a result's structured content, or a refusal, says of machines."""
    said: dict[int, set[Said]] = {}
    for row in _rows(answer):
        if isinstance(row.get("instance_id"), int):
            said.setdefault(row["instance_id"], set()).update(_of_row(row))
    for sentence in sentences(answer):
        for machines, what in _named(sentence):
            for machine in machines:
                said.setdefault(machine, set()).update(_of_words(what))
    following = cast("dict[str, Any]", answer.get("next_call") or {"arguments": {}})
    if answer.get("ask_user"):
        for machine in following["arguments"].get("acknowledge_instances") or ():
            said.setdefault(machine, set()).add(Said.TO_DECIDE)
    return said


def sentences(value: object, key: str = "") -> Iterator[str]:
    """Every sentence of the server's own, wherever it stands."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in cast("dict[str, object]", value).items():
            if name not in _UNTRUSTED and name != "next_call":
                yield from sentences(part, name)
    elif isinstance(value, list):
        for part in cast("list[object]", value):
            yield from sentences(part, key)


def to_decide(answer: Mapping[str, Any]) -> list[int]:
    """The machines about which the user is asked: keep or destroy?"""
    return _of_sentences(answer, "Ask the user")


def to_destroy(answer: Mapping[str, Any]) -> list[int]:
    """The machines of which the agent is told that it should destroy them once more."""
    return _of_sentences(answer, AGAIN)


def _of_sentences(answer: Mapping[str, Any], words: str) -> list[int]:
    named = [found for said in sentences(answer) for found in _named(said)]
    return list(dict.fromkeys(one for machines, what in named if words in what for one in machines))


def _rows(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        row = cast("dict[str, Any]", value)
        yield row
        for part in row.values():
            yield from _rows(part)
    elif isinstance(value, list):
        for part in cast("list[object]", value):
            yield from _rows(part)


def _of_row(row: Mapping[str, Any]) -> set[Said]:
    if "ours" in row:
        return {Said.RUNS, Said.OURS if row["ours"] else Said.NOT_OURS}
    if "readiness" in row:
        whose = Said.NOT_OURS if row["workflow_id"] is None else Said.OURS
        if row["state"] == "gone":
            return {Said.ENDED, whose}
        return {Said.RUNS, whose} if row["price_per_hour"] is not None else set()
    if row.get("final_state") is not None:
        return {Said.ENDED if row["final_state"] == "gone" else Said.RELEASING}
    if "order_id" in row:
        return {"released": {Said.ENDED, Said.OURS}, "rented": {Said.RUNS, Said.OURS}}.get(row["state"], set())
    return set()


def _named(sentence: str) -> Iterator[tuple[list[int], str]]:
    """Machines with what follows, up to the next ones."""
    found = list(_MACHINES.finditer(sentence))
    for one, after in zip_longest(found, found[1:]):
        end = len(sentence) if after is None else after.start()
        yield [int(number) for number in one.group(1).split(", ")], sentence[one.end() : end]


def _of_words(what: str) -> set[Said]:
    said = {Said.TO_DECIDE} if "Ask the user" in what else set[Said]()
    if _GONE.search(what):
        said.add(Said.ENDED)
    elif _GOING.search(what):
        said.add(Said.RELEASING)
    return said
