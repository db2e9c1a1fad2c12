"""The gate's second table: each rule refuses, and lets pass at its very boundary."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.domain.values import DIGEST, MICRO, NOW, a_yes
from vastai_workflow.domain import gate
from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.gate import RULES, Facts, Rule, first_refusal
from vastai_workflow.domain.money import ZERO, Rate
from vastai_workflow.domain.workflow import Purpose

CEILING = Rate.of("0.5")
ABOVE = Rate(CEILING.per_hour + MICRO)
BELOW = Rate(CEILING.per_hour - MICRO)

YES = (
    gate.writes_allowed,
    gate.yes_given,
    gate.yes_to_this,
    gate.yes_unexpired,
    gate.yes_unspent,
    gate.same_account,
)
PRICED = (gate.writes_allowed, gate.under_caps, *YES[1:], gate.under_ceiling)
RENT = (
    gate.writes_allowed,
    gate.fields_confirmed,
    gate.yes_given,
    gate.yes_to_this,
    gate.yes_unexpired,
    gate.yes_unspent,
    gate.same_account,
    gate.nothing_unsettled,
    gate.all_acknowledged,
    gate.offer_fits,
    gate.under_ceiling,
    gate.under_caps,
)


def facts(**changes: Any) -> Facts:
    """All that lets every purpose pass, and what a test changes."""
    purpose = changes.get("purpose", Purpose.RENT)
    open_gate = Facts(
        purpose=purpose,
        now=NOW,
        caps=Caps(),
        account_id=7,
        digest=DIGEST,
        confirmation=a_yes(purpose),
        price=CEILING,
    )
    return replace(open_gate, **changes)


def refused(found: Refusal | None) -> Refusal:
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("purpose", "rules"),
    [
        (Purpose.RENT, RENT),
        (Purpose.START, PRICED),
        (Purpose.BID, PRICED),
        (Purpose.EXTEND, PRICED),
        (Purpose.ATTACH, YES),
        (Purpose.RECYCLE, YES),
        (Purpose.END, YES),
    ],
)
def test_the_rules_of_each_purpose(purpose: Purpose, rules: tuple[Rule, ...]) -> None:
    assert RULES[purpose] == rules


def test_every_purpose_has_rules_and_every_rule_says_what_holds() -> None:
    assert set(RULES) == set(Purpose)
    assert all(rule.__doc__ for rules in RULES.values() for rule in rules)


@pytest.mark.parametrize("purpose", list(Purpose))
def test_the_gate_opens_where_all_holds(purpose: Purpose) -> None:
    assert first_refusal(facts(purpose=purpose)) is None


REFUSING: list[tuple[Rule, dict[str, Any], str]] = [
    (gate.writes_allowed, {"caps": Caps(read_only=True)}, "read_only"),
    (gate.fields_confirmed, {"missing": ("image",)}, "not_confirmed"),
    (gate.yes_given, {"confirmation": None}, "not_confirmed"),
    (gate.yes_to_this, {"digest": "another"}, "digest_mismatch"),
    (gate.yes_to_this, {"digest": ""}, "digest_mismatch"),
    (gate.yes_unexpired, {"confirmation": a_yes(expires_at=NOW)}, "confirmation_expired"),
    (gate.yes_unexpired, {"confirmation": a_yes(at=NOW + 0.001)}, "confirmation_expired"),
    (gate.yes_unspent, {"confirmation": a_yes(spent_at=NOW - 1)}, "confirmation_spent"),
    (gate.yes_unspent, {"places_taken": 1}, "confirmation_spent"),
    (gate.yes_unspent, {"confirmation": a_yes(places=3), "places_taken": 3}, "confirmation_spent"),
    (gate.same_account, {"account_id": 8}, "account_changed"),
    (gate.nothing_unsettled, {"unsettled": ("o9",)}, "unsettled_order"),
    (gate.all_acknowledged, {"unacknowledged": (31, 32)}, "unacknowledged_instances"),
    (gate.offer_fits, {"misfits": ("got GPU A100, allowed RTX 4090",)}, "no_offers"),
    (gate.under_ceiling, {"price": ABOVE}, "price_above_ceiling"),
    (gate.under_ceiling, {"price": None}, "price_above_ceiling"),
    (gate.under_ceiling, {"confirmation": a_yes(ceiling_per_hour=None)}, "price_above_ceiling"),
    (gate.under_caps, {"caps": Caps(max_price_per_hour=BELOW)}, "cap_exceeded"),
    (gate.under_caps, {"caps": Caps(max_total_per_hour=CEILING), "burning": Rate(MICRO)}, "cap_exceeded"),
    (gate.under_caps, {"caps": Caps(max_instances=2), "running": 2}, "cap_exceeded"),
    (gate.under_caps, {"caps": Caps(max_instances=0)}, "cap_exceeded"),
]

PASSING: list[tuple[Rule, dict[str, Any]]] = [
    (gate.writes_allowed, {"caps": Caps(read_only=False)}),
    (gate.fields_confirmed, {"missing": ()}),
    (gate.yes_given, {}),
    (gate.yes_to_this, {}),
    (gate.yes_unexpired, {"confirmation": a_yes(expires_at=NOW + 0.001)}),
    (gate.yes_unexpired, {"confirmation": a_yes(at=NOW)}),
    (gate.yes_unspent, {"confirmation": a_yes(places=3), "places_taken": 2}),
    (gate.same_account, {}),
    (gate.nothing_unsettled, {"unsettled": ()}),
    (gate.all_acknowledged, {"unacknowledged": ()}),
    (gate.offer_fits, {"misfits": ()}),
    (gate.under_ceiling, {"price": CEILING}),
    (gate.under_caps, {"caps": Caps(max_price_per_hour=CEILING)}),
    (gate.under_caps, {"caps": Caps(max_total_per_hour=ABOVE), "burning": Rate(MICRO)}),
    (gate.under_caps, {"caps": Caps(max_instances=1)}),
    (gate.under_caps, {"caps": Caps(max_instances=3), "running": 2}),
    (gate.under_caps, {"burning": Rate.of(1000), "running": 1000}),
]


@pytest.mark.parametrize(("rule", "changes", "code"), REFUSING)
def test_a_rule_refuses_and_the_gate_with_it(rule: Rule, changes: dict[str, Any], code: str) -> None:
    stopped = refused(rule(facts(**changes)))
    assert stopped.code == code
    assert stopped.next_step
    assert refused(first_refusal(facts(**changes))).code == code


@pytest.mark.parametrize(("rule", "changes"), PASSING)
def test_a_rule_lets_pass_up_to_its_boundary(rule: Rule, changes: dict[str, Any]) -> None:
    assert rule(facts(**changes)) is None
    assert first_refusal(facts(**changes)) is None


def test_every_rule_is_tried_both_ways() -> None:
    every = {rule for rules in RULES.values() for rule in rules}
    assert {rule for rule, _, _ in REFUSING} == every
    assert {rule for rule, _ in PASSING} == every


@pytest.mark.parametrize("purpose", [p for p in Purpose if p is not Purpose.RENT])
def test_a_purpose_without_its_own_yes_is_refused_as_such(purpose: Purpose) -> None:
    stopped = refused(first_refusal(facts(purpose=purpose, confirmation=None)))
    assert stopped.code == "purpose_not_confirmed"
    assert purpose in stopped.message


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"caps": Caps(read_only=True)}, "read_only"),
        ({"digest": "another"}, "digest_mismatch"),
        ({"now": NOW + 1740}, "confirmation_expired"),
        ({"now": NOW - 61}, "confirmation_expired"),
        ({"places_taken": 1}, "confirmation_spent"),
        ({"account_id": 8}, "account_changed"),
    ],
)
def test_no_purpose_does_without_a_good_yes(purpose: Purpose, changes: dict[str, Any], code: str) -> None:
    assert refused(first_refusal(facts(purpose=purpose, **changes))).code == code


@pytest.mark.parametrize("purpose", [Purpose.START, Purpose.BID, Purpose.EXTEND])
def test_the_ceiling_and_the_caps_bind_whatever_spends(purpose: Purpose) -> None:
    capped = Caps(max_total_per_hour=CEILING)
    assert refused(first_refusal(facts(purpose=purpose, price=ABOVE))).code == "price_above_ceiling"
    assert refused(first_refusal(facts(purpose=purpose, caps=capped, burning=Rate(MICRO)))).code == "cap_exceeded"


@pytest.mark.parametrize("purpose", [Purpose.ATTACH, Purpose.RECYCLE, Purpose.END])
def test_what_spends_nothing_asks_for_no_price(purpose: Purpose) -> None:
    assert first_refusal(facts(purpose=purpose, price=None, caps=Caps(max_instances=0))) is None


def test_the_first_rule_that_says_no_is_the_one_that_is_told() -> None:
    nothing_holds = facts(caps=Caps(read_only=True), missing=("image",), confirmation=None, price=None)
    assert refused(first_refusal(nothing_holds)).code == "read_only"
    assert refused(first_refusal(replace(nothing_holds, caps=Caps()))).code == "not_confirmed"


def test_a_refusal_names_the_missing_fields() -> None:
    stopped = refused(gate.fields_confirmed(facts(missing=("image", "count"))))
    assert stopped.missing == ("image", "count")
    assert "image, count" in stopped.message


def test_a_refusal_asks_about_the_machines_and_says_which_call_answers() -> None:
    stopped = refused(gate.all_acknowledged(facts(unacknowledged=(31, 32))))
    assert stopped.ask_user == "Machines 31, 32 are active already. Keep, stop or destroy them?"
    assert stopped.next_call == {"tool": "confirm_fields", "arguments": {"acknowledge_instances": [31, 32]}}


@pytest.mark.parametrize(
    ("rule", "changes", "got", "allowed"),
    [
        (gate.under_ceiling, {"price": Rate.of("0.61")}, "$0.61/h", "$0.50/h"),
        (gate.under_caps, {"caps": Caps(max_price_per_hour=Rate.of("0.3"))}, "$0.50/h", "$0.30/h"),
        (gate.under_caps, {"caps": Caps(max_total_per_hour=CEILING), "burning": Rate.of(1)}, "$1.50/h", "$0.50/h"),
        (gate.under_caps, {"caps": Caps(max_instances=2), "running": 2}, "number 3", "allowed 2"),
        (gate.yes_unspent, {"places_taken": 1}, "got 2", "allowed 1"),
    ],
)
def test_a_refusal_says_what_it_got_and_what_is_allowed(
    rule: Rule, changes: dict[str, Any], got: str, allowed: str
) -> None:
    message = refused(rule(facts(**changes))).message
    assert got in message
    assert allowed in message


def test_no_price_adds_nothing_to_what_burns() -> None:
    """The ceiling, which stands before the caps, refuses an unknown price."""
    together = facts(price=None, caps=Caps(max_total_per_hour=CEILING), burning=CEILING)
    assert gate.under_caps(together) is None
    assert refused(first_refusal(together)).code == "price_above_ceiling"


def test_a_free_machine_is_no_way_around_the_caps() -> None:
    full = facts(price=ZERO, caps=Caps(max_instances=1), running=1)
    assert refused(first_refusal(full)).code == "cap_exceeded"
    assert a_yes().ceiling_per_hour == Decimal("0.5")
