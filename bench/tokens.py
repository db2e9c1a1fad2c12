"""Counts o200k tokens without a network: the package `bpe-openai` (extra `bench`) brings its vocabulary along."""

import json
from functools import cache
from typing import Any

from bpe_openai import Encoding, get_encoding  # pyright: ignore[reportMissingTypeStubs] # typed, without saying so


@cache
def _encoding() -> Encoding:
    return get_encoding("o200k_base")


def count(text: str) -> int:
    """How many tokens a model of the GPT-4o family and later sees."""
    return len(_encoding().encode_ordinary(text))


def compact(value: Any) -> str:
    """JSON as a host passes it on: no blanks, characters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
