"""The calls of the provider's API that a workflow led to: kept in this process, bounded, to be read."""

from collections import OrderedDict, deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from vastai_workflow.steps.ports import ApiCall

MOST_CALLS: Final = 100
"""Of a workflow, of those that change something and of those that only look: the newest."""

MOST_WORKFLOWS: Final = 50

_COLLECTING: Final[ContextVar[list[ApiCall] | None]] = ContextVar("vastai_workflow_api_calls", default=None)


@contextmanager
def collecting() -> Generator[list[ApiCall]]:
    """What is noted inside, in this task and those that it starts."""
    made: list[ApiCall] = []
    token = _COLLECTING.set(made)
    try:
        yield made
    finally:
        _COLLECTING.reset(token)


def note(call: ApiCall) -> None:
    """A call was made; nobody may want to know."""
    made = _COLLECTING.get()
    if made is not None:
        made.append(call)


@dataclass(slots=True)
class _Kept:
    """Looks come every other second while something is waited for: they must not push out what rented."""

    changes: deque[tuple[int, ApiCall]] = field(default_factory=lambda: deque(maxlen=MOST_CALLS))
    looks: deque[tuple[int, ApiCall]] = field(default_factory=lambda: deque(maxlen=MOST_CALLS))


class CallJournal:
    """The newest calls of the workflows that were used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._number = 0

    def keep(self, workflow_ids: Iterable[str], calls: Sequence[ApiCall]) -> None:
        """Add calls to each of these workflows."""
        for workflow_id in workflow_ids:
            kept = self._kept.setdefault(workflow_id, _Kept())
            self._kept.move_to_end(workflow_id)
            for call in calls:
                self._number += 1
                (kept.changes if call.changes else kept.looks).append((self._number, call))
        while len(self._kept) > MOST_WORKFLOWS:
            self._kept.popitem(last=False)

    def of(self, workflow_id: str) -> tuple[ApiCall, ...]:
        """A workflow's calls, oldest first."""
        kept = self._kept.get(workflow_id, _Kept())
        return tuple(call for _, call in sorted((*kept.changes, *kept.looks), key=lambda numbered: numbered[0]))
