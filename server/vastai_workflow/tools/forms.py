"""The forms in which a client asks its user: one value to type, by what the question is about."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

_Value = Annotated[str, Field(max_length=255)]


class Form(BaseModel):
    """One value that the person types; none is filled in, so that an empty answer is no yes."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Your yes")
    value: _Value


class CeilingForm(Form):
    """A yes to a price."""

    value: _Value = Field(title="Price limit, $/h", description="the one in the question; typing it means yes")


class MachineForm(Form):
    """A yes to what is done to a machine."""

    value: _Value = Field(title="Machine id", description="the one in the question; typing it means yes")


class FingerprintForm(Form):
    """A yes to an SSH key."""

    value: _Value = Field(title="Last four characters of the fingerprint", description="typing them means yes")


class KeyForm(Form):
    """A yes to reading an API key."""

    value: _Value = Field(title="Name of the key source", description="the one in the question; typing it means yes")


FORMS: Final[dict[str, type[Form]]] = {
    "ceiling": CeilingForm,
    "machine": MachineForm,
    "fingerprint": FingerprintForm,
    "key": KeyForm,
}
"""By the form that a question names."""
