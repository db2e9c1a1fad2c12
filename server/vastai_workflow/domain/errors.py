"""Everything that can go wrong, as codes with a meaning and a next step.

WorkflowError            anything a person or an agent can act on
├── Refusal              we said no; nothing was sent
├── ProviderError        the provider said no, or could not be understood
│   └── Uncertain        the request may have had its effect: settle it by listing, never by sending again
└── LocalError           this machine said no: key file, store, SSH key

The table `CATALOGUE` is the whole list of codes; `references/errors.md` is rendered from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What a code means and what helps, where the raising place knows nothing better."""

    meaning: str
    next_step: str


CATALOGUE: Final[Mapping[str, ErrorKind]] = {
    # the gate
    "not_confirmed": ErrorKind("a required field has no yes yet", "ask the user, then call confirm_fields"),
    "digest_mismatch": ErrorKind(
        "the yes was to other values than those now proposed", "show the user the change, then confirm the new digest"
    ),
    "price_not_shown": ErrorKind(
        "the user said yes before a price was known", "call propose_fields and show the price"
    ),
    "confirmation_expired": ErrorKind("a yes lasts 30 minutes", "ask again with propose_fields and confirm_fields"),
    "confirmation_spent": ErrorKind("this yes was used up", "look at what exists; a new machine needs a new yes"),
    "purpose_not_confirmed": ErrorKind("this action needs a yes of its own", "ask the user, then call confirm_fields"),
    "unacknowledged_instances": ErrorKind(
        "machines run that the user has not been asked about", "ask: keep, stop or destroy; then confirm_fields"
    ),
    "account_changed": ErrorKind("the key now belongs to another account than the yes", "call propose_fields again"),
    "unsettled_order": ErrorKind(
        "an earlier order of this account is not settled: it may have rented", "call wait_until_ready, then try again"
    ),
    "person_needed": ErrorKind(
        "this server takes only a person's own yes, not one that an agent reports", "the user has to agree themselves"
    ),
    "declined": ErrorKind(
        "the person was asked and did not agree, or their client could not ask them; nothing was spent",
        "go on only if the user wishes it: ask again, or let them approve on their terminal",
    ),
    "wrong_answer": ErrorKind(
        "the person's answer was another than the value that the question names; nothing was confirmed",
        "call again, and the person is asked again",
    ),
    "no_such_question": ErrorKind(
        "no question with this code waits for an answer: it was answered, or there is a newer one",
        "ask your agent for the code that stands now",
    ),
    "read_only": ErrorKind("the operator set this server to read only", "ask the operator"),
    "cap_exceeded": ErrorKind("the operator's cap would be exceeded", "choose a smaller plan, or ask the operator"),
    "workflow_unknown": ErrorKind("no workflow with this id belongs to you", "call propose_fields to start one"),
    "plan_unknown": ErrorKind("no such plan in this workflow", "call find_offers"),
    "plan_expired": ErrorKind("the plan is older than its prices", "call find_offers again"),
    "price_above_ceiling": ErrorKind("the machine costs more than the user agreed to", "call find_offers again"),
    "no_offers": ErrorKind("no offer fits the filter", "loosen the filter with propose_fields"),
    "single_match": ErrorKind(
        "only one offer fits, and the policy skips the first", "ask the user: take it, or loosen the filter"
    ),
    # input
    "invalid_argument": ErrorKind("an argument has a value that is not allowed", "correct it and call again"),
    "unknown_argument": ErrorKind("an argument that the tool does not have", "see the allowed names, call again"),
    "unknown_gpu": ErrorKind("no offer has a GPU of this name", "use one of the nearest names"),
    "not_yours": ErrorKind("the machine is not one that this key can see", "call preflight to see the machines"),
    # the key
    "key_missing": ErrorKind("the key source holds no key", "ask the user to set it; never ask for the key itself"),
    "key_file_refused": ErrorKind("the key file can't be used safely", "do what the message says, then call again"),
    "key_source_not_confirmed": ErrorKind("a new key file is read only after a yes", "confirm api_key_source first"),
    "key_rejected": ErrorKind("the provider does not accept the key", "ask the user to check the key"),
    "scope_missing": ErrorKind("the key lacks a permission", "ask the user to add the scope to the key"),
    "two_factor": ErrorKind("the provider wants a second factor", "ask the user to log in with the official client"),
    # the provider
    "rate_limited": ErrorKind("the provider answers 429", "wait as long as said, then call again"),
    "search_quota_exceeded": ErrorKind("the daily search quota is used up", "wait until 00:00 UTC"),
    "spend_rate_limit": ErrorKind("the provider limits how fast a new account may spend", "wait, or ask the provider"),
    "insufficient_credit": ErrorKind("the account lacks credit", "ask the user to add credit"),
    "no_such_ask": ErrorKind("the offer is gone", "call find_offers again"),
    "no_such_instance": ErrorKind("the provider knows no such instance", "call preflight to see the machines"),
    "resources_unavailable": ErrorKind("the GPU is taken by somebody else", "wait, or destroy and rent another"),
    "team_ssh_keys_not_supported": ErrorKind("a team account holds no SSH keys", "nothing: the instance gets the key"),
    "request_rejected": ErrorKind("the provider rejected the request", "check the request that is shown"),
    "provider_down": ErrorKind(
        "the provider answers 5xx", "wait; the state is looked at again before anything goes on"
    ),
    "unreachable": ErrorKind("the provider can't be reached", "check the network, then call again"),
    "unreadable_answer": ErrorKind("the provider's answer can't be read", "see the saved answer, then call again"),
    "incomplete_list": ErrorKind("a list came back incomplete", "call again; no machine is assumed gone"),
    "redirect_refused": ErrorKind("the provider points to another host", "check VAST_URL"),
    "unknown_effect": ErrorKind("the request may have had its effect", "look before you try again"),
    # this machine
    "no_terminal": ErrorKind("only a person at a terminal can answer this", "run it in a terminal of your own"),
    "ssh_key_refused": ErrorKind("the SSH key can't be used", "do what the message says, then call again"),
    "host_key_changed": ErrorKind("the machine shows another SSH host key than before", "destroy it, or recycle"),
    "store_unavailable": ErrorKind("the ledger can't be read or written: nothing is rented without it", "see message"),
    "account_busy": ErrorKind("another process rents for this account just now", "wait a minute, then call again"),
    "internal_error": ErrorKind("a fault of this server", "see its log; look at instance_status before you go on"),
}


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """The call that helps: a tool and its arguments, as an agent passes them; without those that are None."""
    return {"tool": tool, "arguments": {name: value for name, value in arguments.items() if value is not None}}


