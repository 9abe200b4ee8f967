"""Inputs given by a formula: the sine, and any Python function of t."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.inputs.base import Input
from ctrnn.inputs.checks import finite, whole
from ctrnn.inputs.program import Array, Builder
from ctrnn.inputs.times import align, increasing


class Sine(Input):
    """x(t) = offset + amplitude sin(2 pi frequency t + phase).

    frequency in cycles per unit of time, phase in radians. Each is a number or an array (size,),
    one entry a channel.

    >>> Sine(frequency=0.25, amplitude=3.0)([0.0, 1.0]).ravel()
    array([0., 3.])
    """

    breaks = np.empty(0)

    def __init__(
        self,
        frequency: ArrayLike,
        amplitude: ArrayLike = 1.0,
        phase: ArrayLike = 0.0,
        offset: ArrayLike = 0.0,
    ) -> None:
        given = {"frequency": frequency, "amplitude": amplitude, "phase": phase, "offset": offset}
        allowed = "a number or an array (size,)"
        arrays = {name: np.atleast_1d(finite(name, v, (0, 1), allowed)) for name, v in given.items()}
        sizes = {a.size for a in arrays.values()} - {1}
        if len(sizes) > 1:
            shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
            raise UsageError("Sine", given=shapes, allowed="numbers and arrays of one common shape (size,)")
        self.size = sizes.pop() if sizes else 1
        self.frequency, self.amplitude, self.phase, self.offset = (
            np.broadcast_to(a, (self.size,)) for a in arrays.values()
        )

    def _values(self, t: Array, lookup: Array) -> Array:
        angle = 2 * np.pi * self.frequency * t[:, None] + self.phase
        return self.offset + self.amplitude * np.sin(angle)

    def _slopes(self, t: Array, lookup: Array) -> Array:
        omega = 2 * np.pi * self.frequency
        return self.amplitude * omega * np.cos(omega * t[:, None] + self.phase)

    def emit(self, builder: Builder) -> None:
        builder.sine(self.offset, self.amplitude, 2 * np.pi * self.frequency, self.phase)

    def aligned(self, times: Array) -> Input:
        return self

    def __repr__(self) -> str:
        names = ("frequency", "amplitude", "phase", "offset")
        values = (getattr(self, name) for name in names)
        texts = (repr(v.tolist() if self.size > 1 else float(v[0])) for v in values)
        return f"Sine({', '.join(f'{n}={v}' for n, v in zip(names, texts, strict=True))})"


class Function(Input):
    """x(t) = function(t), a Python function of one time that returns a number or an array (size,).

    Slow beside the other inputs (a Python call an evaluation). ``breaks``: the times, increasing,
    at which the function or its derivative jumps; the solver steps onto them. The left limit at a
    break is the function at the float before.

    What the function raises reaches the caller, also out of compiled code. A value of the wrong
    shape, or one that is not finite, raises UsageError at the evaluation.

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
        try:
            x = np.array(value, dtype=np.float64, ndmin=1)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"function({t!r})", given=value, allowed=self._allowed) from error
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
        builder.function(self._value, self.size, self.breaks, self._first, self._last)

    def aligned(self, times: Array) -> Input:
        moved = copy.copy(self)
        moved.breaks = align(self.breaks, times)
        return moved

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"Function({name}, size={self.size})"
