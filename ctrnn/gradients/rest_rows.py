r"""Rows at rest without the matrix: V* = a J⁻¹ from products V ↦ V J alone, O(n²) each, and the row V F_w.

    dV/dt = V J − a        V ← V + h (V J − a)        needs all Re λ(J) < 0

The step is a network's time constants where they make the residual fall, h = τ: then the leak's part of V J is done in one step. Otherwise a few
products from a give an orthonormal Krylov basis Q (Arnoldi), Q J Qᵀ = H, and the eigenvalues θ of the small H (Ritz values), which find the outer
eigenvalues of J first; h minimises max |1 + hθ|. The residual is the step itself, so an iteration is one product. Where it grows all the same,
ARPACK (implicitly restarted Arnoldi) gives the rightmost eigenvalue, from products again: it says whether the point is unstable, singular or only
stiff. All other methods, and the flow where J is at hand, are in ctrnn.inverse; this is the short way for large n, with some 4 times fewer products
than the certificate there takes.

Sources: Almeida (1987), Pineda (1987); Saad, *Numerical Methods for Large Eigenvalue Problems* (2011), chapters 6 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import ConvergenceError, NotHurwitzError, SingularJacobianError
from ctrnn.fields.base import Array, Field
from ctrnn.inverse import best_step

__all__ = ["Krylov", "Rows", "estimate", "parameter_row", "solve_rows"]

Product = Callable[[Array], Array]
EPS = float(np.finfo(np.float64).eps)
#: products that the estimate of the spectrum takes
RITZ = 12
MOST = 20_000
LU_HINT = 'inverse="lu", which needs no stability; no trajectory settles at this point, though, unless it starts there'


@dataclass(frozen=True)
class Rows:
    """V ≈ a J⁻¹ by products, with its evidence.

    ``value`` as a, (n,) or (q, n); ``residual`` (K,): ‖VJ − a‖₂/‖a‖₂ of the worst row, before and after each iteration; ``products``: rows
    multiplied by J; ``step``: h, or the largest of them; ``norm``: what ‖J‖₂ is at least; ``condition``: what that of J is at least, from
    ‖V‖‖J‖/‖a‖.
    """

    value: Array
    residual: Array
    products: int
    step: float
    norm: float
    condition: float

    @property
    def iterations(self) -> int:
        return self.residual.size - 1

    @property
    def contraction(self) -> float:
        """By what the residual shrank in an iteration, over the later half of them: max |1 + hλ| in the long run."""
        k = self.iterations // 2
        if self.iterations < 2 or self.residual[-1] == 0.0:
            return 0.0
        return float((self.residual[-1] / self.residual[k]) ** (1.0 / (self.iterations - k)))

    def __str__(self) -> str:
        return (
            f"flow, matrix-free: converged after {self.iterations} iterations ({self.products} products), residual {self.residual[-1]:.3g}; "
            f"step {self.step:.4g}, contraction {self.contraction:.4g}, condition at least {self.condition:.3g}"
        )


class Krylov:
    """An orthonormal basis Q (k, n) of a, aP, aP², … and H = Q P Qᵀ, grown a product at a time (Arnoldi, orthogonalised twice).

    >>> A = np.diag([-1.0, -2.0, -3.0])
    >>> space = Krylov(lambda V: V @ A, np.ones(3))
    >>> while space.grow() and len(space.H) < 3:
    ...     pass
    >>> np.sort(space.ritz().real).round(12)
    array([-3., -2., -1.])
    """

    def __init__(self, product: Product, a: Array) -> None:
        self.product = product
        self.size = float(np.linalg.norm(a))
        self.Q = np.empty((min(RITZ, a.size) + 1, a.size))
        self.Q[0] = a / self.size
        self.H = np.zeros((0, 0))
        self.next = 1.0  # ‖what the last product adds to the basis‖

    def grow(self) -> bool:
        """One more product; False where the space is closed: J maps it into itself."""
        k = len(self.H)
        if self.next <= 0.0 or k >= len(self.Q) - 1:
            return False
        w = self.product(self.Q[k])
        size = float(np.linalg.norm(w))
        Q = self.Q[: k + 1]
        h = Q @ w
        w = w - h @ Q
        again = Q @ w
        w = w - again @ Q
        H = np.zeros((k + 1, k + 1))
        H[:k, :k] = self.H
        if k:
            H[k - 1, k] = self.next  # row k−1 of Q, times J, reaches into the new direction
        H[k, :] = h + again
        self.H, self.next = H, float(np.linalg.norm(w))
        if self.next <= k * 4 * EPS * size:
            self.next = 0.0
            return False
        self.Q[k + 1] = w / self.next
        return True

    def ritz(self) -> Array:
        return np.linalg.eigvals(self.H)

    def norm(self) -> float:
        """A lower bound of ‖J‖₂, the exact one in the space."""
        return float(np.linalg.norm(np.column_stack([self.H, self._last()]), 2))

    def _last(self) -> Array:
        last = np.zeros(len(self.H))
        last[-1] = self.next
        return last


def solve_rows(product: Product, a: Array, tol: float = 1e-12, tau: Any = None) -> Rows:
    """V with V J = a, for a row a (n,) or rows (q, n), from ``product``: V (q, n) ↦ V J (q, n), or (n,) ↦ (n,).

    tol: ‖VJ − a‖₂/‖a‖₂ of the worst row. tau: time constants (n,) or one, the step that is tried first.

    Raises NotHurwitzError (unstable J), SingularJacobianError, ConvergenceError.

    >>> A = np.array([[-2.0, 1.0], [0.0, -1.0]])
    >>> solve_rows(lambda V: V @ A, np.array([1.0, 0.0])).value.round(12)
    array([-0.5, -0.5])
    """
    rows = np.atleast_2d(a)
    if not rows.any():
        return Rows(np.zeros(a.shape), np.zeros(1), 0, 0.0, 0.0, 1.0)
    flow = _Flow(product, rows, tol)
    if tau is None or not flow.run(np.asarray(tau, dtype=float), trial=True):
        space = estimate(product, rows)
        flow.products += len(space.H)
        flow.norm = max(flow.norm, space.norm())
        h = step_of(space.ritz())
        if not flow.run(h):
            spectrum = outer_spectrum(product, rows.shape[1])
            refuse_unstable(spectrum)
            h = min(h / 2, step_of(np.concatenate([spectrum, space.ritz()])))
            if not flow.run(h):
                raise ConvergenceError(
                    f"the flow's residual is {flow.history[-1]:.3g} after {len(flow.history) - 1} steps of {h:.3g}, asked {tol:.3g}: the "
                    'Jacobian is stiff or far from normal. Try: inverse="gmres", or "lu"'
                )
    condition = float((np.linalg.norm(flow.V, axis=1) * flow.norm / flow.sizes).max())
    if condition * EPS >= 1e-2:
        raise _singular(condition)
    return Rows(flow.V.reshape(a.shape), np.array(flow.history), flow.products, flow.step, flow.norm, condition)


class _Flow:
    """Euler steps of dV/dt = V J − a from V = 0, and what they tell of J."""

    def __init__(self, product: Product, a: Array, tol: float) -> None:
        self.product, self.a, self.tol = product, a, tol
        sizes = np.linalg.norm(a, axis=1)
        self.sizes = np.where(sizes > 0, sizes, 1.0)
        self.V, self.history, self.products, self.norm, self.step = np.zeros_like(a), [1.0], 0, 0.0, 0.0

    def run(self, h: Any, trial: bool = False) -> bool:
        """Whether the residual comes down to tol, or to rounding. A trial gives up as soon as it hardly falls."""
        a, V, R = self.a, np.zeros_like(self.a), -self.a
        self.history, self.step, best = [1.0], float(np.max(h)), 1.0
        while True:
            k, last = len(self.history), self.history[-1]
            stays = k > 1 and last > 0.9 * self.history[-2] and last <= self._rounding(V, R)
            if last <= self.tol or stays:
                self.V = V
                self._rounding(V, R)
                return True
            if k > MOST or not last <= 1e3 * best:
                return False
            if (trial and k > 4 and last > 0.8 * self.history[-4]) or (k > 200 and last > 0.9 * self.history[-200]):
                return False
            V = V + h * R
            R = self.product(V) - a
            self.products += len(a)
            self.history.append(float((np.linalg.norm(R, axis=1) / self.sizes).max()))
            best = min(best, self.history[-1])

    def _rounding(self, V: Array, R: Array) -> float:
        """The relative residual that rounding V and VJ leaves; ‖J‖ from below by ‖VJ‖/‖V‖."""
        size = np.linalg.norm(V, axis=1)
        self.norm = max(self.norm, float((np.linalg.norm(R + self.a, axis=1) / np.maximum(size, 1e-300)).max()))
        return float((EPS * (4.0 * size * self.norm / self.sizes + 1.0)).max())


def estimate(product: Product, rows: Array, most: int = RITZ) -> Krylov:
    """The Krylov space of so many products from the first row that is not zero."""
    row = rows[int(np.flatnonzero(rows.any(axis=1))[0])]
    space = Krylov(product, row)
    while len(space.H) < most and space.grow():
        pass
    return space


def step_of(eigenvalues: Array) -> float:
    """h that minimises max |1 + hλ|.

    Ritz values of a Hurwitz J that is far from normal may lie on the right; they cannot tell the step.
    """
    λ = eigenvalues[eigenvalues.real < 0]
    return best_step(λ) if λ.size else 1.0 / max(float(np.abs(eigenvalues).max()), 1e-300)


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
        raise _singular(size / nearest if nearest else math.inf)
    if right >= -1e-13 * size:
        raise NotHurwitzError(right, "the Jacobian at this equilibrium", LU_HINT)


def _singular(condition: float) -> SingularJacobianError:
    return SingularJacobianError(
        condition,
        "the Jacobian at this equilibrium",
        "other parameters: at a bifurcation, or on a line of equilibria, dr*/dw does not exist",
    )


def parameter_row(field: Field, t: float, r: Array, V: Array, x: Any = None) -> Array:
    """V F_w for one row V (n,), (m,), in no more memory than the answer: for a rate network it is an outer product."""
    from ctrnn.fields.network import RateNetwork

    if type(field) is not RateNetwork:
        return field.parameter_vjp(t, r, V, x)
    n, nx, made = field.n, field.input_size, field.cell.module
    p = field.parameters
    u_in = np.zeros(nx) if x is None else np.atleast_1d(np.asarray(x, dtype=float))
    r, tau = np.ascontiguousarray(r, dtype=float), np.ascontiguousarray(np.broadcast_to(field.tau, (n,)))
    s, u, c = np.empty(n), np.empty(n), np.empty(n)
    made.source.ctypes(n, r.ctypes.data, s.ctypes.data, 0, 0)
    if made.DRIVE_NEEDS_U or field.train_tau:
        u[:] = p["W"] @ s + p["U"] @ u_in + p["b"]
    made.drive.ctypes(n, r.ctypes.data, u.ctypes.data, tau.ctypes.data, c.ctypes.data)
    out = np.empty(field.m)
    named = field.unflatten(out)
    K = V * c
    np.outer(K, s, out=named["W"])
    if field.mask is not None:
        named["W"] *= field.mask
    np.outer(K, u_in, out=named["U"])
    named["b"][:] = K
    if field.train_tau:
        made.by_theta.ctypes(n, r.ctypes.data, u.ctypes.data, tau.ctypes.data, c.ctypes.data)
        named["tau"][...] = (V * c).sum() if p["tau"].ndim == 0 else V * c
    return out
