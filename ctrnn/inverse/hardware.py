r"""The division-free inverse on hardware: error against word length, read noise and mismatch, each beside its theory.

The formulas of the theory are in ctrnn.inverse.hardware_theory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from ctrnn.errors import ConvergenceError, UsageError, one_of
from ctrnn.inverse.divide import right_divide
from ctrnn.inverse.fixed_point import Arithmetic, QFormat
from ctrnn.inverse.hardware_theory import expected_noise, expected_rounding, rounding_bound
from ctrnn.inverse.matrix import System
from ctrnn.inverse.methods import Chebyshev, Flow, GradientFlow, Hyperpower, NewtonSchulz, Richardson
from ctrnn.inverse.plan import Plan
from ctrnn.memory import claim
from ctrnn.numbers import items, number, positive, whole

KINDS = ("read", "mismatch")
ON_CHIP: dict[str, Any] = {
    kind.name: kind for kind in (Flow, Richardson, Chebyshev, GradientFlow, NewtonSchulz, Hyperpower)
}
LONGEST = 50_000  # iterations that one row of a table may take


@dataclass(frozen=True, repr=False, eq=False)
class HardwareTable:
    """Errors of a A⁻¹ against a level of imperfection; prints as a table.

    Attributes
    ----------
    method : str
        The iteration.
    knob : {"fraction bits", "read noise", "mismatch"}
        What the levels are.
    levels : ndarray (K,)
        Numbers of bits, or standard deviations.
    error : ndarray (K,)
        Observed ‖V − aA⁻¹‖/‖aA⁻¹‖, root mean square over rows, and over time or trials.
    expected : ndarray (K,)
        The root mean square that theory expects; NaN where there is no theory, infinite where the iteration diverges.
    bound : ndarray (K,)
        An upper bound, of word lengths; NaN where there is none, as where something saturated.
    saturated : ndarray (K,)
        Entries of a and A, and results, that left the range of the format.
    iterations : ndarray (K,)
        How many were taken.
    integer : int or None
        Bits left of the point.

    Examples
    --------
    >>> print(word_length([1.0], [[-0.5]], fractions=[8]).knob)
    fraction bits
    """

    method: str
    knob: str
    levels: np.ndarray
    error: np.ndarray
    expected: np.ndarray
    bound: np.ndarray
    saturated: np.ndarray
    iterations: np.ndarray
    integer: int | None = None

    def needed(self, error: float) -> float:
        """The fewest fraction bits (or the most noise) with at most this relative error, there and at finer levels.

        Raises `ConvergenceError` where no level of the table reaches it.
        """
        error = positive("error", error)
        fine_first = np.argsort(-self.levels if self.knob == "fraction bits" else self.levels)
        found = None
        for k in fine_first:
            if not self.error[k] <= error:
                break
            found = self.levels[k]
        if found is None:
            raise ConvergenceError(
                f"{self.method}: the smallest error in the table is {np.nanmin(self.error):.3g}, asked {error:.3g}. "
                f"Try: {'more bits' if self.knob == 'fraction bits' else 'less noise'}"
            )
        return int(found) if self.knob == "fraction bits" else float(found)

    def __repr__(self) -> str:
        whole = "" if self.integer is None else f", {self.integer} integer bits"
        heads = ("error", "expected", "bound", "saturated", "iterations")
        lines = [f"{self.method}{whole}", f"{self.knob:>14}" + "".join(f"{head:>12}" for head in heads)]
        columns = (self.levels, self.error, self.expected, self.bound, self.saturated, self.iterations)
        for level, error, *theory, saturated, iterations in zip(*columns, strict=True):
            shown = "".join(f"{'–' if math.isnan(x) else format(x, '.2e'):>12}" for x in (error, *theory))
            lines.append(f"{level:>14.4g}{shown}{saturated:>12d}{iterations:>12d}")
        return "\n".join(lines)


def word_length(
    a: Any,
    A: Any,
    method: Any = "flow",
    *,
    fractions: Iterable[int] = range(6, 25, 2),
    integer: int | None = None,
    rounding: str = "nearest",
    seed: int = 0,
) -> HardwareTable:
    """The error of a A⁻¹ in fixed point, for several numbers of fraction bits.

    Parameters
    ----------
    a : array_like, (n,) or (q, n), or None
        As in `right_divide`.
    A : array_like (n, n)
        A matrix: its entries are what the devices hold.
    method : str or method object, default "flow"
        "flow", "richardson", "chebyshev", "gradient-flow", "newton-schulz", "hyperpower", or an object of these. Steps
        are rounded down to powers of two.
    fractions : iterable of int
        Bits right of the point.
    integer : int, optional
        Bits left of the point; by default as many as A, a, aA⁻¹ (and A⁻¹) need, and one more.
    rounding : {"nearest", "truncate", "stochastic"}, default "nearest"
        See `QFormat`.
    seed : int, default 0
        Of stochastic rounding.

    Returns
    -------
    HardwareTable
        A row for each number of bits, with what theory expects.

    Raises
    ------
    UsageError, UnknownNameError
        For a product in the place of a matrix, no bits, or another method.
    ConvergenceError
        Where a row would take more than 50,000 iterations; and what `right_divide` raises for this method.

    Notes
    -----
    The theory is in `ctrnn.inverse.hardware_theory`.

    Examples
    --------
    >>> table = word_length([1.0, 1.0], [[-1.0, 0.5], [0.0, -0.5]], fractions=[8, 12, 16])
    >>> print(table.needed(1e-3), bool((table.error <= table.bound).all()))
    12 True
    """
    system, method, exact = _prepared(a, A, method)
    bits = [whole("fractions", f, 0) for f in items("fractions", fractions, "numbers of bits")]
    if not bits:
        raise UsageError("fractions", given=bits, allowed="one number of bits or more")
    integer = _integer_bits(system, exact, method) if integer is None else integer
    rows = []
    for f in bits:
        q = QFormat(integer, f, rounding, seed)
        plan = method.plan(system, 0.25 * q.unit)
        count = _length(plan, method.name, q.unit)
        numbers = Arithmetic(q)
        tail = 2000 if rounding == "stochastic" else 32  # where rounding leaves it, or what it cycles through
        error = _rms([_squared(V.x, exact) for V, _ in islice(plan.iterates(1, numbers), count, count + tail)])
        expected, bound = (theory(system, exact, method, plan, q) for theory in (expected_rounding, rounding_bound))
        bound = math.nan if numbers.saturated else bound  # which is of rounding alone
        rows.append((f, error, expected, bound, numbers.saturated, count))
    return _table(method.name, "fraction bits", rows, integer)


def device_noise(
    a: Any,
    A: Any,
    method: Any = "flow",
    *,
    levels: Iterable[float] = (1e-4, 1e-3, 1e-2, 1e-1),
    kind: str = "read",
    trials: int = 20,
    seed: int = 0,
) -> HardwareTable:
    """The error of a A⁻¹ on devices that are noisy, or not as they were meant.

    Parameters
    ----------
    a, A, method
        As in `word_length`.
    levels : iterable of float
        Standard deviation of what is added to each entry of A, as a part of the largest |a_ij|.
    kind : {"read", "mismatch"}, default "read"
        "read" disturbs A anew at every read, "mismatch" once.
    trials : int, default 20
        Devices (mismatch). For read noise the error is averaged over 50·trials iterations after those that settle it.
    seed : int, default 0
        Of the noise.

    Returns
    -------
    HardwareTable
        A row for each level, with what theory expects.

    Raises
    ------
    UsageError, UnknownNameError
        For levels, kinds, trials or methods that are not allowed.
    ConvergenceError
        As `word_length`.

    Notes
    -----
    The theory is in `ctrnn.inverse.hardware_theory`.

    Examples
    --------
    >>> table = device_noise([1.0, 1.0], [[-1.0, 0.5], [0.0, -0.5]], levels=[0.001], trials=200)
    >>> bool(abs(table.error[0] / table.expected[0] - 1) < 0.1)
    True
    """
    one_of("kind", kind, KINDS)
    system, method, exact = _prepared(a, A, method)
    assert system.dense is not None
    largest = float(np.abs(system.dense).max())
    plan = method.plan(system, 1e-6)
    settle = _length(plan, method.name, 1e-6)
    seed, trials = whole("seed", seed, 0), whole("trials", trials, 1)
    claim("trials", 32.0 * trials * (50 if kind == "read" else 1), "fewer trials")
    rng, rows = np.random.default_rng(seed), []
    every = items("levels", levels, "standard deviations")
    if not every:
        raise UsageError("levels", given=levels, allowed="one standard deviation or more")
    for given in every:
        level = number("levels", given, "standard deviations, not negative", 0.0)
        σ, squares, count = level * largest, [], settle
        with np.errstate(over="ignore", invalid="ignore"):
            if kind == "read":
                count = settle + 50 * trials
                numbers = Arithmetic(None, σ, seed)
                for V, _ in islice(plan.iterates(1, numbers), settle, count):
                    squares.append(_squared(V.x, exact))
            else:
                for _ in range(trials):
                    device = _Device(σ * rng.normal(size=system.dense.shape))
                    V, _ = next(islice(plan.iterates(1, device), settle, None))
                    squares.append(_squared(V.x, exact))
        error = _rms(squares)
        rows.append((level, error, expected_noise(system, exact, method, plan, σ, kind), math.nan, 0, count))
    return _table(method.name, "read noise" if kind == "read" else kind, rows)


class _Device(Arithmetic):
    """A that is not as it was meant."""

    def __init__(self, off: np.ndarray) -> None:
        super().__init__(None)
        self.off = off

    def matrix(self, A: Any) -> Any:
        """A with the error of these devices."""
        return super().matrix(A + self.off)


def _prepared(a: Any, A: Any, given: Any) -> tuple[System, Any, np.ndarray]:
    """a and A, the method with its step a power of two, and aA⁻¹ by LU."""
    method: Any = given
    if isinstance(given, str):
        one_of("method", given, ON_CHIP)
        method = ON_CHIP[given]()
    if type(method) not in ON_CHIP.values() or getattr(method, "solver", "euler") != "euler":
        raise UsageError("method", given=given, allowed=f"{', '.join(ON_CHIP)}, or such an object")
    if hasattr(A, "tocsr"):  # devices hold its zeros too
        claim("A", 8.0 * A.shape[0] * A.shape[-1], "a smaller matrix")
        A = A.toarray()
    system = System(a, A)
    if system.dense is None:
        raise UsageError("A", given="a product", allowed="a matrix: its entries are what the devices hold")
    if not system.a.any():
        raise UsageError("a", given="zeros", allowed="a row that is not 0: errors are relative to aA⁻¹")
    exact = np.atleast_2d(right_divide(system.a, system.dense, "lu").value)
    if getattr(method, "step", None) == "spectrum":
        step = method.plan(system, 1e-3).condition.step
        method = replace(method, step=math.copysign(math.ldexp(1.0, math.frexp(step)[1] - 1), step))
    return system, method, exact


def _integer_bits(system: System, exact: np.ndarray, method: Any) -> int:
    assert system.dense is not None
    sizes = [np.abs(system.dense).max(), np.abs(system.a).max(), np.abs(exact).max()]
    if isinstance(method, Hyperpower):
        sizes += [1.0, np.abs(np.linalg.inv(system.dense)).max()]
    return max(1, math.frexp(float(max(sizes)))[1] + 2)


def _length(plan: Plan, name: str, unit: float) -> int:
    count = plan.condition.predicted or LONGEST + 1
    if count > LONGEST:
        raise ConvergenceError(
            f"the {name} would need about {count:.4g} iterations to reach {unit:.3g} ({plan.condition}), more than "
            f"{LONGEST}. "
            "Try: newton-schulz, or fewer bits"
        )
    return count + 8


def _squared(V: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sum((V - exact) ** 2) / np.sum(exact**2))


def _rms(squares: list[float]) -> float:
    mean = math.sqrt(float(np.mean(squares)))
    return mean if math.isfinite(mean) and mean < 1e12 else math.inf


def _table(method: str, knob: str, rows: list[tuple[Any, ...]], integer: int | None = None) -> HardwareTable:
    levels, error, expected, bound, saturated, iterations = (np.array(column) for column in zip(*rows, strict=True))
    return HardwareTable(method, knob, levels, error, expected, bound, saturated, iterations, integer)
