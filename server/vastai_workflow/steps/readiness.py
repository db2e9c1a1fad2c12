"""Readiness: from rented to a machine that answers over SSH with the agreed GPUs; bounded per call, resumable."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vastai_workflow.domain.errors import ProviderError, Refusal
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderFacts, OrderState
from vastai_workflow.domain.lifecycle import State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.steps.accounts import Opened, open_market
from vastai_workflow.steps.deps import Caller, Deps, owned
from vastai_workflow.steps.fleet_view import made_by
from vastai_workflow.steps.keys import ensure_instance_key
from vastai_workflow.steps.ports import LocalKey, ProbeReport, ProbeTarget, Window
from vastai_workflow.steps.readiness_window import SSH_WINDOW_S
from vastai_workflow.steps.reconcile import settle_now
from vastai_workflow.steps.status import DETAIL_CAP, LOGGED_IN, Report, report_gone, report_of
from vastai_workflow.steps.writes import require_writes

Progress = Callable[[float, float, str], Awaitable[None]]

_LOOK_EVERY_S: Final = 1.0
_PROBE_S: Final = 10.0
_MSG_CAP: Final = 160
_FRESH_S: Final = 60.0
_FINAL: Final = frozenset({"wrong_gpu", "host_key_changed", "no_private_key"})
_NOT_OURS: Final = "this server did not rent it: its SSH is not tried"


@dataclass(frozen=True, slots=True)
class Waited:
    """What this call saw last of each machine.

    `open_orders` may have rented unseen; `planned`: an order that is still to be sent.
    """

    reports: tuple[Report, ...]
    open_orders: tuple[Order, ...]
    notes: tuple[str, ...]
    planned: Order | None = None

    @property
    def settled(self) -> bool:
        """No order may have rented unseen."""
        return not self.open_orders

    @property
    def over(self) -> bool:
        """Nothing more will change by waiting."""
        return self.settled and all(report.ready or report.failed or report.order is None for report in self.reports)


async def wait_until_ready(
    deps: Deps,
    caller: Caller,
    *,
    workflow_id: str | None,
    instance_ids: Sequence[int],
    timeout_s: float,
    progress: Progress,
) -> Waited:
    """Look, settle, attach the key and probe, until everything is ready or failed, or the time is up."""
    require_writes(deps)
    if workflow_id is None and not instance_ids:
        raise Refusal("invalid_argument", "got neither workflow_id nor instance_ids, needed one of them")
    if workflow_id is not None:
        await owned(deps, caller, workflow_id)
    opened = await open_market(deps, caller, workflow_id, instance_ids)
    deadline = deps.clock.now() + timeout_s
    notes: tuple[str, ...] = ()
    while True:
        waited = await _look(deps, caller, opened, workflow_id, instance_ids, deadline)
        notes = tuple(dict.fromkeys((*notes, *waited.notes)))
        done = sum(report.ready for report in waited.reports)
        await progress(done, max(len(waited.reports), 1), _progress_line(waited))
        if waited.over or deps.clock.now() + _LOOK_EVERY_S > deadline:
            return replace(waited, notes=notes)
        await deps.clock.sleep(_LOOK_EVERY_S)


async def _look(
    deps: Deps,
    caller: Caller,
    opened: Opened,
    workflow_id: str | None,
    instance_ids: Sequence[int],
    deadline: float,
) -> Waited:
    instances = await opened.market.instances()
    settled = await settle_now(deps, opened.market, opened.account.id, instances)
    orders = await _orders(deps, caller, opened, workflow_id, instance_ids)
    by_id = {instance.id: instance for instance in instances}
    reports = [
        await _advance(deps, opened, o, by_id.get(o.instance_id or 0), deadline) for o in orders if o.instance_id
    ]
    planned = None if workflow_id is None else await _still_planned(deps, workflow_id)
    known = {report.instance_id for report in reports}
    reports += [await report_gone(deps, i) for i in instance_ids if i not in known and i not in by_id]
    strangers = [await report_of(deps, by_id[i], None) for i in instance_ids if i not in known and i in by_id]
    reports += [replace(report, reason=report.reason or _NOT_OURS) for report in strangers]
    unsettled = tuple(order for order in orders if order.state in UNSETTLED)
    return Waited(tuple(reports), unsettled, settled.notes, planned)


async def _still_planned(deps: Deps, workflow_id: str) -> Order | None:
    planned = await deps.store.orders(workflow_id=workflow_id, states=(OrderState.PLANNED,))
    return planned[0] if planned else None


async def _orders(
    deps: Deps, caller: Caller, opened: Opened, workflow_id: str | None, instance_ids: Sequence[int]
) -> list[Order]:
    """The orders to report: those asked for that are rented, or may be, or ended in this workflow."""
    if workflow_id is not None:
        orders = await deps.store.orders(workflow_id=workflow_id)
    else:
        orders = await deps.store.orders(account_id=opened.account.id, instance_ids=instance_ids)
    mine = [order for order in orders if order.owner == caller.owner]
    if instance_ids:
        mine = [order for order in mine if order.instance_id in instance_ids]
    shown = UNSETTLED | {OrderState.RENTED, OrderState.RELEASED}
    return [order for order in mine if order.state in shown]


async def _advance(deps: Deps, opened: Opened, order: Order, instance: Instance | None, deadline: float) -> Report:
    """One machine, one step further: attach what is missing, probe what runs."""
    if instance is None or (order.live and not made_by(instance, order, deps.store.store_ids)):
        return await report_gone(deps, order.instance_id or 0, order)
    window = await deps.store.window(instance.id)
    state = condition(instance, in_grace=deps.clock.now() < window.grace_until)
    if order.live and state.state is State.RUNNING and state.fatal is None and _worth_a_probe(window, deps.clock.now()):
        order = await _probe(deps, opened, order, instance, window, deadline)
    return await report_of(deps, instance, order)


def _worth_a_probe(window: Window, now: float) -> bool:
    """What was seen a minute ago is looked at again: keys get lost, and hosts fall silent."""
    return now - window.probed_at > _FRESH_S or (window.stage != "gpu_ok" and window.reason not in _FINAL)


async def _probe(
    deps: Deps, opened: Opened, order: Order, instance: Instance, window: Window, deadline: float
) -> Order:
    """Log in; answers the order, with the host key of its first login."""
    key = order.ssh_key
    if key is None:
        return order
    started = deps.clock.now()
    if not window.keyed or window.reason == "auth_refused":  # keys are reported to get lost, and to arrive late
        try:
            await ensure_instance_key(opened.market, deps.keys, instance.id, key.public_key)
        except ProviderError as error:
            code, message = error.code, clean(error.message, _MSG_CAP)
            await deps.store.change_window(instance.id, lambda kept: replace(kept, reason=code, detail=message))
            return order
        await deps.store.change_window(instance.id, lambda kept: replace(kept, keyed=True))
    path = None if key.private_key_path is None else Path(key.private_key_path)
    target = ProbeTarget(
        instance_id=instance.id,
        addresses=addresses(instance),
        key=LocalKey(key.public_key, key.fingerprint, path),
        gpu_name=order.gpu_name,
        num_gpus=order.num_gpus,
        gpu_ram_mb=order.gpu_ram_mb,
        local_market=opened.market.is_local,
        host_key=order.host_key or None,
    )
    report = await deps.prober.probe(target, timeout_s=max(min(_PROBE_S, deadline - started), 1.0))
    now = deps.clock.now()
    await deps.store.change_window(instance.id, lambda kept: _after(kept, report, started, now))
    shown = report.host_key_fingerprint
    if report.stage in LOGGED_IN and shown is not None and not order.host_key:
        return await deps.store.note_order(order.order_id, OrderFacts(host_key=shown))
    return order


def _after(window: Window, report: ProbeReport, started: float, now: float) -> Window:
    if window.stage == "gpu_ok":  # it answered before: the two minutes begin anew
        window = replace(window, tried_s=0.0)
    spent_s = now - started + _LOOK_EVERY_S
    return replace(
        window,
        probed_at=now,
        tried_s=min(window.tried_s + spent_s, SSH_WINDOW_S + 1),
        stage=report.stage,
        reason=report.reason,
        detail=clean(report.detail, DETAIL_CAP),
        host=report.host,
        port=report.port,
    )


def addresses(instance: Instance) -> tuple[tuple[str, int], ...]:
    """Where SSH may answer: direct, the proxy, and the proxy's next port for jupyter (as the official CLI does)."""
    found: list[tuple[str, int]] = []
    if instance.public_ip and instance.direct_ssh_port:
        found.append((instance.public_ip, instance.direct_ssh_port))
    if instance.ssh_host and instance.ssh_port:
        jupyter = "jupyter" in instance.runtype
        found += [(instance.ssh_host, instance.ssh_port + (1 if jupyter else 0))]
    return tuple(found)


def _progress_line(waited: Waited) -> str:
    if not waited.reports:
        return "no machine yet; settling" if not waited.settled else "no machine"
    parts = [f"{report.instance_id} {report.readiness}" for report in waited.reports[:4]]
    more = f" and {len(waited.reports) - 4} more" if len(waited.reports) > 4 else ""  # noqa: PLR2004 # a short line
    return clean(", ".join(parts) + more, _MSG_CAP)
