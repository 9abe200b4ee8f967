"""Why a gradient left float64: how much a small change of the state grows along the run, and where it is too much.

    dδ/dt = J(t) δ      ln(|δ(t)| / |δ(t0)|)

along the solution, by Taylor steps of order 4 with the mean J of both ends of a step. Gradients are products of these
growths, forward or backward, whatever method computes them: there is no help but less growth, or less time.
"""

from __future__ import annotations

import math

import numpy as np

from ctrnn.errors import CtrnnError, NotFiniteError
from ctrnn.fields.base import Array
from ctrnn.problem import Problem
from ctrnn.solvers.simulate import simulate

#: decades of growth of which a gradient may be said to explode: some are taken by the loss and by dF/dw
DECADES = 250.0
MOST_STEPS = 200_000
HINT = (
    "a shorter t_span, weaker feedback, TruncatedBPTT(window=...), or, for a fit, shooting=True: all keep the "
    "way short along which a change grows"
)


def check_gradient(problem: Problem, loss: Array | float, *parts: Array) -> None:
    """Raises NotFiniteError, which says why as far as that can be found out, for what is infinite or NaN."""
    if _is_finite(loss) and all(map(_is_finite, parts)):
        return
    found = growth(problem) if _is_finite(loss) else None
    if found is None or found[1] < DECADES:
        check_finite(np.nan)
        return
    t, decades = found
    t0 = problem.t_span[0]
    raise NotFiniteError(
        f"the gradient exploded, though the loss is finite: from t = {t0:g} to t = {t:.4g} a small change of the state "
        f"grows by a factor of 1e{decades:.0f} (e-fold every {(t - t0) / (decades * math.log(10.0)):.3g} units of t), "
        f"more than float64 can hold. Try: {HINT}"
    )


def check_finite(*parts: Array | float) -> None:
    """Raises NotFiniteError for a loss or a gradient that is infinite or NaN."""
    if not all(map(_is_finite, parts)):
        raise NotFiniteError(
            "the loss or its gradient is infinite or NaN though the solution is finite. Try: look at the "
            "objective near the solution; it may take a logarithm or divide by 0 there"
        )


def _is_finite(part: Array | float) -> bool:
    return math.isfinite(part) if isinstance(part, float) else not part.size or bool(np.isfinite(part).all())


def growth(problem: Problem) -> tuple[float, float] | None:
    """The time until which it was followed, and the decades of growth: to the end, or to what float64 holds.

    None where that cannot be found out.
    """
    if problem.events or problem.field.n == 0:
        return None
    try:
        run = simulate(problem.replace(objective=None), rtol=1e-6, atol=1e-9, max_steps=MOST_STEPS)
    except CtrnnError:
        return None
    delta, decades = np.full(problem.field.n, problem.field.n**-0.5), 0.0
    with np.errstate(all="ignore"):
        before = _jacobian(problem, run.t[0], run.r[0])
        for t, r, h in zip(run.t[1:], run.r[1:], np.diff(run.t), strict=True):
            after = _jacobian(problem, t, r)
            J, before = (before + after) / 2, after
            parts = min(max(1, math.ceil(2.0 * h * np.abs(J).sum(axis=1).max())), 10_000)
            for part in range(1, parts + 1):
                term, delta = delta, delta.copy()
                for order in range(1, 5):
                    term = h / parts / order * (J @ term)
                    delta += term
                size = float(np.linalg.norm(delta))
                if not 0.0 < size < math.inf:
                    return None
                decades, delta = decades + math.log10(size), delta / size
                if decades > 308.0:
                    return float(t - h + h * part / parts), decades
    return float(run.t[-1]), decades


def _jacobian(problem: Problem, t: float, r: Array) -> Array:
    return np.asarray(problem.field.jacobian(float(t), r, problem.x(float(t)) if problem.x.size else None))
