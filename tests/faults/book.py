"""The test's own book: what the user said yes to, held against every request, every ledger write and the whole market.

It trusts nothing that the server says of itself: yeses are noted as they are said, prices as the market showed them.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import httpx

from tests.faults.clock import MachineClock
from tests.faults.entries import Bad, Put, Violation, Yes
from tests.faults.told import Said, said_in, to_decide
from vastai_workflow.domain.ledger import UNSETTLED, Order, OrderState
from vastai_workflow.domain.market import ORDER_VARIABLE
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.exchange import Call
from vastai_workflow.simulator.faults import Fault, Schedule
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.world import World
from vastai_workflow.store.sqlite import SqliteStore

PATIENCE_S: Final = 120.0
"""Virtual seconds of undisturbed waiting in which what should not run has to be ended."""
UNDER_WAY_S: Final = 120.0
"""How long a create may have had an effect that no list shows: its time-out and the lists' delay."""
IN_USE_S: Final = 600.0
"""What has run for so long may be in use: to be ended only with a word of the user."""
_WAITING_AT_MOST_S: Final = 30.0
"""A longer pause between two waits is not counted as waiting."""
_ROUNDING: Final = Decimal("0.0005")
"""$/h: rows are rounded."""
LYING_LISTS: Final = frozenset({"empty_list", "stale_list", "truncated_list", "null_list"})


class Watched(Schedule):
    """A schedule of faults that tells which of them strike."""

    def __init__(self, faults: tuple[Fault, ...], book: "Book") -> None:
        super().__init__(faults)
        self._book = book

    def striking(self, call: Call) -> list[Fault]:
        """The same, told."""
        found = super().striking(call)
        for fault in found:
            self._book.struck(fault, call.operation)
        return found


