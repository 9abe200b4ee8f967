r"""Periodic solutions by collocation at Gauss points.

r(t + T) = r(t), for t = T s, on a mesh 0 = s_0 < … < s_N = 1, h_i = s_{i+1} − s_i:

    stages       Y_ij = R_i + T h_i Σ_l a_jl F(Y_il, μ)          i = 0 … N − 1, j = 1 … m
    continuity   R_{i+1} = R_i + T h_i Σ_j b_j F(Y_ij, μ)        R_N = R_0
    phase        Σ_ij h_i b_j ⟨Y_ij − Y⁰_ij, dY⁰_ij/ds⟩ = 0      with Y⁰ a cycle nearby: of all shifts the nearest

A Gauss method of m stages, of order 2m at the mesh points. Newton's method with the exact J: the stages are eliminated
in each interval,

    δR_{i+1} = G_i δR_i + g_i δT + q_i δμ + ρ_i,         Π G_i = the monodromy matrix,

and the cyclic system that is left is solved whole, bordered by the phase condition and as many rows as there are
parameters μ to be found. The mesh equidistributes the (m + 1)th derivative.

Sources: de Boor and Swartz, SIAM J. Numer. Anal. 10 (1973); Ascher, Mattheij and Russell, *Numerical Solution of
Boundary Value Problems* (1995); Doedel, Keller and Kernévez, Int. J. Bifurcation and Chaos 1 (1991).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ctrnn.analysis.family import Family
from ctrnn.fields.base import Array
from ctrnn.memory import claim

#: stages
M = 5
#: Newton's steps
NEWTON = 25
#: Newton ends where a step is this small, relative to the cycle's size and its period
CLOSE = 1e-11
#: or where it is this small and shrinks no more: two multipliers near 1 make the equations ill-conditioned
STUCK = 1e-7
#: larger cyclic systems are kept sparse
DENSE = 700
#: doubles in the stages' matrices that are solved at a time
BATCH = 8_000_000


@lru_cache(maxsize=1)
def gauss() -> tuple[Array, Array, Array, Array, Array]:
    """Nodes c (m,), weights b (m,) and matrix a (m, m) of the Gauss points, and their Lagrange polynomials.

    Of these the antiderivatives, and their top coefficients:
    ∫_0^θ ℓ_j = Σ_k A[j, k] θ^(k+1): A (m, m). d^(m−1)ℓ_j/dθ^(m−1) = D[j].
    """
    c = 0.5 * (1.0 + np.polynomial.legendre.leggauss(M)[0])
    coefficients = np.linalg.inv(np.vander(c, increasing=True))  # (k, j): ℓ_j = Σ_k coefficients[k, j] θ^k
    A = (coefficients / np.arange(1.0, M + 1.0)[:, None]).T
    a = np.vander(c, M + 1, increasing=True)[:, 1:] @ A.T
    return c, A.sum(axis=1), a, A, coefficients[-1] * float(np.prod(np.arange(1.0, M)))


@dataclass(frozen=True)
class Orbit:
    """A cycle on a mesh.

    S (N + 1,), R (N, n), Y (N, m, n), its period, and the parameters μ (k,) that are found with it.
    """

    s: Array
    R: Array
    Y: Array
    T: float
    mu: Array

    @property
    def h(self) -> Array:
        """The lengths (N,) of the intervals."""
        return np.diff(self.s)

    @property
    def size(self) -> Array:
        """The extent of each state over the cycle, (n,)."""
        return np.asarray(np.ptp(np.concatenate([self.R, self.Y.reshape(-1, self.R.shape[1])]), axis=0))

    @property
    def unit(self) -> Array:
        """What a change of each state is measured by, (n,).

        Its extent, or, of one that hardly moves, a part of the largest.
        """
        return np.maximum(self.size, self._least)

    @property
    def scale(self) -> Array:
        """What a step to another cycle is measured by, (n,).

        Its extent, or, of a state that hardly moves on this cycle and may on the other, a tenth of the largest.
        """
        size = self.size
        return np.where(size > self._least, size, 100.0 * self._least)

    @property
    def _least(self) -> float:
        return max(1e-3 * float(self.size.max()), 1e-12)


@dataclass(frozen=True)
class Row:
    """One linear condition Σ wY·δY + wT δT + wμ·δμ = value."""

    wY: Array
    wT: float
    wmu: Array
    value: float


class Linear:
    """The equations linearised at an orbit, the stages eliminated."""

    def __init__(self, family: Family, orbit: Orbit) -> None:
        self.orbit, self.family = orbit, family
        c, b, a, _, _ = gauss()
        N, m, n = orbit.Y.shape
        k, h, T = orbit.mu.size, orbit.h, orbit.T
        claim(
            "field", 8.0 * (2.0 * N * m * n * n + 2.0 * (m * n) ** 2), "fewer states: of each time of a cycle J is kept"
        )
        flat, mu = orbit.Y.reshape(-1, n), orbit.mu
        self.F = F = family.F(flat, mu).reshape(N, m, n)
        J = family.J(flat, mu).reshape(N, m, n, n)
        F_mu = family.F_mu(flat, mu).reshape(N, m, n, k) if k else np.zeros((N, m, n, 0))
        width = n + 2 + k  # right-hand sides: δR_i, δT, δμ, and the residual
        aF, bF = np.einsum("jl,iln->ijn", a, F), np.einsum("j,ijn->in", b, F)
        self.stage_residual = orbit.Y - orbit.R[:, None] - T * h[:, None, None] * aF
        ahead = np.roll(orbit.R, -1, axis=0)
        self.continuity = ahead - orbit.R - T * h[:, None] * bF
        self.X = np.empty((N, m * n, width))
        steps = max(1, BATCH // (m * n * m * n))
        for i in range(0, N, steps):
            part = slice(i, min(i + steps, N))
            hs = T * h[part]
            A = np.eye(m * n) - np.einsum("i,jl,ilpq->ijplq", hs, a, J[part]).reshape(-1, m * n, m * n)
            right = np.empty((len(hs), m, n, width))
            right[..., :n] = np.eye(n)
            right[..., n] = h[part, None, None] * aF[part]
            right[..., n + 1 : n + 1 + k] = np.einsum("i,jl,ilnk->ijnk", hs, a, F_mu[part])
            right[..., -1] = -self.stage_residual[part]
            self.X[part] = np.linalg.solve(A, right.reshape(len(hs), m * n, width))
        # R_{i+1} from R_i, T, μ and the residuals
        bJ = np.einsum("i,j,ijpq->ipjq", T * h, b, J).reshape(N, n, m * n)
        through = bJ @ self.X
        through[:, :, :n] += np.eye(n)
        through[:, :, n] += h[:, None] * bF
        if k:
            through[:, :, n + 1 : n + 1 + k] += np.einsum("i,j,ijnk->ink", T * h, b, F_mu)
        through[:, :, -1] -= self.continuity
        self.through = through
        self.bJ = bJ

    @property
    def G(self) -> Array:
        """The transition matrices of the intervals, (N, n, n)."""
        return self.through[:, :, : self.orbit.R.shape[1]]

    def residual(self) -> float:
        """The largest of all equations' residuals, over the size of the cycle."""
        size = self.orbit.unit
        both = [np.abs(self.stage_residual) / size, np.abs(self.continuity) / size]
        return float(max(part.max() for part in both))

    def matrix(self, rows: Sequence[Row]) -> object:
        """The cyclic system with its rows, factored: C δR − g δT − q δμ = ρ, and the rows in terms of (δR, δT, δμ)."""
        N, m, n = self.orbit.Y.shape
        k = self.orbit.mu.size
        border = np.empty((len(rows), N * n + 1 + k))
        self.fixed = np.empty(len(rows))
        for i, row in enumerate(rows):
            turned = np.einsum("ip,ipw->iw", row.wY.reshape(N, m * n), self.X)
            border[i, : N * n] = turned[:, :n].ravel()
            border[i, N * n] = turned[:, n].sum() + row.wT
            border[i, N * n + 1 :] = turned[:, n + 1 : n + 1 + k].sum(axis=0) + row.wmu
            self.fixed[i] = turned[:, -1].sum()
        columns = -self.through[:, :, n : n + 1 + k].reshape(N * n, 1 + k)
        if N * n <= DENSE:
            C = np.zeros((N, n, N, n))
            at = np.arange(N)
            C[at, :, (at + 1) % N, :] += np.eye(n)
            C[at, :, at, :] -= self.G
            whole = np.vstack([np.hstack([C.reshape(N * n, N * n), columns]), border])
            return _Dense(whole)
        from scipy.sparse import bmat, bsr_array, csc_array

        at = np.arange(N)
        blocks = np.concatenate([np.broadcast_to(np.eye(n), (N, n, n)), -self.G])
        place = np.concatenate([(at + 1) % N, at])
        order = np.lexsort((place, np.tile(at, 2)))
        C = bsr_array((blocks[order], place[order], 2 * np.arange(N + 1)), shape=(N * n, N * n))
        return _Sparse(csc_array(bmat([[C, columns], [border[:, : N * n], border[:, N * n :]]])))

    def solve(self, factors: object, values: Array) -> tuple[Array, Array, float, Array]:
        """δR, δY, δT, δμ of Newton's step, the rows' values being ``values``."""
        N, m, n = self.orbit.Y.shape
        right = np.concatenate([self.through[:, :, -1].ravel(), values - self.fixed])
        return self.spread(factors.solve(right), True)  # type: ignore[attr-defined]

    def spread(self, z: Array, affine: bool) -> tuple[Array, Array, float, Array]:
        """(δR, δY, δT, δμ) from the reduced unknowns; ``affine``: with the stages' residuals."""
        N, m, n = self.orbit.Y.shape
        dR, dT, dmu = z[: N * n].reshape(N, n), float(z[N * n]), z[N * n + 1 :]
        tail = np.concatenate([[dT], dmu, [1.0 if affine else 0.0]])
        dY = np.einsum("ipn,in->ip", self.X[:, :, :n], dR) + self.X[:, :, n:] @ tail
        return dR, dY.reshape(N, m, n), dT, dmu


