"""A workflow: one dialog with its fields, the yeses given, the plan, and nothing that can be computed from them."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from vastai_workflow.domain.balance import Balance

CONFIRMATION_LIFE_S: Final = 1800.0
"""A yes lasts 30 minutes."""

KEPT: Final = 32
"""How many yeses, and how many open questions, a workflow keeps."""


class Purpose(StrEnum):
    """What a yes is for."""

    RENT = "rent"
    START = "start"
    BID = "bid"
    EXTEND = "extend"
    ATTACH = "attach"
    DETACH = "detach"
    RECYCLE = "recycle"
    END = "end"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class FieldState(_Value):
    """One field: its value in canonical JSON form, and whether the user said yes to it (`by`: whose yes)."""

    value: Any
    status: Literal["proposed", "confirmed"] = "proposed"
    source: Literal["default", "given", "account", "plan"] = "default"
    by: str | None = None


class ChosenKey(_Value):
    """The SSH key of a workflow: its public line, fingerprint, and where its private half is."""

    public_key: str
    fingerprint: str
    private_key_path: str | None = None


class Confirmation(_Value):
    """A yes to a digest, for one purpose. Expires; a `rent` gives `places`, others are spent by one call.

    A `rent` keeps what was agreed, `values` and `ssh_key`: the create's body is built from these, not from the draft.
    `traffic_per_gb`: what the question said of it, in dollars; it binds nothing.
    Any other keeps the call that it is for, `again`. `kept_by`: whose word the last of `acknowledged` were;
    `withdrawn_by`: whose no ended it.
    """

    confirmation_id: str
    purpose: Purpose
    digest: str
    account_id: int
    by: str
    at: float
    expires_at: float
    ceiling_per_hour: Decimal | None = None
    places: int = 1
    instance_ids: tuple[int, ...] = ()
    detail: str = ""
    acknowledged: tuple[int, ...] = ()
    kept_by: str = ""
    withdrawn_by: str = ""
    values: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    ssh_key: ChosenKey | None = None
    traffic_per_gb: Decimal | None = None
    again: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    spent_at: float | None = None

    def open_at(self, now: float) -> bool:
        """Whether it still counts. One stamped in the future is expired: the clock went back."""
        return self.spent_at is None and self.at <= now < self.expires_at

    @property
    def signed(self) -> str:
        """By whom, which way, and when."""
        return f"{self.by}, {datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M} UTC"


class PlannedOffer(_Value):
    """An offer of a plan, as it was shown."""

    ask_id: int
    machine_id: int
    gpu_name: str
    num_gpus: int
    gpu_ram_mb: int
    price_per_hour: Decimal


class Plan(_Value):
    """The offers chosen for a digest; `spare`: the ids of the next ones, for those that are gone when it is rented."""

    plan_id: str
    digest: str
    chosen: tuple[PlannedOffer, ...]
    created_at: float
    expires_at: float
    spare: tuple[int, ...] = ()


About = Purpose | Literal["key", "keep"]
"""What a question is about: a purpose, a new key source, or machines that were found running after the yes to rent."""


class Question(_Value):
    """What the person is asked, whoever asks: rendered once, and kept until it is answered or replaced.

    `text` is all of it; to agree, the person types `answer`, which `form` names. `code` names this asking of it.
    `again` is the call that goes on after a yes; `balance`, the part of the text that drifts by itself.
    """

    about: About
    digest: str
    text: str
    answer: str
    form: Literal["ceiling", "machine", "fingerprint", "key"]
    code: str
    asked_at: float
    again: Mapping[str, Any]
    account_id: int | None = None
    instance_ids: tuple[int, ...] = ()
    ceiling_per_hour: Decimal | None = None
    detail: str = ""
    balance: Balance | None = None

    def open_at(self, now: float) -> bool:
        """Whether it can still be answered: a question lives as long as a yes."""
        return self.asked_at <= now < self.asked_at + CONFIRMATION_LIFE_S

    @property
    def marks(self) -> tuple[str, ...]:
        """What a no to it sticks to: the digest, the key source, or the machines."""
        if self.about == "key":
            return (key_mark(self.detail),)
        if self.about == "keep":
            return tuple(map(keep_mark, self.instance_ids))
        return (self.digest,)


def key_mark(source: str) -> str:
    """What a no to a key source sticks to."""
    return f"key {source}"


def keep_mark(instance_id: int) -> str:
    """What a no to a machine that runs sticks to."""
    return f"keep {instance_id}"


class No(_Value):
    """A no to a question; `said` is false where no answer came. `code`, of the next asking, tells noes apart.

    `detail`: the question's.
    """

    by: str
    about: About
    digest: str
    marks: tuple[str, ...]
    instance_ids: tuple[int, ...]
    code: str
    said: bool
    detail: str = ""

    def ends(self, given: Confirmation) -> bool:
        """Whether a yes falls with it, where it was said: of a workflow's yeses to rent each, at whatever price.

        So does a yes to do the same to any of the same machines, or to the account.
        """
        if self.about == Purpose.RENT:
            return given.purpose is Purpose.RENT
        both_of_the_account = not self.instance_ids and not given.instance_ids
        same = both_of_the_account or not set(self.instance_ids).isdisjoint(given.instance_ids)
        return same and (given.purpose, given.detail) == (self.about, self.detail)


class Shown(_Value):
    """The values behind a digest that was shown, so that a yes to an older one can be told what changed."""

    digest: str
    values: Mapping[str, Any]
    active: tuple[int, ...] = ()


class Workflow(_Value):
    """One dialog. `digest` is that of the last proposal, shown at `shown_at` with the machines `shown_active`.

    `shown_traffic`: what a GB cost there, in dollars.
    `declined`: marks of the questions to which the person said no, or nothing. `unanswered`: of those that went to a
    person by their client, which may never tell what became of them. Both take only a person's own yes.
    `last_no`: the newest no.
    """

    workflow_id: str
    owner: str
    created_at: float
    action: str = "create"
    fields: Mapping[str, FieldState] = Field(default_factory=dict[str, FieldState])
    ssh_key: ChosenKey | None = None
    account_id: int | None = None
    label: str | None = None
    digest: str = ""
    price_shown: bool = False
    shown_at: float = 0.0
    shown_active: tuple[int, ...] = ()
    shown_traffic: Decimal | None = None
    shown: tuple[Shown, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()
    plans: tuple[Plan, ...] = ()
    questions: tuple[Question, ...] = ()
    declined: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    last_no: No | None = None
    secrets: Mapping[str, str] = Field(default_factory=dict[str, str], repr=False)

    @property
    def values(self) -> dict[str, Any]:
        """Every field's value by name."""
        return {name: state.value for name, state in self.fields.items()}

    def value(self, name: str) -> Any:
        """A field's value; KeyError where there is none."""
        return self.fields[name].value

    def plan(self, plan_id: str) -> Plan | None:
        """A plan by its id."""
        return next((plan for plan in self.plans if plan.plan_id == plan_id), None)

    def confirmation(self, purpose: Purpose, digest: str) -> Confirmation | None:
        """The newest confirmation of a purpose and digest, open or not."""
        fitting = [item for item in self.confirmations if item.purpose is purpose and item.digest == digest]
        return fitting[-1] if fitting else None

    def question(self, code: str) -> Question | None:
        """A question that waits for its answer, by its code."""
        return next((question for question in self.questions if question.code == code), None)

    def asked(self, about: About, digest: str) -> Question | None:
        """The question about this that waits for its answer."""
        fitting = [item for item in self.questions if item.about == about and item.digest == digest]
        return fitting[-1] if fitting else None

    def asking(self, question: Question) -> "Workflow":
        """With a question in place of an earlier one about the same."""
        same = self.asked(question.about, question.digest)
        others = tuple(item for item in self.questions if item is not same)
        return self.with_(questions=(*others, question)[-KEPT:])

    def answered(self, code: str) -> "Workflow":
        """Without a question that has its answer."""
        heard = {mark for item in self.questions if item.code == code for mark in item.marks}
        return self.with_(
            questions=tuple(item for item in self.questions if item.code != code),
            unanswered=tuple(mark for mark in self.unanswered if mark not in heard),
        )

    def put(self, marks: Collection[str]) -> "Workflow":
        """With a question on its way to a person."""
        return self.with_(unanswered=tuple(dict.fromkeys((*self.unanswered, *marks))))

    def with_marks_of(self, *others: "Workflow") -> "Workflow":
        """With what others take only a person's own yes to."""
        return self.with_(
            declined=tuple({mark for item in (self, *others) for mark in item.declined}),
            unanswered=tuple({mark for item in (self, *others) for mark in item.unanswered}),
        )

    @property
    def rent_marks(self) -> tuple[str, ...]:
        """What a yes to the proposal answers: its digest, and each machine that it keeps."""
        return (self.digest, *map(keep_mark, self.shown_active))

    def answers(self, question: Question) -> tuple[str, ...]:
        """What a yes to a question of this workflow answers; a no sticks to less, to its `marks`."""
        return self.rent_marks if question.about == Purpose.RENT else question.marks

    def takes_only_their_own(self, marks: Collection[str]) -> bool:
        """Whether no agent reports a yes to any of these."""
        return not {*self.declined, *self.unanswered}.isdisjoint(marks)

    def agreed(self, confirmation: Confirmation) -> "Workflow":
        """With one yes more."""
        return self.with_(confirmations=(*self.confirmations, confirmation)[-KEPT:])

    def with_(self, **changes: Any) -> "Workflow":
        """A copy with some attributes changed."""
        return self.model_copy(update=changes)
