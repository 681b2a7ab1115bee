"""The base of all configuration classes. Their errors show no values: one may be a key."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys refused, values frozen, numbers finite."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )
