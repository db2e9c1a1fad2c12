"""The question to the user, as a text: what is rented, what it costs, what runs already."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vastai_workflow.domain.balance import Balance
from vastai_workflow.domain.fields import ANY_GPU, FIELDS, FLEETS, POLICIES
from vastai_workflow.domain.market import Offer
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.domain.plan import Outlook, traffic
from vastai_workflow.domain.workflow import Workflow

_FLEETS: Final = {FLEETS[0]: "all of them or none", FLEETS[1]: "as many as there are"}


def rent_question(
    workflow: Workflow, outlook: Outlook, chosen: Sequence[Offer], balance: Balance, active: Sequence[str]
) -> str:
    """One question that a yes can answer. `active`: each machine that runs, in words."""
    values = workflow.values
    dearest = f"{'up to ' if len(chosen) > 1 else ''}{outlook.price}"
    a_gb = traffic(chosen).number()
    lines = [
        f"Rent {what(workflow)}?",
        *([f"Only {len(chosen)} of {values['count']} fit now."] if len(chosen) < values["count"] else []),
        f"Now {dearest} each, {outlook.total} in all ({Usd(outlook.total.per_hour * 24)} a day),",
        f"never above {_most(values)}. Traffic is extra (${a_gb:g}/GB).",
        f"{balance} SSH key {values['ssh_key']}, label {values['label']!r}.",
        *_inside(values),
        *_key(values["api_key_source"]),
    ]
    if active:
        count = values["count"]
        lines.append(
            f"Running already: {'; '.join(active)}. Keep, stop or destroy? "
            f"{_running(len(active))}, this makes {len(active) + count}."
        )
    return " ".join(lines)


def key_question(source: str) -> str:
    """May a key be read."""
    return f"May the API key be read from {source}? Prices come after."


def keep_question(machines: Sequence[str], running: int, count: int) -> str:
    """Machines, in words, that were found running after the yes to rent. `running`: all that do."""
    return (
        f"Running too, and not in the question that was agreed to: {'; '.join(machines)}. Keep, and rent all the same? "
        f"{_running(running)}, this makes {running + count}. To stop or destroy one of them first, decline."
    )


def start_question(machines: Sequence[str], together: Rate, running: int, balance: Balance) -> str:
    """Machines, in words, that bill again. `together`: what they cost; `balance`: beside all else that runs."""
    return (
        f"Start {', '.join(machines)} at {together} in all ({Usd(together.per_hour * 24)} a day)? "
        f"Traffic is extra. {balance} {_running(running)}."
    )


def recycle_question(machines: Sequence[str], together: Rate, strangers: Sequence[int] = ()) -> str:
    """New containers in place of the old ones. `machines`: each in words; `strangers`: those not rented here."""
    alone = len(machines) == 1
    inside = "its container" if alone else "their containers"
    costs = f"It goes on costing {together}." if alone else f"They go on costing {together} in all."
    return f"Recycle {', '.join(machines)}? The data in {inside} is lost. {costs}{_whose(strangers)}"


def attach_question(fingerprint: str, machines: Sequence[str], strangers: Sequence[int] = ()) -> str:
    """May an SSH key log in. `machines`: each in words; `strangers`: those not rented here."""
    return f"Let the SSH key {fingerprint} log in as root on {', '.join(machines)}?{_whose(strangers)}"


def end_question(verb: str, machines: Sequence[str]) -> str:
    """Stop, reboot or destroy what this server did not rent. `machines`: each in words."""
    them, their = ("it", "its") if len(machines) == 1 else ("them", "their")
    lost = f"; {their} data is lost" if verb == "destroy" else ""
    return f"{verb.capitalize()} {', '.join(machines)}? This server did not rent {them}{lost}."


def what(workflow: Workflow) -> str:
    """What is to be rented, in words."""
    values = workflow.values
    gpu = "any GPU" if values["gpu_name"] == ANY_GPU else values["gpu_name"]
    size = f"{values['num_gpus']}x {gpu}" if values["num_gpus"] > 1 else gpu
    limits = [
        f"{values['min_vram_gb']} GB of GPU memory or more" if values.get("min_vram_gb") else "",
        f"in {', '.join(values['regions'])}" if values.get("regions") else "",
        f"reliability {values['min_reliability']} or more" if values.get("min_reliability") else "",
        f"CUDA {values['min_cuda']} or more" if values.get("min_cuda") else "",
        f"{values['min_inet_down_mbps']} Mb/s down or more" if values.get("min_inet_down_mbps") else "",
        "" if values["verified"] else "also unverified",
        "second cheapest" if values["policy"] == POLICIES[1] else "",
        f"by {values['objective']}" if values["objective"] != "price" else "",
        _interruptible(values),
        _FLEETS[values["fleet"]] if values["count"] > 1 and values.get("fleet") else "",
    ]
    inside = "".join(f", {limit}" for limit in limits if limit)
    plural = "s" if values["count"] > 1 else ""
    return f"{values['count']} machine{plural} ({size}{inside}) with {values['image']}, {values['disk_gb']} GB disk"


def _most(values: Mapping[str, Any]) -> str:
    """What the yes allows at most: also for the machines that don't fit now and may later."""
    ceiling, count = Rate.of(values["max_price_per_hour"]), values["count"]
    return f"{ceiling} each" if count == 1 else f"{ceiling} each, {ceiling * count} for all {count}"


def _inside(values: Mapping[str, Any]) -> list[str]:
    """What else runs in the container or is set in it, if anything was asked for."""
    parts = [
        f"env {', '.join(values['env'])} (values not shown)" if values.get("env") else "",
        f"ports {', '.join(values['ports'])}" if values.get("ports") else "",
        _template(values["template_hash"]) if values.get("template_hash") else "",
        f"at start {values['onstart']!r}" if values.get("onstart") else "",  # all that will run, line breaks as \n
    ]
    given = "; ".join(part for part in parts if part)
    return [f"With {given}."] if given else []


def _template(hash_id: str) -> str:
    return f"template {hash_id}, whose own start script and variables also run (not shown)"


def _key(source: str) -> list[str]:
    """Where the key is, if not in its usual place."""
    return [] if source == FIELDS["api_key_source"].default else [f"API key from {source}."]


def _interruptible(values: Mapping[str, Any]) -> str:
    if not values.get("interruptible"):
        return ""
    bid = values.get("bid_per_hour")
    return "interruptible" if bid is None else f"interruptible at a bid of {Rate.of(bid)}"


def _whose(strangers: Sequence[int]) -> str:
    return f" This server did not rent {', '.join(map(str, strangers))}." if strangers else ""


def _running(count: int) -> str:
    return f"{count} {'runs' if count == 1 else 'run'} already"
