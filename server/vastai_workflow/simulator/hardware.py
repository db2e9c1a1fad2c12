"""What the market is made of: graphics cards, processors and places that machines really have."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class GpuModel:
    """One model of graphics card; memory in MB, bandwidth in GB/s, power in W, typical price in $/h for one."""

    name: str
    ram: int
    price: Decimal
    tflops: float
    dlperf: float
    mem_bw: float
    power: int
    compute_cap: int
    nvlink: float = 0.0
    datacenter: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where machines stand, as the provider writes it: a name, ending in the two-letter code, and its number."""

    geolocation: str
    geocode: int

    @property
    def code(self) -> str:
        """The two-letter code, which region filters use."""
        return self.geolocation[-2:]


RTX_4090 = GpuModel("RTX 4090", 24_564, Decimal("0.36"), 82.6, 100.0, 1008.0, 450, 890)

MODELS: tuple[GpuModel, ...] = (
    RTX_4090,
    GpuModel("RTX 3090", 24_576, Decimal("0.17"), 35.6, 45.0, 936.0, 350, 860),
    GpuModel("RTX 5090", 32_607, Decimal("0.55"), 104.8, 160.0, 1792.0, 575, 1200),
    GpuModel("A100 SXM4", 81_920, Decimal("0.95"), 19.5, 90.0, 2039.0, 400, 800, nvlink=600.0, datacenter=True),
    GpuModel("H100 SXM", 81_559, Decimal("2.05"), 66.9, 250.0, 3350.0, 700, 900, nvlink=900.0, datacenter=True),
    GpuModel("L40S", 46_068, Decimal("0.62"), 91.6, 110.0, 864.0, 350, 890, datacenter=True),
    GpuModel("RTX 4080", 16_376, Decimal("0.24"), 48.7, 65.0, 717.0, 320, 890),
    GpuModel("RTX A6000", 49_140, Decimal("0.45"), 38.7, 55.0, 768.0, 300, 860),
)

PLACES: tuple[Place, ...] = (
    Place("California, US", 1), Place("Sweden, SE", 2), Place("Germany, DE", 3), Place("Texas, US", 4),
    Place("Japan, JP", 5), Place("Quebec, CA", 6), Place("Czechia, CZ", 7), Place(", US", 8),
    Place("Taiwan, TW", 9), Place("Norway, NO", 10), Place("Poland, PL", 11), Place("South Korea, KR", 12),
    Place("United Kingdom, GB", 13), Place("Australia, AU", 14), Place("Brazil, BR", 15), Place("Iceland, IS", 16),
)  # fmt: skip

CPUS: tuple[tuple[str, int, float], ...] = (
    ("AMD EPYC 7B13", 128, 2.2),
    ("AMD Ryzen 9 7950X", 32, 4.5),
    ("Xeon Gold 6330", 56, 2.0),
    ("AMD EPYC 9354", 64, 3.2),
)

DRIVERS: tuple[tuple[str, float], ...] = (
    ("535.86.05", 12.2),
    ("550.54.15", 12.4),
    ("570.86.15", 12.8),
    ("580.65.06", 13.0),
)
