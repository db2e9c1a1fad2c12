"""How a tool is written down: its function, title and annotations, and what it gets from the server."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from vastai_workflow.domain.untrusted import clean
from vastai_workflow.tools.on_first_use import on_first_use
from vastai_workflow.tools.results import NextCall, Result

with on_first_use():
    from vastai_workflow.steps import calls
    from vastai_workflow.steps import deps as steps

if TYPE_CHECKING:
    from vastai_workflow.steps.calls import CallJournal
    from vastai_workflow.steps.deps import Caller, Deps

IN_ROUNDS: Final = "2026-07-28"
"""From this protocol version on a question ends the call, and the answer comes with the next round."""

LOCAL_OWNER = "local"
"""The owner of everything where nobody logs in: stdio."""


class App:
    """One server process: builds what the steps need at the first call that needs it, and closes it."""

    def __init__(self, make: "Callable[[], Awaitable[Deps]]", close: "Callable[[Deps], Awaitable[None]]") -> None:
        self._make = make
        self._close = close
        self._deps: Deps | None = None
        self._calls: CallJournal | None = None
        self.gpu_names: tuple[float, tuple[str, ...]] | None = None
        """The market's GPU names, for completions, and when they were asked for."""

    async def deps(self) -> "Deps":
        """The same ones at each call."""
        if self._deps is None:
            self._deps = await self._make()
        return self._deps

    @property
    def calls(self) -> "CallJournal":
        """The calls of the provider's API, by workflow."""
        if self._calls is None:
            self._calls = calls.CallJournal()
        return self._calls

    async def aclose(self) -> None:
        """Close what was built."""
        if self._deps is not None:
            await self._close(self._deps)


Ctx = Context[App, Any]

WorkflowId = Annotated[str, Field(description="from propose_fields")]
OptionalWorkflowId = Annotated[str | None, Field(description="from propose_fields")]
Id = Annotated[int, Field(strict=True, ge=1, le=2**53 - 1)]
OptionalIds = Annotated[list[Id] | None, Field(description="instance ids")]
Ids = Annotated[list[Id], Field(min_length=1, max_length=64, description="instance ids")]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as it is registered. The function's docstring is what the model reads."""

    function: Callable[..., Awaitable[Any]]
    title: str
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = True
    page: str | None = None
    """The address of the page that shows its answer, where the host shows pages."""

    @property
    def meta(self) -> dict[str, Any] | None:
        """What hosts with pages read of it."""
        return None if self.page is None else {"ui": {"resourceUri": self.page}}

    @property
    def annotations(self) -> ToolAnnotations:
        """All four hints."""
        return ToolAnnotations(
            read_only_hint=self.read_only,
            destructive_hint=self.destructive,
            idempotent_hint=self.idempotent,
            open_world_hint=self.open_world,
        )


async def deps_of(ctx: Ctx) -> "Deps":
    """What the steps work with."""
    return await ctx.request_context.lifespan_context.deps()


def caller_of(ctx: Ctx) -> "Caller":
    """Whose call this is."""
    params = ctx.session.client_params
    name = params.client_info.name if params is not None else "an unnamed client"
    return steps.Caller(LOCAL_OWNER, clean(name, 60) or "an unnamed client", asks=_asks(ctx))


def _asks(ctx: Ctx) -> bool:
    """Whether the client says that it can put a form to its user; a bare `elicitation: {}` means a form too."""
    declared = None if ctx.client_capabilities is None else ctx.client_capabilities.elicitation
    if declared is None or (declared.form is None and declared.url is not None):
        return False
    in_rounds = ctx.protocol_version is not None and ctx.protocol_version >= IN_ROUNDS
    return in_rounds or ctx.session.can_send_request


def answer(text: str, result: Result, meta: dict[str, Any] | None = None) -> CallToolResult:
    """A short text that is enough, and the same as data. `meta`: for the host alone, never needed."""
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=result.model_dump(mode="json"), _meta=meta
    )


def next_call(tool: str, **arguments: Any) -> NextCall:
    """The call that goes on from here."""
    return NextCall(tool=tool, arguments=arguments)


def in_words(given: NextCall | None) -> str:
    """The next call in a text."""
    if given is None:
        return ""
    return f"\nNext: {in_call(given.tool, **given.arguments)}"


def in_call(tool: str, **arguments: Any) -> str:
    """A call as a text."""
    return f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
