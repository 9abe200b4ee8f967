"""Noise along the steps of a solver: the problem with its path as an input, which everything then takes as it is.

    r⁺ = r + h Σ_i b_i k_i,    k_i = F(t_i, r_i) + g(t_i, r_i) ∘ ΔW/h,    ΔW ~ N(0, h)

is Euler and Maruyama's method for one stage and stochastic Heun for the explicit trapezoid. A method of order two or
more agrees with r + h (F + g ΔW/h) + ½ g′ g ΔW² + …, the scheme of Milstein for Stratonovich's equation, for g_i that
depends on r_i alone (Kloeden & Platen 1992, chs. 10.3 and 11.1; Rümelin, SIAM J. Numer. Anal. 19, 1982).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, overload

import numpy as np

from ctrnn.course import Course
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.equations import Equations
from ctrnn.inputs import stack
from ctrnn.memory import claim
from ctrnn.noise import as_noise
from ctrnn.problem import Problem, Settings, Trials, checked_problem
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import Integration

TRY = "solver='euler' or solver='heun', with dt=..."


@overload
def noisy(problem: Problem, noise: Any, seed: int | None) -> Problem: ...


@overload
def noisy(problem: Trials, noise: Any, seed: int | None) -> Trials: ...


def noisy(problem: Problem | Trials, noise: Any, seed: int | None) -> Problem | Trials:
    """The problem with other noise, or with its own from another seed; raises UsageError for a seed of no noise."""
    first = problem[0] if isinstance(problem, Trials) else problem
    return problem.replace(noise=as_noise(first.noise if noise is None else noise, seed))


@overload
def with_noise(problem: Problem, settings: Settings) -> Problem: ...


@overload
def with_noise(problem: Trials, settings: Settings) -> Trials: ...


def with_noise(problem: Problem | Trials, settings: Settings) -> Problem | Trials:
    """The problem, or the trials, with the path of the noise as an input; as it is where there is none.

    Raises UsageError for steps that are not fixed ones of an explicit method, and for the other calculus than the
    solver's.
    """
    if isinstance(problem, Trials):
        if all(trial.noise is None for trial in problem):
            return problem
        twins: dict[int, Field] = {}
        made = [_of_one(trial, settings, twins) for trial in problem]
        return Trials.of(made, problem.shares_r0)
    return problem if checked_problem(problem, backward=True).noise is None else _of_one(problem, settings, {})


def _of_one(problem: Problem, settings: Settings, twins: dict[int, Field]) -> Problem:
    """``twins``: fields with noise, one for all trials of a field."""
    noise, field = problem.noise, problem.field
    if noise is None:
        return problem
    noisy = twins.setdefault(id(field), noise.noisy(field)) if id(field) not in twins else twins[id(field)]
    check(settings, noise.calculus, noisy.noise_is_additive)
    assert settings.dt is not None
    # the path depends on the steps alone, and goes with the problem where numbers change
    key = ("noise", settings.solver, settings.dt, settings.max_steps, settings.min_step)
    known = problem.timelines.get(key)
    if known is None:
        channels = noisy.input_size - field.input_size
        course = problem.course
        steps = min(settings.max_steps, abs(course.end - course.start) / settings.dt)
        # of each step its time, as the stepper keeps it and in one array, and the path, drawn and as an input
        claim("dt", (32.0 + 32.0 * channels) * steps, "a larger dt, or a shorter t_span at a time")
        times = step_times(course, settings)
        path = noise.signal(times, channels, settings.dt)
        x = stack(problem.driven_by, path) if problem.driven_by.size else path
        known = problem.timelines[key] = problem.replace(field=noisy, x=x, noise=None)
        known.is_noisy = True
    made = known.replace(field=noisy)
    made.r0 = problem.r0.copy()
    return made


def check(settings: Settings, calculus: str | None, is_additive: bool) -> None:
    """Raise UsageError for settings under which noise cannot be solved, or means something else."""
    allowed = "fixed steps of an explicit method, with noise"
    if settings.library:
        raise UsageError("solver", given=settings.solver, allowed=allowed, hint=TRY)
    tableau = tableaus.get(settings.solver) if settings.solver != "auto" else None
    if tableau is None or tableau.implicit or tableau.exponential:
        raise UsageError("solver", given=settings.solver, allowed=allowed, hint=TRY)
    if settings.dt is None:
        raise UsageError("dt", given=None, allowed="a step size, with noise", hint=TRY)
    if calculus is None or is_additive:
        return
    its = "ito" if tableau.order == 1 else "stratonovich"
    if its != calculus:
        raise UsageError(
            "calculus",
            given=f"{calculus} with {tableau.name}, of a g that depends on the state",
            allowed=f"{its}, which {tableau.name} computes",
            hint="solver='euler' for Itô's calculus, 'heun' for Stratonovich's",
        )


@lru_cache(maxsize=1)
def at_rest() -> Equations:
    """A field with one state, which stays where it is."""
    return Equations({"r": "0"})


def step_times(course: Course, settings: Settings) -> Array:
    """t0 and where the steps of the compiled stepper end, to the bit."""
    alone = Settings(settings.solver, 1e-8, 1e-8, settings.dt, settings.max_steps, settings.min_step)
    run = Integration(at_rest()._bind(), np.zeros(1), course, alone, keep="steps", label="noise")
    return np.concatenate([[course.start], *(record.t for record in run.blocks())])
