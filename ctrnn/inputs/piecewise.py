"""Inputs made of polynomial pieces: sampled data, steps, pulses, noise.

With knots t_1 < ... < t_K, origins o_j and coefficients c_jd,

    x(t) = sum_d c_jd (t - o_j)^d,     j = #{k : t_k <= t}.

Samples (t_k, y_k), k = 1 ... K, become pieces with o_j = t_j, which on [t_j, t_j+1) are

    hold      y_j
    linear    y_j + (y_j+1 - y_j) / (t_j+1 - t_j) (t - t_j)
    cubic     the twice differentiable cubic spline that is one cubic across t_2 and across t_K-1
              ("not-a-knot": de Boor, A Practical Guide to Splines, 1978, ch. IV); a parabola
              through three samples, a line through two

and the end values outside: y_1 before t_1, y_K from t_K on.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError, one_of
from ctrnn.inputs.base import Input
from ctrnn.inputs.checks import Array, finite, shown
from ctrnn.inputs.program import Builder
from ctrnn.inputs.times import RESOLUTION, align, increasing
from ctrnn.memory import claim
from ctrnn.numbers import MOST, number, whole

KINDS = ("hold", "linear", "cubic")


class _Piecewise(Input):
    """A signal by pieces: knots (K,), origins (K + 1,), coefficients (K + 1, degree + 1, size), lowest power first."""

    def __init__(self, knots: Array, coefficients: Array, breaks: Array) -> None:
        self.size = coefficients.shape[2]
        self.breaks = breaks
        self._knots, self._coefficients = knots, coefficients
        self._origins = np.concatenate((knots[:1], knots))

    def _values(self, t: Array, lookup: Array) -> Array:
        j = np.searchsorted(self._knots, lookup, side="right")
        s = (t - self._origins[j])[:, None]
        c = self._coefficients[j]
        value = c[:, -1]
        for d in range(c.shape[1] - 2, -1, -1):
            value = value * s + c[:, d]
        return value

    def _slopes(self, t: Array, lookup: Array) -> Array:
        j = np.searchsorted(self._knots, lookup, side="right")
        s = (t - self._origins[j])[:, None]
        c = self._coefficients[j]
        slope = np.zeros((t.size, self.size))
        for d in range(c.shape[1] - 1, 0, -1):
            slope = slope * s + d * c[:, d]
        return slope

    def emit(self, builder: Builder) -> None:
        """Append the instruction for the pieces."""
        builder.polynomial(self._knots, self._origins, self._coefficients)

    def aligned(self, times: Array) -> Input:
        """The same pieces with their knots moved onto the times that equal them."""
        moved = copy.copy(self)
        moved._knots = align(self._knots, times)
        moved.breaks = align(self.breaks, times)
        return moved


class Polynomials(_Piecewise):
    """A signal given by its pieces: piece j is Σ_d coefficients[j, d] (t − starts[j])^d, from starts[j] on.

    It has no breaks: the pieces are meant to fit together, as those of a solver's dense output do.

    Parameters
    ----------
    starts : ndarray (J,)
        Increasing times.
    coefficients : ndarray (J, degree + 1, size)
        Lowest power first.

    Examples
    --------
    >>> Polynomials(np.array([0.0, 1.0]), np.array([[[0.0], [1.0]], [[1.0], [0.0]]]))([0.5, 3.0]).ravel()
    array([0.5, 1. ])
    """

    def __init__(self, starts: Array, coefficients: Array) -> None:
        super().__init__(starts[1:], coefficients, np.empty(0))
        self._origins = starts


class Sampled(_Piecewise):
    """Data in time: values y_k at times t_k, held, or joined by lines or a cubic spline.

    Parameters
    ----------
    times : array_like (K,)
        Increasing.
    values : array_like (K,) or (K, size)
        One row a time.
    kind : {"hold", "linear", "cubic"}, default "hold"
        What is between the samples.

    Raises
    ------
    UsageError
        For shapes that do not match, for times that do not increase, for NaN or inf (naming the row and column), and
        for too few samples ("hold" one, the others two).
    UnknownNameError
        For another kind.

    Notes
    -----
    Outside [t_1, t_K] the end values hold; ``span`` is [t_1, t_K], and [t_1, inf) for "hold". ``breaks``: for "hold"
    the times at which a value changes; for "linear" those at which a slope changes, ends included; for "cubic" the two
    ends. The formulas are at the top of `ctrnn.inputs.piecewise`.

    Examples
    --------
    >>> x = Sampled([0.0, 1.0, 3.0], [5.0, 7.0, 1.0], kind="linear")
    >>> x([0.5, 2.0, 9.0]).ravel()
    array([6., 4., 1.])
    """

    def __init__(self, times: ArrayLike, values: ArrayLike, kind: str = "hold") -> None:
        one_of("kind", kind, KINDS)
        t = increasing("times", times)
        y = finite("values", values, (1, 2), "an array (K,) or (K, size), a row for each time")
        least = 1 if kind == "hold" else 2
        if t.size < least:
            raise UsageError("times", given=t.size, allowed=f'at least {least} samples for kind="{kind}"')
        if y.shape[0] != t.size:
            raise UsageError("values", given=y, allowed=f"{t.size} rows, one for each time")
        self.times, self.values, self.kind = t, y, kind
        y = y.reshape(t.size, -1)
        pieces, breaks = {"hold": _hold, "linear": _linear, "cubic": _cubic}[kind](t, y)
        if not np.isfinite(pieces).all():
            raise UsageError(
                "values",
                given="differences that overflow between samples",
                allowed="values and time steps whose slopes are finite",
            )
        super().__init__(t, pieces, breaks)

    @property
    def span(self) -> tuple[float, float]:
        """The times from the first sample to the last; of held ones without end."""
        return (float(self.times[0]), np.inf if self.kind == "hold" else float(self.times[-1]))

    def __repr__(self) -> str:
        t = self.times
        return (
            f"{type(self).__name__}({t.size} samples of {self.size} "
            f"channel{'s' * (self.size != 1)}, t = {t[0]:g} ... {t[-1]:g}, kind={self.kind!r})"
        )


class Noise(Sampled):
    """A fixed path of Gaussian noise: independent samples N(0, sd²), a time dt apart.

    Parameters
    ----------
    t_span : array_like (2,)
        Start and end of the time that is covered.
    dt : float
        Time between samples.
    sd : float
        Standard deviation of a sample.
    seed : int
        The same seed gives the same path, and a longer t_span continues it.
    size : int, default 1
        The number of channels.
    kind : {"hold", "linear", "cubic"}, default "hold"
        As of `Sampled`.

    Raises
    ------
    UsageError
        For a t_span that does not increase, dt ≤ 0, sd < 0, or a seed that is not a whole number.

    Notes
    -----
    To approximate white noise of intensity σ (dW = σ √dt N(0, 1)), hold samples of sd = σ/√dt.

    Examples
    --------
    >>> Noise((0.0, 10.0), dt=0.5, sd=1.0, seed=3)
    Noise(20 samples of 1 channel, t = 0 ... 9.5, kind='hold')
    """

    def __init__(self, t_span: ArrayLike, dt: float, sd: float, seed: int, size: int = 1, kind: str = "hold") -> None:
        ends = increasing("t_span", t_span)
        if ends.size != 2:
            raise UsageError("t_span", given=ends, allowed="two times, (start, end)")
        start, end = ends.tolist()
        dt, sd = number("dt", dt), number("sd", sd)
        if dt <= 0:
            raise UsageError("dt", given=dt, allowed="a positive time between samples")
        if sd < 0:
            raise UsageError("sd", given=sd, allowed="a standard deviation, zero or more")
        seed, size = whole("seed", seed, 0), whole("size", size, 1)
        one_of("kind", kind, KINDS)
        if not (end - start) / dt <= MOST:
            raise UsageError("dt", given=dt, allowed=f"a time between samples that moves t, from {start:g} to {end:g}")
        steps = int(np.ceil((end - start) / dt * (1 - 1e-12)))
        count = steps if kind == "hold" else steps + 1
        claim("dt", 32.0 * count * size)
        times = start + dt * np.arange(count)
        super().__init__(times, sd * np.random.default_rng(seed).standard_normal((count, size)), kind)
        self._span = (start, end)

    @property
    def span(self) -> tuple[float, float]:
        """The time that was asked for."""
        return self._span


class Step(_Piecewise):
    """A step: x(t) = 0 for t < onset, the amplitude from the onset on.

    Parameters
    ----------
    onset : float
        The time of the step.
    amplitude : float or array_like (size,), default 1
        One number a channel.
    name : str, optional
        By which `ctrnn.input_gradient` gives the derivatives to onset and amplitude.

    Raises
    ------
    UsageError
        For numbers that are not finite.

    Examples
    --------
    >>> Step(onset=2.0, amplitude=5.0)([1.9, 2.0]).ravel()
    array([0., 5.])
    """

    def __init__(self, onset: float, amplitude: ArrayLike = 1.0, name: str | None = None) -> None:
        self.onset, self.amplitude, self.name = number("onset", onset), _amplitude(amplitude), _name(name)
        knots = np.array([self.onset])
        super().__init__(knots, np.stack([0 * self.amplitude, self.amplitude])[:, None], knots)

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Step(onset={self.onset!r}, amplitude={shown(self.amplitude)}{name})"


class Pulse(_Piecewise):
    """A pulse: x(t) = amplitude for onset ≤ t < onset + width, else 0.

    Parameters
    ----------
    onset : float
        The time at which it begins.
    width : float
        How long it lasts.
    amplitude : float or array_like (size,), default 1
        One number a channel.
    name : str, optional
        By which `ctrnn.input_gradient` gives the derivatives to onset, width and amplitude.

    Raises
    ------
    UsageError
        For a width that is not positive, or too small to move the onset.

    Examples
    --------
    >>> Pulse(onset=1.0, width=0.5, amplitude=2.0)([0.9, 1.0, 1.5]).ravel()
    array([0., 2., 0.])
    """

    def __init__(self, onset: float, width: float, amplitude: ArrayLike = 1.0, name: str | None = None) -> None:
        self.onset, self.width, self.name = number("onset", onset), number("width", width), _name(name)
        self.amplitude = _amplitude(amplitude)
        end = self.onset + self.width
        least = RESOLUTION * max(abs(self.onset), abs(end))
        if not (self.width > least and np.isfinite(end)):
            raise UsageError(
                "width",
                given=self.width,
                allowed=f"a positive time (at this onset above {least:.2g})",
            )
        knots = np.array([self.onset, end])
        zero = 0 * self.amplitude
        super().__init__(knots, np.stack([zero, self.amplitude, zero])[:, None], knots)

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Pulse(onset={self.onset!r}, width={self.width!r}, amplitude={shown(self.amplitude)}{name})"


def _amplitude(value: Any) -> Array:
    array = np.atleast_1d(finite("amplitude", value, (0, 1), "a number or an array (size,)"))
    if not array.size:
        raise UsageError("amplitude", given=value, allowed="one number at least")
    return array


def _name(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise UsageError("name", given=value, allowed="text, or None")
    return value


def _hold(t: Array, y: Array) -> tuple[Array, Array]:
    """Coefficients (K + 1, 1, size) and breaks of the zero-order hold through y (K, size)."""
    pieces = np.concatenate((y[:1], y))[:, None]
    return pieces, t[1:][(y[1:] != y[:-1]).any(axis=1)]


def _linear(t: Array, y: Array) -> tuple[Array, Array]:
    """Coefficients (K + 1, 2, size) and breaks of the lines through y (K, size), level outside."""
    h = np.diff(t)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        slope = np.diff(y, axis=0) / h
        # The rounding error of a slope: that of its ends and, times the slope, that of its times.
        error = 4 * np.finfo(float).eps * (
            abs(y[1:]) + abs(y[:-1]) + abs(slope) * (abs(t[1:]) + abs(t[:-1]))[:, None]
        ) / h  # fmt: skip
        level = np.zeros((1, y.shape[1]))
        slope, error = (np.concatenate((level, a, level)) for a in (slope, error))
        changes = (abs(np.diff(slope, axis=0)) > error[1:] + error[:-1]).any(axis=1)
    return np.stack([np.concatenate((y[:1], y)), slope], axis=1), t[changes]


def _cubic(t: Array, y: Array) -> tuple[Array, Array]:
    """Coefficients (K + 1, 4, size) and breaks of the spline through y (K, size), level outside."""
    from scipy.interpolate import CubicSpline

    pieces = np.zeros((t.size + 1, 4, y.shape[1]))
    pieces[0, 0], pieces[-1, 0] = y[0], y[-1]
    try:
        with np.errstate(all="ignore"):
            pieces[1:-1] = CubicSpline(t, y).c[::-1].transpose(1, 0, 2)
    except ValueError:  # SciPy's word on slopes that overflow, the one fault left; see the caller
        pieces[:] = np.nan
    return pieces, t[[0, -1]]
