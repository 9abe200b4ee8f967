r"""What the eigenvalues of J do not say: how far J is from normal, and how much grows before it decays.

    numerical abscissa       ω(J)   = max Re λ((J + Jᵀ)/2)                 the growth rate of ‖e^{Jt}‖ at t = 0
    spectral abscissa        α(J)   = max Re λ(J)                          that as t → ∞
    pseudospectral abscissa  α_ε(J) = max { Re z : σ_min(zI − J) ≤ ε }     the worst α(J + E), ‖E‖₂ ≤ ε
    Henrici's number         √(‖J‖_F² − Σ|λ_i|²)                           0 where J is normal
    transient growth         g(t)   = ‖e^{Jt}‖₂                            of the best start

For every ε, sup_t g(t) ≥ α_ε/ε: a bound from below, the best of which is Kreiss's constant.

α_ε is found by the criss-cross iteration. On the line Re z = x, σ_min(zI − J) = ε where the first matrix has the
eigenvalue i Im z; on the line Im z = y the second has the eigenvalue i Re z:

    [xI − Jᵀ   εI   ]          [iJᵀ − yI   εI      ]
    [−εI       J − xI]         [−εI        iJ + yI ]

Sources: Trefethen and Embree, *Spectra and Pseudospectra* (2005), chapters 14, 18 and 48; Burke, Lewis and Overton, IMA
J. Numer. Anal. 23 (2003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import expm
from scipy.optimize import minimize_scalar

from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array
from ctrnn.numbers import flag, positive, real_array

__all__ = ["TransientGrowth", "henrici_number", "numerical_abscissa", "pseudospectral_abscissa", "transient_growth"]

#: the least normal number
TINY = float(np.finfo(float).tiny)
#: an eigenvalue of the criss-cross matrices this near to the imaginary axis, over the norms, lies on it
ON_AXIS = 1e-8
#: steps of the criss-cross iteration; it converges faster than linearly
STEPS = 100


def numerical_abscissa(J: Any) -> float:
    """The largest growth rate d‖δr‖/dt / ‖δr‖ that any small change δr has at first.

    Parameters
    ----------
    J : (n, n) array_like
        A Jacobian, per unit of t; also an `Equilibrium`, whose ``jacobian`` it then is.

    Returns
    -------
    float
        max Re λ((J + Jᵀ)/2), per unit of t.

    Raises
    ------
    UsageError
        For what is no finite square matrix.

    Examples
    --------
    >>> round(numerical_abscissa([[-1.0, 4.0], [0.0, -2.0]]), 6)  # though both eigenvalues decay
    0.561553
    """
    J, unit = in_its_unit(square(J))
    return unit * float(np.linalg.eigvalsh(0.5 * (J + J.T))[-1])


def henrici_number(J: Any, relative: bool = False) -> float:
    """Henrici's departure from normality √(‖J‖_F² − Σ|λ_i|²).

    Parameters
    ----------
    J : (n, n) array_like
        A Jacobian, or an `Equilibrium`.
    relative : bool, default False
        Over ‖J‖_F: from 0 (normal) to 1 (all eigenvalues are zero).

    Returns
    -------
    float
        In the unit of J, or without one.

    Raises
    ------
    UsageError
        For what is no finite square matrix.

    Notes
    -----
    The Frobenius norm of the strictly upper triangle of Schur's form, which is how it is computed: the difference of
    the squares would lose half of the digits near a normal matrix.

    Examples
    --------
    >>> round(henrici_number([[-1.0, 4.0], [0.0, -2.0]]), 12), round(henrici_number([[0.0, 1.0], [-1.0, 0.0]]), 12)
    (4.0, 0.0)
    """
    from scipy.linalg import schur

    (J, unit), relative = in_its_unit(square(J)), flag("relative", relative)
    T = schur(J, output="complex")[0]
    above = float(np.linalg.norm(np.triu(T, 1)))
    size = float(np.linalg.norm(J))
    return above / size if relative and size else unit * above


def pseudospectral_abscissa(J: Any, epsilon: float) -> float:
    """The largest real part of all eigenvalues of J + E with ‖E‖₂ ≤ ε.

    Parameters
    ----------
    J : (n, n) array_like
        A Jacobian, or an `Equilibrium`.
    epsilon : float
        ε > 0, in the unit of J.

    Returns
    -------
    float
        α_ε(J), per unit of t. E may be complex. Above zero, some change of that size makes a stable point unstable.

    Raises
    ------
    UsageError
        For what is no finite square matrix, or an ε that is not positive.
    ConvergenceError
        Where the iteration does not settle.

    Notes
    -----
    Burke, Lewis and Overton's criss-cross iteration, O(n³) a step (the module's docstring).

    Examples
    --------
    >>> round(pseudospectral_abscissa([[-1.0, 0.0], [0.0, -2.0]], 0.5), 12)  # normal: α + ε
    -0.5
    >>> round(pseudospectral_abscissa([[0.0, 1.0], [0.0, 0.0]], 0.1), 12)  # √(ε² + ε)
    0.331662479036
    """
    J, epsilon = square(J), positive("epsilon", epsilon)
    J, unit = in_its_unit(J, epsilon)
    epsilon /= unit
    λ = np.linalg.eigvals(J)
    # from the rightmost eigenvalue along its own line to the right
    x = max(_rightmost(J, epsilon, z.imag) for z in λ[λ.real >= λ.real.max() - 1e-12 * max(1.0, np.abs(λ).max())])
    for _ in range(STEPS):
        crossings = _crossings(J, epsilon, x)
        if len(crossings) < 2:
            return unit * x
        middles = 0.5 * (crossings[1:] + crossings[:-1])
        inside = [y for y in middles if _smallest(J, complex(x, y)) <= epsilon]
        ahead = max([x, *(_rightmost(J, epsilon, y) for y in inside)])
        if ahead - x <= 1e-14 * max(1.0, abs(x), float(np.linalg.norm(J, 2))):
            return unit * ahead
        x = ahead
    raise ConvergenceError(f"the pseudospectral abscissa does not settle, at {unit * x:.10g}. Try: a larger epsilon")


def _smallest(J: Array, z: complex) -> float:
    return float(np.linalg.svd(z * np.eye(len(J)) - J, compute_uv=False)[-1])


def _rightmost(J: Array, ε: float, y: float) -> float:
    """The largest x with σ_min((x + iy)I − J) = ε."""
    n, eye = len(J), np.eye(len(J))
    H = np.block([[1j * J.T - y * eye, ε * eye], [-ε * eye, 1j * J + y * eye]])
    λ = np.linalg.eigvals(H)
    # those on the axis; rounding moves double ones off it, so that the candidates are tested themselves
    scale = float(np.linalg.norm(J, 2)) + abs(y) + ε
    near = λ[np.abs(λ.real) <= np.sqrt(ON_AXIS) * scale].imag
    good = [x for x in near if abs(_smallest(J, complex(x, y)) - ε) <= ON_AXIS * scale]
    if not good:
        return float(np.linalg.eigvals(J).real.max())
    x = max(good)
    for _ in range(4):  # Newton on σ_min, whose slope is Re u* v
        U, σ, Vh = np.linalg.svd(complex(x, y) * np.eye(n) - J)
        slope = float((U[:, -1].conj() @ Vh[-1].conj()).real)
        step = (σ[-1] - ε) / slope if slope else 0.0
        if not np.isfinite(step) or abs(step) > 1e-3 * scale:
            break
        x -= step
    return float(x)


def _crossings(J: Array, ε: float, x: float) -> Array:
    """The y, ascending, with σ_min((x + iy)I − J) = ε."""
    eye = np.eye(len(J))
    λ = np.linalg.eigvals(np.block([[x * eye - J.T, ε * eye], [-ε * eye, J - x * eye]]))
    scale = float(np.linalg.norm(J, 2)) + abs(x) + ε
    near = λ[np.abs(λ.real) <= np.sqrt(ON_AXIS) * scale].imag
    return np.sort([y for y in near if abs(_smallest(J, complex(x, y)) - ε) <= ON_AXIS * scale])


@dataclass(frozen=True, eq=False, repr=False)
class TransientGrowth:
    """How much the linearised flow can amplify a small change before it decays.

    Attributes
    ----------
    t : ndarray (T,)
        Times.
    growth : ndarray (T,)
        ‖e^{Jt}‖₂: the most that any change grows by until t.
    peak, t_peak : float
        The largest growth for t ≥ 0 up to the last time, and when.
    direction, response : ndarray (n,)
        The change, of length 1, that grows most by t_peak, and what becomes of it, of length ``peak``.

    Examples
    --------
    >>> found = transient_growth([[-1.0, 10.0], [0.0, -2.0]])
    >>> round(found.peak, 6), round(float(np.linalg.norm(found.response)), 6)
    (2.563493, 2.563493)
    """

    t: Array
    growth: Array
    peak: float
    t_peak: float
    direction: Array
    response: Array

    def __repr__(self) -> str:
        return f"transient growth {self.peak:.6g} at t = {self.t_peak:.6g}, over t = 0 to {self.t[-1]:.6g}"


def transient_growth(J: Any, t: Any = None) -> TransientGrowth:
    """‖e^{Jt}‖₂ over time, its peak, and the change that grows most.

    Parameters
    ----------
    J : (n, n) array_like
        A Jacobian, or an `Equilibrium`.
    t : (T,) array_like, optional
        Increasing times from 0 on; None: 201 times up to ten time constants of the slowest decay.

    Returns
    -------
    TransientGrowth
        Its ``peak`` is refined between the times.

    Raises
    ------
    UsageError
        For what is no finite square matrix; without ``t``, for a J of which some mode does not decay.

    Notes
    -----
    Trefethen and Embree (2005), chapter 14; for networks: Murphy and Miller, Neuron 61 (2009).

    Examples
    --------
    >>> transient_growth([[-1.0, 0.0], [0.0, -2.0]]).peak  # normal: nothing grows
    1.0
    """
    J = square(J)
    if t is None:
        α = float(np.linalg.eigvals(J).real.max())
        if not α < 0:
            hint = "times t: without decay there is no last peak"
            raise UsageError("J", given=f"a spectral abscissa of {α:.3g}", allowed="a negative one", hint=hint)
        with np.errstate(over="ignore", invalid="ignore"):
            times = np.linspace(0.0, -10.0 / α, 201)
        if not np.isfinite(times).all():
            raise UsageError("J", given=f"a spectral abscissa of {α:.3g}", allowed="one whose inverse float64 holds")
    else:
        times = np.atleast_1d(real_array("t", t))
        if (
            times.ndim != 1
            or not times.size
            or not np.isfinite(times).all()
            or times[0] < 0
            or (np.diff(times) <= 0).any()
        ):
            raise UsageError("t", given=t, allowed="increasing times (T,), none below 0")

    def growth(at: float) -> float:
        return float(np.linalg.norm(_exponential(J, at), 2))

    values = np.array([growth(at) for at in times])
    k = int(values.argmax())
    low, high = times[max(k - 1, 0)], times[min(k + 1, len(times) - 1)]
    t_peak, peak = float(times[k]), float(values[k])
    if high > low:
        best = minimize_scalar(lambda at: -growth(at), bounds=(low, high), method="bounded", options={"xatol": 1e-12})
        if -best.fun > peak:
            t_peak, peak = float(best.x), float(-best.fun)
    U, σ, Vh = np.linalg.svd(_exponential(J, t_peak))
    return TransientGrowth(times, values, peak, t_peak, Vh[0], σ[0] * U[:, 0])


def _exponential(J: Array, t: float) -> Array:
    """e^{Jt}; raises UsageError where it is beyond float64."""
    with np.errstate(all="ignore"):
        Jt = J * t
        found = expm(Jt) if np.isfinite(Jt).all() else Jt
    if not np.isfinite(found).all():
        raise UsageError("t", given=t, allowed="times at which e^{Jt} is within ±1.8e308")
    return np.asarray(found)


def in_its_unit(J: Array, beside: float = 0.0) -> tuple[Array, float]:
    """J/u and u, a power of two near its largest entry (or ``beside``), so that squares and sums stay in float64."""
    u = 2.0 ** min(int(np.frexp(max(float(np.abs(J).max()), beside, TINY))[1]), 1023)
    return J / u, u


def square(J: Any) -> Array:
    """A finite square matrix (n, n); of an equilibrium its Jacobian."""
    J = real_array("J", getattr(J, "jacobian", J))
    if J.ndim != 2 or J.shape[0] != J.shape[1] or not J.size or not np.isfinite(J).all():
        raise UsageError("J", given=f"shape {J.shape}", allowed="a finite matrix (n, n), or an Equilibrium")
    return J
