"""The probes of a wait: each machine that runs is tried by itself, several at once, while the list is read on."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskGroup

from vastai_workflow.domain.errors import LocalError, WorkflowError
from vastai_workflow.domain.ledger import Order, OrderFacts
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.domain.workflow import ChosenKey
from vastai_workflow.steps.accounts import Opened
from vastai_workflow.steps.deps import Deps
from vastai_workflow.steps.login import addresses, moved
from vastai_workflow.steps.ports import LocalKey, ProbeReport, ProbeTarget, Window
from vastai_workflow.steps.readiness_window import SSH_WINDOW_S, is_replaced
from vastai_workflow.steps.status import DETAIL_CAP, LOGGED_IN, pin_is_lost

AT_ONCE: Final = 32
"""Machines that are tried at a time: two connections each, well below the usual 256 open files of a process."""

_PROBE_S: Final = 10.0
_LEAST_S: Final = 1.0
"""The least that a try counts for, and the least time that it gets at the end of a call."""

_ENOUGH_S: Final = 3.0
"""What a look from far away takes. With less left, a call keeps what it saw before: a cut one tells less."""

_OLD_ONE: Final = "The old container still answers; the new one is not there yet."

_FRESH_S: Final = 60.0
_FINAL: Final = frozenset({"wrong_gpu", "host_key_changed", "no_private_key"})


Told = Callable[[Order, Instance], Awaitable[None]]
"""Hears of a machine that was tried, with its order as it stands then."""


@asynccontextmanager
async def probing(deps: Deps, opened: Opened, deadline: float) -> AsyncGenerator["Probes"]:
    """The probes of one call, which end with it. A WorkflowError leaves as it is, not wrapped by the task group."""
    failed: WorkflowError | None = None
    async with anyio.create_task_group() as group:
        try:
            yield Probes(deps, opened, group, deadline)
        except WorkflowError as error:
            failed = error
        group.cancel_scope.cancel()
    if failed is not None:
        raise failed


class Probes:
    """Probes in tasks of their own. What fails in one, other than the machine, is raised by the next `rest`."""

    def __init__(self, deps: Deps, opened: Opened, group: TaskGroup, deadline: float) -> None:
        self._deps = deps
        self._opened = opened
        self._group = group
        self._began = deps.clock.now()
        self._deadline = deadline
        self._failed: WorkflowError | None = None
        self.unusable: LocalError | None = None
        """Why no machine can be tried from here, whatever it is like: the file of host keys."""
        self._places = anyio.CapacityLimiter(AT_ONCE)
        self._under_way: set[int] = set()
        self._idle = anyio.Event()

    def start(self, order: Order, instance: Instance, told: Told) -> None:
        """Try a machine, unless it is being tried; returns at once."""
        if instance.id in self._under_way:
            return
        if not self._under_way:
            self._idle = anyio.Event()
        self._under_way.add(instance.id)
        self._group.start_soon(self._run, order, instance, told)

    async def rest(self, patience_s: float | None) -> None:
        """Wait until none is under way, for `patience_s` real seconds at most (None: as long as they take)."""
        if self._under_way:
            with anyio.move_on_after(patience_s):
                await self._idle.wait()
        if self._failed is not None:
            raise self._failed

    async def _run(self, order: Order, instance: Instance, told: Told) -> None:
        try:
            async with self._places:
                seen = await self._probe(order, instance)
            if seen is not None:
                await told(seen, instance)
        except WorkflowError as error:
            self._failed = self._failed or error
        finally:
            self._under_way.discard(instance.id)
            if not self._under_way:
                self._idle.set()

    async def _probe(self, order: Order, instance: Instance) -> Order | None:
        """Log in, and keep what was seen; the order with the host key of its first login. None: nothing to try."""
        deps, started = self._deps, self._deps.clock.now()
        window = await deps.store.window(instance.id)
        state = condition(instance, in_grace=started < window.grace_until)
        if (
            order.key_to_give is None
            or state.state is not State.RUNNING
            or state.fatal
            or not (
                _worth_it(window, started)
                or moved(window, instance)
                or await pin_is_lost(deps, window, order.host_key or None)
            )
        ):
            return None
        if self._deadline - started < _ENOUGH_S and window.probed_at >= self._began:
            return None
        target = target_of(order, order.key_to_give, instance, local_market=self._opened.market.is_local)
        try:
            report = await deps.prober.probe(target, timeout_s=max(min(_PROBE_S, self._deadline - started), _LEAST_S))
        except LocalError as error:
            if error.code != "store_unavailable":
                raise
            self.unusable = error
            return None
        now = deps.clock.now()
        if not await self._lives(order, instance.id):
            await deps.prober.forget(instance.id)
            return None
        if is_replaced(await deps.store.window(instance.id), report.host_key_fingerprint, now):
            await deps.prober.forget(instance.id)
            report = replace(report, stage="port_open", reason="recycling", detail=_OLD_ONE)
        trying = window.probed_at >= self._began and window.stage != "gpu_ok"  # the time that it was ready is no trying
        since = window.probed_at if trying else started

        def after(kept: Window) -> Window:
            anew = kept.grace_until != window.grace_until  # restarted meanwhile: that was the machine before it
            return kept if anew else _after(kept, report, max(now - since, _LEAST_S), now)

        await deps.store.change_window(instance.id, after)
        shown = report.host_key_fingerprint
        if report.stage in LOGGED_IN and shown is not None and not order.host_key:
            return await deps.store.note_order(order.order_id, OrderFacts(host_key=shown))
        return order

    async def _lives(self, order: Order, instance_id: int) -> bool:
        """Whether nobody, of whatever process, saw the machine end meanwhile: then it must leave no host key."""
        orders = await self._deps.store.orders(instance_ids=(instance_id,))
        return any(other.order_id == order.order_id and other.live for other in orders)


def _worth_it(window: Window, now: float) -> bool:
    """What was seen a minute ago is looked at again: keys get lost, and hosts fall silent."""
    return now - window.probed_at > _FRESH_S or (window.stage != "gpu_ok" and window.reason not in _FINAL)


def target_of(order: Order, key: ChosenKey, instance: Instance, *, local_market: bool) -> ProbeTarget:
    """What to probe: the machine as the list shows it, and what its order says."""
    path = None if key.private_key_path is None else Path(key.private_key_path)
    return ProbeTarget(
        instance_id=instance.id,
        addresses=addresses(instance),
        key=LocalKey(key.public_key, key.fingerprint, path),
        gpu_name=order.gpu_name,
        num_gpus=order.num_gpus,
        gpu_ram_mb=order.gpu_ram_mb,
        local_market=local_market,
        host_key=order.host_key or None,
    )


def _after(window: Window, report: ProbeReport, spent_s: float, now: float) -> Window:
    tried_s = 0.0 if window.stage == "gpu_ok" else window.tried_s  # it answered before: the two minutes begin anew
    return replace(
        window,
        probed_at=now,
        tried_s=min(tried_s + spent_s, SSH_WINDOW_S + 1),
        stage=report.stage,
        reason=report.reason,
        detail=clean(report.detail, DETAIL_CAP),
        host=report.host,
        port=report.port,
    )
