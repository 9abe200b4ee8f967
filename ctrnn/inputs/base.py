"""Input signals x(t) of a field dr/dt = F(t, r, w, x(t)), and their sums, products and stacks.

x maps a time to ``size`` channels. It is right-continuous: at a jump, x(t) is the value just after
it. The left limit at t is ``x.evaluate(t, lookup=just before t)``: ``lookup`` chooses the smooth
piece, t is where it is evaluated, so a solver can step onto a jump from either side. ``x.breaks``
lists the times of the jumps and kinks.

Inputs that are combined are first aligned: see :mod:`ctrnn.inputs.times`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.inputs.checks import Array, finite, shown, times_and_pieces
from ctrnn.inputs.program import Builder, Program
from ctrnn.inputs.times import align, increasing, merge_times
from ctrnn.numbers import real_array, whole


class Input(ABC):
    """A signal x(t) with ``size`` channels; the base of all inputs.

    ``x(t)`` is (size,) for a number t and (T, size) for t (T,). ``x + y`` and ``x * y`` combine channel by channel; a
    single channel, and a plain number, serve all. Inputs do not change once made.

    Attributes
    ----------
    size : int
        The number of channels.
    breaks : ndarray (B,)
        Sorted times where x or its derivative jumps.
    span : tuple of float
        The times for which there is data, (−inf, inf) unless sampled. Outside its span an input holds its end value.

    Examples
    --------
    >>> from ctrnn.inputs import Pulse
    >>> x = 1.0 + 2.0 * Pulse(onset=1.0, width=1.0)
    >>> x([0.5, 1.0]).ravel(), x.breaks
    (array([1., 3.]), array([1., 2.]))
    """

    # A numpy array on the left of + or * leaves the work to us, instead of going by elements.
    __array_ufunc__ = None

    size: int
    breaks: Array

    @property
    def span(self) -> tuple[float, float]:
        """The times (lo, hi) for which there is data."""
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
        return self._values(*times_and_pieces(t, lookup))

    def derivative(self, t: ArrayLike, lookup: ArrayLike | None = None) -> Array:
        """The slope dx/dt at t (T,): (T, size), of the piece that x has at lookup (T,), by default at t.

        Jumps have no part in it.

        >>> from ctrnn.inputs import Sampled
        >>> Sampled([0.0, 1.0, 3.0], [0.0, 5.0, 1.0], kind="linear").derivative([0.5, 2.0]).ravel()
        array([ 5., -2.])

        Raises UsageError as ``evaluate`` does.
        """
        return self._slopes(*times_and_pieces(t, lookup))

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
    """A signal that is constant: x(t) = values.

    Parameters
    ----------
    values : float or array_like (size,)
        One number a channel.

    Raises
    ------
    UsageError
        For values that are not finite.

    Examples
    --------
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
        """Append the instruction for the values."""
        builder.constant(self.values)

    def aligned(self, times: Array) -> Input:
        """The same input, which has no breaks."""
        return self

    def __repr__(self) -> str:
        return f"Constant({shown(self.values)})"


class Function(Input):
    """A signal given by a Python function of time: x(t) = function(t).

    Parameters
    ----------
    function : callable
        t ↦ a number or an array (size,).
    size : int, default 1
        The number of channels.
    breaks : array_like (B,), optional
        The times, increasing, at which the function or its derivative jumps; the solver steps onto them. The left limit
        at a break is the function at the float before.

    Raises
    ------
    UsageError
        For arguments that are not allowed; at an evaluation for a value of the wrong shape, or one that is not finite.
        What the function raises reaches the caller, also out of compiled code.

    Notes
    -----
    Slow beside the other inputs: a Python call an evaluation.

    Examples
    --------
    >>> Function(lambda t: [t, t**2], size=2)(3.0)
    array([3., 9.])
    """

    def __init__(self, function: Callable[[float], Any], size: int = 1, breaks: ArrayLike = ()) -> None:
        if not callable(function):
            raise UsageError("function", given=function, allowed="a callable of one time t")
        self.function, self.size = function, whole("size", size, 1)
        self.breaks = increasing("breaks", breaks)
        # Piece j is called at arguments from first[j] to last[j]; aligning does not move these.
        self._first = np.concatenate(([-np.inf], self.breaks))
        self._last = np.concatenate((np.nextafter(self.breaks, -np.inf), [np.inf]))

    def _value(self, t: float) -> Array:
        value = self.function(t)
        x = np.atleast_1d(real_array(f"function({t!r})", value, self._allowed))
        if x.shape != (self.size,):
            hint = f"Function(..., size={x.size})" if x.ndim == 1 else ""
            raise UsageError(f"function({t!r})", given=value, allowed=self._allowed, hint=hint)
        if not np.isfinite(x).all():
            raise UsageError(f"function({t!r})", given=value, allowed="finite values")
        return x

    @property
    def _allowed(self) -> str:
        return "a number" if self.size == 1 else f"{self.size} numbers, shape ({self.size},)"

    def _values(self, t: Array, lookup: Array) -> Array:
        j = np.searchsorted(self.breaks, lookup, side="right")
        arguments = np.minimum(np.maximum(t, self._first[j]), self._last[j])
        return np.array([self._value(s) for s in arguments.tolist()]).reshape(t.size, self.size)

    def _slopes(self, t: Array, lookup: Array) -> Array:
        """Of the quartic through five points 2e-4 max(1, |t|) apart (or closer, in a short piece) around t."""
        j = np.searchsorted(self.breaks, lookup, side="right")
        first, last = self._first[j], self._last[j]
        h = np.minimum(2e-4 * np.maximum(1.0, abs(t)), (last - first) / 4)
        middle = np.clip(t, first + 2 * h, last - 2 * h)
        z, c = (t - middle) / h, np.arange(-2.0, 3.0)
        # rows k of this are the derivatives of the Lagrange polynomials on −2 … 2, at z
        weights = np.polynomial.polynomial.polyder(np.linalg.inv(np.vander(c, increasing=True)))
        each = np.polynomial.polynomial.polyval(z, weights) / h
        values = np.stack([self._values(middle + k * h, lookup) for k in c])
        return np.einsum("kt,ktc->tc", each, values)

    def emit(self, builder: Builder) -> None:
        """Append the call of the function."""
        builder.function(self._value, self.size, self.breaks, self._first, self._last)

    def aligned(self, times: Array) -> Input:
        """The same function with its breaks moved onto the times that equal them."""
        moved = copy.copy(self)
        moved.breaks = align(self.breaks, times)
        return moved

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"Function({name}, size={self.size})"


