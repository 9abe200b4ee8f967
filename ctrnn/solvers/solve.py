"""One call for every solver: ours, SciPy's and torchdiffeq's.

All of them step onto the stops at which F jumps, and look the input up strictly inside each piece in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from ctrnn.errors import (
    DivergenceError,
    SolverError,
    StepUnderflowError,
    TooManyStepsError,
    UnknownNameError,
    UsageError,
)
from ctrnn.fields.base import Array, Bound, checked_array
from ctrnn.problem import Course, Problem, Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.auto import chosen
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.threads import side_by_side
from ctrnn.trajectory import Stats, Trajectory
from ctrnn.trials import Trials, one_each


@dataclass(frozen=True)
class Solution:
    """t (T,), r (T, n), what it cost, and the last step size (a hint for what follows)."""

    t: Array
    r: Array
    stats: Stats
    step: float | None = None


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
        if save_at is not None:
            tableau = tableaus.get(settings.solver)
            if tableau.exponential or (settings.dt is None and tableau.dense_order < tableau.order - 1):
                # between its steps the method would be less accurate than at their ends
                course = course.onto(save_at)
        keep = "steps" if save_at is None else "nothing"
        run = Integration(bound, r0, course, settings, save_at, keep, groups, first_step, label)
        if save_at is not None:
            run.run()
            return Solution(save_at, run.saved, run.stats, float(run.clock[1]))
        records = list(run.blocks())
        times = np.concatenate([[course.start]] + [record.t for record in records])
        return Solution(times, np.concatenate([[r0]] + [record.r for record in records]), run.stats)
    if settings.library == "scipy":
        from ctrnn.solvers.scipy_solver import solve_with_scipy as library
    elif settings.library == "torchdiffeq":
        from ctrnn.solvers.torchdiffeq_solver import solve_with_torchdiffeq as library
    else:
        raise UnknownNameError("solver", settings.solver, ("a tableau's name", "scipy:NAME", "torchdiffeq:NAME"))
    return library(bound, r0, course, settings, save_at)


class Rate:
    """dr/dt as a Python function (t, r) -> (n,) for other libraries, on one piece without jumps.

    It counts its calls, and what the library tells of its steps: it has reached ``r`` at ``t`` and is allowed no more than
    ``max_steps``.
    """

    def __init__(self, bound: Bound, name: str, max_steps: int) -> None:
        program = bound.keep[1]
        self.bound, self.calls, self.jacobians = bound, 0, 0
        self.name, self.max_steps, self.steps, self.rejected, self.finite = name, max_steps, 0, 0, True
        self._work = np.zeros(1 if program is None else program.work_size)
        self._x = np.zeros(bound.x_stride)
        self.piece = (-np.inf, np.inf)

    def start(self, a: float, b: float, r: Array) -> None:
        """A new piece, from r at a to b; raises DivergenceError where F is not finite there (SciPy would never return)."""
        self.piece = (min(a, b), max(a, b))
        self.t, self.r, self.h = a, np.array(r), 0.0
        self(a, r)
        if not self.finite:
            raise self.failure("the field is not finite at the start")

    def reached(self, t: float, r: Any) -> None:
        """A step has led to r at t; raises DivergenceError where that is not finite."""
        if not np.isfinite(r).all():
            raise DivergenceError(
                f"{self.name}: the solution became infinite or NaN",
                t=self.t,
                r=self.r,
                h=abs(t - self.t),
                hint="other parameters, another solver, or a shorter t_span",
            )
        self.h, self.t, self.r = abs(t - self.t), float(t), np.array(r)
        self.steps += 1
        self.limit()

    def limit(self) -> None:
        if self.steps + self.rejected > self.max_steps:
            raise TooManyStepsError(
                f"{self.name}: more than {self.max_steps} steps",
                t=self.t,
                r=self.r,
                h=self.h,
                hint="a larger max_steps, rtol or atol",
            )

    def failure(self, message: str) -> SolverError:
        """The library gave up, and said so."""
        kind = StepUnderflowError if self.finite else DivergenceError
        hint = (
            "another solver, larger tolerances or a shorter t_span"
            if self.finite
            else "other parameters or a shorter t_span"
        )
        return kind(f"{self.name}: {message}", t=self.t, r=self.r, h=self.h, hint=hint)

    def __call__(self, t: float, r: Any) -> Array:
        from ctrnn.kernels.stepper import field_at

        out = np.empty(self.bound.n)
        r = np.ascontiguousarray(r, dtype=float)
        field_at(self.bound.system, float(t), self._lookup(t), r, self._work, self._x, out)
        self.calls += 1
        self.bound.raise_pending()
        self.finite = bool(np.isfinite(out).all())
        return out

    def _lookup(self, t: float) -> float:
        low, high = self.piece
        return float(min(max(t, low), np.nextafter(high, low)))

    def jacobian(self, t: float, r: Any) -> Array:
        from ctrnn.kernels import point
        from ctrnn.kernels.signals import evaluate

        out = np.empty((self.bound.n, self.bound.n))
        system = self.bound.system
        evaluate(system.code, system.data, float(t), self._lookup(t), self._work, self._x)
        point.jacobian(system, float(t), np.ascontiguousarray(r, dtype=float), self._x, out)
        self.jacobians += 1
        self.bound.raise_pending()
        if not np.isfinite(out).all():
            self.finite = False
            raise self.failure(f"the Jacobian is not finite at t = {float(t):.10g}")
        return out

    @property
    def has_jacobian(self) -> bool:
        from ctrnn.kernels.abi import JACOBIAN

        return bool(self.bound.system.table[JACOBIAN])


def solve_by_pieces(
    bound: Bound,
    r0: Array,
    course: Course,
    save_at: Array | None,
    name: str,
    max_steps: int,
    piece: Callable[[Rate, float, float, Array, Array | None], tuple[Array, Array, Array]],
) -> Solution:
    """Solve piece after piece with a library's solver.

    ``piece(rate, a, b, r, wanted)`` returns times, states (T, n), and the state at b.
    """
    began = time.perf_counter()
    rate, r = Rate(bound, name, max_steps), np.array(r0, dtype=float)
    t0, way = course.start, course.way
    times: list[Array] = [np.array([t0])] if save_at is None else [save_at[save_at == t0]]
    states: list[Array] = [np.tile(r, (times[0].size, 1))]
    for a, b in course.pieces():
        rate.start(a, b, r)
        wanted = None if save_at is None else save_at[(way * save_at > way * a) & (way * save_at <= way * b)]
        t, found, end = piece(rate, a, b, r, wanted)
        good = np.isfinite(np.append(found, end[None], axis=0)).all(axis=1)
        if not good.all():
            first = int(np.argmin(good))
            last, before = (a, r) if first == 0 else (t[first - 1], found[first - 1])
            raise DivergenceError(
                f"{name}: the solution became infinite or NaN",
                t=float(last),
                r=before,
                h=rate.h,
                hint="other parameters, another solver, or a shorter t_span",
            )
        times.append(t)
        states.append(found)
        r = end
    stats = Stats(name, rate.steps, rate.rejected, rate.calls, rate.jacobians, time.perf_counter() - began)
    return Solution(np.concatenate(times), np.concatenate(states), stats)


@overload
def simulate(problem: Problem, *arguments: Any, **options: Any) -> Trajectory: ...


@overload
def simulate(problem: Trials, *arguments: Any, **options: Any) -> list[Trajectory]: ...


def simulate(
    problem: Problem | Trials,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    save_at: Any = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
) -> Trajectory | list[Trajectory]:
    """Solve dr/dt = F(t, r, w, x(t)) over the problem's time span; of ctrnn.Trials, a list with the solution of each.

    Parameters
    ----------
    solver : "euler", "exponential-euler" (exact leak), "midpoint", "heun", "rk4" (these need dt), "bs3", "dopri5", "tsit5", "dop853" (adaptive; fixed steps
        with dt), "kencarp4", "kvaerno5" (stiff, implicit), "auto" (tsit5, or kvaerno5 where that meets stiffness), or "scipy:LSODA" (BDF, Radau, RK45, DOP853), "torchdiffeq:dopri5" (rk4, ...)
    rtol, atol : relative and absolute tolerance of each step, numbers or (n,)
    dt : fixed step, in the unit of t
    save_at : times (T,) inside t_span, increasing; None saves every step; of trials, these for all or a list with the times of each
    max_steps, min_step : limits

    Steps land on the jumps of the input and on the objective's observation times. Returns a Trajectory: t (T,), r (T, n).

    Raises UsageError for arguments that are not allowed; StepUnderflowError, DivergenceError or TooManyStepsError, with the
    last good time and state, when the solution cannot be carried to the end.

    >>> from ctrnn import Equations, Problem
    >>> decay = Problem(Equations({"r": "-k*r"}, parameters={"k": 2.0}), r0=[1.0], t_span=(0.0, 1.0))
    >>> simulate(decay, save_at=[0.5, 1.0]).r.ravel() - np.exp([-1.0, -2.0]) < 1e-8
    array([ True,  True])
    """
    if isinstance(problem, Trials):
        jobs = list(zip(problem, one_each("save_at", save_at, len(problem)), strict=True))
        options = (solver, rtol, atol, dt)
        return side_by_side(jobs, lambda job: simulate(job[0], *options, job[1], max_steps, min_step), "simulate")
    settings = Settings.of(solver, rtol, atol, dt, max_steps, min_step)
    if isinstance(problem, Problem) and problem.events:
        from ctrnn.solvers.events import simulate_with_events

        saved = None if save_at is None else checked_times("save_at", save_at, problem.t_span)
        return simulate_with_events(problem, settings, saved)
    settings = chosen(problem, settings)
    saved = None if save_at is None else checked_times("save_at", save_at, problem.t_span)
    problem = with_steps(problem, settings)
    found = solve(
        problem.bind(),
        problem.r0,
        problem.course,
        settings,
        saved,
        label="simulate",
    )
    return Trajectory(found.t, found.r, problem.field.state_names, found.stats)


def checked_times(name: str, times: Any, span: tuple[float, float]) -> Array:
    """Increasing times inside a span, (T,)."""
    times = np.atleast_1d(checked_array(name, times))
    if times.ndim != 1 or times.size == 0:
        raise UsageError(name, given=f"shape {times.shape}", allowed="a list of times")
    late = times[1:] <= times[:-1]
    if late.any():
        k = int(np.argmax(late))
        raise UsageError(name, given=f"{times[k]:g} before {times[k + 1]:g}", allowed="increasing times")
    slack = 1e-12 * max(abs(span[0]), abs(span[1]))
    if times[0] < span[0] - slack or times[-1] > span[1] + slack:
        raise UsageError(
            name,
            given=f"times from {times[0]:g} to {times[-1]:g}",
            allowed=f"times inside t_span, {span[0]:g} to {span[1]:g}",
        )
    return times.clip(*span)
