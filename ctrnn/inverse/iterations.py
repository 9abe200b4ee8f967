r"""The iterations, on any kind of number: products, sums, and scalings by numbers that are known beforehand.

    flow            V ← V + h (V A − a)                                   V A − a ← (V A − a)(I + hA)
    runge_kutta     k_i = (V + h Σ_j a_ij k_j) A − a,  V ← V + h Σ_i b_i k_i       … (V A − a) p(hA)
    chebyshev       s ← (a − V A) + β_k s,  V ← V + α_k s       … T_k((d − A)/c) / T_k(d/c), Chebyshev's polynomials
    gradient_flow   V ← V − η (V A − a) Aᵀ                                … (V A − a)(I − η A Aᵀ), transposed
    hyperpower      R = I − X A,  X ← (I + R + … + R^(p−1)) X,  V = a X   R ← R^p

Nothing here divides, factorises, compares or takes a norm. The operators used are + and − and @ between arrays, and
number * array; so the same lines run on float64, on object arrays (exact fractions, counted operations), on fixed-point
arrays (ctrnn.inverse.fixed_point) and on a matrix that is only a product (ctrnn.inverse.matrix). Each is a generator of
V and its residual VA − a (hyperpower: a − VA) after 0, stride, 2 stride, … iterations, without end; measuring them, and
stopping, is ctrnn.inverse.divide's concern.

Sources: note 001 of this project (flow); L. F. Richardson, Phil. Trans. R. Soc. A 210 (1911); T. A. Manteuffel, Numer.
Math. 28 (1977), 307–327 (chebyshev on an ellipse); G. Schulz, Z. Angew. Math. Mech. 13 (1933) and M. Altman, Pacific J.
Math. 10 (1960), 1107–1113 (hyperpower).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ctrnn.numbers import whole

Pairs = Iterator[tuple[Any, Any]]


def euler_flow(V: Any, a: Any, A: Any, h: float, steps: int) -> Any:
    """V after Euler steps of dV/dt = VA − a: products and sums; nothing is checked.

    Parameters
    ----------
    V : array (n,) or (q, n)
        The start.
    a : array, shaped as V
        The rows to be divided.
    A : array (n, n)
        The matrix, of rates.
    h : float
        The step, in the unit of time of 1/A.
    steps : int
        How many, at least 1.

    Returns
    -------
    array, shaped as V
        V at the end.

    Raises
    ------
    UsageError
        For a number of steps that is none.
    TypeError
        For numbers without +, − or products; nothing else is looked at.

    Notes
    -----
    The steps run on the change D = V − V₀, whose flow is dD/dt = DA + R with R = V₀A − a: the same numbers in exact
    arithmetic, but rounding acts on the shrinking D, so that going on from the last V refines it to the last digits.

    Examples
    --------
    >>> import numpy as np
    >>> euler_flow(np.zeros(2), np.array([1.0, 4.0]), np.diag([-1.0, -2.0]), 0.5, 60)
    array([-1., -2.])
    """
    return V + _euler_change(V @ A - a, A, h, whole("steps", steps, 1))


def _euler_change(R: Any, A: Any, h: float, steps: int) -> Any:
    D = h * R  # the first step, from D = 0
    for _ in range(steps - 1):
        D = D + h * (D @ A + R)
    return D


def flow(a: Any, A: Any, h: float, stride: int = 1) -> Pairs:
    """Euler steps of dV/dt = VA − a from V = 0; Richardson's iteration with η = h."""
    V = a - a
    while True:
        R = V @ A - a
        yield V, R
        V = V + _euler_change(R, A, h, stride)


def runge_kutta(a: Any, A: Any, ha: Sequence[Sequence[float]], hb: Sequence[float], stride: int = 1) -> Pairs:
    """Steps of an explicit tableau on dV/dt = VA − a, with ha = h a_ij (strictly lower) and hb = h b_i."""
    V = a - a
    while True:
        R = V @ A - a
        yield V, R
        D = a - a  # the change of V, as in euler_flow
        for _ in range(stride):
            k: list[Any] = []
            for row in ha:
                W = D
                for weight, k_j in zip(row, k, strict=False):
                    if weight:
                        W = W + weight * k_j
                k.append(W @ A + R)
            for weight, k_i in zip(hb, k, strict=True):
                if weight:
                    D = D + weight * k_i
        V = V + D


def chebyshev(a: Any, A: Any, table: Sequence[tuple[float, float]], period: int, stride: int = 1) -> Pairs:
    """Chebyshev's iteration with coefficients (α_k, β_k) from a table, the last of which stand for all later ones.

    After ``period`` iterations it begins again on the residual that is left: rounding acts on the change D, as in
    euler_flow.
    """
    V = D = s = a - a
    R = r = V @ A - a
    k, last = 0, len(table) - 1
    while True:
        yield V + D, r
        for _ in range(stride):
            if k == period:
                V = V + D
                R = r = V @ A - a
                D = s = a - a
                k = 0
            alpha, beta = table[min(k, last)]
            s = beta * s - r
            D = D + alpha * s
            r = R + D @ A
            k = k + 1


def gradient_flow(a: Any, A: Any, eta: float, stride: int = 1) -> Pairs:
    """Euler steps of dV/dt = −(VA − a)Aᵀ, the steepest descent of ½‖VA − a‖², from V = 0."""
    V, A_T = a - a, A.T
    while True:
        R = V @ A - a
        yield V, R
        D = -eta * (
            R @ A_T
        )  # the change of V, as in euler_flow: here the residual it can reach would be κ times larger
        for _ in range(stride - 1):
            D = D - eta * ((D @ A + R) @ A_T)
        V = V + D


def hyperpower(a: Any, A: Any, X: Any, identity: Any, order: int = 2, stride: int = 1) -> Pairs:
    """The iteration X ← X + R(X + R(X + …)), R = I − XA, and aX; with a None, X itself.

    Each iteration takes ``order`` products; order 2 is Newton–Schulz.
    """
    while True:
        R = identity - X @ A
        yield (X, R) if a is None else (a @ X, a @ R)
        for left in range(stride, 0, -1):
            Y = X
            for _ in range(order - 1):
                Y = X + R @ Y
            X = Y
            if left > 1:
                R = identity - X @ A


# --- scalars ---


def scalar_flow(a: Any, one: Any, h: float) -> Iterator[Any]:
    """Euler steps of dv/dt = va − 1 from v = 0; with h < 0, of 1 − va."""
    v = one - one
    while True:
        yield v
        v = v + h * (v * a - one)


def scalar_gradient_flow(a: Any, one: Any, eta: float) -> Iterator[Any]:
    """Euler steps of dv/dt = −(va − 1)a from v = 0, which rests at 1/a whatever the sign of a."""
    v = one - one
    while True:
        yield v
        v = v - eta * ((v * a - one) * a)


def scalar_newton(a: Any, two: Any, v: Any) -> Iterator[Any]:
    """v ← v(2 − va)."""
    while True:
        yield v
        v = v * (two - v * a)
