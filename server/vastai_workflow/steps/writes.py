"""Read-only refuses every write, whatever it costs, and no text sends anybody to one."""

from vastai_workflow.domain.errors import Refusal
from vastai_workflow.steps.deps import Deps


def require_writes(deps: Deps) -> None:
    """Refusal `read_only` where the operator set it."""
    if deps.caps.read_only:
        raise Refusal("read_only", "got a write, allowed only reads: the server is read only")


def by_calling(deps: Deps, tool: str = "wait_until_ready") -> str:
    """Who does what is left to do: a call, or where this server would refuse that, another one."""
    return "needs a server that may write (this one is read only)" if deps.caps.read_only else f"call {tool}"
