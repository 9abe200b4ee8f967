"""What rounding, read noise and mismatch cost the inverse, by theory.

With u = 2⁻ᶠ the distance of neighbouring numbers and M = I + hA (flow and Richardson; h a power of two, a shift):

    word length   at rest |V A − a| ≤ (u/2)(1/h + 1), entry by entry, so with A and a rounded too
                  ‖V − aA⁻¹‖ ≤ ‖A⁻¹‖ √n (u/2)(1/h + 2 + ‖V‖₁)           bound: a bit less, an error twice as large
                  rms² = v (1 + h²) tr Σ_k Mᵏ Mᵏᵀ + ‖(δa − aA⁻¹ δA) A⁻¹‖²
                                                     expected, of independent errors of variance v = u²/12
    read noise σ  V ← V M + hσ V N, N fresh: rms² = g ‖aA⁻¹‖²/(1 − g),   g = h²σ² tr Σ_k Mᵏ Mᵏᵀ;   none where g ≥ 1
    mismatch σ    A + σN, N once: rms = σ ‖aA⁻¹‖ ‖A⁻¹‖_F, to first order, whatever the method

A small step averages read noise (g falls with h) and costs bits (1/h): what a designer trades. Rounding to nearest
comes to rest where an update is less than half a unit, so the flow ends between what is expected and the bound. Rounded
stochastically (v = u²/6 for both roundings of a step together) it does as expected at h = 1, and better where h is
small (0.8 of it at ½, 0.4 at ⅛): what the shift drops of a residual of a few units is not spread evenly. Truncation
doubles the bound, and its errors are not independent: nothing is expected. Nor of the gradient flow rounded to nearest:
its slowest mode stops first, on the way, and what is left is 4 to 50 times what independent errors leave, a sixteenth
to half of the bound. It rests where |(VA − a)Aᵀ| ≤ (u/2)(1/η + 1), for Chebyshev 1/h becomes (1 + β)/α, and the full
inverse, whose start 2⁻ᵉAᵀ must be seen by the format, has

    ‖V − aA⁻¹‖ ≤ ‖a‖ n (u/2)(1 + ‖A⁻¹‖ + ‖A⁻¹‖²)
    rms² = v (n + n‖a‖² + ‖a‖² ‖A⁻¹‖_F²) + …,        read noise as mismatch

All errors are relative to ‖aA⁻¹‖.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ctrnn.inverse.divide import right_divide
from ctrnn.inverse.fixed_point import QFormat
from ctrnn.inverse.matrix import System
from ctrnn.inverse.methods import Chebyshev, GradientFlow, Hyperpower
from ctrnn.inverse.plan import Plan


def expected_rounding(system: System, exact: np.ndarray, method: Any, plan: Plan, q: QFormat) -> float:
    """The root mean square error of a word length, relative; NaN where the errors are not independent."""
    if q.rounding == "truncate" or isinstance(method, Chebyshev):
        return math.nan
    if q.rounding == "nearest" and isinstance(method, GradientFlow):
        return math.nan
    h, k, n = plan.condition.step, len(exact), system.n
    assert h is not None
    variance = q.unit**2 * (1.0 / 12.0 if q.rounding == "nearest" else 1.0 / 6.0)
    inverse2, V2, a2 = float(np.sum(system.singular_values**-2.0)), float(np.sum(exact**2)), float(np.sum(system.a**2))
    assert system.dense is not None
    held = q.round(system.a) - system.a - exact @ (q.round(system.dense) - system.dense)  # a and A, rounded once
    squared = float(np.sum(right_divide(held, system.dense, "lu").value ** 2))
    if isinstance(method, Hyperpower):
        squared += variance * (n * k + n * a2 + a2 * inverse2) if _sees_the_start(plan, q) else math.nan
    elif isinstance(method, GradientFlow):
        σ2 = system.singular_values**2
        squared += k * variance * float(np.sum((1.0 + h**2 * (1.0 + σ2)) / (1.0 - (1.0 - h * σ2) ** 2)))
    else:
        # the shift by h leaves a residue on a grid: stochastically rounded, that one has the variance (1 − h²) u²/6
        both = 1.0 + h**2 if q.rounding == "nearest" else 1.0
        squared += k * variance * both * _accumulated(system, method, plan)
    return math.sqrt(squared / V2)


def _sees_the_start(plan: Plan, q: QFormat) -> bool:
    """Whether X = 2⁻ᵉAᵀ contracts by more than the format rounds."""
    assert plan.condition.contraction is not None
    return 1.0 - plan.condition.contraction > 4.0 * q.unit


def rounding_bound(system: System, exact: np.ndarray, method: Any, plan: Plan, q: QFormat) -> float:
    """An upper bound of the relative error of a word length; NaN where the format does not see the start."""
    n, inverse = system.n, system.inverse_norm
    half = 0.5 * q.unit if q.rounding == "nearest" else q.unit
    held = 0.5 * q.unit * (1.0 + np.abs(exact).sum(axis=1))  # a and A are rounded once
    if isinstance(method, Hyperpower):
        if not _sees_the_start(plan, q):
            return math.nan
        rows = np.linalg.norm(system.a, axis=1)
        bound = rows * n * half * (1.0 + inverse + inverse**2) + math.sqrt(n) * half
    elif isinstance(method, GradientFlow):
        assert plan.condition.step is not None
        bound = math.sqrt(n) * (inverse**2 * half * (1.0 / plan.condition.step + 1.0) + inverse * (half + held))
    elif isinstance(method, Chebyshev):
        assert plan.settled is not None
        alpha, beta = plan.settled
        bound = inverse * math.sqrt(n) * (half * ((1.0 + abs(beta)) / abs(alpha) + 2.0) + held)
    else:
        assert plan.condition.step is not None
        bound = inverse * math.sqrt(n) * (half * (1.0 / abs(plan.condition.step) + 1.0) + held)
    return float(np.linalg.norm(bound * np.ones(len(exact))) / np.linalg.norm(exact))


def expected_noise(system: System, exact: np.ndarray, method: Any, plan: Plan, σ: float, kind: str) -> float:
    """The root mean square error under read noise or mismatch of standard deviation σ, relative."""
    A = system.dense
    assert A is not None
    if kind == "mismatch" or isinstance(method, Hyperpower):
        return σ * float(np.sqrt(np.sum(system.singular_values**-2.0)))
    if isinstance(method, Chebyshev):
        return math.nan
    assert plan.condition.step is not None
    step = plan.condition.step * σ
    g = step * step * _accumulated(system, method, plan)  # a power would raise where this is infinite
    return math.sqrt(g / (1.0 - g)) if g < 1.0 else math.inf


def _accumulated(system: System, method: Any, plan: Plan) -> float:
    """tr Σ_k Mᵏ Mᵏᵀ; for the gradient flow, whose noise goes through Aᵀ, tr Σ_k Mᵏ A Aᵀ Mᵏᵀ with M = I − ηAAᵀ."""
    from scipy.linalg import solve_discrete_lyapunov

    A, h = system.dense, plan.condition.step
    assert A is not None and h is not None
    if isinstance(method, GradientFlow):
        σ2 = system.singular_values**2
        return float(np.sum(σ2 / (1.0 - (1.0 - h * σ2) ** 2)))
    return float(np.trace(solve_discrete_lyapunov(np.eye(system.n) + h * A.T, np.eye(system.n))))
