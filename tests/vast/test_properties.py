"""Whatever the provider answers: an error of ours, and never "nothing was rented" without proof."""

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.vast.fakes import START, instance_row, offer_row
from vastai_workflow.domain.errors import CATALOGUE, ProviderError
from vastai_workflow.domain.market import MaybeRented, NotRented, OfferQuery, Rented, RentedWithError
from vastai_workflow.vast import endpoints, models
from vastai_workflow.vast.endpoints import ENDPOINTS
from vastai_workflow.vast.errors import refusal, unsure
from vastai_workflow.vast.models import Unreadable
from vastai_workflow.vast.offers import search_body
from vastai_workflow.vast.renting import FREE_TEXT, KNOWN_REFUSALS, outcome
from vastai_workflow.vast.scrub import masked, without
from vastai_workflow.vast.wire import Answer, Request, answer

ON_A_SLOW_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CODES = [*sorted({code for _, code in KNOWN_REFUSALS} | set(CATALOGUE)), "deprecated_endpoint", "not_found", "unknown"]
WORDS = st.sampled_from(
    ["Invalid user key", "This action requires login.", "no permission", "no_such_ask", "API requests too frequent", ""]
) | st.text(max_size=40)
STATUSES = st.integers(100, 599) | st.sampled_from([200, 400, 401, 403, 404, 409, 410, 429, 500])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "success": st.booleans() | JSON,
        "error": st.sampled_from(CODES) | JSON,
        "msg": WORDS | JSON,
        "message": WORDS,
        "detail": WORDS,
        "new_contract": st.integers() | JSON,
        "retry_after": JSON,
    },
)
BODIES = st.binary(max_size=40) | (ENVELOPES | JSON).map(lambda value: json.dumps(value).encode())
HEADERS = st.dictionaries(st.sampled_from(["Retry-After", "X-RateLimit-Reset"]), st.text(max_size=12))


@ON_A_SLOW_MACHINE
@given(st.sampled_from(ENDPOINTS), STATUSES, HEADERS, BODIES)
def test_any_answer_that_is_no_success_is_an_error_with_a_code(
    endpoint: endpoints.Endpoint, status: int, headers: dict[str, str], body: bytes
) -> None:
    reply = answer(status, headers, body)
    if reply.succeeded:
        assert 200 <= status < 300
        return
    error = refusal(Request(endpoint, 7, body={"env": {"A": "sesame"}}), reply, now=START)
    assert isinstance(error, ProviderError)
    assert error.code in CATALOGUE
    assert "sesame" not in error.sentence
    assert "\n" not in error.message
    assert len(error.message) < 1200
    assert unsure(reply, error) in (True, False)


@ON_A_SLOW_MACHINE
@given(STATUSES, HEADERS, BODIES)
@example(404, {}, json.dumps({"success": False, "error": "invalid_args", "msg": "no_such_ask"}).encode())
@example(401, {}, json.dumps({"success": False, "detail": "no_such_ask"}).encode())
@example(403, {}, json.dumps({"success": False, "msg": "no permission"}).encode())
def test_nothing_rented_is_said_only_for_what_the_table_lists(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    reply = answer(status, headers, body)
    error = None if reply.succeeded else refusal(Request(endpoints.CREATE, 5), reply, now=START)
    result = outcome(reply, error)
    assert isinstance(result, Rented | NotRented | RentedWithError | MaybeRented)
    if isinstance(result, NotRented):
        assert status == 429 or any((status, name) in KNOWN_REFUSALS for name in names(reply))
        assert reply.new_contract is None
    if isinstance(result, Rented):
        assert 200 <= status < 300


def names(reply: Answer) -> list[str]:
    """Each name under which a body could stand in the table, read in the test's own way."""
    fields: Any = json.loads(reply.text) if reply.text.startswith("{") else {}
    code = fields.get("error")
    found = [code.strip().lower() if isinstance(code, str) and code.strip() else FREE_TEXT]
    if "no_such_ask" in reply.text:
        found.append("no_such_ask")
    return found


@ON_A_SLOW_MACHINE
@given(JSON | st.dictionaries(st.sampled_from(sorted(instance_row())), JSON).map(lambda lies: instance_row() | lies))
def test_any_row_is_a_value_or_unreadable(value: Any) -> None:
    for read in (models.instance, models.single_instance, models.charge, models.account, models.instance_keys):
        try:
            read(answer(200, {}, json.dumps(value).encode()).body)
        except Unreadable as error:
            assert "sesame" not in str(error)  # noqa: PT017 # most inputs raise, some do not


@ON_A_SLOW_MACHINE
@given(JSON | st.dictionaries(st.sampled_from(sorted(offer_row(1))), JSON).map(lambda lies: offer_row(1) | lies))
def test_any_offer_is_a_value_or_unreadable(value: Any) -> None:
    for bid in (False, True):
        try:
            found = models.offer(answer(200, {}, json.dumps(value).encode()).body, bid=bid)
        except Unreadable:
            continue
        assert found.price.per_hour.is_finite()


@ON_A_SLOW_MACHINE
@given(st.text(max_size=200))
def test_masking_any_text_ends_and_hides_the_secret(text: str) -> None:
    assert "sesame-key" not in without(f"{text} sesame-key", ("sesame-key",))


@ON_A_SLOW_MACHINE
@given(JSON)
def test_masked_json_is_json(value: Any) -> None:
    json.dumps(masked(value))


@ON_A_SLOW_MACHINE
@given(st.integers(8, 4096), st.booleans())
def test_every_search_can_be_sent(disk_gb: int, interruptible: bool) -> None:  # noqa: FBT001 # given by position
    body = search_body(OfferQuery(disk_gb=disk_gb, interruptible=interruptible), 0.5)
    assert httpx.Request("POST", "https://x", json=body).content
