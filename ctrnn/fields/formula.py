"""A scalar formula f(t, r, w, x) beside a field: its value at many points, and its slopes f_t, f_r, f_w, f_x at one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ctrnn.fields.algebra import ZERO, Node, names_in
from ctrnn.fields.arrays.scalar import read_entries
from ctrnn.fields.base import Array, Field
from ctrnn.fields.derivatives import gradient
from ctrnn.fields.evaluate import numpy_function


class Slopes(NamedTuple):
    """The value, f_t, f_r (n,), f_w (p,) for the parameters that are single numbers, f_x (inputs,)."""

    value: float
    t: float
    r: Array
    w: Array
    x: Array

    def rate(self, F: Array, dx: Array) -> float:
        """df/dt along a solution: f_t + f_r F + f_x dx/dt."""
        return float(self.t + self.r @ F + self.x @ dx)


class Formula:
    """An expression in t, the states, the inputs and those parameters of a field that are single numbers.

    ``entry``: of an expression that is an array, its shape and which of its numbers is meant.
    Raises ExpressionError for a text that is no formula in those names, or has another shape.

    >>> import ctrnn
    >>> field = ctrnn.Equations({"v": "-v + I"}, parameters={"I": 2.0})
    >>> f = Formula("v**2 - I", field, "condition")
    >>> f(0.0, np.array([3.0]), np.empty(0)), f.slopes(0.0, np.array([3.0]), np.empty(0)).w
    (7.0, array([-1.]))
    """

    def __init__(self, text: str, field: Field, where: str, entry: tuple[tuple[int, ...], int] = ((), 0)) -> None:
        states, inputs = tuple(field.state_names), tuple(field.input_names)
        self.parameters = {name: float(v) for name, v in field.parameters.items() if np.ndim(v) == 0}
        self._text = text, tuple(dict.fromkeys((*states, *self.parameters, *inputs, "t"))), where, entry
        self._used, self._value, self._slopes = compiled(*self._text)
        used = self._used
        #: the names that occur
        self.used = set(used)
        self._kind = {"t": ("t", 0)}
        self._kind |= {name: ("x", i) for i, name in enumerate(inputs)}
        self._kind |= {name: ("w", i) for i, name in enumerate(self.parameters)}
        self._kind |= {name: ("r", i) for i, name in enumerate(states)}
        #: the states and the inputs that occur, by number
        self.states = [self._kind[name][1] for name in used if self._kind[name][0] == "r"]
        self.inputs = [self._kind[name][1] for name in used if self._kind[name][0] == "x"]
        self._sizes = len(states), len(self.parameters), len(inputs)

    def __getstate__(self) -> dict[str, Any]:
        # what was compiled does not go to another process
        return {name: value for name, value in self.__dict__.items() if name not in ("_value", "_slopes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _, self._value, self._slopes = compiled(*self._text)

    def _arguments(self, t: Any, r: Array, x: Array) -> list[Any]:
        def pick(name: str) -> Any:
            kind, i = self._kind[name]
            if kind == "w":
                return self.parameters[name]
            return t if kind == "t" else (r if kind == "r" else x)[..., i]

        return [pick(name) for name in self._used]

    def __call__(self, t: float, r: Array, x: Array) -> float:
        """f at one point."""
        return float(self.values(np.array(t), r, x))

    def values(self, t: Array, r: Array, x: Array) -> Array:
        """f at t (...), r (..., n), x (..., inputs): (...)."""
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(self._value(*self._arguments(t, r, x)), dtype=float), np.shape(t))

    def slopes(self, t: float, r: Array, x: Array) -> Slopes:
        """f and its derivatives at one point."""
        n, p, nx = self._sizes
        parts = {"t": np.zeros(1), "r": np.zeros(n), "w": np.zeros(p), "x": np.zeros(nx)}
        with np.errstate(all="ignore"):
            value, *found = self._slopes(*self._arguments(t, r, x))
        for name, slope in zip(self._used, found, strict=True):
            kind, i = self._kind[name]
            parts[kind][i] = slope
        return Slopes(float(value), float(parts["t"][0]), parts["r"], parts["w"], parts["x"])


@lru_cache(maxsize=64)
def _entries(text: str, names: tuple[str, ...], where: str, shape: tuple[int, ...]) -> list[Node]:
    return read_entries(text, names, shape, where)


@lru_cache(maxsize=512)
def compiled(
    text: str, names: tuple[str, ...], where: str, entry: tuple[tuple[int, ...], int]
) -> tuple[tuple[str, ...], Callable[..., Any], Callable[..., Any]]:
    """The names that occur, the formula and [formula, its derivatives by them] as numpy functions."""
    shape, number = entry
    f = _entries(text, names, where, shape)[number]
    occurring = names_in([f])
    used = tuple(name for name in names if name in occurring)
    slopes = gradient(f, used)
    values = numpy_function(used, [f])
    return used, lambda *v: values(*v)[0], numpy_function(used, [f, *(slopes.get(name, ZERO) for name in used)])
