"""A state of a field, from what people give for it: numbers, names with numbers, or one number for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.checks import checked_field
from ctrnn.names import arrays, known
from ctrnn.numbers import checked_array, real_array


def state_of(field: Field, r0: Any, argument: str = "r0") -> Array:
    """A state of the field, (n,).

    Parameters
    ----------
    field : Field
        The field, or anything with ``n`` and ``state_names``.
    r0 : array_like, mapping or float
        (n,) numbers, a table name of a state or of an array of states -> value, or one number for all.
    argument : str
        What an error calls it.

    Raises
    ------
    UsageError
        For another number of values, and for states without a value.
    UnknownNameError
        For a state that does not exist.
    """
    checked_field(field)  # an equilibrium is found of anything that behaves like a field
    if r0 is None:
        raise UsageError(argument, given=None, allowed=f"{field.n} numbers, or a table state name -> number")
    if isinstance(r0, Mapping):
        r0 = _numbers(field.state_names, r0, argument)
    given = real_array(argument, r0)
    return checked_array(argument, given if given.ndim else np.full(field.n, given), (field.n,))


def _numbers(names: tuple[str, ...], table: Mapping[str, Any], argument: str) -> list[Any]:
    """A value for each state from a table state or array -> value; one number fills an array."""
    whole = arrays(names)
    found: dict[str, Any] = {}
    for name, value in table.items():
        if not isinstance(name, str):
            raise UnknownNameError(argument, name, known(names))
        if name in whole:
            columns, shape = whole[name]
            given = real_array(f"{argument}[{name!r}]", value)
            filled = np.broadcast_to(given, shape) if given.ndim == 0 else given
            filled = checked_array(f"{argument}[{name!r}]", filled, shape)
            found |= dict(zip(names[columns], filled.ravel(), strict=True))
        elif name in names:
            found[name] = checked_array(f"{argument}[{name!r}]", value, ())
        else:
            raise UnknownNameError(argument, name, known(names))
    missing = [name for name in names if name not in found]
    if missing:
        raise UsageError(argument, given=dict(table), allowed=f"a value for each state; {missing[0]} has none")
    return [found[name] for name in names]
