"""Fields from what they say of themselves (``Field.describe``): text and arrays, and nothing that is executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ctrnn.fields.base import Array, Field
from ctrnn.fields.equations import Equations
from ctrnn.fields.networks.rate import RateNetwork
from ctrnn.fields.networks.text import TextNetwork


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
    return Equations(**_arguments(text, arrays, parameters))


def _text_network(text: dict[str, Any], arrays: dict[str, Array], parameters: dict[str, Array]) -> Field:
    options = {key: value for key, value in text.items() if key != "sends"}
    kept = {key: value for key, value in arrays.items() if key != "signs"}
    return TextNetwork.restored(text["sends"], arrays.get("signs"), **_arguments(options, kept, parameters))


def _arguments(text: dict[str, Any], arrays: dict[str, Array], parameters: dict[str, Array]) -> dict[str, Any]:
    constants, masks = (
        {k.split()[1]: v for k, v in arrays.items() if k.split()[0] == of} for of in ("constant", "mask")
    )
    shapes = {name: {k: tuple(v) for k, v in text[name].items()} for name in ("states", "inputs")}
    return text | shapes | {"parameters": parameters, "constants": constants, "masks": masks}


def _network(text: dict[str, Any], arrays: dict[str, Array], parameters: dict[str, Array]) -> Field:
    options: dict[str, Any] = text | arrays
    return RateNetwork(**options).with_parameters(**parameters)


KINDS: dict[str, Callable[..., Field]] = {
    "Equations": _equations,
    "TextNetwork": _text_network,
    "RateNetwork": _network,
}
