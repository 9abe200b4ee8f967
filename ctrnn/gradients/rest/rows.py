r"""Rows at rest without the matrix: V* = a J⁻¹ from products V ↦ V J alone, O(n²) each.

    dV/dt = V J − a        V ← V + h (V J − a)        needs all Re λ(J) < 0

The step that is tried first is a network's time constants, h = τ, in compiled code (ctrnn.kernels.rest): the leak's
part of V J is then done in one step, and the residual is the step itself, so that an iteration is one product. Its
contraction is observed, and with it ‖J⁻¹‖. Where the residual hardly falls, or there is no τ, ctrnn.inverse finds the
step from the spectrum that some 40 products show. Where that fails, ARPACK (implicitly restarted Arnoldi) gives the
rightmost eigenvalue, from products again: it says whether the point is unstable, singular or only stiff.

Sources: Almeida (1987), Pineda (1987); Saad, *Numerical Methods for Large Eigenvalue Problems* (2011), chapters 6 and
7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ctrnn.errors import ConvergenceError, NotHurwitzError, SingularJacobianError
from ctrnn.fields.base import Array, Field, time_constants
from ctrnn.inverse import Condition, Inverse, right_divide
from ctrnn.inverse.result import observed_inverse_norm, worst_history
from ctrnn.kernels import rest

__all__ = ["norm_from_below", "outer_spectrum", "solve_rows"]

Product = Callable[[Array], Array]
MOST = 1000  # iterations with h = τ, each of which must shrink the residual by a twentieth
POWER = 6  # products for ‖J‖
LU_HINT = 'inverse="lu", which needs no stability; no trajectory settles at this point, though, unless it starts there'


def solve_rows(field: Field, t: float, r: Array, a: Array, x: Any = None, tol: float = 1e-12) -> Inverse:
    """V with V J = a, for a row a (n,) or rows (q, n), from products with J at (t, r, x).

    ‖VJ − a‖₂ ≤ tol ‖a‖₂ for every row.

    Raises NotHurwitzError (unstable J), SingularJacobianError, ConvergenceError.

    >>> from ctrnn import RateNetwork
    >>> field = RateNetwork(2, activation="linear").with_parameters(W=[[0.0, 0.5], [0.0, 0.0]])  # J = W − I
    >>> solve_rows(field, 0.0, np.zeros(2), np.array([1.0, 0.0])).value.round(12)
    array([-1. , -0.5])
    """
    tau = time_constants(field)
    if tau is not None:
        found = _with_time_constants(field, t, r, a, x, tol, tau)
        if found is not None:
            return found

    def product(V: Array) -> Array:
        return field.vjp(t, r, V, x)

    try:
        return right_divide(a, product, "flow", tol=tol)
    except (ConvergenceError, NotHurwitzError, SingularJacobianError):
        refuse_unstable(outer_spectrum(product, field.n))
        raise


def _with_time_constants(field: Field, t: float, r: Array, a: Array, x: Any, tol: float, tau: Array) -> Inverse | None:
    """The flow with h = τ, a row at a time; None where the residual hardly falls."""
    t, bound, r, x = field._at_point(t, r, x)
    rows, h = np.atleast_2d(a), np.array(tau)
    V, bounds, histories = np.zeros(rows.shape), np.zeros(len(rows)), [np.zeros(1)]
    for k in np.flatnonzero(rows.any(axis=1)):
        row, history = np.ascontiguousarray(rows[k]), np.empty(MOST + 1)
        count, rounding = rest.flow(bound.system, t, r, x, row, h, tol, MOST, V[k], history)
        bound.raise_pending()
        histories.append(history[: count + 1])
        if not history[count] <= max(tol, rounding):
            return None
        left = float(np.linalg.norm(row)) * (history[count] + rounding)
        bounds[k] = left * observed_inverse_norm(np.arange(count + 1), history[: count + 1], float(h.max()))
    residual = worst_history(histories)
    return Inverse(
        value=V.reshape(a.shape),
        residual=residual,
        residual_at=np.arange(residual.size),
        iterations=residual.size - 1,
        converged=True,
        error_bound=bounds if a.ndim > 1 else float(bounds[0]),
        condition=Condition(math.nan, step=float(h.max()), known_by="products"),
        estimated=True,
    )


def norm_from_below(product: Product, row: Array) -> float:
    """A lower bound of ‖J‖₂: the largest ‖vJ‖/‖v‖ along the rows v, vJ, vJ² and so on.

    >>> round(norm_from_below(lambda V: V * np.array([-1.0, -3.0]), np.ones(2)), 2)
    3.0
    """
    norm, v = 0.0, row
    for _ in range(POWER):
        size = float(np.linalg.norm(v))
        if not 0.0 < size < math.inf:
            break
        v = product(v / size)
        norm = max(norm, float(np.linalg.norm(v)))
    return norm


def outer_spectrum(product: Product, n: int) -> Array:
    """The rightmost eigenvalues and the largest ones, from products; all of them for small n."""
    if n <= 40:
        return np.linalg.eigvals(product(np.eye(n)))
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

    # V ↦ V J is Jᵀ on columns, which has the eigenvalues of J
    operator = LinearOperator((n, n), matvec=lambda v: product(np.ravel(v)), dtype=float)
    found = []
    # ARPACK's own start is random: the answer would change from call to call
    start = np.random.default_rng(0).normal(size=n)
    for which in ("LR", "LM"):
        try:
            found.append(eigs(operator, k=6, which=which, v0=start, tol=1e-10, return_eigenvectors=False))
        except ArpackNoConvergence as error:
            found.append(error.eigenvalues)
    return np.concatenate(found)


def refuse_unstable(eigenvalues: Array) -> None:
    """Raises for a J that is singular or not Hurwitz."""
    if not eigenvalues.size:
        return
    size, right = float(np.abs(eigenvalues).max()), float(eigenvalues.real.max())
    nearest = float(np.abs(eigenvalues).min())
    if nearest <= 1e-13 * size:
        raise singular(size / nearest if nearest else math.inf)
    if right >= -1e-13 * size:
        raise NotHurwitzError(right, "the Jacobian at this equilibrium", LU_HINT)


def singular(condition: float) -> SingularJacobianError:
    """The error for a J at rest that cannot be divided by."""
    return SingularJacobianError(
        condition,
        "the Jacobian at this equilibrium",
        "other parameters: at a bifurcation, or on a line of equilibria, dr*/dw does not exist",
    )
