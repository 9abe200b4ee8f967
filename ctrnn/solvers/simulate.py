"""ctrnn.simulate: the solution of a problem, with its events, or of each trial of a batch."""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from ctrnn.batches import one_each
from ctrnn.fields.base import Array
from ctrnn.problem import Problem, Settings, Trials, checked_problem
from ctrnn.solvers import tableaus
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.solvers.dense import DenseOutput, dense_of
from ctrnn.solvers.events import occurrences, pieces
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.noise import noisy, with_noise
from ctrnn.solvers.runge_kutta import tableau_of
from ctrnn.solvers.solution import checked_times
from ctrnn.solvers.solve import course_onto, solve
from ctrnn.threads import map_parallel
from ctrnn.trajectory import Trajectory


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
    max_step: float = np.inf,
    first_step: float | None = None,
    noise: Any = None,
    seed: int | None = None,
) -> Trajectory | list[Trajectory]:
    """Solve dr/dt = F(t, r, w, x(t)) over the problem's time span; of ctrnn.Trials, a list with the solution of each.

    Parameters
    ----------
    problem : ctrnn.Problem or ctrnn.Trials
        What to solve.
    solver : str
        "euler", "exponential-euler" (exact leak), "midpoint", "heun", "rk4": these need dt; "bs3", "dopri5", "tsit5",
        "dop853": adaptive, or by fixed steps with dt; "kencarp4", "kvaerno5": implicit, for stiff problems; "auto":
        tsit5, or kvaerno5 where that meets stiffness; "scipy:LSODA" (BDF, Radau, RK45, DOP853, RK23);
        "torchdiffeq:dopri5" (rk4, …).
    rtol, atol : float or (n,) array_like
        Relative and absolute tolerance of each step.
    dt : float, optional
        A fixed step, in the unit of t.
    save_at : (T,) array_like, optional
        Times inside t_span, increasing, or decreasing where t_span goes backwards; None saves every step. Of trials,
        times for all or a list with those of each.
    max_steps : int
        Steps tried before giving up.
    min_step : float
        The smallest step, in the unit of t; 0: the smallest that moves t.
    max_step : float
        The longest adaptive step, in the unit of t: not longer than a short event that no error estimate would see.
    first_step : float, optional
        The length of the first adaptive step tried; None chooses it.
    noise : ctrnn.WhiteNoise, or what it takes as a scale, optional
        dr = F dt + g dW in the place of the problem's own noise; takes dt, and "euler" (Euler and Maruyama, Itô) or
        "heun" (Stratonovich) or another explicit solver.
    seed : int, optional
        Which path of the noise, in the place of its own seed.

    Returns
    -------
    ctrnn.Trajectory, or a list of them for trials
        t (T,), r (T, n), what it cost; called as ``run(t)``, the solution at any times in between.

    Raises
    ------
    UsageError
        For arguments that are not allowed.
    StepUnderflowError, DivergenceError, TooManyStepsError, ConvergenceOfStageError
        Where the solution cannot be carried to the end; each has the last good time and state.

    Notes
    -----
    Steps end on the jumps of the input and on the objective's observation times. Values between two steps are those of
    the method's dense output (``ctrnn.solvers.dense``); with noise, whose path is known at the steps alone, they are no
    more than a curve.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrnn import Equations, Problem
    >>> decay = Problem(Equations({"r": "-k*r"}, parameters={"k": 2.0}), r0=[1.0], t_span=(0.0, 1.0))
    >>> simulate(decay, save_at=[0.5, 1.0]).r.ravel() - np.exp([-1.0, -2.0]) < 1e-8
    array([ True,  True])
    """
    if noise is not None or seed is not None:
        if not isinstance(problem, Trials):
            checked_problem(problem)
        problem = noisy(problem, noise, seed)
    if isinstance(problem, Trials):
        problem = with_noise(problem, Settings.of(solver, rtol, atol, dt, max_steps, min_step))
        jobs = list(zip(problem, one_each("save_at", save_at, len(problem)), strict=True))
        options = (solver, rtol, atol, dt)
        limits = max_steps, min_step, max_step, first_step
        return map_parallel(jobs, lambda job: simulate(job[0], *options, job[1], *limits), "simulate")
    settings = Settings.of(solver, rtol, atol, dt, max_steps, min_step, "all", max_step, first_step)
    if isinstance(problem, Problem) and problem.events:
        saved = None if save_at is None else checked_times("save_at", save_at, problem.t_span)
        return simulate_with_events(problem, settings, saved)
    names = checked_problem(problem, backward=True).field.state_names
    if problem.noise is not None:
        checked_problem(problem)
    problem = with_noise(problem, settings)
    settings = resolve_auto_solver(problem, settings)
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
    dense = dense_of(problem, settings, saved)
    return Trajectory(found.t, found.r, names, found.stats, dense=dense)


def simulate_with_events(problem: Problem, settings: Settings, save_at: Array | None) -> Trajectory:
    """ctrnn.simulate for a problem with events; behind an event that ends the run nothing is saved."""
    settings = resolve_auto_solver(problem, settings)
    tableau, course = tableau_of(settings, "a problem with events"), problem.course
    if save_at is not None and settings.dt is None and tableaus.get(settings.solver).dense_order < tableau.order - 1:
        course = course.onto(save_at)
    found, stats = pieces(problem, settings, course)
    times, states, runs = [], [], []
    for k, piece in enumerate(found):
        start, end = piece.problem.t_span
        wanted = save_at
        if save_at is not None:
            # at the time of an event the state after it is saved
            wanted = save_at[(save_at >= start) & ((save_at < end) if piece.fired else (save_at <= end))]
        way = course_onto(piece.problem.course, settings, wanted)
        runs.append((piece.problem, way))
        run = solve(piece.problem.bind(), piece.problem.r0, way, settings, wanted, label="simulate")
        stats = stats + run.stats
        t, r = run.t, run.r
        if save_at is None and k and np.array_equal(found[k - 1].before, found[k - 1].after):
            t, r = t[1:], r[1:]
        times.append(t)
        states.append(r)
    changed = not np.array_equal(found[-1].before, found[-1].after)
    if found[-1].fired and (changed if save_at is None else found[-1].end in save_at):
        times.append(np.array([found[-1].end]))
        states.append(found[-1].after[None])
    t, r = np.concatenate(times), np.concatenate(states)
    dense = DenseOutput(runs, settings)
    return Trajectory(t, r, problem.field.state_names, stats, occurrences(problem, found), dense)
