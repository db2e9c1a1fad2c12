"""An event loop in which waiting takes no time: its clock jumps to the next timer when nothing else is left to do.

Unlike a clock that each sleeper moves, it holds for tasks that wait at once. For programs without sockets and threads.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from vastai_workflow.simulator.clock import VirtualClock

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Says at once that nothing came, and counts the time that it should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is left that could happen")
        ready = super().select(0)
        if not ready:
            self.passed_s += max(timeout, 0.0)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _Jumping) -> None:
        super().__init__(selector)
        self._jumping = selector

    def time(self) -> float:
        return self._jumping.passed_s


class LoopClock(VirtualClock):
    """The market's clock on such a loop."""

    def now(self) -> float:
        """Unix seconds."""
        return super().now() + asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait; others that wait do so at the same time."""
        await asyncio.sleep(max(seconds, 0.0))


def run(program: Coroutine[Any, Any, T]) -> T:
    """Run a program to its end in virtual time."""
    with asyncio.Runner(loop_factory=lambda: _Loop(_Jumping())) as runner:
        return runner.run(program)
