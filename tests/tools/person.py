"""A user whose client can ask them: answers as told, in turn, and remembers what was asked."""

import re
from typing import Any, Final

from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult

NAMED: Final = re.compile(r"^To agree, type .*: (\S+)$", re.MULTILINE)


class Person:
    """`yes` types the value that the question names, `decline` and `cancel` do so, `empty` accepts an empty form.

    `nothing` accepts without a form; any other answer is typed as it stands. After the last answer: yes.
    """

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.forms: list[dict[str, Any]] = []

    def then(self, *answers: str) -> None:
        """What to answer from now on."""
        self._answers = list(answers)

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG002 # the SDK's
        """Answer one question."""
        assert params.mode == "form"
        self.asked.append(params.message)
        self.forms.append(params.requested_schema)
        return reply(self._answers.pop(0) if self._answers else "yes", params.message)


def named_in(message: str) -> str:
    """The value that a question names."""
    found = NAMED.search(message)
    assert found is not None, message
    return found[1]


def reply(answer: str, message: str) -> ElicitResult:
    """What a client sends for an answer."""
    match answer:
        case "yes":
            return ElicitResult(action="accept", content={"value": named_in(message)})
        case "decline":
            return ElicitResult(action="decline")
        case "cancel":
            return ElicitResult(action="cancel")
        case "empty":
            return ElicitResult(action="accept", content={})
        case "nothing":
            return ElicitResult(action="accept")
        case typed:
            return ElicitResult(action="accept", content={"value": typed})
