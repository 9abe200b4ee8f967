"""The data of a run, checked before anything moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, checked_array
from ctrnn.numbers import whole


class Data:
    """Inputs x (T, B, inputs), targets, weights and resets of T steps.

    Raises UsageError for lengths that differ, NaN, and shapes that do not fit.
    """

    def __init__(self, learner: Any, x: Any, y: Any, weight: Any) -> None:
        observer, B, shape, field = learner._observer, learner.B, learner._shape, learner._weights._field
        if x is None and y is None:
            raise UsageError("x", given=None, allowed="inputs (T, inputs), or targets that tell how many steps")
        lengths = {}
        x, y = (None if v is None else checked_array(name, v) for name, v in (("x", x), ("y", y)))
        for name, v in (("x", x), ("y", y)):
            if v is not None:
                if v.ndim == 0:
                    raise UsageError(name, given=v, allowed="an array, a row for each step")
                lengths[name] = len(v)
        weight = checked_array("weight", weight)
        if weight.ndim:
            lengths["weight"] = len(weight)
            if weight.ndim > 1 and weight.shape[1:] != shape:
                allowed = "a number, one for each step" + (f", or (T, {B})" if shape else "")
                raise UsageError("weight", given=f"shape {weight.shape}", allowed=allowed)
        if len(set(lengths.values())) > 1:
            given = ", ".join(f"{count} rows of {name}" for name, count in lengths.items())
            raise UsageError("x, y", given=given, allowed="as many rows of each")
        self.T = next(iter(lengths.values()))
        self.x = self._inputs(x, B, shape, field)
        counts = not (y is None and observer.needs_target)
        #: of each step None, where no loss counts, one number, or one for each lane
        each = np.broadcast_to(weight, self.T) if weight.ndim < 2 else weight
        self._weight: list[Any] = [None] * self.T
        if counts:
            there = (each.reshape(self.T, -1) != 0.0).sum(axis=1)
            self._weight = [(w if weight.ndim == 2 else float(w)) if there[k] else None for k, w in enumerate(each)]
        self._y = None if y is None else self._targets(y, observer, B, shape)

    def _inputs(self, x: Array | None, B: int, shape: tuple[int, ...], field: Any) -> Array:
        size = field.input_size
        if x is None:
            if size and not field.input_is_optional:
                raise UsageError("x", given=None, allowed=f"values of the inputs {', '.join(field.input_names)}")
            return np.broadcast_to(np.zeros(size), (self.T, B, size))
        if size == 1 and x.shape in ((self.T,), (self.T, *shape)) and (x.ndim == 1 or shape != (1,)):
            x = x[..., None]
        if x.shape == (self.T, size) and (x.ndim == 2):
            x = x[:, None]
        elif x.shape != (self.T, *shape, size) or not shape:
            allowed = f"shape (T, {size})" + (f" or (T, {B}, {size})" if shape else "")
            raise UsageError("x", given=f"shape {x.shape}", allowed=allowed)
        return np.broadcast_to(x, (self.T, B, size))

    def _targets(self, y: Array, observer: Any, B: int, shape: tuple[int, ...]) -> list[Array]:
        if y.ndim == 1:
            y = y[:, None]
        # one check for all that have the same shape, and of the values of all
        observer.targets(y[0], B, shape)
        observer.check_range(y)
        return [observer.targets(row, B, shape, checked=True) for row in y]

    def y(self, k: int) -> Array | None:
        """The targets (B, p) of step k."""
        return None if self._y is None else self._y[k]

    def weight(self, k: int) -> float | Array | None:
        """The weight of step k, one number or (B,); None where no loss counts."""
        found: float | Array | None = self._weight[k]
        return found

    def resets(self, reset_every: Any, taken: int) -> list[bool]:
        """Whether the state is reset before each step, of a learner that has taken so many."""
        if reset_every is None:
            return [False] * self.T
        array = np.asarray(reset_every)
        if array.dtype == bool and array.ndim:
            if array.shape != (self.T,):
                raise UsageError("reset_every", given=f"shape {array.shape}", allowed=f"({self.T},), one for each step")
            found: list[bool] = array.tolist()
            return found
        every = whole("reset_every", reset_every, 1)
        return [taken + k > 0 and (taken + k) % every == 0 for k in range(self.T)]
