r"""The division-free inverse: V* = a A⁻¹ as the rest point of a flow.

    dV/dt = V A − a        rests at V* = a A⁻¹, stable where A is Hurwitz (all Re λ(A) < 0)

integrated by Euler steps of size h, which use products and sums only:

    V ← V + h (V A − a),        V A − a ← (V A − a)(I + h A)

The residual is multiplied by I + hA at every step, so it vanishes for every a exactly when
max |1 + hλ| < 1, that is for 0 < h < min 2 |Re λ| / |λ|² over the spectrum of A. The contraction
factor max |1 + hλ| is convex in h; the step is taken at its minimum. With A = J at a stable rest
point the flow is the adjoint equation at rest.

Source: note 001 of this project, corrected. There the dot over V is lost. The literal map
V ← V A − a is another iteration: it rests where V = V A − a, at a (A − I)⁻¹, and converges when
the spectral radius of A is below one. It is the step h = 1 of the flow for A − I, which is
``right_divide(a, A - I, step=1.0)``. Likewise dv/dt = v a − 1 rests at 1/a, stable for a < 0.

What is *not* division-free is the certificate: before the iteration starts, the eigenvalues of A
give the step and its bound, and the singular values of A the error bound. The iteration itself,
`euler_flow`, divides nothing and factorises nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import (
    ConvergenceError,
    NotHurwitzError,
    SingularJacobianError,
    UnknownNameError,
    UsageError,
)

__all__ = ["Condition", "Inverse", "best_step", "euler_flow", "reciprocal", "right_divide"]

METHODS = ("flow", "lu")
EPS = float(np.finfo(np.float64).eps)
BLOCKS = 100  # residuals recorded in a run of the predicted length
FLOW_HINT = 'the method "lu", which needs no stability'
SINGULAR_HINT = "an A without dependent rows (a conserved quantity, two equal units, no leak?)"


@dataclass(frozen=True)
class Condition:
    """What guaranteed (or would have guaranteed) convergence.

    ``number``: ‖A‖‖A⁻¹‖ (flow: from the singular values; lu: estimated by LAPACK). For the flow
    also ``abscissa`` max Re λ, ``step`` h, ``step_bound`` min 2|Re λ|/|λ|², ``contraction``
    max |1 + hλ| and ``predicted``, the log(tol)/log(contraction) iterations that a normal A needs
    at most; a non-normal A may need more.
    """

    number: float
    abscissa: float | None = None
    step: float | None = None
    step_bound: float | None = None
    contraction: float | None = None
    predicted: int | None = None

    def __str__(self) -> str:
        text = f"condition number {self.number:.3g}"
        if self.step is not None:
            text += (
                f", spectral abscissa {self.abscissa:.4g}, step {self.step:.4g} below "
                f"{self.step_bound:.4g}, contraction {self.contraction:.6g}, "
                f"{self.predicted:.4g} iterations predicted"
            )
        return text


@dataclass(frozen=True)
class Inverse:
    """An approximation V of a A⁻¹ with its evidence.

    ``value``: V, shaped as a: (n,) or (q, n) (`reciprocal`: a float).
    ``residual`` (K,): ‖VA − a‖₂/‖a‖₂ of the worst row, after ``residual_at`` (K,) iterations.
    ``error_bound``: bounds the absolute error ‖V − aA⁻¹‖₂, a float for a row, (q,) for a stack:
    ‖A⁻¹‖₂ (‖VA − a‖₂ + the largest rounding error of computing VA − a).
    ``converged``: the last residual is below the tolerance, or at the level of rounding.
    ``condition``: what guaranteed it, a `Condition`.
    """

    value: Any
    residual: np.ndarray
    residual_at: np.ndarray
    iterations: int
    converged: bool
    error_bound: Any
    condition: Condition
    method: str = "flow"

    def __str__(self) -> str:
        return (
            f"{self.method}: {'converged' if self.converged else 'NOT converged'} after "
            f"{self.iterations} iterations, residual {self.residual[-1]:.3g}, "
            f"error at most {np.max(self.error_bound):.3g}; {self.condition}"
        )


def euler_flow(V: np.ndarray, a: np.ndarray, A: np.ndarray, h: float, steps: int) -> np.ndarray:
    """V after ``steps`` >= 1 Euler steps of dV/dt = VA − a. Products and sums; nothing is checked.

    V, a: (q, n) or (n,); A: (n, n); h in units of t. The steps run on the change D = V − V₀, whose
    flow is dD/dt = DA + R with R = V₀A − a: the same numbers in exact arithmetic, but rounding
    acts on the shrinking D, so that going on from the last V refines it to the last digits.

    >>> euler_flow(np.zeros(2), np.array([1.0, 4.0]), np.diag([-1.0, -2.0]), 0.5, 60)
    array([-1., -2.])
    """
    R = V @ A - a
    D = h * R  # the first step, from D = 0
    for _ in range(steps - 1):
        D = D + h * (D @ A + R)
    return V + D


def right_divide(
    a: Any,
    A: Any,
    method: str = "flow",
    *,
    tol: float = 1e-15,
    max_iterations: int = 100_000,
    step: float | None = None,
    raise_on_failure: bool = True,
) -> Inverse:
    """a A⁻¹ for a row a (n,) or a stack of rows (q, n), and A (n, n).

    method
        ``"flow"``: Euler steps of dV/dt = VA − a from V = 0, for Hurwitz A. With a real spectrum
        and a normal A of condition κ, about −½ κ log(tol) iterations of q n² products each.
        ``"lu"``: LU with partial pivoting, refined once, for any nonsingular A: the reference.
    tol
        relative residual ‖VA − a‖/‖a‖ (2-norm, worst row) to reach. Where float64 cannot reach it,
        as ‖V‖‖A‖ is much larger than ‖a‖, the iteration is done when it is at that level of
        rounding and no longer improves; ``error_bound`` says what V is worth. The default asks
        for all that float64 gives.
    step
        the Euler step h; by default the one that minimises max |1 + hλ|.
    raise_on_failure
        False: an iteration that does not converge returns its last V with ``converged=False``.

    Raises `NotHurwitzError` (flow; carries the spectral abscissa), `SingularJacobianError`,
    `UsageError` (shapes, NaN, a step outside its bound), `ConvergenceError` (too many iterations,
    told before they are spent).

    >>> A = np.array([[-2.0, 1.0], [0.0, -1.0]])
    >>> result = right_divide([1.0, 0.0], A)
    >>> np.round(result.value, 12)
    array([-0.5, -0.5])
    >>> result.converged, result.error_bound < 1e-14
    (True, True)
    """
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    rows, A, is_row = _checked(a, A)
    if not 0 < tol < 1:
        raise UsageError("tol", given=tol, allowed="a relative residual between 0 and 1")
    if max_iterations < 1:
        raise UsageError("max_iterations", given=max_iterations, allowed="a positive integer")
    if method == "lu":
        if step is not None:
            raise UsageError("step", given=step, allowed='None with method="lu"')
        V, history, condition, inverse_norm = _lu(rows, A)
    else:
        condition, inverse_norm = _flow_condition(A, tol, step)
        if condition.predicted > max_iterations and raise_on_failure:  # type: ignore[operator]
            raise ConvergenceError(
                f"the flow would need about {condition.predicted:.4g} iterations to reach "
                f"{tol:.3g}, and max_iterations is {max_iterations} ({condition}). "
                f"Try: a larger max_iterations or tol, or {FLOW_HINT}"
            )
        V, history = _run_flow(rows, A, tol, max_iterations, condition)

    iterations, residual = (np.array(column) for column in zip(*history, strict=True))
    converged = bool(residual[-1] <= max(tol, _rounding_level(V, rows, A)))
    if not converged and raise_on_failure:
        raise ConvergenceError(
            f"{method}: residual {residual[-1]:.3g} after {iterations[-1]} iterations, smallest "
            f"{residual.min():.3g}, asked {tol:.3g} ({condition}). A strongly non-normal A makes "
            "the residual grow before it shrinks. Try: a larger max_iterations"
            + (f", or {FLOW_HINT}" if method == "flow" else "")
        )
    R = np.linalg.norm(V @ A - rows, axis=1)
    error_bound = inverse_norm * (R + _residual_rounding(V, rows, A))
    return Inverse(
        value=V[0] if is_row else V,
        residual=residual,
        residual_at=iterations,
        iterations=int(iterations[-1]),
        converged=converged,
        error_bound=float(error_bound[0]) if is_row else error_bound,
        condition=condition,
        method=method,
    )


def reciprocal(a: float, method: str = "flow") -> Inverse:
    """1/a without a division: dv/dt = va − 1 for a < 0; with its sign turned, 1 − va, for a > 0.

    The Euler step is a power of two, h = 2⁻ᵉ for |a| = m 2ᵉ with ½ ≤ m < 1: a shift, not a
    division. The error is multiplied by 1 − m ≤ ½ at every step, so some 53 reach the last bit.

    Raises `UsageError` for zero, NaN and infinity, and where 1/a may overflow (|a| < 2.3e-308).

    >>> reciprocal(-8.0).value, reciprocal(3.0).value
    (-0.125, 0.3333333333333333)
    """
    if method != "flow":
        raise UnknownNameError("method", method, ("flow",))
    try:
        a = float(a)
    except (TypeError, ValueError):
        raise UsageError("a", given=a, allowed="a real number", hint="right_divide") from None
    if not math.isfinite(a) or abs(a) < float(np.finfo(np.float64).tiny):
        raise UsageError("a", given=a, allowed="a finite number, neither zero nor subnormal")
    tol, sign = 1e-15, math.copysign(1.0, a)
    m, exponent = math.frexp(abs(a))
    h = math.ldexp(1.0, -exponent)
    v, history = 0.0, [1.0]
    while history[-1] > 0.0:
        ahead = v - sign * h * (v * a - 1.0)
        error = abs(ahead * a - 1.0)
        if error >= history[-1]:
            break  # the last bit
        v = ahead
        history.append(error)
    residual = np.array(history)
    return Inverse(
        value=v,
        residual=residual,
        residual_at=np.arange(residual.size),
        iterations=residual.size - 1,
        converged=bool(residual[-1] <= tol),
        # |v − 1/a| = |va − 1|/|a|, 1/|a| ≤ |v|/(1 − |va − 1|) < 2|v|; EPS: the rounding of va − 1
        error_bound=2.0 * abs(v) * (float(residual[-1]) + EPS),
        condition=Condition(1.0, -abs(a), h, 2.0 / abs(a), 1.0 - m, _predicted(1.0 - m, tol)),
    )


# --- the flow ------------------------------------------------------------------------------------


def best_step(eigenvalues: Any) -> float:
    """The Euler step h that minimises max |1 + hλ|, for eigenvalues with all Re λ < 0.

    |1 + hλ|² = 1 + 2h Re λ + h²|λ|² is convex in h, so is the largest of them, and its minimum
    lies below the bound min 2|Re λ|/|λ|².

    >>> round(best_step([-1.0, -3.0]), 6)  # 2 / (1 + 3)
    0.5
    """
    from scipy.optimize import minimize_scalar

    bound = _step_bound(eigenvalues)
    scaled = bound * np.asarray(eigenvalues)
    p, q = 2.0 * scaled.real, np.abs(scaled) ** 2
    found = minimize_scalar(  # in s = h/bound, of |1 + sλ|² − 1, which keeps its digits near zero
        lambda s: float((s * (p + s * q)).max()),
        bounds=(0.0, 1.0),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return bound * float(found.x)


def _step_bound(eigenvalues: Any) -> float:
    λ = np.asarray(eigenvalues)
    return float((2.0 * (np.abs(λ.real) / np.abs(λ)) / np.abs(λ)).min())


def _flow_condition(A: np.ndarray, tol: float, step: float | None) -> tuple[Condition, float]:
    """The certificate of the flow on A, and ‖A⁻¹‖₂. Refuses A singular or not Hurwitz."""
    n = A.shape[0]
    σ = np.linalg.svd(A, compute_uv=False)
    number = float(σ[0] / σ[-1]) if σ[-1] > 0 else math.inf
    if σ[-1] <= n * EPS * σ[0]:
        raise SingularJacobianError(number, "A", SINGULAR_HINT)
    eigenvalues = np.linalg.eigvals(A)
    abscissa = float(eigenvalues.real.max())
    if abscissa >= -n * EPS * σ[0]:  # a centre has Re λ = 0 only up to rounding
        raise NotHurwitzError(max(abscissa, 0.0), "A", FLOW_HINT)
    bound = _step_bound(eigenvalues)
    if step is not None and not 0 < step < bound:
        raise UsageError("step", given=step, allowed=f"above 0 and below min 2|Re λ|/|λ|² = {bound:.6g}")
    h = best_step(eigenvalues) if step is None else float(step)
    contraction = float(np.abs(1.0 + h * eigenvalues).max())
    predicted = _predicted(contraction, tol)
    return Condition(number, abscissa, h, bound, contraction, predicted), float(1.0 / σ[-1])


def _predicted(contraction: float, tol: float) -> int:
    """The iterations after which contraction^k ≤ tol."""
    if contraction >= 1.0:
        return 10**18  # one, to rounding: no number of iterations does it
    return max(1, math.ceil(math.log(tol) / math.log(max(contraction, 1e-300))))


def _run_flow(
    a: np.ndarray, A: np.ndarray, tol: float, max_iterations: int, condition: Condition
) -> tuple[np.ndarray, list[tuple[int, float]]]:
    """Blocks of Euler steps from V = 0, until the residual is at tol or stays at rounding."""
    assert condition.predicted is not None and condition.step is not None
    stride = max(1, min(condition.predicted, max_iterations) // BLOCKS)
    V, done = np.zeros_like(a), 0
    history = [(0, _residual(V, a, A))]
    while history[-1][1] > tol and done < max_iterations:
        steps = min(stride, max_iterations - done)
        with np.errstate(over="ignore", invalid="ignore"):
            ahead = euler_flow(V, a, A, condition.step, steps)
            residual = _residual(ahead, a, A)
        if not math.isfinite(residual):
            break  # A so far from normal that its eigenvalues do not tell the step: keep the last V
        V, done = ahead, done + steps
        history.append((done, residual))
        if residual <= _rounding_level(V, a, A) and residual > 0.9 * history[-2][1]:
            break
    return V, history


# --- LU, the reference ---------------------------------------------------------------------------


def _lu(a: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, list[tuple[int, float]], Condition, float]:
    """V = a A⁻¹ from A = P L U, refined once; its history, condition and ‖A⁻¹‖₂."""
    from scipy.linalg.lapack import dgetrs

    lu, pivots, number, inverse_norm = factorise(A)
    if number * EPS >= 1.0:
        raise SingularJacobianError(number, "A", SINGULAR_HINT)
    V = dgetrs(lu, pivots, a.T, trans=1)[0].T  # V A = a is Aᵀ Vᵀ = aᵀ
    history = [(0, _residual(V, a, A))]
    V = V - dgetrs(lu, pivots, (V @ A - a).T, trans=1)[0].T
    history.append((1, _residual(V, a, A)))
    return V, history, Condition(number), inverse_norm


def factorise(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """A = P L U by LAPACK: lu, pivots, the condition number and ‖A⁻¹‖₂, each from above.

    From LAPACK's estimates (gecon, almost always within a factor of three below the true norm) of
    ‖A⁻¹‖₁ and ‖A⁻¹‖_∞, by ‖A⁻¹‖₂² ≤ ‖A⁻¹‖₁ ‖A⁻¹‖_∞. Both infinite for a singular A.
    """
    from scipy.linalg.lapack import dgecon, dgetrf

    lu, pivots, info = dgetrf(A)
    norms = float(np.linalg.norm(A, 1)), float(np.linalg.norm(A, np.inf))
    if info > 0:
        return lu, pivots, math.inf, math.inf
    rcond = float(dgecon(lu, norms[0], norm="1")[0]), float(dgecon(lu, norms[1], norm="I")[0])
    if min(rcond) == 0.0:
        return lu, pivots, math.inf, math.inf
    number = 1.0 / (math.sqrt(rcond[0]) * math.sqrt(rcond[1]))
    return lu, pivots, number, number / (math.sqrt(norms[0]) * math.sqrt(norms[1]))


# --- residuals and their rounding ----------------------------------------------------------------


def _residual(V: np.ndarray, a: np.ndarray, A: np.ndarray) -> float:
    """‖VA − a‖₂/‖a‖₂ of the worst row; a row of zeros has none."""
    size = np.linalg.norm(a, axis=1)
    return float((np.linalg.norm(V @ A - a, axis=1) / np.where(size > 0, size, 1.0)).max())


def _rounding_level(V: np.ndarray, a: np.ndarray, A: np.ndarray) -> float:
    """The relative residual left by rounding V and VA, as it is typically (not at worst)."""
    size = np.linalg.norm(a, axis=1)
    level = EPS * (2.0 * np.linalg.norm(V, axis=1) * np.linalg.norm(A) + size)
    return float((level / np.where(size > 0, size, 1.0)).max())


def _residual_rounding(V: np.ndarray, a: np.ndarray, A: np.ndarray) -> np.ndarray:
    """The largest rounding error of computing VA − a (n products and sums), 2-norm per row."""
    terms = np.abs(V) @ np.abs(A) + np.abs(a)
    return (A.shape[0] + 2) * EPS * np.linalg.norm(terms, axis=1)


def _checked(a: Any, A: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """a as (q, n) rows, A as (n, n), float64, and whether a was one row."""
    matrix, rows = _real("A", A), _real("a", a)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise UsageError("A", given=matrix.shape, allowed="a square matrix (n, n)")
    n = matrix.shape[0]
    if rows.ndim not in (1, 2) or rows.shape[-1] != n or rows.size == 0:
        raise UsageError("a", given=rows.shape, allowed=f"a row ({n},) or rows (q, {n}), as A is")
    return np.atleast_2d(rows), matrix, rows.ndim == 1


def _real(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise UsageError(name, given=value, allowed="real numbers")
    array = np.array(array, dtype=np.float64)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise UsageError(name, given=f"{bad} NaN or infinite values", allowed="finite numbers")
    return array
