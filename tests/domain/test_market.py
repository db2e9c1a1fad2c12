"""The provider's things as values: whose machine it is, and what a charge is for."""

import pytest
from pydantic import SecretStr

from tests.domain.values import an_instance
from vastai_workflow.domain.market import ORDER_VARIABLE, Charge, CreateRequest
from vastai_workflow.domain.money import Usd

SECRET = "hf_s3cr3t_value"


def test_the_mark_of_an_order_is_read_from_the_environment() -> None:
    assert an_instance(env={ORDER_VARIABLE: "s.o", "A": "b"}).order_marker == "s.o"
    assert an_instance(env={"A": "b"}).order_marker is None


@pytest.mark.parametrize(
    ("source", "instance_id"),
    [("instance-31", 31), ("instance-", None), ("instance-x", None), ("volume-31", None), ("", None), ("31", None)],
)
def test_a_charge_names_its_instance(source: str, instance_id: int | None) -> None:
    assert Charge("charge", source, "gpu", Usd.of(1)).instance_id == instance_id


def test_no_secret_is_in_a_representation() -> None:
    request = CreateRequest("image", 64, "ada", "s.o", env={"A": SecretStr(SECRET)})
    assert SECRET not in repr(request)
    assert SECRET not in repr(an_instance(env={"A": SECRET}))
