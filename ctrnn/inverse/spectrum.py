"""Steps and ellipses, chosen from the spectrum, or from norms without a division.

    Euler            |1 + hλ| < 1 for all λ   ⇔   0 < h < min 2|Re λ|/|λ|²              (A Hurwitz)
    Runge–Kutta      |p(hλ)| < 1,   p(z) = 1 + Σ_j z^j b aʲ⁻¹ 1                          the stability polynomial
    Chebyshev        max |w + √(w² − c²)| / |d + √(d² − c²)|,  w = d − λ    the ellipse of centre d, foci d ± c
    gradient flow    |1 − ησ²| < 1   ⇔   0 < η < 2/σ₁²

From norms. With the logarithmic norm μ∞ = max_i (a_ii + Σ_{j≠i}|a_ij|) (or its transposed, μ₁) negative, ‖I + hA‖ ≤ 1 +
hμ < 1 for every h ≤ 1/max|a_ii|: Gershgorin's discs lie inside Euler's. For a symmetric A, h = 1/‖A‖∞ does. For the
gradient flow η = 1/(‖A‖₁‖A‖∞) ≤ 1/σ₁². Each is rounded down to a power of two, which needs the exponent of a number
only; nothing is divided.

Sources: T. A. Manteuffel, Numer. Math. 28 (1977), 307–327; G. Söderlind, "The logarithmic norm", BIT 46 (2006),
631–652.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.inverse.iterations import scalar_newton
from ctrnn.numbers import complex_array


def best_step(eigenvalues: Any) -> float:
    """The Euler step h that makes max |1 + hλ| least, for eigenvalues with all Re λ < 0.

    Parameters
    ----------
    eigenvalues : array_like of complex
        All left of the imaginary axis; this is not checked.

    Returns
    -------
    float
        h, in the unit of 1/λ.

    Raises
    ------
    UsageError
        For no eigenvalues, and for 0, or less than float64 can invert, among them.

    Notes
    -----
    |1 + hλ|² = 1 + 2h Re λ + h²|λ|² is convex in h, so is the largest of them, and its minimum lies below the bound
    min 2|Re λ|/|λ|².

    Examples
    --------
    >>> round(best_step([-1.0, -3.0]), 6)  # 2 / (1 + 3)
    0.5
    """
    from scipy.optimize import minimize_scalar

    λ = np.atleast_1d(complex_array("eigenvalues", eigenvalues))
    if not λ.size or not np.isfinite(λ).all() or not λ.all():
        raise UsageError("eigenvalues", given=eigenvalues, allowed="finite numbers other than 0, at least one")
    # near their size, so that no square leaves float64
    unit = 2.0 ** min(max(int(np.frexp(np.abs(λ.view(float)).max())[1]), -1000), 1000)
    bound = step_bound(λ / unit)
    scaled = bound * (λ / unit)
    p, q = 2.0 * scaled.real, np.abs(scaled) ** 2
    found = minimize_scalar(  # in s = h/bound, of |1 + sλ|² − 1, which keeps its digits near zero
        lambda s: float((s * (p + s * q)).max()),
        bounds=(0.0, 1.0),
        method="bounded",
        options={"xatol": 1e-10},
    )
    step = bound * float(found.x) / unit
    if not math.isfinite(step):
        raise UsageError("eigenvalues", given=eigenvalues, allowed="numbers whose inverse float64 holds")
    return step


def step_bound(eigenvalues: Any) -> float:
    """min 2|Re λ|/|λ|², the bound of Euler's step.

    >>> step_bound([-1.0, -4.0])
    0.5
    """
    λ = np.asarray(eigenvalues)
    return float((2.0 * (np.abs(λ.real) / np.abs(λ)) / np.abs(λ)).min())


def euler_gap(eigenvalues: Any, h: float) -> float:
    """1 − max |1 + hλ|, with its digits where it is small."""
    z = h * np.asarray(eigenvalues)
    excess = float((2.0 * z.real + np.abs(z) ** 2).max())  # |1 + z|² − 1
    return -excess / (1.0 + math.sqrt(max(1.0 + excess, 0.0)))


def stability_polynomial(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The coefficients of p(z), from z⁰ on, of an explicit tableau.

    >>> stability_polynomial(np.array([[0.0, 0.0], [0.5, 0.0]]), np.array([0.0, 1.0]))  # midpoint
    array([1. , 1. , 0.5])
    """
    coefficients, row = [1.0], b
    for _ in range(len(b)):
        coefficients.append(float(row.sum()))
        row = row @ a
    return np.trim_zeros(np.array(coefficients), "b")


def runge_kutta_step(eigenvalues: np.ndarray, p: np.ndarray) -> tuple[float, float]:
    """The step that minimises max |p(hλ)|, and the first h at which that maximum is one."""
    from scipy.optimize import brentq, minimize_scalar

    λ = np.asarray(eigenvalues)

    def worst(h: float) -> float:
        return float(np.abs(np.polynomial.polynomial.polyval(h * λ, p)).max())

    euler = step_bound(λ)
    reach = 8.0 * len(p) ** 2 / float(np.abs(λ).max())  # no explicit method of s stages is stable beyond |z| = 2s²
    grid = np.unique(
        np.concatenate([np.linspace(0.0, reach, 400)[1:], np.linspace(0.0, min(euler * len(p), reach), 100)[1:]])
    )
    sizes = np.array([worst(h) for h in grid])
    out = np.flatnonzero(sizes >= 1.0)
    if out.size == 0 or out[0] == 0:
        return euler, euler
    bound = float(brentq(lambda h: worst(h) - 1.0, grid[out[0] - 1], grid[out[0]]))
    k = int(np.argmin(sizes[: out[0]]))
    ends = (grid[k - 1] if k else 0.0, min(grid[k + 1], bound))
    return float(minimize_scalar(worst, bounds=ends, method="bounded", options={"xatol": 1e-10 * bound}).x), bound


