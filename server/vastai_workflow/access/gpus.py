"""What `nvidia-smi` said, held against what was agreed: how many GPUs, which model, how much memory."""

import re
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.untrusted import clean

QUERY: Final = "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits"

MEMORY_SHARE: Final = 0.9
"""With less than this share of the agreed memory it is another GPU; drivers keep a few percent, more harms nobody."""

KILLED: Final = -1
"""Stands for the exit status of a command that a signal ended."""

_COMMAND_NOT_FOUND: Final = 127
_ROW: Final = re.compile(r"(?P<name>[^,]+), (?P<memory_mb>\d+|\[[^\]]*\])")
_GLUED: Final = re.compile(r"(\d{4})(?=[A-Z])")
_NOISE: Final = re.compile(
    r"NVIDIA|GEFORCE|TESLA|QUADRO|Q|RTX|GTX|GT|GPU|GENERATION|BLACKWELL|WORKSTATION|SERVER|EDITION|WS"
    r"|SXM\d?|PCIE|NVL|DGXS|FHHL|HBM\d\w?|\d+GB"
)

_FORMS: Final = {
    "SXM": re.compile(r"\bSXM"),
    "PCIe": re.compile(r"\bPCIE\b"),
    "NVL": re.compile(r"\bNVL\b"),
    "workstation": re.compile(r"\bWS\b|\bWORKSTATION\b"),
    "server": re.compile(r"\bPRO \d+ S\b|\bSERVER\b"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is None where the GPUs are those agreed; `detail` is one clean sentence."""

    reason: str | None
    detail: str


def judge(stdout: str, status: int, *, gpu_name: str, num_gpus: int, gpu_ram_mb: int) -> Verdict:
    """Read the answer to `QUERY`. `gpu_name` as the market writes it, memory in MB each (0: not known).

    What the driver prints in which case was seen on machines; anything that is no row of the answer is ignored.
    """
    if status == _COMMAND_NOT_FOUND:
        return Verdict("nvidia_smi_missing", "The image has no nvidia-smi, so the GPUs were not looked at.")
    if "No devices were found" in stdout:
        return Verdict("no_gpu", "The machine shows no GPU.")
    if status != 0:
        return Verdict("driver_error", _failure(stdout, status))
    rows = [match for line in stdout.splitlines() if (match := _ROW.fullmatch(line.strip()))]
    if not rows:
        return Verdict("no_gpu", "The machine's nvidia-smi lists no GPU.")
    names = [row["name"] for row in rows]
    found = f"{len(rows)} x {clean(names[0], 60)}"
    if len(rows) != num_gpus:
        return Verdict("wrong_gpu", f"The machine has other GPUs than agreed: got {found}, agreed {num_gpus}.")
    for name in names:
        if model(name) != model(gpu_name) or not may_be_built_alike(name, gpu_name):
            got, agreed = clean(name, 60), clean(gpu_name, 60)
            return Verdict("wrong_gpu", f"The machine has another GPU than agreed: got {got}, agreed {agreed}.")
    for row in rows:
        if row["memory_mb"].isdigit() and int(row["memory_mb"]) < gpu_ram_mb * MEMORY_SHARE:
            got = clean(row["memory_mb"], 12)
            return Verdict("wrong_gpu", f"A GPU has less memory than agreed: got {got} MB, agreed {gpu_ram_mb} MB.")
    return Verdict(None, f"Login works, and the GPUs are there: {found}.")


def _failure(stdout: str, status: int) -> str:
    if status == KILLED:
        return "nvidia-smi was killed before it said anything of use."
    lines = [line for line in stdout.splitlines() if line.strip()] or [""]  # the image's own words come first
    return f"nvidia-smi failed with exit status {status}; last line: '{clean(lines[-1], 120)}'."


def model(name: str) -> frozenset[str]:
    """The words that tell one model from another, the same for the market's and the driver's name.

    The market writes `RTX 4070S Ti`, `RTX 6000Ada`, `H100 SXM`; the driver `NVIDIA GeForce RTX 4070 Ti SUPER`,
    `NVIDIA RTX 6000 Ada Generation`, `NVIDIA H100 80GB HBM3`.
    """
    words = re.split(r"[^0-9A-Z]+", _GLUED.sub(r"\1 ", name.upper()))
    known = {"SUPER" if word == "S" else word for word in words if word and not _NOISE.fullmatch(word)}
    return frozenset(known - {"SUPER"} if "PRO" in known else known)


def may_be_built_alike(one: str, other: str) -> bool:
    """Whether two names of a model agree on its form, or one says none: an SXM is dearer and faster than a card."""
    said, too = _forms(one), _forms(other)
    return said == too or not said or not too


def _forms(name: str) -> frozenset[str]:
    """The market writes `H100 SXM` and `RTX PRO 6000 S`; the driver names no form for that one, `Server` for this."""
    return frozenset(form for form, words in _FORMS.items() if words.search(name.upper()))
