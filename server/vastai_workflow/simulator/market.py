"""The machines on offer, the asks that list their free graphics cards, and who holds which card."""

import itertools
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from vastai_workflow.simulator.hardware import CPUS, DRIVERS, MODELS, PLACES, RTX_4090, GpuModel, Place

HOURS_A_MONTH = 720
"""The provider's month when it turns $/GB/month of storage into $/h."""
CENT_OF_A_CENT = Decimal("0.0001")
DAY_S = 86_400.0


@dataclass(slots=True, eq=False)
class Machine:
    """One host computer; prices in $/h for one card, traffic in $/GB, storage in $/GB/month, network in Mb/s."""

    id: int
    host_id: int
    model: GpuModel
    num_gpus: int
    price: Decimal
    min_bid: Decimal
    storage_cost: Decimal
    traffic_cost: Decimal
    disk_gb: float
    place: Place
    address: str
    first_port: int
    reliability: float
    verification: str
    rentable: bool
    cpu: tuple[str, int, float]
    ram_mb: int
    driver: tuple[str, float]
    inet_up: float
    inet_down: float
    listed_at: float
    end_date: float
    layout: tuple[tuple[int, ...], ...]
    """The groups of cards that can be rented together, by card number."""
    holders: dict[int, str] = field(default_factory=dict[int, str])
    """Who holds which card."""

    def is_free(self, gpu_ids: tuple[int, ...]) -> bool:
        """Whether nobody holds any of these cards."""
        return not any(gpu in self.holders for gpu in gpu_ids)

    def base_price(self, gpus: int) -> Decimal:
        """$/h of so many cards without storage."""
        return self.price * gpus

    def lowest_bid(self, gpus: int) -> Decimal:
        """$/h that an interruptible rental of so many cards has to reach now."""
        return self.min_bid * gpus

    def storage_price(self, gigabytes: Decimal) -> Decimal:
        """$/h of so much disk."""
        return self.storage_cost * gigabytes / HOURS_A_MONTH

    def disk_share(self, gpus: int) -> float:
        """GB of disk that go with so many cards."""
        return round(self.disk_gb * gpus / self.num_gpus, 1)


@dataclass(frozen=True, slots=True)
class Ask:
    """One rentable group of cards of a machine; its id is good for one rental."""

    id: int
    machine: Machine
    gpu_ids: tuple[int, ...]

    @property
    def num_gpus(self) -> int:
        """How many cards."""
        return len(self.gpu_ids)

    @property
    def rented(self) -> bool:
        """Whether somebody holds one of the cards."""
        return not self.machine.is_free(self.gpu_ids)


def _layout(num_gpus: int) -> tuple[tuple[int, ...], ...]:
    """All cards together, each half, each quarter ... down to single cards."""
    groups: list[tuple[int, ...]] = []
    size = num_gpus
    while size >= 1:
        groups.extend(tuple(range(first, first + size)) for first in range(0, num_gpus - size + 1, size))
        size //= 2
    return tuple(groups)


