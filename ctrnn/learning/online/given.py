"""What a learner is given, checked before anything moves: inputs, states, times of updates, and the data of a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.gradients.methods import METHODS, named
from ctrnn.gradients.rules.rule import Rule
from ctrnn.kernels.rules.loop import COUNTS
from ctrnn.learning.online.observe import Observer
from ctrnn.numbers import checked_array, whole


def rule_named(method: Any) -> Rule:
    """The rule behind a name or an object; raises UsageError for a method that does not go forward with the run."""
    if isinstance(method, Rule):
        return method
    names = [name for name, known in METHODS.items() if known.rule() is not None]
    try:
        found = named(method).rule()
    except UnknownNameError:
        raise UnknownNameError("method", method, names) from None
    if found is None:
        raise UsageError("method", given=method, allowed=f"a method that goes forward with the run: {', '.join(names)}")
    return found


def states(name: str, r0: Any, B: int, shape: tuple[int, ...], n: int) -> Array:
    """States (B, n) from a number, (n,) or (batch, n)."""
    array = checked_array(name, r0)
    if array.shape not in ((), (n,), (*shape, n)):
        allowed = f"a number, ({n},)" + (f" or ({B}, {n})" if shape else "")
        raise UsageError(name, given=f"shape {array.shape}", allowed=allowed)
    return np.array(np.broadcast_to(array, (B, n)))


class Due:
    """When weights are updated: each k steps, at increasing times, or never.

    Raises UsageError for what says none of that.
    """

    def __init__(self, update_every: Any) -> None:
        self.every: int | None = None
        self.times: Array | None = None
        if isinstance(update_every, (int, np.integer)):
            self.every = whole("update_every", update_every, 1)
        elif update_every is not None:
            times = checked_array("update_every", update_every)
            if times.ndim != 1 or (np.diff(times) <= 0.0).any():
                allowed = "a number of steps, increasing times, or None"
                raise UsageError("update_every", given=update_every, allowed=allowed)
            self.times = times

    def after(self, steps: int, t0: float, h: float, count: int) -> Array:
        """Whether an update is due after each of so many steps (count,), the first of which is number ``steps``."""
        number = steps + 1 + np.arange(count)
        if self.times is None:
            return number % self.every == 0 if self.every else np.zeros(count, dtype=bool)
        found = np.zeros(count + 1, dtype=bool)
        found[np.searchsorted(t0 + number * h, self.times - 1e-9 * h)] = True
        return found[:-1]

    def passed(self, t: float, h: float) -> None:
        """The time is t now."""
        if self.times is not None:
            self.times = self.times[self.times > t + 1e-9 * h]


#: what to do where data have holes
NO_TARGET = "weight = 0 where there is no target, with any finite number there"


class Data:
    """Inputs x (T, B, inputs), targets y (T, B, q) and weights (T, B) of T steps.

    Parameters
    ----------
    field, observer
        What takes them.
    B, shape
        Lanes, and their axis: () or (B,).
    x, y, weight
        As of ``OnlineLearner.run``, or with ``is_one`` as of ``step``, without the axis of time.

    Raises
    ------
    UsageError
        For lengths that differ, NaN, and shapes that do not fit.
    """

    def __init__(
        self, field: Field, observer: Observer, B: int, shape: tuple[int, ...], x: Any, y: Any, weight: Any,
        is_one: bool = False,
    ) -> None:  # fmt: skip
        self._rows = "" if is_one else "T, "  # how messages say what is allowed
        given = {
            name: checked_array(name, v, hint=NO_TARGET if name == "y" else "")
            for name, v in (("x", x), ("y", y), ("weight", weight))
            if v is not None
        }
        if is_one:
            given = {name: v[None] for name, v in given.items()}
        weight = given["weight"]
        lengths = {name: len(v) for name, v in given.items() if v.ndim}
        for name in ("x", "y"):
            if name in given and not given[name].ndim:
                raise UsageError(name, given=given[name], allowed="an array, a row for each step")
        if not is_one and lengths.keys() <= {"weight"}:
            raise UsageError("x", given=None, allowed="inputs (T, inputs), or targets that tell how many steps")
        if weight.ndim > 1 and weight.shape[1:] != shape:
            allowed = f"a number{'' if is_one else ', one for each step'}" + (
                f", or ({self._rows}{B})" if shape else ""
            )
            raise UsageError("weight", given=f"shape {weight.shape[is_one:]}", allowed=allowed)
        if len(set(lengths.values())) > 1:
            text = ", ".join(f"{count} rows of {name}" for name, count in lengths.items())
            raise UsageError("x, y", given=text, allowed="as many rows of each")
        self.T = next(iter(lengths.values()))
        self.x = self._inputs(given.get("x"), B, shape, field)
        if "y" in given:
            self.y = self._targets(given["y"], B, shape, observer)
        else:
            self.y = np.broadcast_to(0.0, (self.T, B, observer.target_size))
            weight = np.zeros(()) if observer.needs_target else weight
        #: of each lane, 1/B of the weight that was given
        self.weight = np.broadcast_to((weight if weight.ndim == 2 else weight[..., None]) / B, (self.T, B))

    def _inputs(self, x: Array | None, B: int, shape: tuple[int, ...], field: Field) -> Array:
        size = field.input_size
        if x is None:
            if size and not field.input_is_optional:
                raise UsageError("x", given=None, allowed=f"values of the inputs {', '.join(field.input_names)}")
            return np.broadcast_to(0.0, (self.T, B, size))
        if size == 1 and x.shape in ((self.T,), (self.T, *shape)) and (x.ndim == 1 or shape != (1,)):
            x = x[..., None]
        return self._of_lanes("x", x, B, shape, size)

    def _targets(self, y: Array, B: int, shape: tuple[int, ...], observer: Observer) -> Array:
        if not observer.needs_target:
            raise UsageError("y", given="targets", allowed="None: the loss takes no target")
        q = observer.target_size
        if callable(observer.loss):  # what it makes of a target is its own affair
            each = y.reshape(self.T, *(shape if shape and y.shape[1:2] == shape else (1,)), -1)
            return np.broadcast_to(each, (self.T, B, each.shape[2]))
        if y.ndim == 1 or (q == 1 and y.shape[1:] == shape):
            y = y[..., None]
        y = self._of_lanes(
            "y", y, B, shape, q, f"np.eye({q})[y] of classes" if observer.loss == "cross_entropy" else ""
        )
        observer.check_range(y)
        return y

    def _of_lanes(self, name: str, v: Array, B: int, shape: tuple[int, ...], size: int, hint: str = "") -> Array:
        """(T, B, size) from (T, size) or (T, batch, size)."""
        if v.shape == (self.T, size):
            v = v[:, None]
        elif v.shape != (self.T, *shape, size) or not shape:
            allowed = f"shape ({self._rows}{size}{'' if self._rows else ','})"
            given = v.shape if self._rows else v.shape[1:]
            allowed += f" or ({self._rows}{B}, {size})" if shape else ""
            raise UsageError(name, given=f"shape {given}", allowed=allowed, hint=hint)
        return np.broadcast_to(v, (self.T, B, size))

    def part(self, here: slice, due: Array) -> tuple[Array, Array, Array]:
        """Inputs, targets with their weights, and what is to be done, as ctrnn.kernels.rules.loop wants them."""
        weight = self.weight[here]
        todo = np.empty((len(weight), 2), dtype=np.int64)
        todo[:, COUNTS], todo[:, 1 - COUNTS] = (weight != 0.0).any(axis=1), due
        return np.ascontiguousarray(self.x[here]), np.concatenate([self.y[here], weight[..., None]], axis=2), todo

    def resets(self, reset_every: Any, taken: int) -> Array:
        """Before which steps the state is reset, their numbers, of a learner that has taken ``taken`` steps."""
        if reset_every is None:
            return np.empty(0, dtype=int)
        array = np.asarray(reset_every)
        if np.ma.is_masked(reset_every):
            raise UsageError("reset_every", given="masked values", allowed=f"({self.T},), one for each step")
        if array.dtype == bool and array.ndim:
            if array.shape != (self.T,):
                raise UsageError("reset_every", given=f"shape {array.shape}", allowed=f"({self.T},), one for each step")
            return np.flatnonzero(array)
        every, number = whole("reset_every", reset_every, 1), taken + np.arange(self.T)
        return np.flatnonzero((number > 0) & (number % every == 0))
