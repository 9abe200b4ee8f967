"""Input signals x(t) of a field dr/dt = F(t, r, w, x(t)), and their sums, products and stacks.

x maps a time to ``size`` channels. It is right-continuous: at a jump, x(t) is the value just after
it. The left limit at t is ``x.evaluate(t, lookup=just before t)``: ``lookup`` chooses the smooth
piece, t is where it is evaluated, so a solver can step onto a jump from either side. ``x.breaks``
lists the times of the jumps and kinks.

Inputs that are combined are first aligned: see :mod:`ctrnn.inputs.times`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.inputs.checks import finite
from ctrnn.inputs.program import Array, Builder, Program
from ctrnn.inputs.times import merge_times


class Input(ABC):
    """A signal x(t) with ``size`` channels.

    ``x(t)`` is (size,) for a number t and (T, size) for t (T,). ``x + y`` and ``x * y`` combine
    channel by channel; a single channel, and a plain number, serve all. Inputs do not change once
    made.

    Attributes: ``size``; ``breaks``, sorted times (B,) where x or its derivative jumps; ``span``
    (lo, hi), the times for which there is data, (-inf, inf) unless sampled. Outside its span an
    input holds its end value.
    """

    # A numpy array on the left of + or * leaves the work to us, instead of going by elements.
    __array_ufunc__ = None

    size: int
    breaks: Array

    @property
    def span(self) -> tuple[float, float]:
        return (-np.inf, np.inf)

    def __call__(self, t: ArrayLike) -> Array:
        """x(t), right-continuous: t a number -> (size,), t (T,) -> (T, size).

        Raises UsageError for times that are not finite numbers.
        """
        times = finite("t", t, (0, 1), "a time or an array of times (T,)")
        return self._values(times, times) if times.ndim else self._values(times[None], times[None])[0]

    def evaluate(self, t: ArrayLike, lookup: ArrayLike | None = None) -> Array:
        """x at t (T,): (T, size), from the piece that x has at lookup (T,), by default at t.

        >>> from ctrnn.inputs import Step
        >>> Step(2.0).evaluate([2.0, 2.0], lookup=[np.nextafter(2.0, 0.0), 2.0]).ravel()  # left, right limit
        array([0., 1.])

        Raises UsageError for times that are not finite numbers, and for t and lookup of different
        shapes.
        """
        times = finite("t", t, (1,), "times (T,)")
        pieces = times if lookup is None else finite("lookup", lookup, (1,), "times (T,)")
        if pieces.shape != times.shape:
            raise UsageError("lookup", given=pieces.shape, allowed=f"the shape of t, {times.shape}")
        return self._values(times, pieces)

    def derivative(self, t: ArrayLike, lookup: ArrayLike | None = None) -> Array:
        """dx/dt at t (T,): (T, size), of the piece that x has at lookup (T,), by default at t; jumps have no part in it.

        >>> from ctrnn.inputs import Sampled
        >>> Sampled([0.0, 1.0, 3.0], [0.0, 5.0, 1.0], kind="linear").derivative([0.5, 2.0]).ravel()
        array([ 5., -2.])

        Raises UsageError as ``evaluate`` does.
        """
        times = finite("t", t, (1,), "times (T,)")
        pieces = times if lookup is None else finite("lookup", lookup, (1,), "times (T,)")
        if pieces.shape != times.shape:
            raise UsageError("lookup", given=pieces.shape, allowed=f"the shape of t, {times.shape}")
        return self._slopes(times, pieces)

    def program(self) -> Program:
        """The same signal for compiled code: see :class:`ctrnn.inputs.program.Program`."""
        builder = Builder()
        self.emit(builder)
        return builder.finish()

    @abstractmethod
    def _values(self, t: Array, lookup: Array) -> Array:
        """x (T, size) for checked t and lookup (T,)."""

    @abstractmethod
    def _slopes(self, t: Array, lookup: Array) -> Array:
        """dx/dt (T, size) for checked t and lookup (T,)."""

    @abstractmethod
    def emit(self, builder: Builder) -> None:
        """Append the instructions that leave x(t), ``size`` numbers, on top of the stack."""

    @abstractmethod
    def aligned(self, times: Array) -> Input:
        """The same input, its breaks moved onto those of sorted times (S,) equal to RESOLUTION."""

    def __add__(self, other: Any) -> Input:
        return Sum(self, as_input(other))

    def __radd__(self, other: Any) -> Input:
        return Sum(as_input(other), self)

    def __mul__(self, other: Any) -> Input:
        return Product(self, as_input(other))

    def __rmul__(self, other: Any) -> Input:
        return Product(as_input(other), self)

    def __truediv__(self, number: Any) -> Input:
        """A signal divided by a number (or by one number a channel); raises UsageError for 0."""
        divisor = finite("divisor", number, (0, 1), "a number, or one a channel")
        if (divisor == 0.0).any():
            raise UsageError("divisor", given=number, allowed="numbers other than 0")
        return Product(self, as_input(1.0 / divisor))

    def __neg__(self) -> Input:
        return Product(Constant(-1.0), self)

    def __sub__(self, other: Any) -> Input:
        return Sum(self, -as_input(other))

    def __rsub__(self, other: Any) -> Input:
        return Sum(as_input(other), -self)


class Constant(Input):
    """x(t) = values, a number or an array (size,).

    >>> Constant([1.0, 2.0])(0.0)
    array([1., 2.])
    """

    breaks = np.empty(0)

    def __init__(self, values: ArrayLike) -> None:
        self.values = np.atleast_1d(finite("values", values, (0, 1), "a number or an array (size,)"))
        self.size = self.values.size

    def _values(self, t: Array, lookup: Array) -> Array:
        return np.tile(self.values, (t.size, 1))

    def _slopes(self, t: Array, lookup: Array) -> Array:
        return np.zeros((t.size, self.size))

    def emit(self, builder: Builder) -> None:
        builder.constant(self.values)

    def aligned(self, times: Array) -> Input:
        return self

    def __repr__(self) -> str:
        return f"Constant({self.values.tolist()})"


class _Combined(Input):
    """Several inputs in one; its breaks are theirs, aligned."""

    def __init__(self, *parts: Input) -> None:
        self.breaks = merge_times(*(part.breaks for part in parts))
        self.parts = tuple(part.aligned(self.breaks) for part in parts)

    @property
    def span(self) -> tuple[float, float]:
        spans = [part.span for part in self.parts]
        return (max(lo for lo, _ in spans), min(hi for _, hi in spans))

    def aligned(self, times: Array) -> Input:
        return type(self)(*(part.aligned(times) for part in self.parts))


class _Pair(_Combined):
    """Two inputs combined channel by channel, a single channel with all of the other's."""

    symbol = ""

    def __init__(self, a: Input, b: Input) -> None:
        if a.size != b.size and 1 not in (a.size, b.size):
            raise UsageError(
                f"input {self.symbol} input", given=f"{a.size} and {b.size} channels",
                allowed="equal numbers of channels, or one channel with any number",
                hint="ctrnn.inputs.stack(a, b) to put channels side by side",
            )  # fmt: skip
        super().__init__(a, b)
        self.size = b.size if a.size == 1 else a.size

    def __repr__(self) -> str:
        return f"({self.parts[0]!r} {self.symbol} {self.parts[1]!r})"