class _Combined(Input):
    """Several inputs in one; its breaks are theirs, aligned."""

    def __init__(self, *parts: Input) -> None:
        self.breaks = merge_times(*(part.breaks for part in parts))
        self.parts = tuple(part.aligned(self.breaks) for part in parts)

    @property
    def span(self) -> tuple[float, float]:
        """The times for which all parts have data."""
        spans = [part.span for part in self.parts]
        return (max(lo for lo, _ in spans), min(hi for _, hi in spans))

    def aligned(self, times: Array) -> Input:
        """The same combination of the aligned parts."""
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
    """The sum a(t) + b(t)."""

    symbol = "+"

    def _values(self, t: Array, lookup: Array) -> Array:
        a, b = self.parts
        return a._values(t, lookup) + b._values(t, lookup)

    def _slopes(self, t: Array, lookup: Array) -> Array:
        a, b = self.parts
        return a._slopes(t, lookup) + b._slopes(t, lookup)

    def emit(self, builder: Builder) -> None:
        """Append both and their addition."""
        a, b = self.parts
        a.emit(builder)
        b.emit(builder)
        builder.add(a.size, b.size)


class Product(_Pair):
    """The product a(t) b(t), channel by channel."""

    symbol = "*"

    def _values(self, t: Array, lookup: Array) -> Array:
        a, b = self.parts
        return a._values(t, lookup) * b._values(t, lookup)

    def _slopes(self, t: Array, lookup: Array) -> Array:
        a, b = self.parts
        return a._slopes(t, lookup) * b._values(t, lookup) + a._values(t, lookup) * b._slopes(t, lookup)

    def emit(self, builder: Builder) -> None:
        """Append both and their multiplication."""
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
        """Append all parts, one after another."""
        for part in self.parts:
            part.emit(builder)

    def __repr__(self) -> str:
        return f"stack({', '.join(map(repr, self.parts))})"


def stack(*inputs: Any) -> Input:
    """The channels of several inputs side by side.

    Parameters
    ----------
    *inputs : Input, float, array_like or callable
        What `as_input` takes.

    Returns
    -------
    Input
        With all their channels, in order.

    Raises
    ------
    UsageError
        For what cannot be an input.

    Examples
    --------
    >>> stack(1.0, Constant([2.0, 3.0]))(0.0)
    array([1., 2., 3.])
    """
    return Stack(*map(as_input, inputs))


def as_input(value: Any) -> Input:
    """A value as an input.

    Parameters
    ----------
    value : Input, float, array_like (size,), callable or None
        A number or an array is a `Constant`, a callable of t a `Function`, None an input without channels.

    Returns
    -------
    Input
        The value itself where it is one.

    Raises
    ------
    UsageError
        For anything else.

    Examples
    --------
    >>> as_input(2.5), as_input(None).size
    (Constant([2.5]), 0)
    """
    if isinstance(value, Input):
        return value
    if value is None:
        return Constant([])
    if callable(value) and not isinstance(value, type):
        return Function(value)
    if isinstance(value, list | tuple) and any(isinstance(one, Input) for one in value):
        raise UsageError(
            "input", given=value, allowed="one Input", hint="ctrnn.inputs.stack(a, b) puts signals side by side"
        )
    array = finite("input", value, (0, 1, 2), "an Input, a number, an array (size,), a callable of t, or None")
    if array.ndim == 2:
        raise UsageError(
            "input", given=array, allowed="an array (size,), constant in time",
            hint="ctrnn.inputs.Sampled(times, values) for data in time",
        )  # fmt: skip
    return Constant(array)