@dataclass
class Book:
    """Watches one schedule; what is wrong is kept in `broken`, the first thing first."""

    world: World
    clock: VirtualClock
    machine: MachineClock
    ledger: SqliteStore
    yeses: list[Yes] = field(default_factory=list[Yes])
    orders: dict[str, Order] = field(default_factory=dict[str, Order])
    puts: dict[str, Put] = field(default_factory=dict[str, Put])
    """By the order."""
    shown: dict[int, Decimal] = field(default_factory=dict[int, Decimal])
    bad: dict[int, Bad] = field(default_factory=dict[int, Bad])
    """Machines that should not run, while they do."""
    ended: dict[int, str] = field(default_factory=dict[int, str])
    """Such machines that were ended: somebody has to be told."""
    allowed: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """What the user said yes to for one machine: `start`, or the end of what is not ours."""
    strangers: list[int] = field(default_factory=list[int])
    """Machines that another tool or the person rented."""
    ended_on_console: set[int] = field(default_factory=set[int])
    """Machines of ours that the person ended there."""
    wanted_gone: set[int] = field(default_factory=set[int])
    """What the user asked to have destroyed."""
    strikes: list[tuple[float, Fault, str]] = field(default_factory=list[tuple[float, Fault, str]])
    broken: list[str] = field(default_factory=list[str])
    heard: list[str] = field(default_factory=list[str])
    said: dict[int, set[Said]] = field(default_factory=dict[int, set[Said]])
    """What was told of each machine."""
    undecided: set[int] = field(default_factory=set[int])
    """About these the last answer asks the user."""
    kept_by_user: set[int] = field(default_factory=set[int])
    """Machines that the user was asked about, and wants to keep."""
    set_back_s: float = 0.0
    """By how much the clock was set back so far: so much longer may a yes count."""
    time_is_known: bool = True
    """The server's clock shows what the provider's does: the age of a machine is what it seems."""
    trace: list[str] = field(default_factory=list[str])
    verbose: bool = False
    moves: Counter[str] = field(default_factory=Counter[str])
    _newest: Put | None = None
    _listed_at: float = 0.0
    _marks: dict[int, str] = field(default_factory=dict[int, str])
    _last_wait_at: float | None = None
    _strikes_then: int = 0

    # -- what is seen

    def note(self, text: str) -> None:
        """A line for whoever reads the trace."""
        if self.verbose:
            self.trace.append(f"{self.clock.now() - 1_795_000_000:8.1f}  {text}")

    def struck(self, fault: Fault, operation: str) -> None:
        """A fault struck a request."""
        now = self.clock.now()
        self.strikes.append((now, fault, operation))
        self.note(f"fault {fault.name} {dict(fault.settings)} strikes {operation}")
        if fault.name == "proxy_repeats" and self._newest is not None:
            self._newest.denied = True

    def kept(self, order: Order) -> None:
        """The ledger has this now."""
        before = self.orders.get(order.order_id)
        self.orders[order.order_id] = order
        self.moves[f"{before.state if before else '-'} -> {order.state}"] += 1
        self.note(
            f"ledger {order.order_id} {before.state if before else '-'} -> {order.state} "
            f"machine={order.instance_id} {order.reason or ''}"
        )
        if order.instance_id in self.strangers:
            self.wrong(f"machine {order.instance_id} is a stranger's, and on record for order {order.order_id}")
        if before is not None and before.instance_id is not None and order.instance_id is None:
            self.wrong(f"the ledger forgot machine {before.instance_id} of order {order.order_id}")
        self.look()

    async def sending(self, operation: str, request: httpx.Request) -> None:
        """Judge a request before it takes effect."""
        self.note(f"request {operation} {request.url.path}")
        self.world.settle()
        if operation == "create":
            await self._judge_create(int(request.url.path.rstrip("/").rpartition("/")[2]), json.loads(request.content))
        elif operation in {"destroy", "stop", "start", "reboot", "attach"}:
            parts = [part for part in request.url.path.split("/") if part.isdecimal()]
            self._judge_change(operation, int(parts[-1]))

    def answered(self, operation: str, content: bytes | None) -> None:
        """Look at the market after an effect."""
        if operation == "search" and content is not None:
            self._note_prices(content)
        if operation == "list" and content is not None:
            self._listed_at = self.clock.now()
        self.look()

    def hear(self, answer: Mapping[str, Any]) -> None:
        """A result's structured content, or a refusal, reached the agent."""
        for machine, said in said_in(answer).items():
            self.said.setdefault(machine, set()).update(said)
            there = self.world.instances.get(machine)
            if Said.OURS in said and machine in self.strangers:
                self.wrong(f"machine {machine} is a stranger's, and was called ours")
            if Said.ENDED in said and there is not None and not there.unloaded:
                self.wrong(f"machine {machine} was called gone and runs")
        self.undecided = set(to_decide(answer)) - self.kept_by_user

    def untold(self, told: set[int]) -> None:
        """What was ended in a call that nobody answers could not be told; `told`: what was ended before it."""
        self.ended = {machine: why for machine, why in self.ended.items() if machine in told}

    def _note_prices(self, content: bytes) -> None:
        try:
            rows = json.loads(content)["offers"]
        except (ValueError, KeyError, TypeError):
            return
        for row in rows:
            self.shown[int(row["ask_contract_id"])] = Decimal(str(row["dph_total"]))

    def wrong(self, what: str) -> None:
        """An invariant is broken."""
        self.note(f"BROKEN {what}")
        self.broken.append(what)

    def check(self) -> None:
        """Violation where anything was wrong so far."""
        if self.broken:
            raise Violation(self.broken[0])

    # -- creates

    async def _judge_create(self, ask_id: int, body: dict[str, Any]) -> None:
        mark = str(body["env"].get(ORDER_VARIABLE))
        order = self.orders.get(mark.partition(".")[2])
        if order is None or mark.partition(".")[0] != self.ledger.store_id:
            self.wrong(f"a create was sent with the mark {mark}, which the ledger does not have")
            return
        if order.state is not OrderState.SENT:
            self.wrong(f"a create was sent for order {order.order_id}, which is on record as {order.state}")
        if order.order_id in self.puts:
            self.wrong(f"the create of order {order.order_id} was sent twice")
        others = [o for o in self.orders.values() if o.order_id != order.order_id and o.state in UNSETTLED]
        if others:
            self.wrong(f"a create was sent while order {others[0].order_id} was {others[0].state}")
        yes = await self._yes_of(order)
        if yes is None:
            self.wrong(f"a create was sent for order {order.order_id} without a yes")
            return
        self._judge_against(yes, order, ask_id, body)
        self.puts[order.order_id] = self._newest = Put(self.clock.now(), yes)

    def _judge_against(self, yes: Yes, order: Order, ask_id: int, body: dict[str, Any]) -> None:
        values = yes.values
        late_s = min(self.machine.now() - yes.until, self.clock.now() - yes.until_true)  # it may be set in between
        if late_s >= self.set_back_s:
            self.wrong(f"order {order.order_id} was sent {late_s:.0f} s after its yes had expired")
        env = {name: value for name, value in body["env"].items() if name != ORDER_VARIABLE}
        sent = (body["image"], body["disk"], body["label"], env, body["price"], body["runtype"])
        agreed = (values["image"], float(values["disk_gb"]), values["label"], dict(yes.env), None, sent[5])
        if sent != agreed:
            self.wrong(f"order {order.order_id} was sent as {sent[:3]}, agreed {agreed[:3]}")
        price = self.shown.get(ask_id)
        if price is None or price > yes.ceiling:
            self.wrong(f"order {order.order_id} was sent for offer {ask_id} at {price}, agreed at most {yes.ceiling}")
        taken = [o for o in self._orders_of(yes) if o.order_id != order.order_id and self._was_to_be_known(o)]
        if len(taken) >= yes.count:
            ids = ", ".join(o.order_id for o in taken)
            self.wrong(f"order {order.order_id} was sent beyond {yes.count} agreed: {ids} had rented")

    def _was_to_be_known(self, order: Order) -> bool:
        """Whether the order has, or may have, a machine that a careful reader of lists knows of."""
        put = self.puts.get(order.order_id)
        made = self._made_by(order.order_id)
        if put is None or not made:
            return False
        lied = any(fault.name in LYING_LISTS and at >= put.at for at, fault, _ in self.strikes)
        listed = not lied and any(one.visible_at <= self._listed_at for one in made)
        return listed or (self.clock.now() < put.at + UNDER_WAY_S and not put.denied)

    async def _yes_of(self, order: Order) -> Yes | None:
        """The yes behind an order: its confirmation has to be of a yes that was said, and of no other's."""
        known = next((yes for yes in self.yeses if yes.confirmation_id == order.confirmation_id), None)
        if known is not None:
            return known
        workflow = await self.ledger.workflow(order.workflow_id)
        if workflow is None:
            return None
        for item in workflow.confirmations:
            if item.confirmation_id == order.confirmation_id:
                said = [y for y in self.yeses if y.workflow_id == order.workflow_id and y.digest == item.digest]
                before = [yes for yes in said if yes.said_at <= item.at] or said[-1:]  # the clock went back meanwhile
                for yes in before[-1:]:
                    if yes.confirmation_id is None:
                        yes.confirmation_id = item.confirmation_id
                        return yes
        return None

    def _orders_of(self, yes: Yes) -> list[Order]:
        return [order for order in self.orders.values() if order.confirmation_id == yes.confirmation_id]

    # -- other changes

    def _judge_change(self, operation: str, instance_id: int) -> None:
        instance = self.world.instances.get(instance_id)
        if instance is None:
            return
        if operation == "start":
            if ("start", instance_id) not in self.allowed:
                self.wrong(f"machine {instance_id} was started without a yes")
            self.allowed.discard(("start", instance_id))
            return
        if not self._ours(instance):
            if ("end", instance_id) not in self.allowed:
                self.wrong(f"{operation} was sent for machine {instance_id}, which is a stranger's")
        elif operation == "destroy" and instance_id not in self.wanted_gone and not self._may_be_released(instance):
            self.wrong(f"machine {instance_id} was ended, as it was agreed to and unasked")

    def _may_be_released(self, instance: Instance) -> bool:
        """It should not run, has ended, came with an error, or is of a fleet that stays short."""
        order = self.orders[self._mark(instance)]
        if instance.id in self.bad or order.reply_error is not None:
            return True
        if instance.unloaded:  # asked again: another process died before it saw the end
            return True
        if order.instance_id != instance.id or order.state is OrderState.RELEASED:  # a second one, or one left over
            return True
        yes = [one for one in self.orders.values() if one.confirmation_id == order.confirmation_id]
        had = sum(one.live or one.state is OrderState.RELEASED for one in yes)
        if order.late and had > order.places:  # its place was used meanwhile
            return True
        plan = [one for one in yes if one.plan_id == order.plan_id]
        whole = sum(one.live and one.instance_id not in self.bad for one in plan) >= order.places
        return order.fleet == "all_or_nothing" and not whole

    # -- the market

    def _mark(self, instance: Instance) -> str:
        """The order whose mark a machine carries; empty for none of ours."""
        mark = self._marks.get(instance.id)
        if mark is None:
            store, _, order_id = str(instance.env.get(ORDER_VARIABLE, "")).partition(".")
            mark = self._marks[instance.id] = order_id if store == self.ledger.store_id else ""
        return mark

    def _ours(self, instance: Instance) -> bool:
        """Made by one of our requests; what carries our mark beside these is a copy, a stranger's."""
        return bool(self._mark(instance)) and instance.id not in self.strangers

    def _made_by(self, order_id: str) -> list[Instance]:
        """Every machine that an order's request ever made."""
        return [
            one for one in self.world.everything(self.world.account) if self._mark(one) == order_id and self._ours(one)
        ]

    def copies(self) -> list[Instance]:
        """Machines that carry one of our marks, and are not ours."""
        return [
            one for one in self.world.instances.values() if not one.unloaded and self._mark(one) and not self._ours(one)
        ]

    def alive(self) -> list[Instance]:
        """Machines that our requests made and that bill, seen or not."""
        return [one for one in self.world.instances.values() if not one.unloaded and self._ours(one)]

    def look(self) -> None:
        """Hold every machine against the ledger and the yeses."""
        alive = self.alive()
        bad: dict[int, str] = {}
        by_order: dict[str, list[Instance]] = {}
        for instance in alive:
            order_id = self._mark(instance)
            if order_id not in self.orders:
                self.wrong(f"machine {instance.id} carries the mark of {order_id}, which the ledger does not have")
                continue
            by_order.setdefault(order_id, []).append(instance)
            why = self._unfit(instance, self.orders[order_id])
            if why:
                bad[instance.id] = why
        for order_id, machines in by_order.items():
            kept = self.orders[order_id].instance_id
            own = next((one for one in machines if one.id == kept), machines[0])
            bad |= {one.id: f"a second machine of {order_id}" for one in machines if one is not own}
        for yes in self.yeses:
            orders = [order for order in self._orders_of(yes) if order.order_id in by_order]
            for order in self._latest_first(orders)[: max(len(orders) - yes.count, 0)]:
                bad |= {one.id: "beyond the places agreed" for one in by_order[order.order_id]}
        bad = {one: why for one, why in bad.items() if one not in self.kept_by_user}
        running = {one.id for one in alive}
        self.ended |= {one: known.why for one, known in self.bad.items() if one not in running}
        self.bad = {one: self.bad.get(one, Bad(why)) for one, why in bad.items()}

    def _latest_first(self, orders: list[Order]) -> list[Order]:
        return sorted(orders, key=lambda order: (order.late, order.created_at), reverse=True)

    def _unfit(self, instance: Instance, order: Order) -> str:
        price = instance.dph_base + instance.machine.storage_price(instance.disk_gb)
        gpu = instance.disguise.get("gpu_name", instance.machine.model.name)
        gpus = instance.disguise.get("num_gpus", len(instance.gpu_ids))
        put = self.puts.get(order.order_id)
        if put is not None and price > put.yes.ceiling + _ROUNDING:
            return f"costs {price:.4f}, agreed at most {put.yes.ceiling}"
        if (gpu, gpus) not in {(order.gpu_name, order.num_gpus), (order.gpu_name, 0)}:  # a 0 is taken as not known
            return f"is {gpus} x {gpu}, agreed {order.num_gpus} x {order.gpu_name}"
        if instance.disk_gb < order.disk_gb:
            return f"has {instance.disk_gb} GB, agreed {order.disk_gb}"
        return ""

    def waited(self) -> None:
        """The agent has just waited: what should not run and could be seen has to be ended in time."""
        now, undisturbed = self.clock.now(), len(self.strikes) == self._strikes_then
        passed = 0.0 if self._last_wait_at is None else now - self._last_wait_at
        self._last_wait_at, self._strikes_then = now, len(self.strikes)
        if not undisturbed or passed > _WAITING_AT_MOST_S:
            return
        for instance_id, bad in self.bad.items():
            instance = self.world.instances[instance_id]
            asked = instance_id in self.undecided and (not self.time_is_known or now - instance.created_at > IN_USE_S)
            if instance.visible_at <= now - passed and not asked:
                bad.waited_s += passed
                if bad.waited_s > PATIENCE_S:
                    self.wrong(f"machine {instance_id} still runs after {bad.waited_s:.0f} s of waiting: {bad.why}")