class WorkflowError(Exception):
    """Something that a person or an agent can act on: a code, a sentence, a next step."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        next_step: str | None = None,
        missing: Sequence[str] = (),
        ask_user: str | None = None,
        next_call: Mapping[str, Any] | None = None,
    ) -> None:
        """Codes outside `CATALOGUE` are a programming error (KeyError)."""
        kind = CATALOGUE[code]
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = kind.next_step if next_step is None else next_step
        self.missing = tuple(missing)
        self.ask_user = ask_user
        self.next_call = dict(next_call) if next_call is not None else None
        self.workflow_id: str | None = None
        self.digest = ""

    def of(self, workflow_id: str, digest: str) -> Self:
        """The same error, which also says for the record what it is about, where its next call does not."""
        self.workflow_id, self.digest = workflow_id, digest
        return self

    def told_with(self, notes: Sequence[str]) -> "WorkflowError":
        """The same error, whose message also says what was done before it."""
        if notes:
            self.message = f"{self.message}. Before that: {'; '.join(notes)}"
        return self

    @property
    def sentence(self) -> str:
        """The message and the next step, for a reader who sees only text."""
        message = self.message if self.message.endswith((".", "?", "!")) else f"{self.message}."
        return f"{message} Next: {self.next_step}."


class Refusal(WorkflowError):
    """We said no; nothing was sent."""


class LocalError(WorkflowError):
    """This machine said no: a key file, the store, an SSH key."""


class ProviderError(WorkflowError):
    """The provider said no, or could not be understood; the request had no effect that matters."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        next_step: str | None = None,
    ) -> None:
        """`status` is the HTTP status if there was one; `retry_after` is in seconds."""
        super().__init__(code, message, next_step=next_step)
        self.status = status
        self.retry_after = retry_after


class Uncertain(ProviderError):
    """The request may have had its effect: time-out, broken connection, 5xx, unreadable answer, unknown code."""
