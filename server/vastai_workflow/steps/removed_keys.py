"""Taking an SSH key away: from machines, or from the account, which gives it to the machines rented from now on.

Keys are compared by their fingerprints, so by their blobs: comments do not count. No file on this machine is touched.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from vastai_workflow.domain.audit import AuditEvent, Kind
from vastai_workflow.domain.errors import ProviderError, Refusal, call
from vastai_workflow.domain.fields import refuse
from vastai_workflow.domain.ledger import OrderFacts
from vastai_workflow.domain.market import KeyEntry
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.domain.workflow import Purpose
from vastai_workflow.steps.accounts import Opened, open_market
from vastai_workflow.steps.audit import record
from vastai_workflow.steps.chosen import chosen_machines
from vastai_workflow.steps.deps import Caller, Deps
from vastai_workflow.steps.ending import CALL_BUDGET_S
from vastai_workflow.steps.fleet_view import ActiveInstance, with_orders
from vastai_workflow.steps.purposes import Intent, Yes, spend, yes_for
from vastai_workflow.steps.readiness_window import reset_window
from vastai_workflow.steps.writes import require_writes

_BEFORE: Final = "SHA256:"
_FINGERPRINT: Final = re.compile(rf"{_BEFORE}[A-Za-z0-9+/]{{43}}=?")
"""As OpenSSH prints it: 32 bytes in base64."""

_COMMENT_CAP: Final = 40
_MOST_SHOWN: Final = 12


class Fate(StrEnum):
    """What became of a key in one place. `gone`: a list that was read afterwards does not show it."""

    GONE = "gone"
    NOT_THERE = "was not there"
    STILL_THERE = "still there"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Removed:
    """A key in one place; `instance_id` None is the account."""

    instance_id: int | None
    fingerprint: str
    fate: Fate
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of it. After a removal from the account: machines of ours that have the key still, or may have it."""

    places: tuple[Removed, ...]
    still_on: tuple[int, ...] = ()
    maybe_on: tuple[int, ...] = ()


async def remove_ssh_key(
    deps: Deps, caller: Caller, instance_ids: Sequence[int], public_key: str | None, workflow_id: str | None
) -> Removal:
    """Take a key from machines, or without ids from the account. What is gone already needs no yes.

    `public_key` is a text, a path or a SHA256 fingerprint; without one it is the agreed key. At once for the agreed key
    of machines that this server rented, else with a yes to the fingerprint. Bounded per call, to be called again.
    """
    require_writes(deps)
    given = await _fingerprint(deps, public_key.strip()) if public_key and public_key.strip() else None
    again = call(
        "remove_ssh_key", instance_ids=list(instance_ids) or None, public_key=public_key, workflow_id=workflow_id
    )
    if not instance_ids:
        return await _from_account(deps, caller, given, workflow_id, again)
    machines = await chosen_machines(deps, caller, instance_ids, workflow_id)
    market = machines.opened.market
    wanted = {item.instance.id: given or _agreed(deps, item) for item in machines.machines}
    unnamed = next((i for i, fingerprint in wanted.items() if fingerprint is None), None)
    if unnamed is not None:
        raise _which(deps, f"machine {unnamed}, which was not rented here,", await market.instance_keys(unnamed))
    named = {i: fingerprint for i, fingerprint in wanted.items() if fingerprint is not None}
    others = [item.instance.id for item in machines.machines if _agreed(deps, item) != named[item.instance.id]]
    there = tuple([i for i in others if _matching(deps, await market.instance_keys(i), named[i])])
    yes: Yes | None = None
    if there:
        key = named[there[0]]
        question = f"Take the SSH key {key} from {', '.join(map(str, there))}? It is not the key agreed to here."
        yes = await yes_for(deps, caller, machines.opened, Intent(Purpose.DETACH, there, question, again, detail=key))
    taking = _Taking(deps, caller, machines.opened, deps.clock.now() + CALL_BUDGET_S, yes)
    return Removal(tuple([await taking.from_machine(item, named[item.instance.id]) for item in machines.machines]))


