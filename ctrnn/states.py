"""A state of a field, from what people give for it: numbers, names with numbers, or one number for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.checks import checked_field
from ctrnn.names import arrays, known, labels
from ctrnn.numbers import axes_of, checked_array, real_array


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
    named = labels(r0)
    if not set(named).isdisjoint(field.state_names):  # a series of pandas goes by its names, as a table does
        r0 = dict(zip(named, real_array(argument, r0).ravel(), strict=True))
    if isinstance(r0, Mapping):
        r0 = _numbers(field.state_names, r0, argument)
    given = real_array(argument, r0)
    return checked_array(argument, given if given.ndim else np.full(field.n, given), (field.n,))


def runs_of(argument: str, given: Any, n: int | None = None) -> list[Array]:
    """Runs (T, n), of states (K, n), a run, an array (B, T, n), or a list of these; of ``n`` states or of one n.

    Raises UsageError, which names the argument, for anything else, and for numbers that are not finite.
    """
    one = getattr(given, "r", given)
    if isinstance(one, (list, tuple)) and any(hasattr(part, "r") or axes_of(part) == 2 for part in one):
        runs = [checked_array(argument, getattr(part, "r", part)) for part in one]
    else:
        every = checked_array(argument, one)
        runs = list(every) if every.ndim == 3 else [every]
    width = {run.shape[1:] for run in runs if run.ndim == 2}
    is_one = len(width) == 1 and all(run.ndim == 2 for run in runs) and any(run.size for run in runs)
    if not is_one or n is not None and width != {(n,)}:
        shapes = ", ".join(str(run.shape) for run in runs[:4])
        allowed = f"states (K, {'n' if n is None else n}), at least one; a run of such, or a list of runs"
        raise UsageError(argument, given=f"shape {shapes or 'of nothing'}", allowed=allowed)
    return runs


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
