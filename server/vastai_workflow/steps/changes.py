"""What is other than in a proposal that was shown before: told where a yes names an older digest."""

from collections.abc import Mapping
from typing import Any

from vastai_workflow.domain import fields
from vastai_workflow.domain.errors import Refusal, call
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.domain.workflow import Shown, Workflow
from vastai_workflow.steps.asking import Whose, whose_yes
from vastai_workflow.steps.deps import Caller, Deps


def check_digest(deps: Deps, caller: Caller, workflow: Workflow, digest: str | None) -> None:
    """Refusal `digest_mismatch` for another digest than what stands now: it says what changed."""
    if digest == workflow.digest and digest:
        return
    got = "no digest" if digest is None else f"the digest {clean(digest, 40)!r}"
    seen = next((shown for shown in workflow.shown if shown.digest == digest), None)
    news = _all_of(workflow) if seen is None else _changes(seen, workflow)
    relayed = whose_yes(deps, caller, workflow, workflow.rent_marks) is Whose.RELAYED
    raise Refusal(
        "digest_mismatch",
        f"got {got}, but what stands now is {workflow.digest}: {news}",
        next_step="show the user what stands now, then confirm its digest",
        ask_user=f"The proposal is now: {news}. Do you agree?" if relayed else None,
        next_call=call("confirm_fields", workflow_id=workflow.workflow_id, digest=workflow.digest),
    )


def _all_of(workflow: Workflow) -> str:
    return ", ".join(f"{name}={fields.shown(name, state.value)}" for name, state in workflow.fields.items())


def _changes(seen: Shown, workflow: Workflow) -> str:
    """What is other than in a proposal that was shown before."""
    values = workflow.values
    names = [name for name in fields.FIELDS if seen.values.get(name) != values.get(name)]
    changes = [f"{name}: {_words(name, seen.values)} is now {_words(name, values)}" for name in names]
    if seen.active != workflow.shown_active:
        now = ", ".join(map(str, workflow.shown_active)) or "none"
        changes.append(f"running machines: {', '.join(map(str, seen.active)) or 'none'} is now {now}")
    return ", ".join(changes) or "it is another account"


def _words(name: str, values: Mapping[str, Any]) -> Any:
    value = values.get(name)
    return "nothing" if value is None else fields.shown(name, value)
