"""What the scripted `nvidia-smi` of a simulated machine prints."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

DRIVER_VERSION = "570.86.15"
CUDA_VERSION = "12.8"

# The market writes short names, the driver prints long ones (both as seen in public listings and driver output).
_DRIVER_NAMES = {
    "A100 PCIE": "NVIDIA A100-PCIE-{gb}GB",
    "A100 SXM4": "NVIDIA A100-SXM4-{gb}GB",
    "H100 NVL": "NVIDIA H100 NVL",
    "H100 PCIE": "NVIDIA H100 PCIe",
    "H100 SXM": "NVIDIA H100 80GB HBM3",
    "Tesla V100": "Tesla V100-SXM2-{gb}GB",
}
_UNITS = {"memory.total": "MiB", "memory.used": "MiB", "memory.free": "MiB", "utilization.gpu": "%"}


@dataclass(frozen=True)
class Answer:
    """What one command prints, and the exit status it ends with."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0


def driver_name(gpu_name: str, memory_mb: int) -> str:
    """The name that the driver prints for the market's `gpu_name`; `memory_mb` in MB."""
    if gpu_name in _DRIVER_NAMES:
        marketed_gb = next((gb for gb in (16, 32, 40, 80) if memory_mb <= gb * 1030), 80)
        return _DRIVER_NAMES[gpu_name].format(gb=marketed_gb)
    if gpu_name.startswith(("NVIDIA", "Tesla", "Quadro")):
        return gpu_name
    if ada := re.fullmatch(r"(RTX \d{4})Ada", gpu_name):
        return f"NVIDIA {ada[1]} Ada Generation"
    if super_ := re.fullmatch(r"(RTX \d{4})S( Ti)?", gpu_name):
        return f"NVIDIA GeForce {super_[1]}{super_[2] or ''} SUPER"
    return f"NVIDIA GeForce {gpu_name}" if re.match(r"(RTX|GTX) \d", gpu_name) else f"NVIDIA {gpu_name}"


def run(args: Sequence[str], gpus: Sequence[tuple[str, int]]) -> Answer:
    """The answer of `nvidia-smi ARGS` on a machine with these GPUs: (market name, memory in MB) each."""
    if not gpus:
        return Answer("No devices were found\n", status=6)
    rows = [_row(index, name, memory_mb, len(gpus)) for index, (name, memory_mb) in enumerate(gpus)]
    if not args:
        return Answer(_table(rows))
    if list(args) == ["-L"]:
        return Answer("".join(f"GPU {row['index']}: {row['name']} (UUID: {row['uuid']})\n" for row in rows))
    options = {name: value for name, _, value in (arg.partition("=") for arg in args)}
    fields = options.get("--query-gpu")
    form = options.get("--format", "").split(",")
    if not fields or form[0] != "csv":
        return Answer(f"Invalid combination of input arguments: {' '.join(args)}\n", status=1)
    return _query([field.strip() for field in fields.split(",")], form, rows)


def _query(fields: Sequence[str], form: Sequence[str], rows: Sequence[dict[str, str]]) -> Answer:
    for field in fields:
        if field not in rows[0]:
            return Answer(f'Field "{field}" is not a valid field to query.\n\n', status=2)
    with_units = "nounits" not in form

    def cell(field: str, row: dict[str, str]) -> str:
        return f"{row[field]} {_UNITS[field]}" if with_units and field in _UNITS else row[field]

    def head(field: str) -> str:
        return f"{field} [{_UNITS[field]}]" if with_units and field in _UNITS else field

    lines = [] if "noheader" in form else [", ".join(map(head, fields))]
    lines += [", ".join(cell(field, row) for field in fields) for row in rows]
    return Answer("".join(f"{line}\n" for line in lines))


def _row(index: int, gpu_name: str, memory_mb: int, count: int) -> dict[str, str]:
    name = driver_name(gpu_name, memory_mb)
    return {
        "name": name,
        "gpu_name": name,
        "index": str(index),
        "count": str(count),
        "uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{index}/{name}/{memory_mb}')}",
        "driver_version": DRIVER_VERSION,
        "memory.total": str(memory_mb),
        "memory.used": "1",
        "memory.free": str(memory_mb - 1),
        "utilization.gpu": "0",
        "temperature.gpu": "39",
    }


def _table(rows: Sequence[dict[str, str]]) -> str:
    rule = "+" + "-" * 77 + "+"
    head = f"NVIDIA-SMI {DRIVER_VERSION}    Driver Version: {DRIVER_VERSION}    CUDA Version: {CUDA_VERSION}"
    lines = [rule, f"| {head:<75} |", rule]
    for row in rows:
        text = f"{row['index']:>3}  {row['name']:<40}  {row['memory.used']}MiB / {row['memory.total']}MiB"
        lines.append(f"| {text:<75} |")
    return "\n".join([*lines, rule, ""])
