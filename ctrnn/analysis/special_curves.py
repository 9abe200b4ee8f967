r"""Curves of folds and of Hopf points in two parameters.

They are zero sets that stay regular through the special points on them:

    folds   y = (r, μ):     F = 0,  g = 0 with [J b; cᵀ 0] (v, g) = (0, 1)                g_y = −w·(∂J/∂y) v
    Hopf    y = (r, μ, κ):  F = 0,  two combinations of G = 0, G (2, 2), with             κ = ω²
            [J² + κ  B] [V]   [0]
            [Cᵀ      0] [G] = [I]        ∂G_ij/∂y = −w_i·(∂J/∂y) J v_j − (w_i J)·(∂J/∂y) v_j,  ∂G_ij/∂κ = −w_i·v_j

with μ = (μ_1, μ_2). J² + κ has a null space of two dimensions at a Hopf point, and G vanishes whole; of its four
entries two combinations are independent, those in which G changes most across the curve. κ passes zero regularly at a
Bogdanov–Takens point, where ω would not. The borders are the null vectors of the last point.

Source: Govaerts, *Numerical Methods for Bifurcations of Dynamical Equilibria* (2000), chapters 4 and 5; Werner, SIAM
J. Numer. Anal. 33 (1996).
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ctrnn.analysis.arclength import Point, state_weights
from ctrnn.analysis.equilibria import spectrum
from ctrnn.analysis.equilibrium_curve import nearest_pair, pair_sign
from ctrnn.analysis.family import Family
from ctrnn.analysis.special_points import border, bordered_null, first_lyapunov
from ctrnn.fields.base import Array

ZERO = np.zeros(2)


class FoldCurve:
    """Folds in the plane of two parameters: y = (r, μ_1, μ_2)."""

    kind = "fold"

    def __init__(self, family: Family, r: Array, mu: Array, spans: Array) -> None:
        self.family, self.n = family, r.size
        self.b, self.c = (part[:, 0] for part in border(family.J(r, mu)))
        self.unit, self.spans = max(1.0, float(np.abs(r).max(initial=0.0))), spans[:, 1] - spans[:, 0]
        self.weigh(np.append(r, mu))

    def weigh(self, y: Array) -> None:
        """The weights at y."""
        self.weights = np.append(state_weights(y[: self.n], self.unit), 1.0 / self.spans**2)

    def _parts(self, y: Array) -> tuple[Array, Array, Array, Array, Array, float]:
        r, mu = y[: self.n], y[self.n :]
        J = self.family.J(r, mu)
        v, w, g = bordered_null(J, self.b, self.c)
        return r, mu, J, v, w, float(np.real(g))

    def residual(self, y: Array) -> Array:
        """F and g."""
        r, mu, _, _, _, g = self._parts(y)
        return np.append(self.family.F(r, mu), g)

    def derivative(self, y: Array) -> Array:
        """Their derivatives by (r, μ)."""
        r, mu, J, v, w, _ = self._parts(y)
        g_y = -self.family.rows(r, mu, v, ZERO, w)[0]
        return np.vstack([np.hstack([J, self.family.F_mu(r, mu)]), g_y])

    def renewed(self, y: Array) -> None:
        """The null vectors at y become the borders."""
        _, _, _, v, w, _ = self._parts(y)
        self.b, self.c = w / np.linalg.norm(w), v / np.linalg.norm(v)

    def tests(self, point: Point) -> None:
        """What changes its sign.

        "cusp" ½⟨p, B(q, q)⟩, "bogdanov-takens" ⟨p, q⟩, "zero-hopf" the sums of pairs of the other eigenvalues.
        """
        facts = point.facts
        if "eigenvalues" in facts:
            return
        r, mu, J, v, w, _ = self._parts(point.y)
        v, w = v / np.linalg.norm(v), w / np.linalg.norm(w)
        λ = spectrum(J)
        others = np.delete(λ, np.abs(λ).argmin())
        facts["eigenvalues"], facts["omega"] = λ, 0.0
        facts["cusp"] = float(self.family.rows(r, mu, v, ZERO, w)[0, : self.n] @ v)
        facts["bogdanov-takens"] = float(w @ v)
        facts["zero-hopf"] = nearest_pair(others).real
        facts["zero-hopf sign"] = pair_sign(others)


class HopfCurve:
    """Hopf points in the plane of two parameters: y = (r, μ_1, μ_2, κ)."""

    kind = "hopf"

    def __init__(self, family: Family, r: Array, mu: Array, omega: float, spans: Array) -> None:
        self.family, self.n = family, r.size
        J = family.J(r, mu)
        self.B, self.C = border(J @ J + omega**2 * np.eye(r.size), 2)
        self.unit, self.spans = max(1.0, float(np.abs(r).max(initial=0.0))), spans[:, 1] - spans[:, 0]
        self.least = max(1.0, omega**2)
        y = np.concatenate([r, mu, [omega**2]])
        self.weigh(y)
        self.S = np.eye(2, 4)
        self.renewed(y)

    def weigh(self, y: Array) -> None:
        """The weights at y."""
        of_κ = 1.0 / max(self.least, abs(float(y[-1]))) ** 2
        self.weights = np.concatenate([state_weights(y[: self.n], self.unit), 1.0 / self.spans**2, [of_κ]])

    def _parts(self, y: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
        n = self.n
        r, mu, κ = y[:n], y[n : n + 2], y[n + 2]
        J = self.family.J(r, mu)
        M = np.zeros((n + 2, n + 2))
        M[:n, :n], M[:n, n:], M[n:, :n] = J @ J + κ * np.eye(n), self.B, self.C.T
        last = np.eye(n + 2)[:, n:]
        right, left = np.linalg.solve(M, last), np.linalg.solve(M.T, last)
        return r, mu, J, right[:n], left[:n], right[n:]

    def residual(self, y: Array) -> Array:
        """F and the two combinations of G."""
        r, mu, _, _, _, G = self._parts(y)
        return np.append(self.family.F(r, mu), self.S @ G.ravel())

    def derivative(self, y: Array) -> Array:
        """Their derivatives by (r, μ, κ)."""
        r, mu, J, V, W, _ = self._parts(y)
        n = self.n
        F_y = np.hstack([J, self.family.F_mu(r, mu), np.zeros((n, 1))])
        return np.vstack([F_y, self.S @ self._all_of_G(r, mu, J, V, W)])

    def _all_of_G(self, r: Array, mu: Array, J: Array, V: Array, W: Array) -> Array:
        """The derivatives of the four entries of G, row by row, (4, n + 3)."""
        rows = np.zeros((2, 2, self.n + 3))
        for j in range(2):
            v = V[:, j].copy()
            rows[:, j, :-1] = -self.family.rows(r, mu, J @ v, ZERO, W.T) - self.family.rows(r, mu, v, ZERO, W.T @ J)
            rows[:, j, -1] = -W.T @ v
        return rows.reshape(4, -1)

    def renewed(self, y: Array) -> None:
        """The null vectors at y become the borders.

        The combinations those in which G changes most across the curve.
        """
        r, mu, J, V, W, _ = self._parts(y)
        self.B, self.C = np.linalg.qr(W)[0], np.linalg.qr(V)[0]
        r, mu, J, V, W, _ = self._parts(y)
        F_y = np.hstack([J, self.family.F_mu(r, mu), np.zeros((self.n, 1))])
        across = np.linalg.svd(F_y)[2][self.n :].T
        self.S = np.linalg.svd(self._all_of_G(r, mu, J, V, W) @ across)[0][:, :2].T

    def tests(self, point: Point) -> None:
        """What changes its sign.

        "bautin" l1, "zero-hopf" a real eigenvalue, "double-hopf" the real part of another pair.
        """
        facts = point.facts
        if "eigenvalues" in facts:
            return
        r, mu, κ = point.y[: self.n], point.y[self.n : self.n + 2], float(point.y[-1])
        J = self.family.J(r, mu)
        λ = spectrum(J)
        omega = np.sqrt(max(κ, 0.0))
        pair = np.argsort(np.abs(λ - 1j * omega))[0], np.argsort(np.abs(λ + 1j * omega))[0]
        others = np.delete(λ, pair)
        facts["eigenvalues"], facts["omega"] = λ, omega
        real = others[others.imag == 0.0].real
        facts["bautin"] = np.nan
        if omega > 0:
            with suppress(np.linalg.LinAlgError):  # at a zero-Hopf point J is singular
                facts["bautin"] = first_lyapunov(self.family, r, mu, omega)
        facts["zero-hopf"] = float(real[np.abs(real).argmin()]) if real.size else np.nan
        facts["zero-hopf sign"] = -1.0 if (real < 0).sum() % 2 else 1.0
        facts["double-hopf"] = nearest_pair(others).real
        facts["double-hopf sign"] = pair_sign(others)
