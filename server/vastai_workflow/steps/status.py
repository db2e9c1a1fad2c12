"""Status: one machine or all, with state, readiness, how to connect, what it cost, and whose yes it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.domain.lifecycle import BILLS_GPU, Condition, State, condition
from vastai_workflow.domain.market import Instance
from vastai_workflow.domain.meter import burn_rate, storage_rate
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.steps import login
from vastai_workflow.steps.accounts import open_market
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.elsewhere import on_other_accounts
from vastai_workflow.steps.fleet_view import LABEL_CAP, all_active, made_by
from vastai_workflow.steps.metering import metered
from vastai_workflow.steps.ports import Window
from vastai_workflow.steps.readiness_window import SSH_WINDOW_S
from vastai_workflow.steps.untold import take
from vastai_workflow.steps.writes import by_calling

LOGGED_IN: Final = frozenset({"ssh_ok", "gpu_ok"})
"""Stages from a login on: the host key is pinned, and stands in the ledger."""

DETAIL_CAP: Final = 300
"""Characters of a probe's sentence that are kept; it may quote the machine."""

_NO_KEY: Final = "no_private_key"
TAKEN_AWAY: Final = "the agreed SSH key was taken away, and no login is tried"
TO_GO: Final = "the agreed SSH key is to be taken away, and may be there still; no login is tried"
MOVED: Final = "moved: it has another address since it was seen"
UNSEEN: Final = "this key sees no machine with this id"
UNPINNED: Final = "its host key is not in known_hosts any more"
ASLEEP: Final = frozenset({State.STOPPED, State.OUTBID})
"""States that a start ends."""

_SEEN: Final = frozenset({"running", "port_open", "ssh_ok", "gpu_ok"})
_BAD: Final = "bad_address"
_CHANGED: Final = "host_key_changed"


@dataclass(frozen=True, slots=True)
class Report:
    """One machine as it was last seen. `readiness`: provisioning, running, port_open, ssh_ok, gpu_ok, failed, gone.

    `host` is None where there is none to log in at: not seen, refused, a stranger's by now, or left.
    `untested`: no login can be tried: it has the key, and no private half is here. `keyless`: none is to be tried.
    `host_key`: the fingerprint of its host key at the first login.
    """

    instance_id: int
    label: str
    state: State
    readiness: str
    price: Rate | None = None
    burn: Rate | None = None
    cost: Usd | None = None
    host: str | None = None
    port: int | None = None
    key_path: str | None = None
    known_hosts: str | None = None
    pinned: bool = False
    host_key: str | None = None
    reason: str | None = None
    untested: bool = False
    keyless: bool = False
    warnings: tuple[str, ...] = ()
    order: Order | None = None

    @property
    def ready(self) -> bool:
        """As ready as it gets: GPUs seen, or a key whose private half is elsewhere."""
        return self.readiness == "gpu_ok" or self.untested

    @property
    def failed(self) -> bool:
        """It will not become ready by waiting."""
        return self.readiness in {"failed", "gone"}

    @property
    def gone(self) -> bool:
        """It was seen to end."""
        return self.state is State.GONE

    @property
    def command(self) -> str | None:
        """The command that logs in, held to the host key that was seen first: addresses are used again by others."""
        if self.host is None or self.port is None or self.known_hosts is None:
            return None
        return login.command(
            self.instance_id,
            self.host,
            self.port,
            key_path=self.key_path,
            known_hosts=self.known_hosts,
            pinned=self.pinned,
        )


@dataclass(frozen=True, slots=True)
class Status:
    """Some machines, and the account's orders, of whatever process, that may have rented unseen."""

    reports: tuple[Report, ...]
    unsettled: tuple[Order, ...]
    notes: tuple[str, ...] = ()


async def instance_status(deps: Deps, caller: Caller, instance_ids: Sequence[int], workflow_id: str | None) -> Status:
    """The machines asked for, or every machine of the account; one list, no probe."""
    opened = await open_market(deps, caller, workflow_id, instance_ids)
    instances = await opened.market.instances()
    elsewhere = () if instance_ids else await on_other_accounts(deps, caller, opened.account.id)
    kept = await deps.store.orders(account_id=opened.account.id)
    named = [(order.instance_id, order) for order in kept if order.instance_id is not None]
    if workflow_id is not None and not instance_ids:
        instance_ids = list(dict.fromkeys(i for i, order in named if order.workflow_id == workflow_id))
    by_id = {instance.id: instance for instance in instances}
    mine = deps.store.store_ids
    orders = {i: o for i, o in named if i not in by_id or made_by(by_id[i], o, mine)}  # a reply may name another's
    every = () if instance_ids else await all_active(deps, opened.account.id, instances)
    wanted = instance_ids or ([item.instance.id for item in every] if workflow_id is None else ())
    reports = [
        await report_of(deps, by_id[i], orders.get(i)) if i in by_id else await report_gone(deps, i, orders.get(i))
        for i in wanted
    ]
    unsettled = tuple(order for order in kept if order.state in UNSETTLED)
    return Status(tuple(reports), unsettled, (*take(deps, opened.account.id), *opened.notes, *elsewhere))