@dataclass(frozen=True, slots=True)
class _Taking:
    """One call's requests, with all that was asked done."""

    _deps: Deps
    _caller: Caller
    _opened: Opened
    _deadline: float
    _yes: Yes | None = None

    async def from_machine(self, item: ActiveInstance, fingerprint: str) -> Removed:
        """The agreed key is noted as taken away first, so that no wait gives it back."""
        instance_id, deps, agreed = item.instance.id, self._deps, fingerprint == _agreed(self._deps, item)
        if deps.clock.now() >= self._deadline:
            return Removed(instance_id, fingerprint, Fate.UNKNOWN, "nothing was sent, out of time: call again")
        yes = self._yes
        if item.order is not None and agreed:
            yes = None
            if not item.order.ssh_key_removed:
                await deps.store.note_order(item.order.order_id, OrderFacts(ssh_key_removed=True))
            await reset_window(deps, instance_id)
        place = await self._detached(instance_id, fingerprint, yes)
        if agreed:
            unkeyed_at = deps.clock.now() if place.fate in {Fate.GONE, Fate.NOT_THERE} else 0.0
            await deps.store.change_window(instance_id, lambda window: replace(window, unkeyed_at=unkeyed_at))
        workflow_id = None if item.order is None else item.order.workflow_id
        await self._record(place, workflow_id or self._workflow_id)
        return place

    async def from_account(self, entries: Iterable[KeyEntry], fingerprint: str) -> Removed:
        """By the ids that the list showed just before."""
        market = self._opened.market
        try:
            for entry in entries:
                await market.delete_account_key(entry.id)
            left = _matching(self._deps, await market.account_keys(), fingerprint)
        except ProviderError as error:
            place = Removed(None, fingerprint, Fate.UNKNOWN, _told(error))
        else:
            place = Removed(None, fingerprint, Fate.STILL_THERE if left else Fate.GONE)
        await self._record(place, self._workflow_id)
        return place

    @property
    def _workflow_id(self) -> str | None:
        return None if self._opened.workflow is None else self._opened.workflow.workflow_id

    async def _detached(self, instance_id: int, fingerprint: str, yes: Yes | None) -> Removed:
        market = self._opened.market
        try:
            entries = _matching(self._deps, await market.instance_keys(instance_id), fingerprint)
            if entries and yes is not None:
                await yes.spend()
            for entry in entries:
                await market.detach_key(instance_id, entry.id)
            left = bool(entries) and _matching(self._deps, await market.instance_keys(instance_id), fingerprint)
        except ProviderError as error:
            return Removed(instance_id, fingerprint, Fate.UNKNOWN, _told(error))
        gone = Fate.GONE if entries else Fate.NOT_THERE
        return Removed(instance_id, fingerprint, Fate.STILL_THERE if left else gone)

    async def _record(self, place: Removed, workflow_id: str | None) -> None:
        """Whose call it was, and how it went; the yes to it, where it needed one, is on the trail itself."""
        if place.fate is Fate.NOT_THERE:
            return
        where = "account" if place.instance_id is None else "machine"
        event = AuditEvent(
            at=self._deps.clock.now(),
            kind=Kind.KEY,
            owner=self._caller.owner,
            by=self._caller.called,
            workflow_id=workflow_id,
            purpose=Purpose.DETACH,
            instance_ids=() if place.instance_id is None else (place.instance_id,),
            what=f"{place.fingerprint} taken from the {where}, {place.fate}",
        )
        await record(self._deps, [event])


async def _from_account(
    deps: Deps, caller: Caller, given: str | None, workflow_id: str | None, again: dict[str, object]
) -> Removal:
    opened = await open_market(deps, caller, workflow_id)
    entries = await _account_keys(opened)
    own = None if opened.workflow is None else opened.workflow.ssh_key
    fingerprint = given or (None if own is None else deps.keys.fingerprint(own.public_key))
    if fingerprint is None:
        raise _which(deps, "the account", entries)
    found = _matching(deps, entries, fingerprint)
    if not found:
        reason = f"the account has {_shown(deps, entries)}"
        return Removal((Removed(None, fingerprint, Fate.NOT_THERE, reason),))
    sure, unclear = await _holders(deps, opened, fingerprint)
    question = " ".join(
        [
            f"Take the SSH key {_shown(deps, found[:1])} from the account? {await _whose(deps, caller, fingerprint)}",
            "Machines rented from now on don't get it.",
            f"Machines that keep it: {', '.join(map(str, sure)) or 'none of ours'}.",
            *([f"Not known: {', '.join(map(str, unclear))}."] if unclear else []),
        ]
    )
    await spend(deps, caller, opened, Intent(Purpose.DETACH, (), question, again, detail=fingerprint))
    taking = _Taking(deps, caller, opened, deps.clock.now() + CALL_BUDGET_S)
    return Removal((await taking.from_account(found, fingerprint),), sure, unclear)