# --- Chebyshev's ellipse ---


def ellipse_gap(eigenvalues: np.ndarray, d: float, c2: float) -> float:
    """1 − the asymptotic contraction of Chebyshev's iteration on the ellipse with centre d and foci d ± √c2."""
    w = np.append(d - np.asarray(eigenvalues, dtype=complex), d)
    root = np.sqrt(w * w - c2)
    size = np.maximum(np.abs(w + root), np.abs(w - root))
    return float((size[-1] - size[:-1].max()) / size[-1])


def best_ellipse(eigenvalues: np.ndarray) -> tuple[float, float]:
    """Centre d and squared focal distance c² of the ellipse with the smallest contraction.

    c² < 0: the foci lie above each other. Of a real spectrum, its ends are the foci. Otherwise the best of a search
    from the circle of Richardson's best step and from the box around the spectrum; the contraction that is promised is
    the one computed for the ellipse found.

    >>> best_ellipse(np.array([-1.0, -2.0, -3.0]))
    (-2.0, 1.0)
    """
    from scipy.optimize import minimize

    λ = np.asarray(eigenvalues, dtype=complex)
    low, high = float(λ.real.min()), float(λ.real.max())
    d, x, y = (low + high) / 2, (high - low) / 2, float(np.abs(λ.imag).max())
    if y <= 1e-14 * np.abs(λ).max():
        return d, x * x
    size, sign = float(np.abs(λ).max()), 1.0 if high < 0 else -1.0
    λ = λ / size
    starts = [(-sign / best_step(sign * λ), 0.0), (d / size, 2 * (x * x - y * y) / size**2)]
    found = [
        minimize(
            lambda e: -ellipse_gap(λ, e[0], e[1]),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-5, "fatol": 1e-7, "maxiter": 400},
        )
        for start in starts
    ]
    best = min(found, key=lambda one: one.fun)
    return float(best.x[0]) * size, float(best.x[1]) * size**2


def chebyshev_table(d: float, c2: float) -> list[tuple[float, float]]:
    """(α_k, β_k) of p ← (a − VA) + β_k p, V ← V + α_k p, until they no longer change.

        α₀ = 1/d,   β_k = c²α²_{k−1}/4,   α_k = 1/(d − c²α_{k−1}/4)        twice c²/4 for k = 1

    The reciprocals are v ← v(2 − vd) from a power of two: the table itself is made without a division.

    >>> chebyshev_table(-1.0, 0.0)[-1]  # a point: Richardson's iteration
    (-1.0, 0.0)
    """
    alpha = newton_reciprocal(d)
    table = [(alpha, 0.0)]
    for k in range(1, 1_000_000):
        half = 0.5 if k == 1 else 0.25
        beta = half * c2 * alpha * alpha
        following = newton_reciprocal(d - half * c2 * alpha)
        table.append((following, beta))
        if k > 1 and abs(following - alpha) <= 1e-14 * abs(alpha):
            break
        alpha = following
    return table


def newton_reciprocal(a: float) -> float:
    """1/a to the last bits by v ← v(2 − va), from the power of two with which 0 < va ≤ 1."""
    start = math.copysign(power_of_two(abs(a)), a)
    # 1 − va ≤ ½ at first, and (½)^(2⁷) is below a bit
    return float(next(islice(scalar_newton(a, 2.0, start), 7, None)))


# --- norms, without a division ---


def power_of_two(size: float) -> float:
    """The power of two in (1/(2 size), 1/size]: no division, the exponent turned.

    >>> power_of_two(5.0), power_of_two(4.0)
    (0.125, 0.25)
    """
    m, exponent = math.frexp(size)
    return math.ldexp(1.0, 1 - exponent if m == 0.5 else -exponent)


def norms(A: Any) -> tuple[float, float]:
    """‖A‖₁ and ‖A‖∞ of a matrix, sparse or not."""
    size = abs(A)
    return float(np.max(size.sum(axis=0))), float(np.max(size.sum(axis=1)))


def logarithmic_norms(A: Any) -> tuple[float, float]:
    """μ₁ and μ∞ of a matrix: Re λ ≤ μ for every eigenvalue, and ‖A⁻¹‖ ≤ 1/|μ| where μ < 0, in the same norm.

    >>> logarithmic_norms(np.array([[-2.0, 1.0], [0.0, -1.0]]))
    (0.0, -1.0)
    """
    diagonal = A.diagonal()
    size = abs(A)
    off = [np.asarray(size.sum(axis=axis)).ravel() - np.abs(diagonal) for axis in (0, 1)]
    return float(np.max(diagonal + off[0])), float(np.max(diagonal + off[1]))
