"""The audit trail: who said yes to what, what was ordered, ended and refused, as events that hold no secret."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, cast

from pydantic import BaseModel, ConfigDict

from vastai_workflow.domain.errors import WorkflowError
from vastai_workflow.domain.ledger import Order, OrderFacts, OrderState
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.domain.workflow import Confirmation, Purpose, Question, Workflow

THIS_SERVER: Final = "this server"
"""Who ends what was not agreed."""

_WORD_CAP: Final = 80
_MESSAGE_CAP: Final = 240
_MOST_IDS: Final = 64
_LIKE_A_KEY: Final = re.compile(r"[0-9A-Za-z]{32,}")
"""What an agent passes by mistake comes back in messages; no id, digest or price of ours looks so."""

_WORKFLOW_ID: Final = re.compile(r"wf_[\w-]{1,64}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{16}")


class Kind(StrEnum):
    """What happened."""

    CONFIRMED = "confirmed"
    ACKNOWLEDGED = "acknowledged"
    USED = "used"
    WITHDRAWN = "withdrawn"
    DECLINED = "declined"
    ORDER = "order"
    DESTROY = "destroy"
    ENDED = "ended"
    KEY = "key"
    REFUSED = "refused"
    MOVED = "moved"


class AuditEvent(BaseModel):
    """One line of the trail. `at` in Unix seconds; `by` is whose act it was, `owner` whose workflows.

    `purpose`: what a yes is for; `code`: of a refusal, or the move of an order; `what`: the rest in a few words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    kind: Kind
    owner: str
    by: str
    workflow_id: str | None = None
    purpose: str = ""
    digest: str = ""
    confirmation_id: str = ""
    order_id: str = ""
    instance_ids: tuple[int, ...] = ()
    code: str = ""
    what: str = ""


def noticed(before: Workflow | None, after: Workflow, at: float) -> tuple[AuditEvent, ...]:
    """What a change of a workflow says: yeses given, widened by machines that stay, used up, taken back; and noes."""
    known = {} if before is None else {item.confirmation_id: item for item in before.confirmations}
    yeses = tuple(
        event for item in after.confirmations for event in _of_yes(known.get(item.confirmation_id), item, after, at)
    )
    return (*(yeses or _of_fields(before, after, at)), *_of_no(before, after, at))


def _of_yes(before: Confirmation | None, now: Confirmation, workflow: Workflow, at: float) -> Iterator[AuditEvent]:
    event = AuditEvent(
        at=at,
        kind=Kind.CONFIRMED,
        owner=workflow.owner,
        by=now.by,
        workflow_id=workflow.workflow_id,
        purpose=now.purpose,
        digest=now.digest,
        confirmation_id=now.confirmation_id,
    )
    if before is None:
        yield event.model_copy(update={"instance_ids": now.instance_ids, "what": _agreed(now)})
        before = now.model_copy(update={"spent_at": None})
    if kept := tuple(sorted(set(now.acknowledged) - set(before.acknowledged))):
        yield event.model_copy(
            update={
                "kind": Kind.ACKNOWLEDGED,
                "by": now.kept_by or now.by,
                "instance_ids": kept,
                "what": "they run on",
            }
        )
    if now.withdrawn_by and not before.withdrawn_by:
        yield event.model_copy(
            update={"kind": Kind.WITHDRAWN, "by": now.withdrawn_by, "instance_ids": now.instance_ids}
        )
    if now.spent_at is not None and before.spent_at is None:
        yield event.model_copy(
            update={"kind": Kind.USED, "instance_ids": now.instance_ids, "what": clean(now.detail, _WORD_CAP)}
        )


def _agreed(yes: Confirmation) -> str:
    """What was agreed to, in a few words; scripts and values of variables are not repeated."""
    values = yes.values
    ceiling = [] if yes.ceiling_per_hour is None else [f"at most {Rate(yes.ceiling_per_hour)} each"]
    if yes.purpose is not Purpose.RENT:
        return ", ".join([*([clean(yes.detail, _WORD_CAP)] if yes.detail else []), *ceiling])
    size = f"{yes.places} machine{'s' * (yes.places > 1)} of {values.get('num_gpus')}x {values.get('gpu_name')}"
    inside = [clean(str(values.get("image")), _WORD_CAP), f"{values.get('disk_gb')} GB"]
    kept = [f"besides {', '.join(map(str, yes.acknowledged))}"] if yes.acknowledged else []
    return ", ".join([clean(size, _WORD_CAP), *inside, *_given(values), *ceiling, *kept])


def _given(values: Mapping[str, Any]) -> Iterator[str]:
    """What else a yes to rent was to: of secrets the names, of a script that there is one."""
    if values.get("interruptible"):
        yield f"interruptible, a bid of {Rate.of(values['bid_per_hour'])}"
    if values.get("template_hash"):
        yield clean(f"template {values['template_hash']}", _WORD_CAP)
    if values.get("onstart"):
        yield "a start script"
    if values.get("env"):
        yield clean(f"env {' '.join(values['env'])}", _MESSAGE_CAP)
    if values.get("ports"):
        yield clean(f"ports {' '.join(values['ports'])}", _MESSAGE_CAP)


