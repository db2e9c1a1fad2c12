"""Reads what a column holds; what can't be read is named without its values."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar, cast

from pydantic import ValidationError

from vastai_workflow.domain.errors import LocalError

_KEPT: Final = 1024

_Result = TypeVar("_Result")


def parsed(parse: Callable[[str], _Result], body: str, what: str) -> _Result:
    """The value of a text; LocalError `store_unavailable`. Values are frozen: the same text may give the same one."""
    try:
        return cast("_Result", _value(parse, body))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        # from None: pydantic's own message repeats the values, and some of them are secrets
        raise LocalError(
            "store_unavailable",
            f"the ledger's {what} can't be read, at {where or 'its start'}",
            next_step="use the version of vastai-workflow that wrote it, or restore the ledger from a copy",
        ) from None


@lru_cache(maxsize=_KEPT)
def _value(parse: Callable[[str], object], body: str) -> object:
    """Most rows are read many times between two changes."""
    return parse(body)
