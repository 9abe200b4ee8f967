"""What a method hands over before it runs, and what several methods ask of A.

A `Plan` is the iteration (ctrnn.inverse.iterations) with its numbers filled in, and the `Condition` that guarantees it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import NotHurwitzError, SingularJacobianError, UsageError, one_of
from ctrnn.inverse import iterations, spectrum
from ctrnn.inverse.matrix import System
from ctrnn.inverse.result import EPS, Condition, predicted
from ctrnn.numbers import real_array

HINT = 'the method "lu", or "gradient-flow" or "newton-schulz", which need no stability'
SINGULAR_HINT = "an A without dependent rows (a conserved quantity, two equal units, no leak?)"


class Numbers:
    """The kind of number that an iteration runs on: how rows and the matrix A are made of float64.

    This kind is float64 itself.
    """

    def array(self, x: Any) -> Any:
        """The rows in this kind of number."""
        return x

    def matrix(self, A: Any) -> Any:
        """The matrix A in this kind of number."""
        return A


FLOAT64 = Numbers()


@dataclass(frozen=True)
class Plan:
    """An iteration with its numbers filled in, and the condition that guarantees it.

    ``iterates(stride, numbers)`` yields V and its residual after 0, stride, 2 stride, … iterations. ``inverse_norm`` is
    ‖A⁻¹‖₂, NaN where only the residuals will tell. ``steps``: exactly so many are taken (Neumann). ``estimated``: what
    is known of A comes from products. ``settled``: the last (α, β) of Chebyshev's table.
    """

    condition: Condition
    iterates: Callable[[int, Numbers], Iterator[tuple[Any, Any]]]
    inverse_norm: float
    steps: int | None = None
    estimated: bool = False
    settled: tuple[float, float] | None = None


def euler_plan(system: System, tol: float, step: float | str, sides: tuple[float, ...]) -> Plan:
    """The plan of V ← V + h(VA − a).

    h > 0 for a spectrum left of the axis and, where ``sides`` has −1, h < 0 for one right of it.
    """
    if system.dense is None and step != "spectrum":
        return _uncertified(system, tol, step, sides)
    check_regular(system)
    λ = system.eigenvalues
    side = side_of_axis(system, λ, sides)
    bound = spectrum.step_bound(side * λ)
    if system.dense is None:
        h = 0.9 * spectrum.best_step(side * λ)  # the Ritz values lie inside the spectrum
    elif step == "spectrum":
        h = spectrum.best_step(side * λ)
    elif step == "norm":
        h = _step_by_norms(side * system.dense)[0]
    else:
        h = side * float(step)
    if not 0 < h < bound:
        raise UsageError("step", given=side * h, allowed=f"above 0 and below min 2|Re λ|/|λ|² = {bound:.6g}")
    gap = spectrum.euler_gap(side * λ, h)
    condition = Condition(
        condition_number(system),
        float(λ.real.max()),
        side * h,
        side * bound,
        1.0 - gap,
        predicted(gap, tol),
        known_by=source_of(system),
    )
    return _flow(system, condition, side * h, system.inverse_norm, estimated=system.dense is None)


def _flow(system: System, condition: Condition, h: float, inverse_norm: float, estimated: bool) -> Plan:
    """The plan of Euler's steps h, under this condition."""
    return Plan(
        condition,
        lambda stride, kind: iterations.flow(kind.array(system.a), kind.matrix(system.A), h, stride),
        inverse_norm,
        estimated=estimated,
    )


def _uncertified(system: System, tol: float, step: float | str, sides: tuple[float, ...]) -> Plan:
    """The plan for a large sparse matrix by its norms, or for a product with a given step, where the residuals tell."""
    if step == "norm":
        if system.kind == "product":
            raise UsageError("step", given="norm", allowed="a number or spectrum where A is only a product")
        h, μ = _step_by_norms(system.A)
        if math.isnan(μ):
            return _flow(system, Condition(math.nan, step=h, known_by="norms"), h, math.nan, estimated=True)
        gap = -h * μ
        condition = Condition(math.nan, μ, h, contraction=1.0 - gap, predicted=predicted(gap, tol), known_by="norms")
        # ‖A⁻¹‖ ≤ 1/|μ| in the 1- or the ∞-norm, √n times that in the 2-norm
        return _flow(system, condition, h, math.sqrt(system.n) / -μ, estimated=False)
    h = float(step)
    if not (math.isfinite(h) and (h > 0 or (h < 0 and -1.0 in sides))):
        raise UsageError("step", given=step, allowed="a positive number")
    return _flow(system, Condition(math.nan, step=h, known_by="products"), h, math.nan, estimated=True)


def _step_by_norms(A: Any) -> tuple[float, float]:
    """A power of two for h, and the logarithmic norm that guarantees it.

    That norm is NaN for a symmetric A, which need only be Hurwitz.
    """
    μ = min(spectrum.logarithmic_norms(A))
    if μ < 0:
        return spectrum.power_of_two(float(np.max(np.abs(A.diagonal())))), μ
    if abs(A - A.T).max() <= 4 * EPS * abs(A).max():
        return spectrum.power_of_two(spectrum.norms(A)[1]), math.nan
    raise UsageError(
        "step",
        given="norm",
        allowed="where the logarithmic norm μ₁ or μ∞ is negative, or A is symmetric: else norms do not show that the "
        "flow is stable",
        hint='step="spectrum", or GradientFlow(step="norm"), which needs no stability',
    )


def starting_scale(A: Any) -> float:
    """A power of two ≤ 1/(‖A‖₁‖A‖∞) ≤ 1/σ₁²."""
    one, infinity = spectrum.norms(A)
    return spectrum.power_of_two(one) * spectrum.power_of_two(infinity)


def check_regular(system: System) -> None:
    """Raises SingularJacobianError where the smallest singular value is zero to rounding."""
    if not system.singular_values[-1] > system.n * EPS * system.singular_values[0]:
        raise SingularJacobianError(condition_number(system), "A", SINGULAR_HINT)


def condition_number(system: System) -> float:
    """The ratio of the largest to the smallest singular value."""
    σ = system.singular_values
    return float(σ[0] / σ[-1]) if σ[-1] > 0 else math.inf


def side_of_axis(system: System, λ: np.ndarray, sides: tuple[float, ...]) -> float:
    """1 where all Re λ < 0, −1 where all Re λ > 0 (and that is allowed)."""
    rounding = system.n * EPS * float(system.singular_values[0])  # a centre has Re λ = 0 only up to rounding
    for side in sides:
        if (side * λ.real).max() < -rounding:
            return side
    raise NotHurwitzError(max(float(λ.real.max()), 0.0), "A", HINT)


def source_of(system: System) -> str:
    """What is known of A comes from its spectrum, or from products with it."""
    return "spectrum" if system.dense is not None else "products"


def check_step(step: Any) -> None:
    """Raises UsageError or UnknownNameError for a step that is neither a number nor a rule's name."""
    if isinstance(step, str):
        one_of("step", step, ("spectrum", "norm"), hint="or a number")
    else:
        allowed = 'a number, "spectrum" or "norm"'
        if real_array("step", step, allowed).ndim:
            raise UsageError("step", given=step, allowed=allowed)