class Market:
    """All machines and their asks; built from a random source, changed only by its methods."""

    def __init__(self, rng: Random, now: float, offers: int) -> None:
        self._rng = rng
        self._ask_ids = itertools.count(7_000_001 + rng.randrange(100_000), 3)
        self.machines: list[Machine] = []
        self.asks: dict[int, Ask] = {}
        self._build(offers, now)

    def _build(self, offers: int, now: float) -> None:
        plain = (offers + 1) // 2
        for _ in range(plain):
            self._add(RTX_4090, 1, now, ordinary=True)
        models = itertools.cycle(MODELS)
        sizes = itertools.cycle((1, 2, 1, 4, 1, 8))
        left = offers - plain
        while left > 0:
            layout = _layout(next(sizes))[:left]
            self._add(next(models), len(layout[0]), now, layout=layout)
            left -= len(layout)

    def _add(
        self,
        model: GpuModel,
        num_gpus: int,
        now: float,
        *,
        layout: tuple[tuple[int, ...], ...] = ((0,),),
        ordinary: bool = False,
    ) -> None:
        rng = self._rng
        number = len(self.machines)
        price = (model.price * Decimal(str(round(rng.uniform(0.8, 1.6), 4)))).quantize(CENT_OF_A_CENT)
        datacenter = model.datacenter or rng.random() < 0.2  # noqa: PLR2004 - a share
        standing = "verified" if ordinary else rng.choice(("verified", "verified", "unverified", "deverified"))
        machine = Machine(
            id=4_000 + number * 7,
            host_id=70 + number % 23,
            model=model,
            num_gpus=num_gpus,
            price=price + CENT_OF_A_CENT * number,  # no two machines of a model cost the same
            min_bid=(price * Decimal("0.55")).quantize(CENT_OF_A_CENT),
            storage_cost=Decimal(rng.randrange(8, 30)) / 100,
            traffic_cost=Decimal(rng.randrange(0, 20)) / 1000,
            disk_gb=float(rng.randrange(200, 2_000)),
            place=PLACES[number % len(PLACES)],
            address=f"203.0.113.{number % 250 + 1}",
            first_port=40_000 + number * 100 % 20_000,
            reliability=round(rng.uniform(0.985, 0.9995) if ordinary else rng.uniform(0.85, 0.9995), 4),
            verification=standing,
            rentable=ordinary or rng.random() < 0.9,  # noqa: PLR2004 - a share
            cpu=rng.choice(CPUS),
            ram_mb=rng.choice((64_000, 128_000, 257_000, 515_000)) * (2 if datacenter else 1),
            driver=rng.choice(DRIVERS[1:]) if ordinary else rng.choice(DRIVERS),
            inet_up=float(rng.randrange(100, 2_000)),
            inet_down=float(rng.randrange(300, 5_000)),
            listed_at=now - rng.uniform(5, 300) * DAY_S,
            end_date=now + rng.uniform(20, 200) * DAY_S,
            layout=layout,
        )
        self.machines.append(machine)
        for gpu_ids in layout:
            self._list(machine, gpu_ids)

    def _list(self, machine: Machine, gpu_ids: tuple[int, ...]) -> None:
        ask = Ask(next(self._ask_ids), machine, gpu_ids)
        self.asks[ask.id] = ask

    def _list_again(self, machine: Machine) -> None:
        """After a change of holders every ask of the machine gets a new id."""
        old = [ask for ask in self.asks.values() if ask.machine is machine]
        for ask in old:
            del self.asks[ask.id]
        for ask in old:
            self._list(machine, ask.gpu_ids)

    def take(self, machine: Machine, gpu_ids: tuple[int, ...], holder: str) -> None:
        """Give free cards to a holder."""
        for gpu in gpu_ids:
            machine.holders[gpu] = holder
        self._list_again(machine)

    def release(self, machine: Machine, holder: str) -> None:
        """Take back all cards of a holder on a machine."""
        mine = [gpu for gpu, name in machine.holders.items() if name == holder]
        for gpu in mine:
            del machine.holders[gpu]
        if mine:
            self._list_again(machine)

    def free_asks(self) -> list[Ask]:
        """The asks that can be rented now."""
        return [ask for ask in self.asks.values() if ask.machine.rentable and not ask.rented]


class Competitors:
    """Other renters: they take free asks, give them back after a while, and move prices as they go."""

    def __init__(self, market: Market, rng: Random, rentals_per_hour: float, mean_hours: float = 3.0) -> None:
        self._market = market
        self._rng = rng
        self._per_hour = rentals_per_hour
        self._mean_hours = mean_hours
        self._numbers = itertools.count(1)

    def pause_s(self) -> float:
        """Seconds until the next of them comes."""
        return self._rng.expovariate(self._per_hour) * 3600.0

    def rent(self) -> tuple[Machine, str, float] | None:
        """Rent one ask if any is free: the machine, the holder's name, and for how many seconds."""
        free = self._market.free_asks()
        if not free:
            return None
        ask = self._rng.choice(free)
        holder = f"other:{next(self._numbers)}"
        self._market.take(ask.machine, ask.gpu_ids, holder)
        return ask.machine, holder, self._rng.expovariate(1 / self._mean_hours) * 3600.0

    def move_a_price(self) -> Machine:
        """Move one machine's price by up to 3% and its lowest bid by up to 10%."""
        machine = self._rng.choice(self._market.machines)
        machine.price = _moved(machine.price, self._rng.uniform(0.97, 1.03))
        machine.min_bid = min(_moved(machine.min_bid, self._rng.uniform(0.9, 1.1)), machine.price)
        return machine


def _moved(price: Decimal, factor: float) -> Decimal:
    return (price * Decimal(str(round(factor, 6)))).quantize(CENT_OF_A_CENT)
