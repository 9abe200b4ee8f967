"""What the tables of an experiment file are made of: strict sections, numbers, unions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, model_validator
from pydantic_core import PydanticCustomError

from ctrnn.numbers import MOST

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Seed = Annotated[int, Field(ge=0)]
Numbers = Annotated[list[Number], Field(min_length=1)]
Matrix = Annotated[list[Numbers], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def shape(value: Any) -> str:
    """The alternative of a union that a value belongs to, by its TOML type; <> marks a tag."""
    if isinstance(value, bool):
        return "<true or false>"
    if isinstance(value, int | float):
        return "<number>"
    if isinstance(value, str):
        return "<text>"
    if isinstance(value, list):
        return "<matrix>" if value and isinstance(value[0], list) else "<list>"
    return "<table>"


def kind_of(value: Any) -> str:
    """The alternative that a table's key ``kind`` names."""
    given = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return f"<{given}>"


ByShape = Discriminator(shape)
ByKind = Discriminator(kind_of)


class Section(BaseModel):
    """A table: strict types, and an unknown key is an error that knows its neighbours."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    known = list(cls.model_fields)
                    raise PydanticCustomError("unknown_key", "{key}", {"key": key, "known": known})
        return data