async def _account_keys(opened: Opened) -> tuple[KeyEntry, ...]:
    try:
        return await opened.market.account_keys()
    except ProviderError as error:
        if error.code == "team_ssh_keys_not_supported":
            step = "name machines in instance_ids: a team's keys are on its machines alone"
            raise ProviderError(error.code, error.message, status=error.status, next_step=step) from None
        raise


async def _holders(deps: Deps, opened: Opened, fingerprint: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Machines of ours that have a key, by the ledger or else by the provider; and those of which it is not known."""
    sure: list[int] = []
    unclear: list[int] = []
    deadline = deps.clock.now() + CALL_BUDGET_S
    for item in await with_orders(deps, opened.account.id, await opened.market.instances()):
        if item.order is None:
            continue
        instance_id = item.instance.id
        if _agreed(deps, item) == fingerprint and not item.order.ssh_key_removed:
            sure.append(instance_id)
            continue
        if deps.clock.now() >= deadline:
            unclear.append(instance_id)
            continue
        try:
            if _matching(deps, await opened.market.instance_keys(instance_id), fingerprint):
                sure.append(instance_id)
        except ProviderError:
            unclear.append(instance_id)
    return tuple(sure), tuple(unclear)


async def _whose(deps: Deps, caller: Caller, fingerprint: str) -> str:
    workflows = await deps.store.workflows(caller.owner)
    yeses = [item for workflow in workflows for item in workflow.confirmations]
    rented = {item.ssh_key.fingerprint for item in yeses if item.ssh_key is not None}
    attached = {item.detail for item in yeses if item.purpose is Purpose.ATTACH}
    if fingerprint in rented | attached:
        return "It was agreed to here."
    return "Nobody agreed to it here: it may be another person's."


async def _fingerprint(deps: Deps, public_key: str) -> str:
    """Of a text or a path; one that is given as such stays as it is. What is neither is not repeated."""
    if public_key.startswith(_BEFORE):
        if not _FINGERPRINT.fullmatch(public_key):
            raise refuse("public_key", "something else after SHA256: (not shown)", "SHA256: and 43 characters")
        return public_key.rstrip("=")
    return (await deps.keys.resolve(public_key)).fingerprint


def _agreed(deps: Deps, item: ActiveInstance) -> str | None:
    """The key of a machine's yes."""
    key = None if item.order is None else item.order.ssh_key
    return None if key is None else deps.keys.fingerprint(key.public_key)


def _matching(deps: Deps, entries: Iterable[KeyEntry], fingerprint: str) -> list[KeyEntry]:
    return [entry for entry in entries if deps.keys.fingerprint(entry.public_key) == fingerprint]


def _which(deps: Deps, place: str, entries: Sequence[KeyEntry]) -> Refusal:
    allowed = f"got no public_key; {place} has {_shown(deps, entries)}"
    return Refusal("invalid_argument", allowed, next_step="ask the user which, and pass its fingerprint as public_key")


def _shown(deps: Deps, entries: Sequence[KeyEntry]) -> str:
    """Fingerprints with their comments, which anybody may have written."""
    words = [_in_words(deps, entry) for entry in entries[:_MOST_SHOWN]]
    more = [f"{len(entries) - _MOST_SHOWN} more"] if len(entries) > _MOST_SHOWN else []
    return ", ".join([*words, *more]) or "no key"


def _in_words(deps: Deps, entry: KeyEntry) -> str:
    comment = clean(entry.public_key.partition(" ")[2].partition(" ")[2], _COMMENT_CAP)
    return f"{deps.keys.fingerprint(entry.public_key) or 'an unreadable one'}{f' ({comment!r})' if comment else ''}"


def _told(error: ProviderError) -> str:
    return f"{error.message} ({error.code}); call again"
