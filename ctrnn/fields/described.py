"""Fields from what they say of themselves (``Field.describe``): text and arrays, and nothing that is executed."""

from __future__ import annotations

from typing import Any

from ctrnn.fields.base import Array, Field
from ctrnn.fields.equations import Equations
from ctrnn.fields.network import RateNetwork

KINDS: dict[str, Any] = {"Equations": Equations, "RateNetwork": RateNetwork}


def restored(text: dict[str, Any], arrays: dict[str, Array], parameters: dict[str, Array]) -> Field:
    """The field that ``describe`` described, with these parameters.

    >>> field = Equations({"r": "-k*r"}, {"k": 2.0})
    >>> restored(*field.describe(), field.parameters)
    Equations
      dr/dt = -k*r
      with k = 2
    """
    options: dict[str, Any] = {key: value for key, value in text.items() if key != "kind"} | arrays
    if text["kind"] == "Equations":
        options["parameters"] = parameters
    field: Field = KINDS[text["kind"]](**options)
    return field.with_parameters(**parameters)
