"""What every argument of an input goes through first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UsageError, short
from ctrnn.numbers import real_array

Array = NDArray[np.float64]


def finite(argument: str, value: Any, ndim: tuple[int, ...], allowed: str, hint: str = "") -> Array:
    """A read-only float64 copy of value; UsageError unless real, finite and of an allowed ndim.

    >>> finite("values", [[1, 2], [3, float("nan")]], (1, 2), "an array (K,) or (K, size)")
    Traceback (most recent call last):
    ctrnn.errors.UsageError: values (row 1, column 1): got nan; allowed: finite numbers
    """
    array = real_array(argument, value, allowed)
    if array.ndim not in ndim:
        raise UsageError(argument, given=array, allowed=allowed)
    if not np.isfinite(array).all():
        index = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        names = ", ".join(f"{n} {k}" for n, k in zip(("row", "column"), index, strict=False))
        raise UsageError(
            f"{argument} ({names})" if names else argument,
            given=float(array[index]),
            allowed="finite numbers",
            hint=hint,
        )
    array.setflags(write=False)
    return array


def times_and_pieces(t: Any, lookup: Any) -> tuple[Array, Array]:
    """t (T,), and the times that say which piece is meant, by default the same ones."""
    times = finite("t", t, (1,), "times (T,)")
    pieces = times if lookup is None else finite("lookup", lookup, (1,), "times (T,)")
    if pieces.shape != times.shape:
        raise UsageError("lookup", given=pieces.shape, allowed=f"the shape of t, {times.shape}")
    return times, pieces


def shown(values: Array) -> str:
    """Numbers as Python writes them, or the shape of many.

    >>> shown(np.zeros(2)), shown(np.zeros(100))
    ('[0.0, 0.0]', 'array of shape (100,)')
    """
    return repr(values.tolist()) if values.size <= 6 else short(values)
