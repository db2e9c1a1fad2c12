"""Input schemas as a model reads them: no titles, no null branches, no unknown arguments."""

from collections.abc import Mapping
from typing import Any


def slim(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same arguments in fewer words; null is still taken for "not given", as the defaults say."""
    properties = {name: _argument(value) for name, value in schema.get("properties", {}).items()}
    kept = {name: value for name, value in schema.items() if name not in {"title", "properties"}}
    return {**kept, "properties": properties, "additionalProperties": False}


def _argument(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in schema.items() if name not in {"title", "default", "anyOf"}}
    branches = [branch for branch in schema.get("anyOf", []) if branch != {"type": "null"}]
    if len(branches) == 1:
        kept = {**branches[0], **kept}
    elif branches:
        kept["anyOf"] = branches
    if schema.get("default") is not None:
        kept["default"] = schema["default"]
    return kept
