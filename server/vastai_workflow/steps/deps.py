"""What every step works with, and who is calling."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import anyio

from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.ledger import Moment
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.steps.ports import Clock, Keys, Markets, Prober, Store

Progress = Callable[[float, float, str], Awaitable[None]]
"""Hears how much is done of how much, and a line in words."""


@dataclass(frozen=True, slots=True)
class Deps:
    """The ports, the operator's caps, random ids (bytes of randomness in, text out), and whose yes counts.

    `approve_with`: the command by which a person answers the question of a code on their own terminal. `pause`: waits
    so many seconds of a person's time, which no market's clock makes shorter. `settled_accounts`: when each was last
    held against a complete list by this process, with nothing left to release; steady seconds. `untold`: by account,
    what such a look found and no answer said yet.
    """

    clock: Clock
    store: Store
    markets: Markets
    keys: Keys
    prober: Prober
    caps: Caps
    new_id: Callable[[int], str]
    approval: Literal["human", "relayed", "auto"] = "auto"
    approve_with: Callable[[str], str] = "vastai-workflow approve {}".format
    pause: Callable[[float], Awaitable[None]] = anyio.sleep
    settled_accounts: dict[int, float] = field(default_factory=dict[int, float])
    untold: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])

    def moment(self) -> Moment:
        """Now, on both clocks."""
        return Moment(self.clock.now(), self.clock.steady())


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose call it is: `owner` owns workflows, `name` is the client, which `asks` its user itself where it can."""

    owner: str
    name: str
    asks: bool = False

    @property
    def unanswered(self) -> str:
        """Whose no it is when no answer came of their question."""
        return f"nobody, asked by {self.name}"

    @property
    def relayed(self) -> str:
        """Whose yes it is when the agent reports it."""
        return f"relayed by {self.name}"

    @property
    def called(self) -> str:
        """Whose call it is."""
        return f"called by {self.name}"

    @property
    def asked(self) -> str:
        """Whose yes it is when the client asked its user."""
        return f"you, asked by {self.name}"


async def owned(deps: Deps, caller: Caller, workflow_id: str) -> Workflow:
    """The caller's workflow; another's is as unknown as one that never was."""
    workflow = await deps.store.workflow(workflow_id)
    if workflow is None or workflow.owner != caller.owner:
        raise Refusal("workflow_unknown", f"got {workflow_id[:40]!r}, which is no workflow of yours")
    return workflow
