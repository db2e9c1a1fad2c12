"""Short acts that tests of the tools share."""

from collections.abc import Mapping
from typing import Any

from tests.stack import Stack
from vastai_workflow.domain.ledger import Order
from vastai_workflow.simulator.app import simulator_of
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.renting import rent
from vastai_workflow.simulator.rules.rule import Value

WRITES = frozenset(
    {"create", "start", "stop", "destroy", "reboot", "recycle", "label", "bid", "update"}
    | {"add_ssh_key", "update_ssh_key", "delete_ssh_key", "attach", "detach"}
)
"""The market's operations that change something."""


class Heard:
    """A listener for progress."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002 # the SDK's
        """Keep the line."""
        self.lines.append(message or "")


def arm(s: Stack, name: str, *, operation: str = "", nth: int = 1, times: int = 1, **settings: Value) -> None:
    """Schedule a fault from now on."""
    simulator_of(s.app).schedule.add(Fault(name, operation=operation, nth=nth, times=times, **settings))


def stranger(s: Stack, **order: Any) -> int:
    """A machine of this account that somebody else's tool rented; answers its id."""
    s.world.settle()
    ask = next(ask for ask in s.world.market.free_asks() if ask.num_gpus == 1)
    machine = rent(s.world, s.world.account, ask.id, {"image": "other/image", "disk": 10, "label": "mine", **order})
    s.clock.advance(120)
    s.world.settle()
    return machine.id


def writes(s: Stack) -> Mapping[str, int]:
    """How often the market was asked to change something, by operation."""
    return {name: number for name, number in s.world.requests.items() if name in WRITES and number}


async def planned(s: Stack, **fields: Any) -> dict[str, Any]:
    """The arguments of a create that the user agreed to."""
    workflow_id = await s.agreed(**fields)
    plan = await s.call("find_offers", workflow_id=workflow_id)
    return {"workflow_id": workflow_id, "plan_id": plan["plan_id"]}


async def settled(s: Stack, workflow_id: str) -> dict[str, Any]:
    """Wait until no order may have rented unseen; the last answer."""
    s.clock.advance(110)
    waited = await s.call("wait_until_ready", workflow_id=workflow_id, timeout_s=300)
    assert waited["settled"]
    return waited


async def follow(s: Stack, refusal: Mapping[str, Any]) -> dict[str, Any]:
    """Make the call that a refusal points to."""
    after = refusal["next_call"]
    return await s.call(after["tool"], **after["arguments"])


async def looked_at_before(s: Stack) -> None:
    """An earlier order is settled, so that no first look finds the next one's machine."""
    _, machines = await s.ready()
    await s.call("destroy_instances", instance_ids=machines)
    s.clock.advance(300)
    await s.call("instance_status")


async def last_order(s: Stack) -> Order:
    """The newest on record."""
    return (await s.deps.store.orders())[-1]


async def unclear(s: Stack) -> int:
    """The machine of an order whose create got no clear answer, and that nobody settled since."""
    await looked_at_before(s)
    arm(s, "drop_reply", operation="create")
    assert states(await s.call("create_instances", **await planned(s))) == ["unknown"]
    s.clock.advance(60)
    s.world.settle()
    [machine] = s.running()
    return machine


def states(made: Mapping[str, Any]) -> list[str]:
    """The states of a create's orders."""
    return [order["state"] for order in made["orders"]]


def value_of(proposal: Mapping[str, Any], name: str) -> Any:
    """A field's value in a proposal."""
    return next(row["value"] for row in proposal["fields"] if row["name"] == name)
