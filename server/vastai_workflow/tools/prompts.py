"""Prompts for the dialog's actions: each is a short wish in the user's words that leads an agent through the tools."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from vastai_workflow.domain.untrusted import clean
from vastai_workflow.tools.surface import in_call

_CAP = 200
_NUMBER = re.compile(r"[0-9]{1,16}(\.[0-9]{1,6})?")

GpuName = Annotated[str, Field(description="such as RTX 4090; empty: the default")]
Region = Annotated[str, Field(description="two-letter country codes, such as US DE; empty: anywhere")]
Image = Annotated[str, Field(description="a container image; empty: the default")]
Ceiling = Annotated[str, Field(description="at most so many $/h per machine; empty: what the server proposes")]
InstanceId = Annotated[str, Field(description="one of your machines; empty: all of them")]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as it is registered. The function's docstring is its description, its name without `_prompt` its own."""

    function: Callable[..., str]
    title: str

    @property
    def name(self) -> str:
        """What the user types."""
        return self.function.__name__.removesuffix("_prompt")


def offers_prompt(gpu_name: GpuName = "", region: Region = "", max_price_per_hour: Ceiling = "") -> str:
    """Look at offers and prices; nothing is rented."""
    wish = _fields(gpu_name=gpu_name, regions=region, max_price_per_hour=max_price_per_hour)
    return (
        "Show me what GPUs cost on Vast.ai now. Rent nothing.\n"
        f"1. {in_call('propose_fields', action='offers', **wish)}\n"
        "2. find_offers with its workflow_id.\n"
        "3. Tell me the offers with price per hour, place and reliability, and which one the plan would take."
    )


def create_prompt(
    gpu_name: GpuName = "", region: Region = "", image: Image = "", max_price_per_hour: Ceiling = ""
) -> str:
    """Rent a machine, with one question before any money is spent."""
    wish = _fields(gpu_name=gpu_name, regions=region, image=image, max_price_per_hour=max_price_per_hour)
    return (
        "Rent a GPU machine on Vast.ai for me.\n"
        f"1. {in_call('propose_fields', action='create', **wish)}\n"
        "2. If it has a question, put it to me as it stands, numbers included, and wait. Only I say yes.\n"
        "3. Then confirm_fields with its digest, which may ask me itself, find_offers, create_instances.\n"
        "4. wait_until_ready until gpu_ok, then give me the SSH command, and ask me when the work is done: "
        "every hour costs."
    )


def status_prompt(instance_id: InstanceId = "") -> str:
    """What runs, how far it is, and what it costs."""
    return (
        "What do my machines on Vast.ai do?\n"
        f"1. {in_call('instance_status', **_ids(instance_id))}\n"
        "2. Tell me each machine's state, readiness, price and cost so far, and whose yes it was. "
        "If settled is false, wait_until_ready.\n"
        "3. Name what I should decide: a failed machine, a stopped one that still costs its disk, one that nobody uses."
    )


def ssh_prompt(instance_id: InstanceId = "") -> str:
    """How to log in to a machine, and what to do where that fails."""
    return (
        "How do I log in to my machine on Vast.ai?\n"
        f"1. {in_call('instance_status', **_ids(instance_id))}\n"
        "2. If it is not ready, wait_until_ready. Then give me its ssh command.\n"
        "3. If the login fails, say the reason. Another SSH key is attach_ssh_key, which asks me first; "
        "read_logs shows what the machine says."
    )


def destroy_prompt(instance_id: InstanceId = "") -> str:
    """End machines, and see that they are gone."""
    return (
        "End my machine on Vast.ai; the data on it is lost.\n"
        f"1. {in_call('instance_status', **_ids(instance_id))}\n"
        "2. Name the machines that would end and what they cost so far. If it is not clear which I mean, ask me.\n"
        "3. destroy_instances, again until each is gone. One that this server did not rent is refused first: "
        "put its question to me.\n"
        "4. Tell me what is gone and what it cost. still there and unknown are not gone."
    )


def billing_prompt(
    start: Annotated[str, Field(description="first day, YYYY-MM-DD in UTC; empty: the server's default")] = "",
    end: Annotated[str, Field(description="last day, YYYY-MM-DD in UTC; empty: today")] = "",
) -> str:
    """What was charged, what is left, and for how long it lasts."""
    return (
        "What does Vast.ai cost me?\n"
        f"1. {in_call('billing_report', **_given(start=start, end=end))}\n"
        "2. Tell me charges, balance, what is spent per hour now and how long the balance lasts. "
        "Charges arrive hours late: say so."
    )


def _fields(**words: str) -> dict[str, Any]:
    given: dict[str, Any] = _given(**words)
    if region := given.get("regions"):
        given["regions"] = [code for code in re.split("[, ]", region) if code]
    if ceiling := given.get("max_price_per_hour"):
        given["max_price_per_hour"] = _number(ceiling)
    return given


def _ids(instance_id: str) -> dict[str, Any]:
    given = _given(instance_id=instance_id).get("instance_id")
    return {"instance_ids": [_number(given)]} if given else {}


def _given(**words: str) -> dict[str, Any]:
    """What was filled in, on one line each."""
    kept = {name: clean(word, _CAP) for name, word in words.items()}
    return {name: word for name, word in kept.items() if word}


def _number(word: str) -> int | float | str:
    """As the tool takes it; what is no number stays as it is, and the tool says so."""
    if not _NUMBER.fullmatch(word):
        return word
    return float(word) if "." in word else int(word)


PROMPTS: tuple[Prompt, ...] = (
    Prompt(offers_prompt, "Look at GPU offers"),
    Prompt(create_prompt, "Rent a GPU machine"),
    Prompt(status_prompt, "What do my machines do?"),
    Prompt(ssh_prompt, "Log in to a machine"),
    Prompt(destroy_prompt, "End a machine"),
    Prompt(billing_prompt, "What does it cost?"),
)
