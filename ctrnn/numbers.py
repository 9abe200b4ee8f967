"""Numbers, from what people give for them: every argument that is one goes through here first.

NumPy reads almost anything as a number: texts, dates, the values under a mask, the real part of a complex number. Here
such things are refused, for each would be a wrong number in silence.
"""

from __future__ import annotations

import datetime
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UsageError
from ctrnn.memory import claim

Array = NDArray[np.float64]
#: no count of steps, points or units is larger: it goes into 64 bits, and is added to others there
MOST = 2**53
#: no sequence of names or settings is longer
MANY = 1_000_000


def real_array(argument: str, value: Any, allowed: str = "real numbers", hint: str = "") -> Array:
    """A float64 copy of the value, row by row; NaN and infinities pass.

    Raises UsageError, which names the argument, for what is no array of real numbers: texts, dates, complex numbers,
    masked values (``hint`` is what to try), tensors that are part of a graph, and numbers that no float64 holds.

    >>> real_array("r0", ["0.1"])
    Traceback (most recent call last):
    ctrnn.errors.UsageError: r0: got ['0.1']; allowed: real numbers, not text
    """
    if type(value) is float or type(value) is int and -MOST <= value <= MOST:  # most calls: 0.1 µs
        return np.array(value, dtype=float)
    try:
        if _is_masked(value):
            hint = hint or "np.ma.compressed, or value.filled(number)"
            raise UsageError(argument, given="masked values", allowed=f"{allowed}, none of them masked", hint=hint)
        array = np.asarray(value)
        if array.dtype.kind == "O":
            array = _from_objects(array)
        if array.dtype.kind not in "biuf":
            raise UsageError(argument, given=value, allowed=f"{allowed}, not {_kind(array)}")
        claim(argument, 8.0 * array.size)  # a view of one number may stand for many
        with np.errstate(all="ignore"):  # what overflows is infinite, and refused where infinities are
            return np.array(array, dtype=float, order="C")
    except (UsageError, MemoryError):
        raise
    except OverflowError as error:
        raise UsageError(argument, given=value, allowed=f"{allowed} within ±1.8e308") from error
    except Exception as error:  # whatever the conversion of somebody's object raises
        hint = "value.detach()" if getattr(value, "requires_grad", False) is True else ""
        raise UsageError(argument, given=value, allowed=allowed, hint=hint) from error


def checked_array(argument: str, value: Any, shape: tuple[int, ...] | None = None, hint: str = "") -> Array:
    """A finite, contiguous float64 copy of a value, of the given shape.

    Raises UsageError that names the argument, what was given and what is allowed; ``hint``: what else to try where
    numbers are not finite.
    """
    array = real_array(argument, value)
    if shape is not None and array.shape != shape:
        raise UsageError(argument, given=f"shape {array.shape}", allowed=f"shape {shape}")
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        look = f"look at entry {place}: {array[place]}" if place else ""
        raise UsageError(argument, given=array, allowed="finite numbers", hint="; ".join(filter(None, (look, hint))))
    return array


def complex_array(argument: str, value: Any) -> NDArray[np.complex128]:
    """A complex128 copy of the value; UsageError as of ``real_array``, but for complex numbers."""
    try:
        is_complex = np.asarray(value).dtype.kind == "c" and not _is_masked(value)
    except Exception:  # real_array says what it is
        is_complex = False
    return np.array(value if is_complex else real_array(argument, value), dtype=complex)


def places(argument: str, value: Any, count: int) -> NDArray[np.int64]:
    """Numbers (k,) that say which of so many are meant, −1 the last; UsageError for others, and for truth values.

    >>> places("trials", [2, -1], 3)
    array([2, 2])
    """
    allowed = f"whole numbers from 0 to {count - 1}"
    real_array(argument, value, allowed)  # none of them masked, nor dates
    found = np.asarray(value)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise UsageError(argument, given=value, allowed=allowed)
    if ((found < -count) | (found >= count)).any():
        raise UsageError(argument, given=value, allowed=allowed)
    return found.astype(np.int64) % max(count, 1)