class _Dense:
    def __init__(self, A: Array) -> None:
        from scipy.linalg.lapack import dgetrf

        if not np.isfinite(A).all():
            raise np.linalg.LinAlgError("not finite")
        self.LU, self.pivots, zero = dgetrf(A)
        if zero > 0:  # singular: rounding takes the pivot's place, as inverse iteration wants it
            self.LU[zero - 1, zero - 1] = np.finfo(float).eps * np.abs(A).max()

    def solve(self, b: Array, transposed: bool = False) -> Array:
        from scipy.linalg.lapack import dgetrs

        return np.asarray(dgetrs(self.LU, self.pivots, b, trans=int(transposed))[0])


class _Sparse:
    def __init__(self, A: object) -> None:
        from scipy.sparse.linalg import splu

        try:
            self.factors = splu(A)
        except RuntimeError as error:  # "Factor is exactly singular"
            raise np.linalg.LinAlgError(str(error)) from error

    def solve(self, b: Array, transposed: bool = False) -> Array:
        return np.asarray(self.factors.solve(b, "T" if transposed else "N"))


def phase_row(orbit: Orbit, reference: Orbit, family: Family) -> Row:
    """The phase condition for Newton's step from ``orbit``: Σ h b ⟨Y + δY − Y⁰, dY⁰/ds⟩ = 0."""
    c, b, _, _, _ = gauss()
    rate = family.F(reference.Y.reshape(-1, reference.R.shape[1]), reference.mu).reshape(reference.Y.shape)
    size = reference.unit
    w = reference.T * rate * (reference.h[:, None] * b)[:, :, None] / size**2
    return Row(w, 0.0, np.zeros(orbit.mu.size), -float(((orbit.Y - reference.Y) * w).sum()))