class Sum(_Pair):
    """a(t) + b(t)."""

    symbol = "+"

    def _values(self, t: Array, lookup: Array) -> Array:
        a, b = self.parts
        return a._values(t, lookup) + b._values(t, lookup)

    def _slopes(self, t: Array, lookup: Array) -> Array:
        a, b = self.parts
        return a._slopes(t, lookup) + b._slopes(t, lookup)

    def emit(self, builder: Builder) -> None:
        a, b = self.parts
        a.emit(builder)
        b.emit(builder)
        builder.add(a.size, b.size)


class Product(_Pair):
    """a(t) b(t), channel by channel."""

    symbol = "*"

    def _values(self, t: Array, lookup: Array) -> Array:
        a, b = self.parts
        return a._values(t, lookup) * b._values(t, lookup)

    def _slopes(self, t: Array, lookup: Array) -> Array:
        a, b = self.parts
        return a._slopes(t, lookup) * b._values(t, lookup) + a._values(t, lookup) * b._slopes(t, lookup)

    def emit(self, builder: Builder) -> None:
        a, b = self.parts
        a.emit(builder)
        b.emit(builder)
        builder.multiply(a.size, b.size)


class Stack(_Combined):
    """The channels of several inputs, one after another."""

    def __init__(self, *parts: Input) -> None:
        super().__init__(*parts)
        self.size = sum(part.size for part in parts)

    def _values(self, t: Array, lookup: Array) -> Array:
        return np.concatenate([np.empty((t.size, 0)), *(part._values(t, lookup) for part in self.parts)], axis=1)

    def _slopes(self, t: Array, lookup: Array) -> Array:
        return np.concatenate([np.empty((t.size, 0)), *(part._slopes(t, lookup) for part in self.parts)], axis=1)

    def emit(self, builder: Builder) -> None:
        for part in self.parts:
            part.emit(builder)

    def __repr__(self) -> str:
        return f"stack({', '.join(map(repr, self.parts))})"


def stack(*inputs: Any) -> Input:
    """The channels of several inputs (or numbers, arrays, callables) side by side.

    >>> stack(1.0, Constant([2.0, 3.0]))(0.0)
    array([1., 2., 3.])
    """
    return Stack(*map(as_input, inputs))


def as_input(value: Any) -> Input:
    """value as an Input: a number or array (size,) is a Constant, a callable of t a Function.

    None is an input without channels. Raises UsageError for anything else.

    >>> as_input(2.5), as_input(None).size
    (Constant([2.5]), 0)
    """
    if isinstance(value, Input):
        return value
    if value is None:
        return Constant([])
    if callable(value):
        from ctrnn.inputs.functions import Function

        return Function(value)
    array = finite("input", value, (0, 1, 2), "an Input, a number, an array (size,), a callable of t, or None")
    if array.ndim == 2:
        raise UsageError(
            "input", given=array, allowed="an array (size,), constant in time",
            hint="ctrnn.inputs.Sampled(times, values) for data in time",
        )  # fmt: skip
    return Constant(array)
