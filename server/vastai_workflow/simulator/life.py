"""The life of an instance: every change of its state, at once or planned for later."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Protocol

from vastai_workflow.simulator.instances import Fate, Instance
from vastai_workflow.simulator.market import Machine, Market
from vastai_workflow.simulator.switches import Switches

KEPT_AFTER_CONTRACT_END_S = 48 * 3600.0
OCI_ERROR = (
    "Error response from daemon: failed to create task for container: failed to create shim task: "
    "OCI runtime create failed: runc create failed: unable to start container process"
)
IMAGE_ERROR = "Error response from daemon: manifest for {image} not found: manifest unknown: manifest unknown"
_NOT_YET_RUNNING = frozenset({None, "created", "loading"})


class Schedule(Protocol):
    """Where steps are planned."""

    @property
    def time(self) -> float:
        """The moment of the step that happens now, in Unix seconds."""
        ...

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Plan an action."""
        ...


class Life:
    """Changes instances; the cards they hold are taken from and given back to the market."""

    def __init__(self, schedule: Schedule, market: Market, switches: Switches) -> None:
        self._schedule = schedule
        self._market = market
        self._switches = switches

    # -- the way up

    def begin(self, instance: Instance) -> None:
        """A new contract: pull the image and start the container, unless it was created stopped."""
        until_end = max(instance.end_date - self._schedule.time, 0.0)
        self._schedule.later(until_end, lambda: self._contract_ends(instance))
        if instance.intended != "running":
            instance.actual = self._switches.stopped_status
        elif instance.holds_cards:
            self._load(instance, self._switches.created_s, self._switches.loading_s * instance.load_factor)

    def _load(self, instance: Instance, created_s: float, loading_s: float) -> None:
        """From nothing over `created` and `loading` to `running`, with the progress of the pull."""
        kind = instance.fate.kind if instance.fate else ""
        self._plan(instance, created_s, self._created)
        if kind == "oci":
            self._plan(instance, created_s + loading_s, lambda one: self._say(one, OCI_ERROR))
            return
        self._plan(instance, created_s + 1, self._loading)
        for tenths in (3, 6, 9):
            layer = f"{instance.id * 7919 * tenths % 0xFFFFFFFFFFFF:012x}: " + (
                "Pull complete" if tenths == 9 else "Download complete"  # noqa: PLR2004 - the last of three
            )
            if kind == "stuck" and tenths > 3:  # noqa: PLR2004 - it hangs after the first layer
                return
            after = created_s + 1 + loading_s * tenths / 10
            self._plan(instance, after, lambda one, layer=layer: self._say(one, layer))
        if kind == "image":
            error = IMAGE_ERROR.format(image=instance.image)
            self._plan(instance, created_s + 1 + loading_s, lambda one: self._say(one, error))
            return
        self._plan(instance, created_s + 1 + loading_s, self._running)

    def _created(self, instance: Instance) -> None:
        instance.actual = "created"

    def _loading(self, instance: Instance) -> None:
        instance.actual = "loading"

    def _say(self, instance: Instance, message: str) -> None:
        instance.status_msg = message
        instance.log.append(message)

    def _running(self, instance: Instance) -> None:
        mode = "jupyter" if instance.is_jupyter else "ssh" if instance.has_ssh else "args"
        instance.actual = instance.cur = instance.next = "running"
        instance.running_since = self._schedule.time
        image = instance.image.replace(":", "_")
        self._say(instance, f"success, running {image}/{mode}")
        if instance.onstart and mode != "args":
            instance.log.append("+ onstart")
        if instance.fate is not None:
            self._plan(instance, instance.fate.after_s, self._meet_fate)

    # -- what the user asks for

    def stop(self, instance: Instance) -> None:
        """Stop the container and give the cards back; the disk stays and is billed."""
        self._turn(instance)
        instance.intended = instance.next = "stopped"
        instance.queued = instance.lost_bid = False
        self._plan(instance, self._switches.stop_s, self._stopped)

    def _stopped(self, instance: Instance) -> None:
        instance.cur = instance.next = "stopped"
        instance.actual = self._switches.stopped_status
        instance.running_since = None
        self._market.release(instance.machine, instance.holder)

    def start(self, instance: Instance) -> bool:
        """Start again; False if the cards are held by somebody else, and then the start is queued."""
        if instance.actual == "running" and instance.intended == "running":
            return True
        self._turn(instance)
        instance.intended = instance.next = "running"
        if self._take_cards(instance):
            return True
        instance.queued = True
        if self._switches.queued_start == "falls_back":
            self._plan(instance, self._switches.queue_fallback_s, self._drop_from_queue)
        return False

    def _take_cards(self, instance: Instance) -> bool:
        if not self._can_have_cards(instance):
            return False
        if not instance.holds_cards:
            self._market.take(instance.machine, instance.gpu_ids, instance.holder)
        instance.cur = "running"
        instance.queued = instance.lost_bid = False
        self._plan(instance, self._switches.start_s / 2, self._loading)
        if instance.fate is None or instance.fate.kind != "stuck":
            self._plan(instance, self._switches.start_s, self._running)
        return True

    def _can_have_cards(self, instance: Instance) -> bool:
        """Whether it holds its cards, or they are free and its bid is high enough."""
        if instance.holds_cards:
            return True
        high_enough = instance.bid is None or instance.bid >= instance.machine.lowest_bid(len(instance.gpu_ids))
        return high_enough and instance.machine.is_free(instance.gpu_ids)

    def _drop_from_queue(self, instance: Instance) -> None:
        instance.queued = False
        instance.intended = instance.next = "stopped"

    def serve_queue(self, waiting: Iterable[Instance]) -> None:
        """Start those queued instances whose cards are free now."""
        for instance in waiting:
            if instance.queued and not instance.unloaded and self._can_have_cards(instance):
                self._turn(instance)
                self._take_cards(instance)

    def restart(self, instance: Instance, *, fresh: bool) -> None:
        """Reboot, or recycle into a fresh container; the cards are kept."""
        self._turn(instance)
        instance.actual = "recycling" if fresh else "rebooting"
        instance.running_since = None
        if fresh:
            instance.container += 1
            instance.log.clear()
            self._plan(instance, self._switches.reboot_s / 2, self._loading)
        self._plan(instance, self._switches.reboot_s * (2 if fresh else 1), self._running)

    def end(self, instance: Instance) -> None:
        """Destroy: billing stops, the cards are free, and it is shown a little longer."""
        self._turn(instance)
        instance.unloaded = True
        instance.ended_at = self._schedule.time
        instance.queued = False
        instance.cur = instance.next = "unloaded"
        instance.intended = "stopped"
        instance.running_since = None
        instance.api_key.revoked = True
        self._market.release(instance.machine, instance.holder)
        linger = self._switches.destroy_linger_s if instance.linger_s is None else instance.linger_s
        self._schedule.later(linger, lambda: self._forget(instance))

    def _forget(self, instance: Instance) -> None:
        instance.gone = True

    # -- what happens to it

    def meet(self, instance: Instance, fate: Fate) -> None:
        """Give an instance a fate: a boot starts again with it, and what runs meets it after its time."""
        instance.fate = fate
        if instance.actual == "running" or fate.kind in {"outbid", "offline"}:
            self._plan(instance, fate.after_s, self._meet_fate)
        elif instance.actual in _NOT_YET_RUNNING and instance.holds_cards:
            self._turn(instance)
            self._load(instance, self._switches.created_s, self._switches.loading_s * instance.load_factor)

    def _meet_fate(self, instance: Instance) -> None:
        fate, instance.fate = instance.fate, None
        if fate is None:
            return
        if fate.kind == "outbid":
            self.outbid(instance)
        elif fate.kind in {"crash", "offline", "unknown", "frozen"}:
            self._turn(instance)
            instance.actual = "exited" if fate.kind == "crash" else fate.kind
            instance.running_since = None
            if fate.kind == "frozen":
                instance.intended = "frozen"

    def recover(self, instance: Instance) -> None:
        """Bring an offline or unknown machine back."""
        self._turn(instance)
        self._running(instance)

    def outbid(self, instance: Instance) -> None:
        """Somebody bids more: the cards go to them; the status text does not say so."""
        self._turn(instance)
        machine, gpus = instance.machine, instance.gpu_ids
        self._market.release(machine, instance.holder)
        self._market.take(machine, gpus, f"bidder:{instance.id}")
        if instance.bid is not None and machine.lowest_bid(len(gpus)) <= instance.bid:
            machine.min_bid = instance.bid / len(gpus) + Decimal("0.01")
        instance.lost_bid = True
        instance.cur = instance.next = "stopped"
        instance.running_since = None
        if instance.actual in _NOT_YET_RUNNING:
            instance.intended = "stopped"
        else:
            instance.actual = "exited"

    def bid(self, instance: Instance, price: Decimal) -> None:
        """Another bid; a high enough one wins lost cards back, a low one loses them."""
        instance.bid = instance.dph_base = price
        enough = price >= instance.machine.lowest_bid(len(instance.gpu_ids))
        if instance.lost_bid and enough:
            self._market.release(instance.machine, f"bidder:{instance.id}")
            self._turn(instance)
            instance.intended = instance.next = "running"
            instance.queued = not self._take_cards(instance)
        elif not enough and instance.holds_cards:
            self.outbid(instance)

    def price_moved(self, machine: Machine, instances: Iterable[Instance]) -> None:
        """A machine's lowest bid moved: interruptible instances below it lose."""
        for instance in instances:
            if instance.machine is not machine or instance.bid is None or not instance.holds_cards:
                continue
            if instance.bid < machine.lowest_bid(len(instance.gpu_ids)):
                self.outbid(instance)

    def _contract_ends(self, instance: Instance) -> None:
        if not instance.unloaded:
            self.stop(instance)
            self._schedule.later(KEPT_AFTER_CONTRACT_END_S, lambda: self._end_if_still_there(instance))

    def _end_if_still_there(self, instance: Instance) -> None:
        if not instance.unloaded:
            self.end(instance)

    # -- planning

    def _turn(self, instance: Instance) -> None:
        """Change course: nothing planned before happens any more."""
        instance.epoch += 1

    def _plan(self, instance: Instance, delay_s: float, step: Callable[[Instance], None]) -> None:
        epoch = instance.epoch
        self._schedule.later(delay_s, lambda: step(instance) if instance.epoch == epoch else None)
