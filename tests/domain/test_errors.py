"""Errors: a code of the catalogue, a sentence, a next step."""

import pytest

from vastai_workflow.domain.errors import (
    CATALOGUE,
    LocalError,
    ProviderError,
    Refusal,
    Uncertain,
    WorkflowError,
    call,
)


@pytest.mark.parametrize("code", list(CATALOGUE))
def test_every_code_has_a_meaning_and_a_next_step(code: str) -> None:
    kind = CATALOGUE[code]
    assert code.islower()
    assert code.isidentifier()
    assert kind.meaning
    assert not kind.meaning.endswith(".")
    assert kind.next_step
    assert not kind.next_step.endswith(".")
    assert Refusal(code, "no").next_step == kind.next_step


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("got 0, allowed 1", "got 0, allowed 1. Next: do it."),
        ("It is over.", "It is over. Next: do it."),
        ("Really?", "Really? Next: do it."),
        ("Stop!", "Stop! Next: do it."),
    ],
)
def test_the_sentence_is_the_message_and_the_next_step(message: str, sentence: str) -> None:
    assert Refusal("invalid_argument", message, next_step="do it").sentence == sentence


def test_a_refusal_carries_what_is_missing_what_to_ask_and_what_to_call() -> None:
    after = call("confirm_fields", digest="d", fields=["image"])
    refusal = Refusal("not_confirmed", "no", missing=["image"], ask_user="Is it?", next_call=after)
    assert after == {"tool": "confirm_fields", "arguments": {"digest": "d", "fields": ["image"]}}
    assert refusal.missing == ("image",)
    assert refusal.ask_user == "Is it?"
    assert refusal.next_call == after
    assert refusal.next_call is not after


def test_a_bare_refusal_carries_nothing_more() -> None:
    refusal = Refusal("read_only", "no")
    assert (refusal.missing, refusal.ask_user, refusal.next_call, str(refusal)) == ((), None, None, "no")


def test_a_code_outside_the_catalogue_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        Refusal("surprise", "no")


def test_the_providers_errors_know_the_status_and_the_wait() -> None:
    error = Uncertain("unknown_effect", "time-out", status=504, retry_after=3.5, next_step="look")
    assert (error.status, error.retry_after, error.next_step) == (504, 3.5, "look")
    assert (ProviderError("rate_limited", "429").status, ProviderError("rate_limited", "429").retry_after) == (
        None,
        None,
    )


def test_the_family_of_errors() -> None:
    assert issubclass(Uncertain, ProviderError)
    for one in (Refusal, LocalError, ProviderError):
        assert issubclass(one, WorkflowError)
        assert not any(issubclass(one, other) for other in {Refusal, LocalError, ProviderError} - {one})
