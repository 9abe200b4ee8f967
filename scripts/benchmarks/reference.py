"""Reference solutions and sensitivities to 13 digits and more: Radau IIA collocation of order 13 in extended precision.

    Y_i = y + h Σ_j a_ij f(Y_j)        Z_i = P + h Σ_j a_ij (J_j Z_j + F_p,j)        y⁺ = Y_s,  P⁺ = Z_s

on the steps that SciPy's Radau, of order 5, takes at rtol 1e-6: what is enough for order 5 there leaves order 13
nothing to see. The linear systems are factored in double and refined with residuals in extended precision (Hairer &
Wanner II, IV.5). Nothing of ctrnn is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

Array = np.ndarray
Long = np.longdouble


@cache
def radau_iia(s: int = 7) -> Array:
    """a (s, s): the nodes are the roots of P_s − P_{s−1} on [0, 1], and a integrates the polynomials of degree s − 1 up
    to them."""
    import mpmath

    with mpmath.workdps(40):
        coefficients = mpmath.taylor(lambda x: mpmath.legendre(s, x) - mpmath.legendre(s - 1, x), 0, s)
        roots = mpmath.polyroots(coefficients[::-1], maxsteps=500, extraprec=200)
        c = sorted((mpmath.re(root) + 1) / 2 for root in roots)
        powers = mpmath.matrix(s, s)
        integrals = mpmath.matrix(s, s)
        for i in range(s):
            for k in range(s):
                powers[i, k], integrals[i, k] = c[i] ** k, c[i] ** (k + 1) / (k + 1)
        a = integrals * powers**-1
        return np.array([[Long(mpmath.nstr(a[i, j], 25)) for j in range(s)] for i in range(s)])


def functions(rate: Callable, n: int, p: Sequence[float]) -> Callable[[Array], tuple[Array, Array, Array]]:
    """Y (s, n) -> f (s, n), J (s, n, n), F_p (s, n, m), in Y's precision."""
    import sympy

    y, w = sympy.symbols(f"y:{n}", seq=True), sympy.symbols(f"p:{len(p)}", seq=True)
    f = sympy.Matrix(rate(y, w))
    shapes = ((n,), (n, n), (n, len(p)))
    parts = [sympy.lambdify((y, w), list(e), "numpy", cse=True) for e in (f, f.jacobian(y), f.jacobian(w))]
    p = [Long(value) for value in p]

    def at(Y: Array) -> tuple[Array, Array, Array]:
        values = [[np.broadcast_to(np.asarray(e, Long), len(Y)) for e in part(Y.T, p)] for part in parts]
        f, J, F_p = (np.stack(v, axis=1).reshape(-1, *shape) for v, shape in zip(values, shapes, strict=True))
        return f, J, F_p

    return at


def refined(M: Array, right: Array) -> Array:
    """x with M x = right in extended precision, M factored in double."""
    from scipy.linalg import lu_factor, lu_solve

    factors, x = lu_factor(M.astype(float)), np.zeros_like(right)
    for _ in range(4):
        x = x + lu_solve(factors, (right - M @ x).astype(float))
    return x


def solution(
    rate: Callable, y0: Sequence[float], p: Sequence[float], mesh: Array, stages: int = 7
) -> tuple[Array, Array]:
    """y (T, n) and P = dy/dp (T, n, m) on the mesh (T,), from y0 and P = 0."""
    n, m = len(y0), len(p)
    a, at = radau_iia(stages), functions(rate, n, p)
    y, P = np.array(y0, Long), np.zeros((n, m), Long)
    states, slopes = [y], [P]
    for h in np.diff(mesh.astype(Long)):
        Y, size = np.tile(y, (stages, 1)), np.inf
        while True:
            f, J, F_p = at(Y)
            M = np.eye(stages * n, dtype=Long) - h * np.einsum("ij,jkl->ikjl", a, J).reshape(stages * n, -1)
            change = refined(M, (y + h * a @ f - Y).ravel()).reshape(stages, n)
            Y, before, size = Y + change, size, np.max(np.abs(change) / (np.abs(Y) + 1e-300))
            if size < 1e-10 and size > 0.01 * before or size < 1e-17:  # at round-off
                break
        f, J, F_p = at(Y)
        M = np.eye(stages * n, dtype=Long) - h * np.einsum("ij,jkl->ikjl", a, J).reshape(stages * n, -1)
        right = P + h * np.einsum("ij,jkl->ikl", a, F_p)
        Z = refined(M, right.reshape(stages * n, m)).reshape(stages, n, m)
        y, P = Y[-1], Z[-1]
        states.append(y)
        slopes.append(P)
    return np.array(states, float), np.array(slopes, float)
