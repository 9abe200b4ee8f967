"""The references: LU with partial pivoting, and GMRES. Both divide.

GMRES (Saad & Schultz, SIAM J. Sci. Stat. Comput. 7 (1986), 856–869) minimises ‖VA − a‖ over the rows spanned by
a, aA, aA², …; it needs products only, of any nonsingular A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import SingularJacobianError
from ctrnn.inverse.matrix import DENSE_CERTIFICATE, System, orthogonal
from ctrnn.inverse.plan import SINGULAR_HINT
from ctrnn.inverse.result import EPS, Condition, rounding_level, worst_history, worst_residual
from ctrnn.numbers import whole

History = list[tuple[int, float]]


@dataclass(frozen=True)
class Solved:
    """V (q, n), its residuals, and what the solution tells of A."""

    V: np.ndarray
    history: History
    condition: Condition
    inverse_norm: float
    estimated: bool = False


@dataclass(frozen=True)
class LU:
    """The factors A = P L U, then two triangular solves, refined once: any nonsingular A.

    Of a product, the matrix is made by n products.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide([1.0, 1.0], [[2.0, 1.0], [0.0, -1.0]], LU()).value
    array([ 0.5, -0.5])
    """

    name = "lu"

    def solve(self, system: System, tol: float, max_iterations: int) -> Solved:
        """V, its residuals, and what the factors tell of A."""
        if system.kind == "sparse" and system.dense is None:
            solve, number, inverse_norm = _sparse_lu(system.A)
        else:
            solve, number, inverse_norm = _dense_lu(system.matrix())
        V = solve(system.a)
        history = [(0, worst_residual(V @ system.A - system.a, system.a))]
        V = V - solve(V @ system.A - system.a)
        history.append((1, worst_residual(V @ system.A - system.a, system.a)))
        condition = Condition(number, known_by="factors")
        return Solved(V, history, condition, inverse_norm, system.kind == "sparse" and system.dense is None)


@dataclass(frozen=True)
class GMRES:
    """GMRES, restarted, a row at a time: any nonsingular A, by products alone.

    Parameters
    ----------
    restart : int, default 1000
        Rows of n numbers that the basis may grow to before it is begun anew; it is no larger than the iterations ask
        for. Where too small a restart makes no progress, the error says so.

    Raises
    ------
    UsageError
        For another restart.

    Notes
    -----
    ‖A⁻¹‖ in the error bound comes from the singular values of a matrix of up to 512 rows; of others it is estimated
    from those of GMRES's own small matrix. Source: Saad and Schultz, SIAM J. Sci. Stat. Comput. 7 (1986), 856–869.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide([1.0, 1.0], [[2.0, 1.0], [0.0, -1.0]], GMRES()).value.round(12)
    array([ 0.5, -0.5])
    """

    restart: int = 1000

    name = "gmres"

    def __post_init__(self) -> None:
        whole("restart", self.restart, 1)

    def solve(self, system: System, tol: float, max_iterations: int) -> Solved:
        """V, its residuals, and what the Krylov rows tell of A."""
        V = np.zeros_like(system.a)
        histories: list[list[float]] = []
        largest, smallest = 0.0, math.inf
        for k, row in enumerate(system.a):
            V[k], history, σ = _gmres_row(row[None], system, tol, self.restart, max_iterations)
            histories.append(history)
            largest, smallest = max(largest, σ[0]), min(smallest, σ[1])
        worst = worst_history(histories)
        worst[-1] = worst_residual(V @ system.A - system.a, system.a)
        exact = system.dense is not None and system.n <= DENSE_CERTIFICATE
        if exact:
            largest, smallest = float(system.singular_values[0]), float(system.singular_values[-1])
        number = largest / smallest if smallest > 0 else math.inf
        if smallest <= system.n * EPS * largest:
            raise SingularJacobianError(number, "A", SINGULAR_HINT)
        condition = Condition(number, known_by="spectrum" if exact else "products")
        # the smallest singular value on a Krylov space is one of A from above
        return Solved(V, list(enumerate(worst)), condition, (1.0 if exact else 2.0) / smallest, not exact)


def _gmres_row(
    a: np.ndarray, system: System, tol: float, restart: int, max_iterations: int
) -> tuple[np.ndarray, list[float], tuple[float, float]]:
    size = float(np.linalg.norm(a))
    v, history, σ = np.zeros_like(a), [1.0 if size else 0.0], (0.0, math.inf)
    single = System.__new__(System)
    single.__dict__.update(system.__dict__, a=a)
    while size and history[-1] > tol and len(history) <= max_iterations:
        R = a - v @ system.A
        began = float(np.linalg.norm(R)) / size
        m = min(restart, system.n, max_iterations + 1 - len(history))
        D, residuals, found = _cycle(R, system.A, max(tol * size, 1e-3 * EPS * size), m)
        if not np.isfinite(D).all():
            break
        v, σ = v + D, (max(σ[0], found[0]), min(σ[1], found[1]))
        history += [r / size for r in residuals]
        history[-1] = worst_residual(v @ system.A - a, a)
        if history[-1] > 0.5 * began or (history[-1] <= rounding_level(v, single) and history[-1] > 0.1 * began):
            break
    return v[0], history, σ


def _cycle(R: np.ndarray, A: Any, target: float, m: int) -> tuple[np.ndarray, list[float], tuple[float, float]]:
    """D with the smallest ‖R − DA‖ on at most m Krylov rows.

    With it come the norms on the way, and the extreme singular values met.
    """
    n, room = R.shape[1], min(m, 32)
    Q, H = np.empty((room + 1, n)), np.zeros((room + 1, room))
    T = H.copy()  # H, made triangular by rotations
    g = np.zeros(m + 1)
    rotations: list[tuple[float, float]] = []
    residuals: list[float] = []
    g[0] = np.linalg.norm(R)
    Q[0] = R[0] / g[0]
    used = 0
    for k in range(m):
        if k == room:
            room = min(m, 2 * room)
            Q, H, T = _larger(Q, room + 1, n), _larger(H, room + 1, room), _larger(T, room + 1, room)
        w = (Q[k : k + 1] @ A)[0]
        scale = np.linalg.norm(w)
        w, H[: k + 1, k] = orthogonal(Q[: k + 1], w)
        H[k + 1, k] = np.linalg.norm(w)
        t = H[: k + 2, k].copy()
        for j, (cos, sin) in enumerate(rotations):
            t[j], t[j + 1] = cos * t[j] + sin * t[j + 1], cos * t[j + 1] - sin * t[j]
        length = math.hypot(t[k], t[k + 1])
        if length <= 1e-300 or not math.isfinite(length):
            break  # a singular A: what was found so far stands
        cos, sin = t[k] / length, t[k + 1] / length
        rotations.append((cos, sin))
        t[k], t[k + 1] = length, 0.0
        T[: k + 2, k] = t
        g[k], g[k + 1] = cos * g[k], -sin * g[k]
        residuals.append(abs(float(g[k + 1])))
        used = k + 1
        if residuals[-1] <= target or H[k + 1, k] <= 1e-14 * scale:
            break
        Q[k + 1] = w / H[k + 1, k]
    if used == 0:
        return np.zeros_like(R), [float(g[0])], (0.0, 0.0)
    y = np.zeros(used)
    for k in range(used - 1, -1, -1):
        y[k] = (g[k] - T[k, k + 1 : used] @ y[k + 1 :]) / T[k, k]
    σ = np.linalg.svd(H[: used + 1, :used], compute_uv=False)
    return (y @ Q[:used])[None], residuals, (float(σ[0]), float(σ[-1]))


def _larger(B: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """B in the corner of a larger matrix of zeros."""
    out = np.zeros((rows, columns))
    out[: B.shape[0], : B.shape[1]] = B
    return out


# --- LU ---


def _dense_lu(A: np.ndarray) -> tuple[Any, float, float]:
    from scipy.linalg.lapack import dgetrs

    lu, pivots, number, inverse_norm = factorise(A)
    if number * EPS >= 1.0:
        raise SingularJacobianError(number, "A", SINGULAR_HINT)
    return (lambda a: dgetrs(lu, pivots, a.T, trans=1)[0].T), number, inverse_norm  # V A = a is Aᵀ Vᵀ = aᵀ


def _sparse_lu(A: Any) -> tuple[Any, float, float]:
    """The same by SuperLU; ‖A⁻¹‖₂ ≤ √(‖A⁻¹‖₁‖A⁻¹‖∞), both estimated (Higham & Tisseur 2000)."""
    from scipy.sparse.linalg import LinearOperator, onenormest, splu

    try:
        lu = splu(A.tocsc())
    except RuntimeError:
        raise SingularJacobianError(math.inf, "A", SINGULAR_HINT) from None
    n = A.shape[0]
    forward = LinearOperator((n, n), matvec=lu.solve, rmatvec=lambda v: lu.solve(v, "T"), dtype=float)
    inverse_norm = math.sqrt(onenormest(forward) * onenormest(forward.T))
    number = inverse_norm * math.sqrt(float(abs(A).sum(axis=0).max()) * float(abs(A).sum(axis=1).max()))
    if not number * EPS < 1.0:
        raise SingularJacobianError(number, "A", SINGULAR_HINT)
    return (lambda a: lu.solve(np.ascontiguousarray(a.T), "T").T), number, inverse_norm


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
