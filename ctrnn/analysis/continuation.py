r"""Continuation of equilibria in one parameter: the curve 0 = F(r, μ), its stability, and the special points on it.

    y = (r, μ),   G(y) = F(r, μ)            pseudo-arclength (ctrnn.analysis.arclength)

Between two points of the curve,

    a fold          dμ/ds changes its sign
    a branch point  the sign of det [J F_μ; tangentᵀ] does (from the factors of one LU; no product is formed)
    a Hopf point    the sign of Π_{i<j} (λ_i + λ_j) does, and the number of growing modes; where that stays, the sum
                    that vanishes is that of two real eigenvalues (a neutral saddle)

is seen, bracketed on the curve, and located by its defining system (ctrnn.analysis.special_points) to round-off. Where
the number of growing modes changes by more than these explain, the step is taken again, shorter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.analysis.arclength import Point, Steps, checked_span, norm
from ctrnn.analysis.branch import Branch, SpecialPoint
from ctrnn.analysis.equilibrium_curve import EquilibriumCurve, limits_of, start_at
from ctrnn.analysis.equilibrium_walk import EquilibriumWalk
from ctrnn.analysis.family import Family
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Field
from ctrnn.states import state_of
from ctrnn.threads import one_blas_thread

__all__ = ["continue_equilibria", "switch_branch"]


def continue_equilibria(
    field: Field,
    r0: Any,
    parameter: str,
    span: tuple[float, float],
    x: Any = None,
    *,
    t: float = 0.0,
    step: float = 0.01,
    max_step: float = 0.05,
    max_points: int = 2000,
    box: Any = None,
) -> Branch:
    """The branch of equilibria through a start, in both directions, with its folds, Hopf points and branch points.

    Parameters
    ----------
    field : any field with second derivatives
    r0 : an equilibrium, or a state (n,) near one, at the field's own value of the parameter; also an `Equilibrium`, or
        a table state -> number
    parameter : its name; "W[0,1]" for an entry of an array, "x[0]" or its name for an input, which is then held
        constant
    span : the parameter's least and largest value; the branch begins inside, at the field's own value (for an input at
        that of ``x``)
    x, t : input (inputs,) and time, held
    step, max_step : first and longest step, as parts of the span (and of the size of the states)
    max_points : the most points in each direction
    box : (low, high), numbers or (n,) each, that the states must not leave; None: no limit

    Returns
    -------
    Branch
        with ``parameter`` (K,), ``r`` (K, n), ``eigenvalues``, ``stable`` and ``special``, along the arc length. Where
        the branch can be followed no
        further, what was found so far comes back, and ``ends`` says why.

    Raises
    ------
    UnknownNameError, UsageError
        for a parameter, span or start that is not allowed
    ConvergenceError
        where no equilibrium is near r0

    Notes
    -----
    Pseudo-arclength continuation (Keller 1977); bordered defining systems (Govaerts 2000); normal forms of Kuznetsov
    (2004). Folds, Hopf and
    branch points are at the accuracy of F itself. A pair of special points between two neighbouring points may go
    unseen: use a shorter max_step.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> field = Equations({"r": "b + r - r**3"}, {"b": 0.0})
    >>> branch = continue_equilibria(field, [1.0], "b", (-1.0, 1.0))
    >>> [(p.kind, round(p.parameter, 9)) for p in branch.special]  # ±2/(3√3)
    [('fold', 0.384900179), ('fold', -0.384900179)]
    """
    family = Family(field, (parameter,), x, t)
    low, high = checked_span("span", span)
    mu = float(family.start[0])
    if not low <= mu <= high:
        hint = f"with_parameters({parameter}=…), or another span"
        raise UsageError("span", given=(low, high), allowed=f"one that holds {mu:g}, the field's own value", hint=hint)
    r = state_of(field, getattr(r0, "r", r0))
    curve = EquilibriumCurve(family, (low, high), float(np.abs(r).max(initial=0.0)))
    y = np.append(r, mu)
    onward = np.eye(1, y.size, y.size - 1)[0]
    with one_blas_thread, np.errstate(all="ignore"):
        start = start_at(curve, y, onward)
        if start is None or not low - 1e-9 * (high - low) <= start.y[-1] <= high + 1e-9 * (high - low):
            raise ConvergenceError(
                f"no equilibrium found near r0 at {parameter} = {mu:g}: max |F| there is "
                f"{np.abs(family.F(r, np.array([mu]))).max():.3g}. Try: ctrnn.find_equilibrium first, or another r0"
            )
        return EquilibriumWalk(curve, Steps(step, max_step, most=max_points), limits_of(curve, box)).both(start)


def switch_branch(
    special: SpecialPoint,
    span: tuple[float, float],
    *,
    step: float = 0.01,
    max_step: float = 0.05,
    max_points: int = 2000,
    box: Any = None,
) -> Branch:
    """The other branch through a branch point, in both directions.

    Parameters
    ----------
    special : a point of kind "branch" on a `Branch`
    span, step, max_step, max_points, box : as in continue_equilibria

    Returns
    -------
    Branch

    Raises
    ------
    UsageError
        for a point that is no branch point of two branches, or a span without it

    Examples
    --------
    >>> from ctrnn import Equations
    >>> field = Equations({"r": "a*r - r**3"}, {"a": -0.5})
    >>> pitchfork = continue_equilibria(field, [0.0], "a", (-1.0, 1.0)).special[0]
    >>> branch = switch_branch(pitchfork, (-1.0, 1.0))
    >>> pitchfork.type, bool(np.allclose(branch.r[:, 0] ** 2, branch.parameter, atol=1e-12))
    ('pitchfork', True)
    """
    if not isinstance(special, SpecialPoint) or special.directions is None:
        raise UsageError("special", given=special, allowed="a simple branch point of a Branch (kind 'branch')")
    family = Family(special.field, (special.name,), special.x, special.t)
    low, high = checked_span("span", span)
    if not low <= special.parameter <= high:
        raise UsageError(
            "span", given=(low, high), allowed=f"one that holds {special.parameter:g}, where branches meet"
        )
    curve = EquilibriumCurve(family, (low, high), float(np.abs(special.r).max(initial=0.0)))
    y = np.append(special.r, special.parameter)
    tangent = special.directions[1] / norm(curve, special.directions[1])
    start = Point(y, tangent, curve.derivative(y))
    with one_blas_thread, np.errstate(all="ignore"):
        curve.tests(start)
        return EquilibriumWalk(curve, Steps(step, max_step, most=max_points), limits_of(curve, box)).both(start)
