"""Which arguments of a problem come once for each trial of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.inputs import Input
from ctrnn.numbers import real_array


def is_batch(r0: Any, t_span: Any, x: Any, objective: Any) -> bool:
    """Whether these arguments of ``ctrnn.Problem`` describe several problems.

    A list of numbers is one constant input, and rows of numbers alone are no input at all.
    """
    if isinstance(x, (list, tuple)) and any(isinstance(v, Input) or callable(v) for v in x):
        return True
    return comes_as_batch("r0", r0) or comes_as_batch("t_span", t_span) or comes_as_batch("objective", objective)


def one_each(name: str, value: Any, B: int) -> list[Any]:
    """Times for each of B trials: a list of B arrays as it is, anything else B times."""
    if not isinstance(value, (list, tuple)) or not any(isinstance(v, (list, tuple, np.ndarray)) for v in value):
        return [value] * B
    if len(value) != B:
        raise UsageError(name, given=f"{len(value)} lists of times", allowed=f"{B}, one a trial, or one for all")
    return list(value)


def comes_as_batch(name: str, value: Any) -> bool:
    """Whether an argument of Problem comes once for each trial."""
    is_list = isinstance(value, (list, tuple))
    if name == "r0" and is_list:  # each state itself a list or a table
        return len(value) > 0 and all(isinstance(v, (list, tuple, dict, np.ndarray)) for v in value)
    if name in ("r0", "t_span"):
        return array_or_empty(value).ndim == 2
    if name == "x":
        return is_list and not all(np.isscalar(v) for v in value)
    return name == "objective" and is_list


def one_by_one(value: Any) -> list[Any]:
    """What a batch holds for each trial."""
    return list(value) if isinstance(value, list | tuple) else list(np.asarray(value))


def array_or_empty(value: Any) -> Array:
    """The value as an array of floats; an empty one for what is no array of numbers."""
    try:
        return real_array("", value)
    except UsageError:
        return np.empty(0)
