"""The label: from the account, safe to show, and never the whole e-mail address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.values import THOROUGH
from vastai_workflow.domain.fields import parse
from vastai_workflow.domain.label import FALLBACK, label_for
from vastai_workflow.domain.market import Account
from vastai_workflow.domain.money import Usd


def account(nickname: str | None = None, username: str | None = None, email: str | None = None) -> Account:
    return Account(id=7, credit=Usd.of(1), nickname=nickname, username=username, email=email)


@pytest.mark.parametrize(
    ("owner", "label"),
    [
        (account("ada", "countess", "a.lovelace@example.org"), "ada"),
        (account(None, "countess", "a.lovelace@example.org"), "countess"),
        (account("", "countess", "a.lovelace@example.org"), "countess"),
        (account(None, "a.lovelace@example.org", "a.lovelace@example.org"), "a.lovelace"),
        (account("ada@example.org", None, "a.lovelace@example.org"), "a.lovelace"),
        (account(None, None, "a.lovelace@example.org"), "a.lovelace"),
        (account(None, "", "a@b@c"), "a"),
        (account(None, None, "no address"), FALLBACK),
        (account(None, None, "@example.org"), FALLBACK),
        (account(None, None, ""), FALLBACK),
        (account(), FALLBACK),
        (account("\u200b\x1b[0m", None, "a.lovelace@example.org"), "a.lovelace"),
        (account(" a\nb\x1b[31m "), "a b"),
        (account("x" * 61), "x" * 59 + "…"),
        (None, FALLBACK),
    ],
)
def test_where_the_label_comes_from(owner: Account | None, label: str) -> None:
    assert label_for(owner) == label


WORDS = st.none() | st.text(max_size=80)


@THOROUGH
@given(owner=st.builds(account, WORDS, WORDS, WORDS))
def test_every_account_has_a_label_that_the_field_takes(owner: Account) -> None:
    label = label_for(owner)
    assert parse("label", label) == label
