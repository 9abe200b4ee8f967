"""Fields from what they say of themselves (``Field.describe``): text and arrays, and nothing that is executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ctrnn.fields.base import Array, Field
from ctrnn.fields.equations import Equations
from ctrnn.fields.network import RateNetwork


def restored(text: dict[str, Any], arrays: dict[str, Array], parameters: dict[str, Array]) -> Field:
    """The field that ``describe`` described, with these parameters.

    >>> field = Equations({"r": "-k*s"}, {"k": 2.0}, definitions={"s": "tanh(r)"})
    >>> restored(*field.describe(), field.parameters)
    Equations
      dr/dt = -k*s
      s = tanh(r)
      with k = 2
    """
    options = {key: value for key, value in text.items() if key != "kind"}
    return KINDS[text["kind"]](options, arrays, parameters)


def _equations(text: dict[str, Any], arrays: dict[str, Array], parameters: dict[str, Array]) -> Field:
    constants, masks = (
        {k.split()[1]: v for k, v in arrays.items() if k.split()[0] == of} for of in ("constant", "mask")
    )
    shapes = {name: {k: tuple(v) for k, v in text[name].items()} for name in ("states", "inputs")}
    return Equations(**(text | shapes), parameters=parameters, constants=constants, masks=masks)


def _network(text: dict[str, Any], arrays: dict[str, Array], parameters: dict[str, Array]) -> Field:
    options: dict[str, Any] = text | arrays
    return RateNetwork(**options).with_parameters(**parameters)


KINDS: dict[str, Callable[..., Field]] = {"Equations": _equations, "RateNetwork": _network}
