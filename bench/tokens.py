"""Counts o200k tokens without a network: the package `bpe-openai` (extra `bench`) brings its vocabulary along."""

import json
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bpe_openai import Encoding  # pyright: ignore[reportMissingTypeStubs] # typed, without saying so


@cache
def _encoding() -> "Encoding":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its way to its own data, on some versions of Python
        from bpe_openai import get_encoding  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs] # the warning comes here

        return get_encoding("o200k_base")


def count(text: str) -> int:
    """How many tokens a model of the GPT-4o family and later sees."""
    return len(_encoding().encode_ordinary(text))


def compact(value: Any) -> str:
    """JSON as a host passes it on: no blanks, characters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
