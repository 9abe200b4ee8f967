"""Exponential Euler is Euler's method on another field: Euler steps of φ₁(hD) F.

Steps may be cut short, by jumps of the input and by observations, and F has to know the h of each: it is one more
channel of the input, which the stepper fills in. Everything that is exact for Euler steps is exact for these
(ctrnn.fields.exponential has the formulas).
"""

from __future__ import annotations

from ctrnn.errors import UsageError
from ctrnn.fields.exponential import Exponential
from ctrnn.inputs import Constant, stack
from ctrnn.numbers import MOST
from ctrnn.problem import Problem, Settings
from ctrnn.solvers import tableaus


def with_steps(problem: Problem, settings: Settings) -> Problem:
    """The problem that the solver's tableau is for: that of φ₁(hD) F for exponential Euler, any other as it is.

    Raises UsageError without a step size, and for a field whose leak is not known as a formula.
    """
    t0, t1 = problem.t_span
    if settings.dt is not None and not (t1 - t0) / settings.dt <= MOST:
        allowed = f"steps that move t, from {t0:g} to {t1:g}"
        raise UsageError("dt", given=settings.dt, allowed=allowed, hint="a longer step, or an adaptive solver")
    if settings.library or problem.field._reads_step_size or not tableaus.get(settings.solver).exponential:
        return problem
    if settings.dt is None:
        allowed = "a step size: exponential-euler has no error estimate"
        raise UsageError("dt", given=None, allowed=allowed, hint="dt=..., or an adaptive solver such as 'tsit5'")
    h = Constant([0.0])  # until the stepper says otherwise
    x = stack(problem.x, h) if problem.x.size else h
    return problem.replace(field=problem.field._with_step_size() or Exponential(problem.field), x=x)