def items(argument: str, value: Any, allowed: str = "a sequence") -> list[Any]:
    """What is in the value, as a list; UsageError for a text, and for what holds nothing.

    >>> items("states", ("u", "w"))
    ['u', 'w']
    """
    try:
        if isinstance(value, str | bytes):
            raise TypeError(value)
        found = list(islice(value, MANY + 1))
    except Exception as error:  # whatever an object raises that is no sequence
        raise UsageError(argument, given=value, allowed=allowed) from error
    if len(found) > MANY:  # it may have no end
        raise UsageError(argument, given=f"more than {MANY:,} of them", allowed=allowed)
    return found


def axes_of(value: Any) -> int:
    """How many axes the value has as an array; −1 for what is none.

    >>> axes_of([[1.0]]), axes_of([[1.0], 2.0])
    (2, -1)
    """
    try:
        return int(np.ndim(value))
    except Exception:  # ragged, or an object of somebody's
        return -1


def number(
    argument: str, value: Any, allowed: str = "a finite number", least: float = -np.inf, below: float = np.inf
) -> float:
    """The value as a float; UsageError unless it is one finite real number, at least ``least`` and under ``below``."""
    array = real_array(argument, value, allowed)
    if array.ndim or not np.isfinite(array) or not least <= array < below:
        raise UsageError(argument, given=value, allowed=allowed)
    return float(array)


def positive(argument: str, value: Any, allowed: str = "a positive number") -> float:
    """The value as a float; UsageError unless it is a finite number above 0."""
    found = number(argument, value, allowed)
    if not found > 0.0:
        raise UsageError(argument, given=value, allowed=allowed)
    return found


def generator(seed: Any) -> np.random.Generator:
    """The random numbers of a seed; UsageError unless it is a whole number of at least 0, or None."""
    if seed is not None and not (is_whole(seed) and seed >= 0):
        raise UsageError("seed", given=seed, allowed="a whole number, at least 0, or None")
    return np.random.default_rng(seed)


def is_whole(value: Any) -> bool:
    """Whether the value is a whole number, and neither a truth value nor a float."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def flag(argument: str, value: Any) -> bool:
    """The value as True or False; UsageError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(argument, given=value, allowed="True or False")
    return bool(value)


def whole(argument: str, value: Any, least: int = 1, allowed: str = "", most: int = MOST) -> int:
    """The value as an int; UsageError unless it is a whole number from ``least`` to ``most``, which 53 bits hold."""
    if not is_whole(value) or value < least or most < min(value, MOST):
        end = f", {least} or more" if most == MOST else f" from {least} to {most}"
        raise UsageError(argument, given=value, allowed=allowed or f"a whole number{end}")
    if value > MOST:
        raise UsageError(argument, given=value, allowed=f"a whole number from {least} to 2**53")
    return int(value)


def _is_masked(value: Any) -> bool:
    """Whether something in the value is masked, also inside lists."""
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.getmaskarray(value).any())
    return isinstance(value, list | tuple) and any(
        _is_masked(part) for part in value if isinstance(part, np.ma.MaskedArray | list | tuple)
    )


def _from_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Floats of an array of objects, each of which has to be a number by its own account."""
    for one in array.flat:
        if isinstance(one, str | bytes | np.datetime64 | np.timedelta64 | datetime.date | datetime.timedelta):
            return np.array(one)
        if one is None or isinstance(one, complex):
            raise TypeError(one)
    return array.astype(float)


def _kind(array: NDArray[Any]) -> str:
    """What an array holds that is no array of real numbers, in a word."""
    kinds = {"U": "text", "S": "text", "M": "dates", "m": "spans of time", "c": "complex numbers", "V": "records"}
    return kinds.get(array.dtype.kind, str(array.dtype))