def newton(
    family: Family, orbit: Orbit, reference: Orbit, more: object = None, most: int = NEWTON
) -> tuple[Orbit, Linear] | None:
    """Newton from an orbit, the phase held to ``reference``; ``more(orbit)`` gives the rows for μ.

    None where it does not converge.
    """
    best, last = None, np.inf
    for _ in range(most):
        linear = Linear(family, orbit) if best is None else best
        best = None
        rows = [phase_row(orbit, reference, family), *(more(orbit) if more else [])]  # type: ignore[operator]
        try:
            factors = linear.matrix(rows)
            dR, dY, dT, dmu = linear.solve(factors, np.array([row.value for row in rows]))
        except np.linalg.LinAlgError:
            return None
        if not all(np.isfinite(part).all() for part in (dR, dY, dT, dmu)):
            return None
        size = orbit.unit
        change = max(
            float((np.abs(dY) / size).max()),
            abs(dT) / orbit.T,
            float((np.abs(dmu) / np.maximum(1e-3, np.abs(orbit.mu))).max(initial=0.0)),
        )
        before, α = linear.residual() + _off(rows), 1.0
        while True:
            ahead = Orbit(orbit.s, orbit.R + α * dR, orbit.Y + α * dY, orbit.T + α * dT, orbit.mu + α * dmu)
            if change <= 1e-6:
                break  # as near as this Newton's full step is right
            if ahead.T > 0:
                try:
                    best = Linear(family, ahead)
                except np.linalg.LinAlgError:
                    best = None
                if best is not None and best.residual() <= (1.0 - 0.1 * α) * before + 1e-13:
                    break
            α *= 0.5
            if α < 1e-3:
                return None
        orbit = ahead
        if change <= CLOSE or (change <= STUCK and change >= 0.5 * last):
            return orbit, Linear(family, orbit)
        last = change
        if change <= 1e-6:
            best = None
    return None


