"""A signal as a flat program: what a tree of inputs becomes for the compiled evaluator.

The instructions and their layout are described where they are executed, in
:mod:`ctrnn.kernels.signals`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctrnn.inputs.checks import Array, times_and_pieces
from ctrnn.kernels import signals

_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_double, ctypes.POINTER(ctypes.c_double))


class Callback:
    """A Python function of t as a C function void (double t, double *out).

    No exception can cross compiled code: the first one is kept in ``pending``, out becomes NaN, and
    the function is not called again until :meth:`Program.raise_pending` has handed the exception
    over.
    """

    def __init__(self, function: Callable[[float], Array], size: int) -> None:
        self.pending: list[BaseException] = []
        pending = self.pending

        def call(t: float, out: Any) -> None:
            try:
                if not pending:
                    x = function(t)
                    ctypes.memmove(out, x.ctypes.data, 8 * size)
                    return
            except BaseException as error:  # KeyboardInterrupt too: it must reach the caller
                error.add_note(f"raised by an input function of t, at t = {t!r}")
                pending.append(error)
            for i in range(size):
                out[i] = np.nan

        self._call = _PROTOTYPE(call)
        self.address = ctypes.cast(self._call, ctypes.c_void_p).value or 0


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """A signal for compiled code: the arrays that `ctrnn.kernels.signals.evaluate` works on.

    Attributes
    ----------
    code : ndarray (N, 5) of int64
        The instructions.
    data : ndarray (D,)
        Their numbers.
    size : int
        Of out.
    work_size : int
        The least size of work (one for each thread).
    callbacks : tuple
        Alive as long as their addresses are in the code.

    Examples
    --------
    >>> from ctrnn.inputs import Sine
    >>> (1.0 + Sine(frequency=2.0)).program().size
    1
    """

    code: NDArray[np.int64]
    data: Array
    size: int
    work_size: int
    callbacks: tuple[Callback, ...] = ()

    def raise_pending(self) -> None:
        """Raise what an input function raised inside compiled code, if any; then start clean.

        Call it after every compiled run, before looking at the numbers: they are NaN from that
        moment on.
        """
        errors = [error for callback in self.callbacks for error in callback.pending]
        for callback in self.callbacks:
            callback.pending.clear()
        if errors:
            raise errors[0]

    def __repr__(self) -> str:
        return f"Program({len(self.code)} instructions, {len(self.data)} numbers, size {self.size})"


class Builder:
    """Collects instructions in postfix order and measures the stack they need."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._data: list[Array] = []
        self._length = self._top = self._work_size = 0
        self._callbacks: list[Callback] = []

    def constant(self, values: Array) -> None:
        """Push constant values (size,)."""
        self._push(signals.CONSTANT, values.size, self._store(values))

    def polynomial(self, knots: Array, origins: Array, coefficients: Array) -> None:
        """Push pieces: knots (K,), origins (K + 1,), coefficients (K + 1, degree + 1, size)."""
        at = self._store(knots, origins, coefficients)
        _, terms, size = coefficients.shape
        self._push(signals.POLYNOMIAL, size, at, knots.size, terms - 1)

    def sine(self, offset: Array, amplitude: Array, omega: Array, phase: Array) -> None:
        """Push offset + amplitude sin(omega t + phase), all (size,)."""
        at = self._store(offset, amplitude, omega, phase)
        self._push(signals.SINE, offset.size, at)

    def function(
        self,
        function: Callable[[float], Array],
        size: int,
        breaks: Array,
        first: Array,
        last: Array,
    ) -> None:
        """Push a Python function of t, with its breaks and the arguments at which each piece is called."""
        callback = Callback(function, size)
        self._callbacks.append(callback)
        at = self._store(breaks, first, last)
        self._push(signals.FUNCTION, size, at, breaks.size, callback.address)

    def add(self, size_a: int, size_b: int) -> None:
        """Add the two signals on top of the stack."""
        self._combine(signals.ADD, size_a, size_b)

    def multiply(self, size_a: int, size_b: int) -> None:
        """Multiply the two signals on top of the stack."""
        self._combine(signals.MULTIPLY, size_a, size_b)

    def finish(self) -> Program:
        """The program; the arrays stay writeable because compiled code is specialised on that."""
        return Program(
            code=np.array(self._rows, dtype=np.int64).reshape(-1, 5),
            data=np.concatenate([np.empty(0), *self._data]),
            size=self._top,
            work_size=max(self._work_size, 1),
            callbacks=tuple(self._callbacks),
        )

    def _store(self, *arrays: Array) -> int:
        at = self._length
        for array in arrays:
            self._data.append(array.ravel())
            self._length += array.size
        return at

    def _push(self, operation: int, size: int, at: int, b: int = 0, c: int = 0) -> None:
        self._rows.append((operation, size, at, b, c))
        self._top += size
        self._work_size = max(self._work_size, self._top)

    def _combine(self, operation: int, size_a: int, size_b: int) -> None:
        size = size_b if size_a == 1 else size_a
        self._rows.append((operation, size, size_a, size_b, 0))
        self._top += size - size_a - size_b


def evaluate_program(program: Program, t: ArrayLike, lookup: ArrayLike | None = None) -> Array:
    """A signal evaluated by compiled code.

    Parameters
    ----------
    program : Program
        Of an input.
    t : array_like (T,)
        The times.
    lookup : array_like (T,), optional
        The times that choose the pieces; by default t.

    Returns
    -------
    ndarray (T, size)
        x at t.

    Raises
    ------
    UsageError
        For shapes that differ; and whatever an input function of t raised.

    Examples
    --------
    >>> from ctrnn.inputs import Step
    >>> program = Step(onset=1.0).program()
    >>> evaluate_program(program, [0.5, 1.0, 1.0], lookup=[0.5, 0.999, 1.0]).ravel()
    array([0., 0., 1.])
    """
    times, pieces = times_and_pieces(t, lookup)
    out = np.empty((times.size, program.size))
    work = np.empty(program.work_size)
    # what cannot be written to is of another type for Numba, and would be compiled for
    times, pieces = (np.require(part, requirements=("C", "W")) for part in (times, pieces))
    signals.evaluate_times(program.code, program.data, times, pieces, work, out)
    program.raise_pending()
    return out
