"""A yes of its own for start, recycle, SSH keys that come or go, and the end of machines that are not ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from vastai_workflow.domain import fields
from vastai_workflow.domain.asking import ceiling_answer, fingerprint_answer
from vastai_workflow.domain.balance import Balance
from vastai_workflow.domain.errors import Refusal, call
from vastai_workflow.domain.gate import Facts, first_refusal
from vastai_workflow.domain.money import ZERO, Rate
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.domain.workflow import CONFIRMATION_LIFE_S, Confirmation, FieldState, Purpose, Question, Workflow
from vastai_workflow.steps.accounts import Opened
from vastai_workflow.steps.asking import named, refusal_that_asks, seen_with_noes
from vastai_workflow.steps.deps import Caller, Deps

_NOT_GIVEN: Final = "purpose_not_confirmed"
_ASKS: Final[Mapping[Purpose, Mapping[str, Any]]] = {
    Purpose.START: call("start_instances"),
    Purpose.RECYCLE: call("restart_instances", mode="recycle"),
}
"""The call that asks for a yes, where the purpose and the machines say all of it."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is to be done to which machines, in words for the user. `price` is the dearest machine's, in $/h.

    `detail` is part of the digest: the fingerprint of a key, or stop, reboot, destroy. `again`: the call itself.
    `balance`: as the question says it.
    """

    purpose: Purpose
    instance_ids: tuple[int, ...]
    question: str
    again: dict[str, Any]
    detail: str = ""
    price: Rate | None = None
    burning: Rate = ZERO
    running: int = 0
    balance: Balance | None = None


def digest_for(intent: Intent, account_id: int, ceiling: Rate | None) -> str:
    """What such a yes is bound to."""
    return fields.digest_of(
        {
            "purpose": intent.purpose,
            "instances": sorted(intent.instance_ids),
            "account": account_id,
            "detail": intent.detail,
            "ceiling": None if ceiling is None else f"{ceiling.per_hour.normalize():f}",
        }
    )


@dataclass(slots=True)
class Yes:
    """A yes that fits an intent, not used yet."""

    _deps: Deps
    _home: str
    _facts: Facts
    _again: dict[str, Any]
    _spent: bool = False

    async def spend(self) -> None:
        """Use it, right before the first request that stands on it leaves; once, however often it is called.

        Raises Refusal where another call was first, or its time is up meanwhile.
        """
        if not self._spent:
            await self._deps.store.change_workflow(self._home, self._used)
            self._spent = True

    def _used(self, workflow: Workflow) -> Workflow:
        now = self._deps.clock.now()
        mine = None if self._facts.confirmation is None else self._facts.confirmation.confirmation_id
        others = [item for item in workflow.confirmations if item.confirmation_id != mine]
        current = next((item for item in workflow.confirmations if item.confirmation_id == mine), None)
        refusal = first_refusal(replace(self._facts, now=now, confirmation=current))
        if refusal is not None:
            raise Refusal(refusal.code, refusal.message, next_step="call again: it asks anew", next_call=self._again)
        if current is None:
            raise AssertionError
        return workflow.with_(confirmations=(*others, current.model_copy(update={"spent_at": now})))


async def yes_for(deps: Deps, caller: Caller, opened: Opened, intent: Intent) -> Yes:
    """The yes to this very intent, to be spent; without one, refuse and say how to ask."""
    home, confirmation = await _newest(deps, caller, opened, intent)
    ceiling = _ceiling(intent, confirmation)
    facts = Facts(
        purpose=intent.purpose,
        now=deps.clock.now(),
        caps=deps.caps,
        account_id=opened.account.id,
        digest=digest_for(intent, opened.account.id, ceiling),
        confirmation=confirmation,
        price=intent.price,
        burning=intent.burning,
        running=intent.running,
    )
    refusal = first_refusal(facts)
    if refusal is not None or home is None:
        if refusal is not None and refusal.code in {"read_only", "cap_exceeded"}:
            raise refusal
        raise await _ask(deps, caller, opened, intent, _told(refusal, confirmation, intent))
    return Yes(deps, home.workflow_id, facts, intent.again)


async def spend(deps: Deps, caller: Caller, opened: Opened, intent: Intent) -> None:
    """Spend the yes to this very intent at once, before anything is sent; refused like `yes_for`."""
    await (await yes_for(deps, caller, opened, intent)).spend()


def yes_to(deps: Deps, question: Question, by: str) -> Confirmation:
    """A yes to a question about machines that exist."""
    now = deps.clock.now()
    if question.about in {"key", "keep"} or question.account_id is None:
        raise AssertionError
    return Confirmation(
        confirmation_id=f"c_{deps.new_id(9)}",
        purpose=Purpose(question.about),
        digest=question.digest,
        account_id=question.account_id,
        by=by,
        at=now,
        expires_at=now + CONFIRMATION_LIFE_S,
        ceiling_per_hour=question.ceiling_per_hour,
        instance_ids=question.instance_ids,
        detail=question.detail,
        again=question.again,
    )


def not_asked(purpose: Purpose, digest: str | None, instance_ids: Sequence[int] = ()) -> Refusal:
    """A yes to nothing that was asked: the tool that needs it puts the question."""
    known = _ASKS.get(purpose)
    again = None if known is None else call(known["tool"], **known["arguments"], instance_ids=list(instance_ids))
    return Refusal(
        "digest_mismatch",
        f"got a yes to {purpose} {clean(str(digest), 40)!r}, which was not asked here",
        next_step="call the tool that it is for: its refusal asks, and names the digest",
        next_call=again if instance_ids else None,
    )


async def _newest(
    deps: Deps, caller: Caller, opened: Opened, intent: Intent
) -> tuple[Workflow | None, Confirmation | None]:
    """The newest yes of this purpose to exactly these machines, in the given workflow or any of the owner's.

    One to the very same goes before one to something else that is done to them, which is told only while it is open.
    """
    now = deps.clock.now()
    homes = [opened.workflow] if opened.workflow is not None else await deps.store.workflows(caller.owner)
    found = [
        (workflow, item)
        for workflow in homes
        for item in workflow.confirmations
        if item.purpose is intent.purpose and set(item.instance_ids) == set(intent.instance_ids)
        if item.detail == intent.detail or item.open_at(now)
    ]
    return max(found, key=lambda pair: (pair[1].detail == intent.detail, pair[1].at), default=(None, None))


def _ceiling(intent: Intent, confirmation: Confirmation | None) -> Rate | None:
    if confirmation is not None and confirmation.ceiling_per_hour is not None:
        return Rate(confirmation.ceiling_per_hour)
    return None if intent.price is None else intent.price.up_to_the_cent()


async def _ask(deps: Deps, caller: Caller, opened: Opened, intent: Intent, refusal: Refusal | None) -> Refusal:
    """Keep the question, so that a yes can be bound to it, and say how to give that yes."""
    question, nonce = _question(deps, opened, intent), deps.new_id(9)
    home = opened.workflow or await _home(deps, caller, opened, question)
    kept = await deps.store.change_workflow(
        home.workflow_id, lambda current: current.asking(named(deps, current, question, nonce))
    )
    asked, kept = kept.asked(question.about, question.digest), await seen_with_noes(deps, kept)
    if asked is None:
        raise AssertionError
    if refusal is None or refusal.code == _NOT_GIVEN:
        return refusal_that_asks(deps, caller, kept, asked, (_NOT_GIVEN, f"no yes yet to {_in_words(intent)}"))
    return refusal_that_asks(deps, caller, kept, asked, (refusal.code, refusal.message))


def _told(refusal: Refusal | None, given: Confirmation | None, intent: Intent) -> Refusal | None:
    """A yes to something else that is done to the same machines is told by what it is to."""
    if refusal is None or refusal.code != "digest_mismatch" or given is None or given.detail == intent.detail:
        return refusal
    ended = intent.purpose is Purpose.END
    got, needed = (_in_words(item) if ended else f"{_in_words(item)} ({item.detail})" for item in (given, intent))
    return Refusal(refusal.code, f"got a yes to {got}, needed one to {needed}")


def _in_words(intent: Intent | Confirmation) -> str:
    where = ", ".join(map(str, intent.instance_ids)) or "the account"
    keys = {Purpose.ATTACH: "attach this SSH key to", Purpose.DETACH: "take this SSH key from"}
    act = intent.detail if intent.purpose is Purpose.END else keys.get(intent.purpose, intent.purpose)
    return f"{act} {where}"


def _question(deps: Deps, opened: Opened, intent: Intent) -> Question:
    """Where money is agreed on the person types the ceiling, for a key the end of its fingerprint, else an id."""
    ceiling = None if intent.price is None else intent.price.up_to_the_cent()
    if ceiling is not None:
        answer, form = ceiling_answer(ceiling), "ceiling"
    elif intent.purpose in {Purpose.ATTACH, Purpose.DETACH}:
        answer, form = fingerprint_answer(intent.detail), "fingerprint"
    else:
        answer, form = str(intent.instance_ids[0]), "machine"
    return Question(
        about=intent.purpose,
        digest=digest_for(intent, opened.account.id, ceiling),
        text=intent.question if ceiling is None else f"{intent.question} Never above {ceiling} each.",
        answer=answer,
        form=form,
        code="",
        asked_at=deps.clock.now(),
        again=intent.again,
        account_id=opened.account.id,
        instance_ids=intent.instance_ids,
        ceiling_per_hour=None if ceiling is None else ceiling.per_hour,
        detail=intent.detail,
        balance=intent.balance,
    )


async def _home(deps: Deps, caller: Caller, opened: Opened, question: Question) -> Workflow:
    """The workflow in which this very question was put before, else one of its own."""
    for workflow in await deps.store.workflows(caller.owner):
        waits = workflow.asked(question.about, question.digest) is not None
        if waits or any(item.digest == question.digest for item in workflow.confirmations):
            return workflow
    states = {name: FieldState(value=value) for name, value in fields.defaults().items()}
    states["api_key_source"] = FieldState(value=opened.source, status="confirmed")
    workflow = Workflow(
        workflow_id=f"wf_{deps.new_id(16)}",
        owner=caller.owner,
        created_at=deps.clock.now(),
        action="status",
        fields=states,
        account_id=opened.account.id,
    )
    await deps.store.add_workflow(workflow)
    return workflow
