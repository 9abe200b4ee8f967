"""SciPy's solvers on any field: "scipy:RK45", "scipy:DOP853", "scipy:LSODA", "scipy:BDF", "scipy:Radau"."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.course import Course
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.problem import Settings
from ctrnn.solvers.library import Rate, solve_by_pieces
from ctrnn.solvers.solution import Solution

NAMES = ("RK23", "RK45", "DOP853", "LSODA", "BDF", "Radau")
IMPLICIT = ("LSODA", "BDF", "Radau")


def method_name(settings: Settings) -> str:
    """The method of "scipy:METHOD", in SciPy's spelling; raises UnknownNameError, and UsageError for a fixed step."""
    asked = settings.solver.partition(":")[2]
    method = next((name for name in NAMES if name.lower() == asked.lower()), None)
    if method is None:
        raise UnknownNameError("solver", settings.solver, [f"scipy:{name}" for name in NAMES])
    if settings.dt is not None:
        raise UsageError("dt", given=settings.dt, allowed="None: SciPy's solvers choose their steps")
    return method


def options_for(method: str, settings: Settings, rate: Rate) -> dict[str, Any]:
    """Keyword arguments of ``solve_ivp``.

    Tolerances, our Jacobian where the method takes one, and an event that never happens, by which steps are counted.
    """
    rtol, atol = settings.tolerances(rate.bound.n)
    options: dict[str, Any] = {"rtol": max(float(np.min(rtol)), 3e-14), "atol": atol}

    still = 0

    def step(t: float, r: Array) -> float:
        """An event that never happens: SciPy looks at it at the start and after each step."""
        nonlocal still
        still = 0 if t != rate.t else still + 1
        if still == 0:
            rate.reached(t, r)
        elif still > 100:  # LSODA would go on for ever with steps that do not move t
            raise rate.failure("the step size fell below what moves t")
        return 1.0

    options["events"] = step
    options["max_step"] = settings.max_step
    if method in IMPLICIT and rate.has_jacobian:
        options["jac"] = rate.jacobian
    if method == "LSODA" and settings.min_step:
        options["min_step"] = settings.min_step
    return options


def solve_piece(method: str, settings: Settings, rate: Rate, a: float, b: float, r: Array, dense_output: bool) -> Any:
    """scipy.integrate.solve_ivp from a to b."""
    import warnings

    from scipy.integrate import solve_ivp

    # a field that is not finite is told by its Rate and by the status; NumPy's warnings on the way there add nothing
    with warnings.catch_warnings(), np.errstate(invalid="ignore", over="ignore"):
        # LSODA reports a failure as a warning too; the status says the same
        warnings.simplefilter("ignore", UserWarning)
        options = options_for(method, settings, rate)
        if settings.first_step is not None:
            options["first_step"] = min(settings.first_step, abs(b - a))
        found = solve_ivp(rate, (a, b), r, method=method, dense_output=dense_output, **options)
    if found.status < 0:
        raise rate.failure(found.message)
    return found


def solve_with_scipy(bound: Bound, r0: Array, course: Course, settings: Settings, save_at: Array | None) -> Solution:
    """scipy.integrate.solve_ivp from one jump to the next, with our Jacobian where the method takes one."""
    method = method_name(settings)

    def piece(rate: Rate, a: float, b: float, r: Array, wanted: Array | None) -> tuple[Array, Array, Array]:
        found = solve_piece(method, settings, rate, a, b, r, wanted is not None)
        if wanted is None:
            return found.t[1:], found.y[:, 1:].T, found.y[:, -1]
        states = found.sol(wanted).T if wanted.size else np.empty((0, r.size))
        states[wanted == b] = found.y[:, -1]
        return wanted, states, found.y[:, -1]

    return solve_by_pieces(bound, r0, course, save_at, f"scipy:{method}", settings.max_steps, piece)