def _off(rows: Sequence[Row]) -> float:
    return max(abs(row.value) for row in rows)


def evaluate(orbit: Orbit, F: Array, s: Array) -> Array:
    """r at s (K,), in turns of the cycle, by the collocation polynomials; F (N, m, n) at the stages."""
    A = gauss()[3]
    s = np.mod(s, 1.0)
    i = np.clip(np.searchsorted(orbit.s, s, side="right") - 1, 0, len(orbit.R) - 1)
    h = orbit.h[i]
    θ = (s - orbit.s[i]) / h
    powers = θ[:, None] ** np.arange(1, M + 1)
    return orbit.R[i] + (orbit.T * h)[:, None] * np.einsum("kp,jp,kjn->kn", powers, A, F[i])


def on_mesh(orbit: Orbit, F: Array, s: Array) -> Orbit:
    """The same cycle on another mesh s (N + 1,), by the polynomials."""
    c = gauss()[0]
    h = np.diff(s)
    stages = (s[:-1, None] + h[:, None] * c).ravel()
    Y = evaluate(orbit, F, stages).reshape(h.size, M, -1)
    return replace(orbit, s=s, R=evaluate(orbit, F, s[:-1]), Y=Y)


def better_mesh(orbit: Orbit, F: Array, N: int) -> Array:
    """N intervals over which h^(m+1) |d^(m+1) r/ds^(m+1)| is about the same, and none is very long."""
    top, h = gauss()[4], orbit.h
    size = orbit.unit
    # the m-th derivative in each interval, and the next one from its jumps
    highest = orbit.T * np.einsum("j,ijn->in", top, F) / size / (h ** (M - 1))[:, None]
    jump = np.abs(highest - np.roll(highest, 1, axis=0)).max(axis=1) / (0.5 * (h + np.roll(h, 1)))
    density = (0.5 * (jump + np.roll(jump, -1))) ** (1.0 / (M + 1))
    mean = float((density * h).sum())
    density = density + (0.2 * mean if mean > 0 else 1.0)
    total = np.concatenate([[0.0], np.cumsum(density * h)])
    s = np.interp(np.linspace(0.0, total[-1], N + 1), total, orbit.s)
    s[0], s[-1] = 0.0, 1.0
    return s
