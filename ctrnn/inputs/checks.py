"""What every argument of an input goes through first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UsageError

Array = NDArray[np.float64]


def finite(argument: str, value: Any, ndim: tuple[int, ...], allowed: str) -> Array:
    """A read-only float64 copy of value; UsageError unless real, finite and of an allowed ndim.

    >>> finite("values", [[1, 2], [3, float("nan")]], (1, 2), "an array (K,) or (K, size)")
    Traceback (most recent call last):
    ctrnn.errors.UsageError: values (row 1, column 1): got nan; allowed: finite numbers
    """
    try:
        array = np.array(value)
        if array.dtype.kind not in "biufO":  # text, complex numbers, dates
            raise TypeError(array.dtype)
        array = array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(argument, given=value, allowed=allowed) from error
    if array.ndim not in ndim:
        raise UsageError(argument, given=array, allowed=allowed)
    if not np.isfinite(array).all():
        index = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        names = ", ".join(f"{n} {k}" for n, k in zip(("row", "column"), index, strict=False))
        raise UsageError(
            f"{argument} ({names})" if names else argument,
            given=float(array[index]),
            allowed="finite numbers",
        )
    array.setflags(write=False)
    return array


def number(argument: str, value: Any) -> float:
    """value as a float; UsageError unless it is one real, finite number."""
    return float(finite(argument, value, (0,), "a finite number"))


def whole(argument: str, value: Any, least: int) -> int:
    """value as an int; UsageError unless it is a whole number and at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UsageError(argument, given=value, allowed=f"a whole number, {least} or more")
    return int(value)
