"""The whole simulated provider at one moment: market, accounts and instances, moved along by a clock from outside.

Pure and seeded: no asyncio, no wall clock, no randomness but the seed's. Time passes when somebody looks: `settle`
makes everything happen, in order, that was due since the last look.
"""

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from random import Random

from vastai_workflow.simulator.accounts import SCOPES, Account, ApiKey, Payment, SshKey
from vastai_workflow.simulator.exchange import JsonObject
from vastai_workflow.simulator.instances import Fate, Instance
from vastai_workflow.simulator.life import Life
from vastai_workflow.simulator.limits import Limits
from vastai_workflow.simulator.market import Ask, Competitors, Market
from vastai_workflow.simulator.switches import Switches

_DEFAULT_SWITCHES = Switches()


class World:
    """A market with `offers` asks, one account with `credit` dollars, and `competitors_per_hour` rentals by others.

    `now` gives Unix seconds. With `loopback` instances show the addresses that a service gives them; without, they
    show addresses of the ranges that are reserved for documentation.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        now: Callable[[], float],
        offers: int = 60,
        competitors_per_hour: float = 0.0,
        switches: Switches = _DEFAULT_SWITCHES,
        credit: Decimal = Decimal(25),
        loopback: bool = False,
    ) -> None:
        self.seed = seed
        self.switches = switches
        self.loopback = loopback
        self._now = now
        self.time = now()
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.market = Market(Random(seed), self.time, offers)  # noqa: S311 - a market, not a secret
        self.life = Life(self, self.market, switches)
        self.limits = Limits()
        self.accounts: list[Account] = []
        self.instances: dict[int, Instance] = {}
        """All that are not gone yet."""
        self.past: list[Instance] = []
        self.requests: Counter[str] = Counter()
        """How often each operation was asked for."""
        self.results: dict[str, tuple[float, str]] = {}
        """Texts behind result URLs, and when each is ready."""
        self._instance_ids = itertools.count(31_000_001 + seed % 1000 * 1000)
        self._small_ids = itertools.count(5)
        self.account = self.add_account("tester", email="tester@example.com", credit=credit)
        if competitors_per_hour > 0:
            self._competitors = Competitors(
                self.market,
                Random(f"competitors {seed}"),  # noqa: S311 - a market, not a secret
                competitors_per_hour,
            )
            self.later(self._competitors.pause_s(), self._compete)

    # -- accounts

    @property
    def api_key(self) -> str:
        """The full API key of the first account."""
        return next(iter(self.account.keys))

    def add_account(
        self,
        username: str,
        *,
        email: str = "",
        credit: Decimal = Decimal(25),
        has_card: bool = True,
        team: bool = False,
    ) -> Account:
        """A further account, with one full API key."""
        account = Account(9 + len(self.accounts), username, email, credit, has_card, team)
        account.payments.append(Payment(self.new_id(), self.time, credit))
        self.accounts.append(account)
        self.add_key(account)
        return account

    def add_key(
        self, account: Account, scopes: Iterable[str] = SCOPES, *, name: str = "key", instance_id: int | None = None
    ) -> ApiKey:
        """A further API key of an account."""
        key = ApiKey(self.new_id(), "", frozenset(scopes), instance_id, name=name)
        key.secret = self.token(f"api key {key.id}")
        account.keys[key.secret] = key
        return key

    def token(self, purpose: str) -> str:
        """64 hex digits that depend on the seed and the purpose alone."""
        return hashlib.sha256(f"{self.seed} {purpose}".encode()).hexdigest()

    def new_id(self) -> int:
        """The next number for keys, payments and the like."""
        return next(self._small_ids)

    def find_key(self, secret: str) -> tuple[Account, ApiKey] | None:
        """Whose key this is; None for an unknown or revoked one."""
        for account in self.accounts:
            key = account.keys.get(secret)
            if key is not None and not key.revoked:
                return account, key
        return None

    def pay_in(self, account: Account, amount: Decimal, service: str = "stripe_payments") -> None:
        """Add credit, in $."""
        account.credit += amount
        account.payments.append(Payment(self.new_id(), self.time, amount, service))

    # -- instances

    def of_account(self, account: Account) -> list[Instance]:
        """The account's instances that a read shows now, oldest first."""
        return [
            one
            for one in self.instances.values()
            if one.account is account and one.visible_at <= self.time and not one.gone
        ]

    def find_instance(self, account: Account, instance_id: int) -> Instance | None:
        """One that can still be acted on, shown or not."""
        instance = self.instances.get(instance_id)
        return instance if instance is not None and instance.account is account and not instance.unloaded else None

    def everything(self, account: Account) -> list[Instance]:
        """All instances of an account, ended ones too, oldest first."""
        return [one for one in (*self.past, *self.instances.values()) if one.account is account]

    def next_instance_id(self) -> int:
        """The id of the next contract."""
        return next(self._instance_ids)

    def begin(self, instance: Instance, ask: Ask | None) -> None:
        """A new contract begins; with an ask it takes the ask's cards."""
        self.instances[instance.id] = instance
        if ask is not None:
            self.market.take(ask.machine, ask.gpu_ids, instance.holder)
        self.life.begin(instance)

    def authorized_keys(self, instance_id: int) -> list[str]:
        """The public keys that its container accepts at this moment."""
        self.settle()
        instance = self.instances.get(instance_id)
        keys: Iterable[SshKey] = instance.ssh_keys.values() if instance is not None else ()
        return [key.public_key for key in keys if key.ready_at <= self.time]

    def fate(self, instance_id: int, fate: Fate) -> None:
        """Plan something bad for an instance."""
        self.settle()
        self.life.meet(self.instances[instance_id], fate)

    def traffic(self, instance_id: int, *, down_gb: Decimal = Decimal(0), up_gb: Decimal = Decimal(0)) -> None:
        """Let an instance use the network, in GB."""
        self.settle()
        self._use_network(self.instances[instance_id], down_gb, up_gb)

    def _use_network(self, instance: Instance, down_gb: Decimal, up_gb: Decimal) -> None:
        price = instance.machine.traffic_cost
        for kind, amount in (("bwd", down_gb), ("bwu", up_gb)):
            if amount > 0:
                instance.account.credit -= instance.meter.traffic(
                    "bwd" if kind == "bwd" else "bwu", amount, price, self.time
                )

    # -- time

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Plan an action for a later moment of the market."""
        heapq.heappush(self._due, (self.time + delay_s, next(self._order), action))

    def settle(self) -> None:
        """Let everything happen that was due until now."""
        until = self._now()
        while True:
            broke, empty_at = self._next_without_credit()
            due_at = self._due[0][0] if self._due else float("inf")
            if min(due_at, empty_at) > until:
                break
            if empty_at < due_at and broke is not None:
                self._pass_time(empty_at)
                self._out_of_credit(broke)
            else:
                _, _, action = heapq.heappop(self._due)
                self._pass_time(due_at)
                action()
                self._after_a_step()
        self._pass_time(until)
        self._after_a_step()

    def _after_a_step(self) -> None:
        for instance in [one for one in self.instances.values() if one.gone]:
            del self.instances[instance.id]
            self.past.append(instance)
        waiting = [one for one in self.instances.values() if one.queued]
        if waiting:
            self.life.serve_queue(waiting)

    def _pass_time(self, until: float) -> None:
        """Bill what ran since the last moment, and go to the next."""
        if until <= self.time:
            return
        for instance in self.instances.values():
            if instance.unloaded:
                continue
            charged = instance.meter.run("gpu", instance.gpu_rate, self.time, until)
            charged += instance.meter.run("disk", instance.disk_rate, self.time, until)
            charged -= self._use_prepaid(instance, charged)
            instance.account.credit -= charged
            if instance.actual == "running":
                self._trickle(instance, until - self.time)
        self.time = until

    def _use_prepaid(self, instance: Instance, charged: Decimal) -> Decimal:
        used = min(instance.prepaid, charged)
        instance.prepaid -= used
        return used

    def _trickle(self, instance: Instance, seconds: float) -> None:
        down, up = self.switches.traffic_down_gb_per_hour, self.switches.traffic_up_gb_per_hour
        if down or up:
            hours = Decimal(str(seconds)) / 3600
            self._use_network(instance, Decimal(str(down)) * hours, Decimal(str(up)) * hours)

    def _next_without_credit(self) -> tuple[Account | None, float]:
        """Who runs out of credit first, and when."""
        first: tuple[Account | None, float] = (None, float("inf"))
        rates: dict[int, Decimal] = {}
        for one in self.instances.values():
            if one.intended == "running" and not one.unloaded:
                rates[one.account.id] = rates.get(one.account.id, Decimal(0)) + one.gpu_rate + one.disk_rate
        for account in self.accounts:
            rate = rates.get(account.id)
            if rate:
                # a microsecond late, so that the credit really is at or under zero then
                at = self.time + max(float(account.credit / rate) * 3600.0, 0.0) + 1e-6
                if at < first[1]:
                    first = (account, at)
        return first

    def _out_of_credit(self, account: Account) -> None:
        """Stop all instances of an account; without a card they are deleted later."""
        for instance in self.instances.values():
            if instance.account is account and not instance.unloaded and instance.intended == "running":
                self.life.stop(instance)
                if not account.has_card:
                    self.later(self.switches.delete_without_credit_s, lambda one=instance: self._delete_unpaid(one))

    def _delete_unpaid(self, instance: Instance) -> None:
        if instance.account.credit <= 0 and not instance.unloaded:
            self.life.end(instance)

    # -- other renters

    def _compete(self) -> None:
        taken = self._competitors.rent()
        if taken is not None:
            machine, holder, seconds = taken
            self.later(seconds, lambda: self.market.release(machine, holder))
        moved = self._competitors.move_a_price()
        self.life.price_moved(moved, list(self.instances.values()))
        self.later(self._competitors.pause_s(), self._compete)

    # -- for checks from outside

    def state(self) -> JsonObject:
        """What is true now, whatever reads say: all contracts that cost money, and the requests so far."""
        self.settle()
        return {
            "now": self.time,
            "seed": self.seed,
            "requests": dict(self.requests),
            "instances": [
                {
                    "id": one.id,
                    "account_id": one.account.id,
                    "username": one.account.username,
                    "machine_id": one.machine.id,
                    "label": one.label,
                    "env": one.env,
                    "image": one.image,
                    "gpu_name": one.machine.model.name,
                    "num_gpus": len(one.gpu_ids),
                    "disk_gb": float(one.disk_gb),
                    "actual_status": one.actual,
                    "intended_status": one.intended,
                    "is_bid": one.is_bid,
                    "price_per_hour": float(one.dph_base + one.machine.storage_price(one.disk_gb)),
                    "cost_usd": float(one.meter.total()),
                    "created_at": one.created_at,
                }
                for one in self.instances.values()
                if not one.unloaded
            ],
            "accounts": [
                {"id": one.id, "username": one.username, "credit": float(one.credit)} for one in self.accounts
            ],
        }
