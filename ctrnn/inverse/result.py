"""What comes back from a division: the value, its evidence, and the condition that guaranteed it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

EPS = float(np.finfo(np.float64).eps)
NEVER = 10**18  # iterations predicted where the contraction is one to rounding


@dataclass(frozen=True, repr=False)
class Condition:
    """What guaranteed convergence, or would have guaranteed it.

    Attributes
    ----------
    number : float
        ‖A‖‖A⁻¹‖, from singular values or, where ``known_by`` says so, estimated; NaN if unknown.
    abscissa : float or None
        max Re λ.
    step : float or None
        h, η, or the scale of the start.
    step_bound : float or None
        It converges for 0 < step < step_bound (Euler: min 2|Re λ|/|λ|²).
    contraction : float or None
        The factor of the residual an iteration in the long run (max |1 + hλ| for Euler); of a method of order p > 1
        that of its first iteration, whose p-th power is the next.
    predicted : int or None
        The iterations to the tolerance that a normal A needs at most; a non-normal A may need more.
    order : int
        p.
    truncation : float or None
        Of the Neumann series, a bound of ‖V − aA⁻¹‖₂ for the worst row, known before it is summed.
    known_by : {"spectrum", "norms", "factors", "products"}
        Eigenvalues or singular values; bounds from the entries; LAPACK's estimate; or estimates from products V ↦ VA.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> condition = right_divide([1.0, 1.0], [[-1.0, 0.0], [0.0, -3.0]]).condition
    >>> print(f"{condition.number:.3g}, {condition.step:.3g} below {condition.step_bound:.3g}")
    3, 0.5 below 0.667
    """

    number: float
    abscissa: float | None = None
    step: float | None = None
    step_bound: float | None = None
    contraction: float | None = None
    predicted: int | None = None
    order: int = 1
    truncation: float | None = None
    known_by: str = "spectrum"

    def __repr__(self) -> str:
        parts = [] if math.isnan(self.number) else [f"condition number {self.number:.3g}"]
        if self.abscissa is not None:
            parts.append(f"spectral abscissa {self.abscissa:.4g}")
        if self.step is not None:
            below = "" if self.step_bound is None else f" below {self.step_bound:.4g}"
            parts.append(f"step {self.step:.4g}{below}")
        if self.contraction is not None:
            parts.append(
                f"contraction {self.contraction:.6g}" + (f" to the power {self.order}" if self.order > 1 else "")
            )
        if self.predicted is not None:
            parts.append(f"{self.predicted:.4g} iterations predicted")
        if self.truncation is not None:
            parts.append(f"truncation error at most {self.truncation:.3g}")
        return ", ".join(parts) + f" (known by {self.known_by})"


@dataclass(frozen=True, repr=False, eq=False)
class Inverse:
    """An approximation V of a A⁻¹ with its evidence.

    Attributes
    ----------
    value : ndarray, shaped as a, or float
        V; of `reciprocal` a float.
    residual : ndarray (K,)
        ‖VA − a‖₂/‖a‖₂ of the worst row.
    residual_at : ndarray (K,)
        The iterations after which it was taken.
    iterations : int
        How many there were.
    converged : bool
        Whether the last residual is below the tolerance, or at the level of rounding.
    error_bound : float, or ndarray (q,) of a stack
        A bound of ‖V − aA⁻¹‖₂: ‖A⁻¹‖₂ (‖VA − a‖₂ + the largest rounding error of computing VA − a).
    condition : Condition
        What guaranteed it.
    method : str
        The method's name.
    estimated : bool
        Whether ‖A⁻¹‖ in the bound is an estimate, as it is where A is a product, or sparse and large.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> result = right_divide([1.0], [[-2.0]])
    >>> result.value, result.converged, float(result.residual[-1])
    (array([-0.5]), True, 0.0)
    """

    value: Any
    residual: np.ndarray
    residual_at: np.ndarray
    iterations: int
    converged: bool
    error_bound: Any
    condition: Condition
    method: str = "flow"
    estimated: bool = False

    def __repr__(self) -> str:
        return (
            f"{self.method}: {'converged' if self.converged else 'NOT converged'} after "
            f"{self.iterations} iterations, residual {self.residual[-1]:.3g}, "
            f"error {'about' if self.estimated else 'at most'} {np.max(self.error_bound):.3g}; {self.condition}"
        )


def predicted(gap: float, tol: float, order: int = 1) -> int:
    """The iterations k after which (1 − gap)^k ≤ tol; with order p, (1 − gap)^(p^k) ≤ tol."""
    if gap <= 0.0:
        return NEVER
    needed = math.log(tol) / math.log1p(-gap) if gap < 1.0 else 1.0
    if order > 1:
        needed = math.log(max(needed, 1.0)) / math.log(order)
    return NEVER if needed > NEVER else max(1, math.ceil(needed))


# --- residuals and their rounding ---


def worst_history(histories: list[Any]) -> np.ndarray:
    """The largest residual of all rows after 0, 1, … iterations, where each was solved by itself.

    A row that is done keeps its last.

    >>> worst_history([[1.0, 0.5], [1.0, 0.6, 0.1]])
    array([1. , 0.6, 0.5])
    """
    longest = max(map(len, histories))
    return np.max([np.append(h, np.full(longest - len(h), h[-1])) for h in histories], axis=0)


def observed_inverse_norm(k: np.ndarray, residual: np.ndarray, step: float) -> float:
    """An estimate of ‖A⁻¹‖ on what is left, 2h/(1 − q), from the observed contraction q.

    It is that over the last half of the decades; the 2 is for safety.
    """
    inside = np.flatnonzero((residual <= math.sqrt(residual[0] * residual[-1])) & (residual > 10 * residual[-1]))
    if inside.size < 2:
        inside = np.array([0, len(residual) - 1])
    i, j = inside[0], inside[-1]
    if residual[j] == 0.0:
        j -= 1
    if not (j > i and residual[j] < residual[i]):
        return 2.0 * abs(step) if residual[-1] == 0.0 else math.inf
    q = (residual[j] / residual[i]) ** (1.0 / float(k[j] - k[i]))
    return 2.0 * abs(step) / (1.0 - q)


def worst_residual(R: np.ndarray, a: np.ndarray) -> float:
    """‖R‖₂/‖a‖₂ of the worst row, R = VA − a; a row of zeros has none."""
    size = np.linalg.norm(a, axis=1)
    return float((np.linalg.norm(R, axis=1) / np.where(size > 0, size, 1.0)).max())


def rounding_level(V: np.ndarray, system: Any) -> float:
    """The relative residual left by rounding V and VA, as it is typically (not at worst)."""
    size = np.linalg.norm(system.a, axis=1)
    level = EPS * (2.0 * np.linalg.norm(V, axis=1) * system.frobenius + size)
    return float((level / np.where(size > 0, size, 1.0)).max())


def residual_rounding(V: np.ndarray, system: Any) -> np.ndarray:
    """The largest rounding error of computing VA − a (n products and sums), 2-norm per row."""
    return np.asarray((system.n + 2) * EPS * np.linalg.norm(system.terms(V), axis=1))
