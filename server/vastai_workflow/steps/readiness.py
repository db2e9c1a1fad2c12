"""Readiness: from rented to a machine that answers over SSH with the agreed GPUs; bounded per call, resumable."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vastai_workflow.domain.errors import ProviderError, Refusal
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.steps.accounts import Opened, open_market
from vastai_workflow.steps.deps import Caller, Deps, Progress, owned
from vastai_workflow.steps.fleet_view import made_by
from vastai_workflow.steps.fleets import FleetOutcome, fleet_outcome
from vastai_workflow.steps.keys import ensure_instance_key
from vastai_workflow.steps.listing import list_instances
from vastai_workflow.steps.probing import Probes, probing
from vastai_workflow.steps.reconcile import settle_now
from vastai_workflow.steps.status import DETAIL_CAP, Report, report_gone, report_of
from vastai_workflow.steps.untold import take
from vastai_workflow.steps.writes import require_writes

REQUEST_S: Final = 1.0
"""A wait sends the provider no more than one request in so many seconds, whatever the fleet; the list keeps it too."""

LOOK_EVERY_S: Final = 1.5
"""From the end of one reading of the list to the next: what a call sends at its start is made good by the half."""

_PATIENCE_S: Final = LOOK_EVERY_S
"""Real seconds that a look waits for its probes: the slower ones go on beside the next looks."""

_KEY_AGAIN_S: Final = 30.0
"""A key that the provider has and the machine refuses is looked for again after so long."""

_KEYLESS: Final = "without a login"
_STAGES: Final = ("provisioning", "running", "port_open", "ssh_ok", "ready", _KEYLESS, "failed", "gone")
_NEEDS_KEY: Final = frozenset({"auth_refused", "no_private_key"})
_NOT_OURS: Final = "this server did not rent it: its SSH is not tried"


@dataclass(frozen=True, slots=True)
class Waited:
    """What this call saw last of each machine.

    `open_orders` may have rented unseen; `planned`: an order that is still to be sent; `releasing`: a fleet that came
    short is not released whole yet. `came_short`: a fleet of which this wait learned that not all of it came.
    """

    reports: tuple[Report, ...]
    open_orders: tuple[Order, ...]
    notes: tuple[str, ...]
    planned: Order | None = None
    releasing: bool = False
    came_short: FleetOutcome | None = None

    @property
    def settled(self) -> bool:
        """No order may have rented unseen."""
        return not self.open_orders

    @property
    def over(self) -> bool:
        """Nothing more will change by waiting."""
        if self.releasing or not self.settled:
            return False
        return all(report.ready or report.failed or report.keyless or report.order is None for report in self.reports)


async def wait_until_ready(
    deps: Deps,
    caller: Caller,
    *,
    workflow_id: str | None,
    instance_ids: Sequence[int],
    timeout_s: float,
    progress: Progress,
) -> Waited:
    """Look, settle, probe, and attach the key where it is missing, until all is ready or failed, or the time is up."""
    require_writes(deps)
    if workflow_id is None and not instance_ids:
        raise Refusal("invalid_argument", "got neither workflow_id nor instance_ids, needed one of them")
    if workflow_id is not None:
        await owned(deps, caller, workflow_id)
    opened = await open_market(deps, caller, workflow_id, instance_ids, settles=False)
    deadline = deps.clock.now() + timeout_s
    async with probing(deps, opened, deadline) as probes:
        return await _Wait(deps, caller, opened, workflow_id, instance_ids, deadline, progress, probes).over()


@dataclass(slots=True)
class _Wait:
    """One call's wait. Requests are sent by `_look` alone, one after another; probes run beside it."""

    _deps: Deps
    _caller: Caller
    _opened: Opened
    _workflow_id: str | None
    _instance_ids: Sequence[int]
    _deadline: float
    _progress: Progress
    _probes: Probes
    _orders: tuple[Order, ...] = ()
    _tried: set[int] = field(default_factory=set[int])
    _reports: dict[int, Report] = field(default_factory=dict[int, Report])
    _next_look: float = 0.0
    _done: int = 0

    async def over(self) -> Waited:
        """The last look."""
        account_id = self._opened.account.id
        self._orders = await self._orders_to_show()
        unclear = {order.order_id for order in self._orders if order.state in UNSETTLED}
        while True:
            waited = await self._look()
            await self._tell()
            unusable = self._probes.unusable
            if waited.over or self._is_last_look or unusable is not None:
                came_short = await self._came_short(unclear)
                notes = (*take(self._deps, account_id), *([] if unusable is None else [unusable.sentence]))
                return replace(waited, notes=notes, came_short=came_short)
            await self._deps.clock.sleep(self._next_look - self._deps.clock.now())

    @property
    def _is_last_look(self) -> bool:
        return max(self._next_look, self._deps.clock.now()) > self._deadline

    async def _look(self) -> Waited:
        """One reading of the list and what follows from it. Machines are tried as their pages come."""
        self._tried.clear()
        market, account = self._opened.market, self._opened.account
        listed = await list_instances(self._deps, market, self._try)
        self._next_look = self._deps.clock.now() + LOOK_EVERY_S
        settled = await settle_now(self._deps, market, account.id, listed, deadline=self._deadline)
        by_id = {instance.id: instance for instance in listed.instances if instance.id not in settled.ended}
        self._orders = await self._orders_to_show()
        for instance in by_id.values():
            self._try(instance)
        await self._probes.rest(_PATIENCE_S)
        await self._give_keys(by_id)
        if self._is_last_look:
            await self._probes.rest(None)
        self._orders = await self._orders_to_show()
        self._reports = {report.instance_id: report for report in await self._all_reports(by_id)}
        planned = None if self._workflow_id is None else await self._still_planned(self._workflow_id)
        unsettled = tuple(order for order in self._orders if order.state in UNSETTLED)
        releasing = any(order.order_id == short.order_id for order in self._orders for short in settled.short)
        return Waited(tuple(self._reports.values()), unsettled, settled.notes, planned, releasing)

    def _try(self, instance: Instance) -> None:
        """Probe a machine of these orders, once a look."""
        order = next((order for order in self._orders if self._runs(order, instance)), None)
        if order is not None and instance.id not in self._tried:
            self._tried.add(instance.id)
            self._probes.start(order, instance, self._probed)

    def _runs(self, order: Order, instance: Instance | None) -> bool:
        """Whether this is the order's machine: what a reply named may be another's."""
        if instance is None or not order.live or order.instance_id != instance.id:
            return False
        return made_by(instance, order, self._deps.store.store_ids)

    async def _probed(self, order: Order, instance: Instance) -> None:
        """One machine was tried: that is told at once, from the second look on, when all have been seen."""
        if self._reports:
            self._reports[instance.id] = await report_of(self._deps, instance, order)
            await self._tell()

    async def _tell(self) -> None:
        reports = tuple(self._reports.values())
        settled = all(order.state not in UNSETTLED for order in self._orders)
        self._done = max(self._done, sum(report.ready for report in reports))  # progress never goes back
        await self._progress(self._done, max(len(reports), 1), _progress_line(reports, settled=settled))

    async def _give_keys(self, by_id: Mapping[int, Instance]) -> None:
        """Attach the agreed key where a login was refused, or can't be tried from here: one machine at a call's end."""
        for order in self._orders:
            instance = by_id.get(order.instance_id or 0)
            if instance is None or order.key_to_give is None or not self._runs(order, instance):
                continue
            window = await self._deps.store.window(instance.id)
            if window.reason in _NEEDS_KEY and self._deps.clock.now() - window.keyed_at > _KEY_AGAIN_S:
                await self._give_key(instance.id, order.key_to_give.public_key)
                self._probes.start(order, instance, self._probed)
                if self._is_last_look:
                    return

    async def _give_key(self, instance_id: int, public_key: str) -> None:
        """One request or two, at the pace of the whole wait: the list was read just before."""
        deps = self._deps
        await deps.clock.sleep(REQUEST_S)
        try:
            added = await ensure_instance_key(self._opened.market, deps.keys, instance_id, public_key)
        except ProviderError as error:
            added, told = True, {"reason": error.code, "detail": clean(error.message, DETAIL_CAP)}
        else:
            told = {"keyed_at": deps.clock.now()}
        await deps.store.change_window(instance_id, lambda window: replace(window, **told))
        if added:
            await deps.clock.sleep(REQUEST_S)
        self._next_look = max(self._next_look, deps.clock.now() + REQUEST_S)

    async def _all_reports(self, by_id: Mapping[int, Instance]) -> list[Report]:
        """The orders' machines, then those that were asked for and are not ours."""
        deps, wanted = self._deps, self._instance_ids
        reports = [
            await self._report(order, by_id.get(order.instance_id)) for order in self._orders if order.instance_id
        ]
        known = {report.instance_id for report in reports}
        reports += [await report_gone(deps, i) for i in wanted if i not in known and i not in by_id]
        strangers = [await report_of(deps, by_id[i], None) for i in wanted if i not in known and i in by_id]
        return reports + [replace(report, reason=report.reason or _NOT_OURS) for report in strangers]

    async def _report(self, order: Order, instance: Instance | None) -> Report:
        if instance is None or (order.live and not self._runs(order, instance)):
            return await report_gone(self._deps, order.instance_id or 0, order)
        return await report_of(self._deps, instance, order)

    async def _orders_to_show(self) -> tuple[Order, ...]:
        """The orders to report: those asked for that are rented, or may be, or ended in this workflow."""
        store, ids = self._deps.store, self._instance_ids
        if self._workflow_id is not None:
            orders = await store.orders(workflow_id=self._workflow_id)
        else:
            orders = await store.orders(account_id=self._opened.account.id, instance_ids=ids)
        shown = UNSETTLED | {OrderState.RENTED, OrderState.RELEASED}
        mine = [order for order in orders if order.owner == self._caller.owner and order.state in shown]
        return tuple(order for order in mine if not ids or order.instance_id in ids)

    async def _came_short(self, unclear: set[str]) -> FleetOutcome | None:
        """The fleet of an order that was unclear at the start, and is known by now not to have rented."""
        if self._workflow_id is None or not unclear:
            return None
        orders = await self._deps.store.orders(workflow_id=self._workflow_id)
        lost = next((o for o in orders if o.order_id in unclear and o.state is OrderState.NOT_RENTED), None)
        if lost is None:
            return None
        return fleet_outcome(orders, lost.confirmation_id)

    async def _still_planned(self, workflow_id: str) -> Order | None:
        planned = await self._deps.store.orders(workflow_id=workflow_id, states=(OrderState.PLANNED,))
        return planned[0] if planned else None


def _progress_line(reports: Sequence[Report], *, settled: bool) -> str:
    """One machine by its id, a fleet by how many stand where."""
    if not reports:
        return "no machine" if settled else "no machine yet; settling"
    if len(reports) == 1:
        return f"{reports[0].instance_id} {reports[0].readiness}"
    return stages(reports)


def stages(reports: Sequence[Report]) -> str:
    """How many machines stand where, such as `64 machines: 3 provisioning, 10 running, 51 ready`."""
    counts = Counter(
        "ready" if report.ready else _KEYLESS if report.keyless else report.readiness for report in reports
    )
    return f"{len(reports)} machines: " + ", ".join(f"{counts[stage]} {stage}" for stage in _STAGES if counts[stage])
