"""Reads what a column holds; what can't be read is named without its values."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from vastai_workflow.domain.errors import LocalError

_Result = TypeVar("_Result")


def parsed(parse: Callable[[str], _Result], body: str, what: str) -> _Result:
    """The value of a text; LocalError `store_unavailable`."""
    try:
        return parse(body)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        # from None: pydantic's own message repeats the values, and some of them are secrets
        raise LocalError(
            "store_unavailable",
            f"the ledger's {what} can't be read, at {where or 'its start'}",
            next_step="use the version of vastai-workflow that wrote it, or restore the ledger from a copy",
        ) from None