def _of_fields(before: Workflow | None, after: Workflow, at: float) -> tuple[AuditEvent, ...]:
    """A yes to some fields only, above all to a key source."""
    if before is None:
        return ()
    fresh = {
        name: state
        for name, state in after.fields.items()
        if state.status == "confirmed" and (name not in before.fields or before.fields[name].status != "confirmed")
    }
    if not fresh:
        return ()
    words = [
        f"{name}={clean(str(state.value), _MESSAGE_CAP)}" if name == "api_key_source" else name
        for name, state in fresh.items()
    ]
    return (
        AuditEvent(
            at=at,
            kind=Kind.CONFIRMED,
            owner=after.owner,
            by=", ".join(dict.fromkeys(state.by or "not said" for state in fresh.values())),
            workflow_id=after.workflow_id,
            purpose="fields",
            digest=before.digest,
            what=", ".join(words),
        ),
    )


def _of_no(before: Workflow | None, after: Workflow, at: float) -> Iterator[AuditEvent]:
    """Each no, and each answer that never came."""
    no = after.last_no
    if no is None or (before is not None and no == before.last_no):
        return
    sticks_to = [clean(mark, _MESSAGE_CAP) for mark in no.marks if mark != no.digest]
    to = [clean(no.detail, _WORD_CAP)] if no.detail and no.about != "key" else []
    yield AuditEvent(
        at=at,
        kind=Kind.DECLINED,
        owner=after.owner,
        by=no.by,
        workflow_id=after.workflow_id,
        purpose=no.about,
        digest=no.digest,
        instance_ids=no.instance_ids,
        what=", ".join([*to, *sticks_to, *([] if no.said else ["no answer"])]),
    )


def of_order(
    order: Order, was: OrderState | None, state: OrderState, facts: OrderFacts, *, at: float, yes: AuditEvent | None
) -> AuditEvent:
    """A line of an order's history. `order` may be newer than the line; `yes`: the one it is from, where that is known.

    An older ledger has no yes on its trail.
    """
    machine = facts.instance_id or (order.instance_id if was in {OrderState.RENTED, OrderState.RELEASED} else None)
    return AuditEvent(
        at=at,
        kind=Kind.ORDER,
        owner=order.owner,
        by=order.agreed_by if yes is None else yes.by,
        workflow_id=order.workflow_id,
        purpose=Purpose.RENT,
        digest="" if yes is None else yes.digest,
        confirmation_id=order.confirmation_id,
        order_id=order.order_id,
        instance_ids=() if machine is None else (machine,),
        code=state if was is None else f"{was} -> {state}" if was is not state else f"{state}, noted",
        what=_planned(order) if was is None else _learned(facts),
    )


def _planned(order: Order) -> str:
    again = "" if order.replaces is None else f", in place of {order.replaces}"
    return (
        f"offer {order.ask_id}, {order.num_gpus}x {clean(order.gpu_name, _WORD_CAP)}, {order.disk_gb} GB,"
        f" {Rate(order.price_per_hour)}, at most {Rate(order.ceiling_per_hour)}{again}"
    )


def _learned(facts: OrderFacts) -> str:
    said = [
        "" if facts.rented_price_per_hour is None else f"at {Rate(facts.rented_price_per_hour)}",
        facts.final_state or "",
        "" if facts.cost_usd is None else f"it cost {Usd(facts.cost_usd)}",
        clean(facts.reason or "", _MESSAGE_CAP),
        clean(facts.reply_error or "", _MESSAGE_CAP),
        "" if facts.ssh_key_removed is None else f"its SSH key {'goes' if facts.ssh_key_removed else 'is back'}",
        *(clean(warning, _MESSAGE_CAP) for warning in facts.warnings or ()),
    ]
    return ", ".join(part for part in said if part)


def refused(
    tool: str, arguments: Mapping[str, Any], error: WorkflowError, *, owner: str, by: str, at: float
) -> AuditEvent:
    """A refused call: its code and sentence, and of its arguments only those that have the form of our own."""
    onward: Mapping[str, Any] = (error.next_call or {}).get("arguments", {})
    return AuditEvent(
        at=at,
        kind=Kind.REFUSED,
        owner=owner,
        by=by,
        workflow_id=_of_form(_WORKFLOW_ID, arguments.get("workflow_id"))
        or error.workflow_id
        or onward.get("workflow_id"),
        purpose=clean(_LIKE_A_KEY.sub("***", tool), _WORD_CAP),
        digest=_of_form(_DIGEST, arguments.get("digest")) or error.digest or onward.get("digest") or "",
        instance_ids=_ids(arguments.get("instance_ids")),
        code=error.code,
        what=clean(_LIKE_A_KEY.sub("***", error.message), _MESSAGE_CAP),
    )


def answer_not_taken(
    error: WorkflowError,
    *,
    owner: str,
    by: str,
    at: float,
    workflow_id: str | None = None,
    question: Question | None = None,
) -> AuditEvent:
    """A person's own answer that was none, to this question or to no known one. What they typed is not repeated."""
    event = AuditEvent(at=at, kind=Kind.REFUSED, owner=owner, by=by, workflow_id=workflow_id, code=error.code)
    if question is None:  # the message repeats the code that they typed
        return event
    return event.model_copy(
        update={
            "purpose": question.about,
            "digest": question.digest,
            "instance_ids": question.instance_ids,
            "what": clean(error.message, _MESSAGE_CAP),
        }
    )


def _of_form(form: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and form.fullmatch(value) else None


def _ids(value: object) -> tuple[int, ...]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return tuple(item for item in items[:_MOST_IDS] if isinstance(item, int) and not isinstance(item, bool))