async def report_of(deps: Deps, instance: Instance, order: Order | None) -> Report:
    """A machine that the list shows."""
    cost = await metered(deps, instance)
    window = await deps.store.window(instance.id)
    seen = condition(instance, in_grace=deps.clock.now() < window.grace_until)
    readiness, reason = _readiness(seen, window)
    keyless = order is not None and order.ssh_key_removed and seen.state is State.RUNNING and seen.fatal is None
    if keyless:
        readiness, reason = "running", keyless_words(deps, window)
    if has_moved := login.moved(window, instance) and readiness in _SEEN:
        readiness, reason = "running", f"{MOVED}; {by_calling(deps)}"
    host_key = None if order is None else order.host_key or None
    counts = readiness in LOGGED_IN or (readiness == "port_open" and window.reason == _NO_KEY)
    if unpinned := counts and await pin_is_lost(deps, window, host_key):
        readiness = "running"
        reason = f"{UNPINNED}: {by_calling(deps)}, which pins it again if it is the one on record"
    away = has_moved or unpinned or window.reason == _BAD or (window.reason == _CHANGED and readiness == "failed")
    reached = not away and login.is_address(window.host, window.port)
    key = None if order is None else order.ssh_key
    return Report(
        instance_id=instance.id,
        label=clean(instance.label, LABEL_CAP),
        state=seen.state,
        readiness=readiness,
        price=instance.price,
        burn=burn_rate(instance, gpu_billed=seen.state in BILLS_GPU),
        cost=cost,
        host=window.host if reached else None,
        port=window.port if reached else None,
        key_path=None if key is None else key.private_key_path,
        known_hosts=str(deps.prober.known_hosts_file),
        pinned=window.stage in LOGGED_IN or host_key is not None,
        host_key=host_key,
        reason=reason,
        untested=readiness == "port_open" and window.reason == _NO_KEY and window.keyed_at > 0,
        keyless=keyless,
        warnings=_warnings(instance, seen, order),
        order=order,
    )


def keyless_words(deps: Deps, window: Window) -> str:
    """What is known of the agreed key of a machine that is not to have it, and what helps."""
    if not window.unkeyed_at:
        return f"{TO_GO}: {by_calling(deps, 'remove_ssh_key')}"
    return f"{TAKEN_AWAY}: {by_calling(deps, 'attach_ssh_key')}"


async def pin_is_lost(deps: Deps, window: Window, host_key: str | None) -> bool:
    """Whether a machine was logged into, and its host key is not pinned (any more)."""
    if window.stage not in LOGGED_IN and host_key is None:
        return False
    return not await deps.prober.is_pinned(window.instance_id, host_key)


async def report_gone(deps: Deps, instance_id: int, order: Order | None = None) -> Report:
    """A machine that the list does not show: gone if we saw it end, else not known."""
    ended = order is not None and order.state is OrderState.RELEASED
    window = await deps.store.window(instance_id)
    if order is not None and not ended and window.seen_at == 0:
        price, state = order.price, State.PROVISIONING
        return Report(instance_id, "", state, "provisioning", price, price, reason="not listed yet", order=order)
    state = State.GONE if ended else State.UNKNOWN
    reason = order.reason if order is not None and ended else UNSEEN
    cost = None if order is None or order.cost_usd is None else Usd(order.cost_usd)
    return Report(instance_id, "", state, "gone" if ended else "failed", cost=cost, reason=reason, order=order)


def _readiness(seen: Condition, window: Window) -> tuple[str, str | None]:
    if seen.fatal is not None:
        return "failed", seen.fatal
    if seen.state is not State.RUNNING:
        return "provisioning", None
    if window.stage == "gpu_ok":
        return "gpu_ok", None
    said = f"{window.reason}: {window.detail}" if window.reason and window.detail else window.reason
    if window.reason in {"wrong_gpu", _CHANGED}:
        return "failed", said
    if window.reason == _NO_KEY:
        return "port_open", said
    if window.tried_s > SSH_WINDOW_S:
        return "failed", f"SSH was tried for {SSH_WINDOW_S:g} s: {said or 'no answer'}"
    return "running" if window.stage == "none" else window.stage, said


def _warnings(instance: Instance, seen: Condition, order: Order | None) -> tuple[str, ...]:
    found = () if order is None else order.warnings
    if seen.state in {State.STOPPED, State.EXITED, State.OUTBID, State.QUEUED}:
        found = (*found, f"its disk goes on costing {storage_rate(instance)}: destroy it when done")
    if seen.fatal is not None and instance.status_msg:
        found = (*found, f"status text (untrusted): {clean(instance.status_msg, 120)!r}")
    return found
