"""Read-only refuses every write, whatever it costs."""

from vastai_workflow.domain.errors import Refusal
from vastai_workflow.steps.deps import Deps


def require_writes(deps: Deps) -> None:
    """Refusal `read_only` where the operator set it."""
    if deps.caps.read_only:
        raise Refusal("read_only", "got a write, allowed only reads: the server is read only")
