"""solver="auto": explicit where that is enough, implicit where the problem is stiff.

The run begins with tsit5. Where its steps are limited by stability and not by accuracy (ctrnn.kernels.stepper counts
them), the problem is solved from the start again with kvaerno5. The steps that are thrown away are few, and a run by
one method from end to end is one discrete function, whose gradient every method of this toolkit knows.
"""

from __future__ import annotations

from dataclasses import replace

from ctrnn.errors import StepUnderflowError, TooManyStepsError, UsageError
from ctrnn.kernels import stepper
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.solvers.events import pieces
from ctrnn.solvers.runge_kutta import Integration

EXPLICIT, IMPLICIT = "tsit5", "kvaerno5"
#: steps between two looks at whether the problem is stiff
LOOK = 256


def resolve_auto_solver(problem: Problem, settings: Settings) -> Settings:
    """The settings with "auto" replaced by the solver that suits the problem; others as they are.

    Raises UsageError for "auto" with a fixed step, and for what is no problem.
    """
    checked_problem(problem, backward=True)
    if settings.solver.lower() != "auto":
        return settings
    if settings.dt is not None:
        raise UsageError("dt", given=settings.dt, allowed="None with solver='auto', which looks at the steps chosen")
    explicit, implicit = replace(settings, solver=EXPLICIT), replace(settings, solver=IMPLICIT)
    if problem.events:
        try:
            return implicit if pieces(problem, explicit)[1].stiff else explicit
        except (StepUnderflowError, TooManyStepsError):
            return implicit
    run = Integration(problem.bind(), problem.r0, problem.course, explicit, keep="steps", label="auto")
    try:
        for _ in run.blocks(LOOK):
            if run.count[stepper.STIFF]:
                return implicit
    except (StepUnderflowError, TooManyStepsError):
        return implicit if run.count[stepper.STIFF] else explicit
    return explicit
