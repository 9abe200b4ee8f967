"""How large things are, so that absolute tolerances do not depend on the units of parameters and losses.

A sensitivity dr/dw_j has the unit r/w_j, a cotangent λ the unit l/r, a gradient the unit l/w_j. w_j is measured by the
root mean square of the named array it belongs to, so that one weight that happens to be small does not switch the
control of its sensitivity off.
"""

from __future__ import annotations

import numpy as np

from ctrnn.errors import NotFiniteError
from ctrnn.fields.base import Array, Field
from ctrnn.gradients.finite import check_finite
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.solve import solve

#: points at which an integral's rate is sampled for its size
SAMPLES = 257


def parameter_scales(field: Field) -> Array:
    """A typical size for each entry of the flat vector, (m,); 1 for an array of zeros."""
    sizes = [np.full(value.size, typical(value)) for value in field.parameters.values()]
    return np.concatenate([np.empty(0), *sizes])


def typical(values: Array) -> float:
    """Root mean square, or 1 where that is 0 or there is nothing."""
    return float(np.sqrt(np.mean(np.square(values)))) or 1.0 if values.size else 1.0


def integral_scales(problem: Problem, settings: Settings) -> tuple[float, float]:
    """∫ |aℓ| dt and max |a ∂ℓ/∂r| · (t1 − t0), from a solution without the loss, sampled: sizes, not values.

    Raises NotFiniteError where the loss is infinite or NaN on the way.
    """
    objective = problem.needs_objective("an integral")
    t = np.linspace(*problem.t_span, SAMPLES)
    found = solve(problem.bind(), problem.r0, problem.course, settings, t, label="scale")
    signals = problem.signals.evaluate(t)[:, problem.field.input_size :]
    l, l_r, _ = objective.rate(np.ascontiguousarray(found.r), signals)
    if not (np.isfinite(l).all() and np.isfinite(l_r).all()):
        k = int(np.argmin(np.isfinite(l) & np.isfinite(l_r).all(axis=1)))
        raise NotFiniteError(
            f"the loss or its derivative is infinite or NaN at t = {t[k]:.6g}. Try: look at the objective "
            "near the solution; it may take a logarithm or divide by 0 there"
        )
    check_finite(l, l_r)
    span = problem.t_span[1] - problem.t_span[0]
    return float(np.mean(np.abs(l))) * span, float(np.max(np.abs(l_r), initial=0.0)) * span
