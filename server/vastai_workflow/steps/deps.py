"""What every step works with, and who is calling."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.workflow import Workflow
from vastai_workflow.steps.ports import Clock, Keys, Markets, Prober, Store


@dataclass(frozen=True, slots=True)
class Deps:
    """The ports, the operator's caps, random ids (bytes of randomness in, text out), and whose yes counts.

    `settled_accounts`: held against a complete list since this process started.
    """

    clock: Clock
    store: Store
    markets: Markets
    keys: Keys
    prober: Prober
    caps: Caps
    new_id: Callable[[int], str]
    approval: Literal["human", "relayed", "auto"] = "auto"
    settled_accounts: set[int] = field(default_factory=set[int])


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose call it is: `owner` owns workflows, `name` is the client that relays."""

    owner: str
    name: str

    @property
    def relayed(self) -> str:
        """Whose yes it is when the agent reports it."""
        return f"relayed by {self.name}"

    @property
    def called(self) -> str:
        """Whose call it is."""
        return f"called by {self.name}"


async def owned(deps: Deps, caller: Caller, workflow_id: str) -> Workflow:
    """The caller's workflow; another's is as unknown as one that never was."""
    workflow = await deps.store.workflow(workflow_id)
    if workflow is None or workflow.owner != caller.owner:
        raise Refusal("workflow_unknown", f"got {workflow_id[:40]!r}, which is no workflow of yours")
    return workflow


def require_relayed(deps: Deps) -> None:
    """Refusal `person_needed` where only a person's own yes counts: this version can't ask the person itself."""
    if deps.approval == "human":
        raise Refusal("person_needed", "got a yes reported by an agent, allowed only a person's own (approval human)")
