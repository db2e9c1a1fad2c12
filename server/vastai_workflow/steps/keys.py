"""The SSH key's way to the machine: on the account before the create, on the instance after; both idempotent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vastai_workflow.domain.errors import ProviderError, Refusal, call
from vastai_workflow.domain.ledger import OrderFacts
from vastai_workflow.domain.question import attach_question
from vastai_workflow.domain.workflow import ChosenKey, Confirmation, Purpose
from vastai_workflow.steps.chosen import Chosen, chosen_machines
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.ending import CALL_BUDGET_S
from vastai_workflow.steps.ports import Keys, LocalKey, Market
from vastai_workflow.steps.purposes import Intent, Yes, yes_for
from vastai_workflow.steps.readiness_window import reset_window
from vastai_workflow.steps.writes import require_writes

_NOT_FATAL = frozenset({"team_ssh_keys_not_supported", "scope_missing"})
"""Without the account's copy the instance still gets its own."""


_OUT_OF_TIME: Final = "nothing was sent, out of time"


@dataclass(frozen=True, slots=True)
class Attached:
    """What became of one machine's key; `reason`: why it is not known to be there."""

    instance_id: int
    fingerprint: str
    added: bool
    reason: str | None = None


async def ensure_account_key(market: Market, keys: Keys, key: ChosenKey) -> tuple[str, ...]:
    """Put an agreed key on the account if it is not there; says what could not be done."""
    try:
        entries = await market.account_keys()
        if not any(keys.same(entry.public_key, key.public_key) for entry in entries):
            await market.add_account_key(key.public_key)
    except ProviderError as error:
        if error.code not in _NOT_FATAL:
            raise
        return (f"the key was not added to the account ({error.code}); the machine gets it itself",)
    return ()


async def refuse_taken_key(deps: Deps, caller: Caller, workflow_id: str, yes: Confirmation) -> None:
    """Raise a Refusal if the key of a yes to rent was taken from the account since: the later word counts."""
    if yes.ssh_key is None:
        return
    others = [other for workflow in await deps.store.workflows(caller.owner) for other in workflow.confirmations]
    if any(_takes(other, yes, yes.ssh_key.fingerprint) for other in others):
        raise Refusal(
            "confirmation_expired",
            f"the SSH key {yes.ssh_key.fingerprint} was taken from the account after this yes",
            next_step="ask the user whether it shall come back, or name another: propose_fields, confirm_fields",
            next_call=call("propose_fields", workflow_id=workflow_id),
        )


def _takes(other: Confirmation, yes: Confirmation, fingerprint: str) -> bool:
    """Whether it is a yes, used since the other one, to take the key from the account."""
    from_account = other.purpose is Purpose.DETACH and not other.instance_ids and other.account_id == yes.account_id
    return from_account and other.detail == fingerprint and (other.spent_at or 0) >= yes.at


async def ensure_instance_key(
    market: Market, keys: Keys, instance_id: int, public_key: str, yes: Yes | None = None
) -> bool:
    """Attach a key to a machine if it is not there; True where it was added. A yes is spent once the keys are read."""
    entries = await market.instance_keys(instance_id)
    if yes is not None:
        await yes.spend()
    if any(keys.same(entry.public_key, public_key) for entry in entries):
        return False
    await market.attach_key(instance_id, public_key)
    return True


async def attach_ssh_key(
    deps: Deps, caller: Caller, instance_ids: Sequence[int], public_key: str | None, workflow_id: str | None
) -> tuple[Attached, ...]:
    """Attach a key: the agreed one freely to our own machines, another one only with a yes to its fingerprint.

    Bounded per call. One machine that refuses hides no other; the error of a single one is raised.
    """
    require_writes(deps)
    machines = await chosen_machines(deps, caller, instance_ids, workflow_id)
    ids, opened = machines.ids, machines.opened
    agreed = _agreed_keys(machines)
    chosen = await _chosen(deps, machines, public_key)
    yes: Yes | None = None
    if any(agreed.get(i) is None or not deps.keys.same(agreed[i].public_key, chosen.public_key) for i in ids):
        names = [f"{item.instance.id} ({item.label!r})" for item in machines.machines]
        strangers = [item.instance.id for item in machines.machines if not item.ours]
        question = attach_question(chosen.fingerprint, names, strangers)
        again = call("attach_ssh_key", instance_ids=list(instance_ids), public_key=public_key, workflow_id=workflow_id)
        yes = await yes_for(
            deps, caller, opened, Intent(Purpose.ATTACH, ids, question, again, detail=chosen.fingerprint)
        )
    deadline = deps.clock.now() + CALL_BUDGET_S
    return tuple([await _attached(deps, machines, instance_id, chosen, yes, deadline) for instance_id in ids])


async def _attached(
    deps: Deps, machines: Chosen, instance_id: int, key: LocalKey | ChosenKey, yes: Yes | None, deadline: float
) -> Attached:
    if deps.clock.now() >= deadline:
        return Attached(instance_id, key.fingerprint, added=False, reason=_OUT_OF_TIME)
    try:
        added = await ensure_instance_key(machines.opened.market, deps.keys, instance_id, key.public_key, yes)
    except ProviderError as error:
        if len(machines.ids) == 1:
            raise
        return Attached(instance_id, key.fingerprint, added=False, reason=f"{error.message} ({error.code})")
    await _note_back(deps, machines, instance_id, key)
    await reset_window(deps, instance_id)
    return Attached(instance_id, key.fingerprint, added)


def _agreed_keys(chosen: Chosen) -> dict[int, ChosenKey]:
    """The key of each machine's yes, unless it was taken away: what a draft says since then lets nobody in."""
    orders = {item.instance.id: item.order for item in chosen.machines}
    return {i: order.key_to_give for i, order in orders.items() if order is not None and order.key_to_give is not None}


async def _note_back(deps: Deps, chosen: Chosen, instance_id: int, key: LocalKey | ChosenKey) -> None:
    """The agreed key is a machine's again after it had been taken away."""
    order = next(item.order for item in chosen.machines if item.instance.id == instance_id)
    if order is None or order.ssh_key is None or not order.ssh_key_removed:
        return
    if deps.keys.same(order.ssh_key.public_key, key.public_key):
        await deps.store.note_order(order.order_id, OrderFacts(ssh_key_removed=False))


async def _chosen(deps: Deps, machines: Chosen, public_key: str | None) -> LocalKey | ChosenKey:
    """The key that was named; else that of the machines' yes, also where it was taken away; else the workflow's."""
    if public_key is not None:
        return await deps.keys.resolve(public_key)
    orders = [item.order for item in machines.machines if item.order is not None]
    kept = [order.key_to_give for order in orders] + [order.ssh_key for order in orders]
    workflow = machines.opened.workflow
    known = next((key for key in kept if key is not None), None) or (None if workflow is None else workflow.ssh_key)
    return known or await deps.keys.resolve(None)
