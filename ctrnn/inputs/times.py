"""Times that are meant to be equal.

Two jumps meant to coincide seldom do in floating point: 0.1 + 0.2 is not 0.3. Between them a solver
would take a step of a few units in the last place, and at one of them see only half of the change.
So times equal to RESOLUTION, relative, are taken for one time, and the jumps are moved onto it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.inputs.checks import Array, finite

RESOLUTION = 32 * np.finfo(np.float64).eps
"""Two times t closer than RESOLUTION |t| (7.1e-15 relative) are one time."""


def merge_times(*times: ArrayLike) -> Array:
    """The sorted union of lists of times; those equal to a resolution of 7e-15 are one, the earliest of them.

    Parameters
    ----------
    *times : array_like
        Lists of times.

    Returns
    -------
    ndarray
        Sorted.

    Raises
    ------
    ValueError
        For what is no list of numbers.

    Examples
    --------
    >>> merge_times([0.3, 2.0], [0.1 + 0.2, 1.0])
    array([0.3, 1. , 2. ])
    """
    union = np.concatenate([np.empty(0), *(np.ravel(t) for t in times)])
    if not union.size:
        return union
    union.sort()
    is_first = np.ones(union.size, dtype=bool)
    is_first[1:] = union[1:] - union[:-1] > RESOLUTION * np.abs(union[1:])
    return union[is_first]


def align(knots: Array, times: Array) -> Array:
    """knots (K,), each moved onto the nearest of sorted times (S,) if equal to RESOLUTION."""
    if not times.size or not knots.size:
        return knots
    above = np.searchsorted(times, knots).clip(max=times.size - 1)
    below = (above - 1).clip(min=0)
    nearest = np.where(knots - times[below] < times[above] - knots, times[below], times[above])
    return np.where(abs(nearest - knots) <= RESOLUTION * abs(knots), nearest, knots)


def increasing(argument: str, times: ArrayLike) -> Array:
    """times (K,) checked to be finite and increasing by more than RESOLUTION."""
    array = finite(argument, times, (1,), "increasing times (K,)")
    close = np.diff(array) <= RESOLUTION * np.maximum(abs(array[1:]), abs(array[:-1]))
    if close.any():
        k = int(np.argmax(close)) + 1
        raise UsageError(
            f"{argument} (row {k})", given=float(array[k]),
            allowed=f"times that increase; the one before is {float(array[k - 1])!r}",
        )  # fmt: skip
    return array
