"""Names with sizes, as declared: states, inputs, parameters, constants, masks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ctrnn.errors import UsageError, one_of
from ctrnn.fields.arrays.values import Shape
from ctrnn.fields.base import Array
from ctrnn.fields.checks import checked_names
from ctrnn.memory import claim
from ctrnn.numbers import MOST, checked_array, is_whole, real_array


def sizes(what: str, given: Any) -> dict[str, Shape]:
    """name -> shape, from a table name -> size or shape, or from names alone, which are scalars.

    >>> sizes("inputs", {"x": 3, "W": (2, 2), "b": ()}), sizes("inputs", "I")
    ({'x': (3,), 'W': (2, 2), 'b': ()}, {'I': ()})
    """
    if not isinstance(given, Mapping):
        return dict.fromkeys(checked_names(what, () if given is None else given), ())
    return {name: _shape(f"{what}[{name!r}]", given[name]) for name in checked_names(what, given)}


def _shape(what: str, given: Any) -> Shape:
    shape = tuple(given) if isinstance(given, list | tuple | range) else (given,)
    if not all(is_whole(k) and 0 <= k <= MOST for k in shape) or len(shape) > 2:
        raise UsageError(what, given=given, allowed="a size, or a shape of at most two sizes")
    claim(what, 80 * prod(int(k) for k in shape))  # each has a name
    return tuple(int(k) for k in shape)


def labels(shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """A name for each number: "r[0]", "W[1,2]", a scalar's own.

    >>> labels({"v": (), "r": (2,), "W": (1, 2)})
    ('v', 'r[0]', 'r[1]', 'W[0,0]', 'W[0,1]')
    """
    return tuple(
        name + (f"[{','.join(map(str, place))}]" if shape else "")
        for name, shape in shapes.items()
        for place in product(*map(range, shape))
    )


def arrays(what: str, given: Mapping[str, Any]) -> dict[str, Array]:
    """Parameters or constants: finite numbers, vectors or matrices."""
    made = {}
    for name in checked_names(f"{what}s", given):
        made[name] = checked_array(f"{what} {name!r}", given[name])
        if made[name].ndim > 2:
            shape = f"shape {made[name].shape}"
            raise UsageError(f"{what} {name!r}", given=shape, allowed="a number, a vector or a matrix")
    return made


def checked_masks(given: Mapping[str, Any], parameters: Mapping[str, Array]) -> dict[str, Array]:
    """name -> booleans of the parameter's shape."""
    masks = {}
    for name, mask in given.items():
        one_of("masks", name, parameters)
        mask, shape = real_array(f"masks[{name!r}]", mask), parameters[name].shape
        if mask.shape != shape or not np.isin(mask, (0, 1)).all():
            raise UsageError(f"masks[{name!r}]", given=mask, allowed=f"an array {shape} of 0 and 1")
        masks[name] = mask.astype(bool)
        masks[name].setflags(write=False)
    return masks


def outside(name: str, value: Array, mask: Array) -> None:
    """Raise UsageError where a value lies outside of its mask."""
    if value[~mask].any():
        hint = f"multiply {name} by its mask (of a field: field.masks[{name!r}])"
        raise UsageError(f"parameter {name!r}", given=value, allowed="0 outside the mask", hint=hint)
