"""One call for every solver: ours, SciPy's and torchdiffeq's.

All of them step onto the stops at which F jumps, and look the input up strictly inside each piece in between.
"""

from __future__ import annotations

import numpy as np

from ctrnn.course import Course
from ctrnn.errors import UnknownNameError
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.memory import claim
from ctrnn.problem import Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.solvers.scipy_solver import solve_with_scipy
from ctrnn.solvers.solution import Solution
from ctrnn.solvers.torchdiffeq_solver import solve_with_torchdiffeq


def course_onto(course: Course, settings: Settings, save_at: Array | None) -> Course:
    """The way of a run whose states at ``save_at`` are wanted.

    It goes onto them where between its steps the method would be less accurate than at their ends.
    """
    if save_at is None or settings.library:
        return course
    tableau = tableaus.get(settings.solver)
    coarse = settings.dt is None and tableau.dense_order < tableau.order - 1
    return course.onto(save_at) if tableau.exponential or coarse else course


def solve(
    bound: Bound,
    r0: Array,
    course: Course,
    settings: Settings,
    save_at: Array | None = None,
    groups: tuple[int, ...] | None = None,
    first_step: float | None = None,
    label: str = "solve",
) -> Solution:
    """Solve along a course; states at ``save_at``, or at every step where that is None."""
    if settings.library == "":
        course = course_onto(course, settings, save_at)
        keep = "steps" if save_at is None else "nothing"
        if settings.dt is not None and save_at is None:
            steps = abs(course.end - course.start) / settings.dt
            claim("dt", 16.0 * steps * (bound.n + 1), "save_at=..., which keeps the states at these times alone")
        run = Integration(bound, r0, course, settings, save_at, keep, groups, first_step, label)
        if save_at is not None:
            run.run()
            return Solution(save_at, run.saved, run.stats, float(run.clock[1]))
        records = list(run.blocks())
        times = np.concatenate([[course.start]] + [record.t for record in records])
        return Solution(times, np.concatenate([[r0]] + [record.r for record in records]), run.stats)
    if settings.library == "scipy":
        library = solve_with_scipy
    elif settings.library == "torchdiffeq":
        library = solve_with_torchdiffeq
    else:
        raise UnknownNameError("solver", settings.solver, ("a tableau's name", "scipy:NAME", "torchdiffeq:NAME"))
    return library(bound, r0, course, settings, save_at)
