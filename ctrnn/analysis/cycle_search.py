r"""Where a limit cycle is: from a run that comes near it, or from the Hopf point at which it is born.

From a run: where the trajectory returns to its last state is a first guess of the cycle; from a Hopf point it is r* +
ε Re(q e^{iωt}), the ellipse of that size on which the field has a cycle at a parameter nearby. Newton's method on the
collocation equations (ctrnn.analysis.collocation) then finds the cycle itself, stable or not, on meshes that are
refined until the period stays.

Source: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapter 10.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis.branch import SpecialPoint
from ctrnn.analysis.collocation import Linear, Orbit, Row
from ctrnn.analysis.cycles import Cycle, cycle_of
from ctrnn.analysis.family import Family, depends_on_time
from ctrnn.analysis.returns import return_time, sampled
from ctrnn.analysis.special_points import null_vectors
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.inputs import Constant
from ctrnn.numbers import checked_array, positive
from ctrnn.problem import Problem, checked_problem
from ctrnn.solvers.simulate import simulate
from ctrnn.threads import one_blas_thread

__all__ = ["limit_cycle"]

#: intervals of the meshes on which Newton's method begins, and the most that the period is given
MESHES, LARGEST_MESH = (24, 96, 384), 768
#: the period stays where doubling the mesh changes it by less, relatively
TOLERANCE = 1e-11
#: the place of a cycle is known to this part of its distance from 0
ROUNDED = 1e-13


def limit_cycle(
    problem: Problem | Field,
    hopf: SpecialPoint | None = None,
    *,
    period: float | None = None,
    amplitude: float = 0.01,
    tol: float = TOLERANCE,
) -> Cycle:
    """The limit cycle that a run reaches, or that is born at a Hopf point.

    Parameters
    ----------
    problem : a `Problem` whose run comes near the cycle by the end of its t_span; its input is constant and F does not
        depend on t.
        Or a field, together with ``hopf``
    hopf : a point of kind "hopf" on a `Branch` of that field; the cycle then is one near it, at a value of the
        parameter nearby
    period : a first guess of the period, where the run's last turn is of another length; by default that of its last
        return
    amplitude : of the cycle at a Hopf point, as a part of max(1, max |r|)
    tol : the mesh is doubled until the period changes by less than this, relatively

    Returns
    -------
    Cycle
        with ``period``, ``multipliers``, ``stable``, ``r``, ``t`` and ``phase_response``

    Raises
    ------
    UsageError
        for a field of one state, one that depends on t or a driven one, or a point that is no Hopf point
    ConvergenceError
        where the run comes to rest, does not return, or leads to no cycle

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> field = Equations({"u": "v", "v": "mu*(1 - u**2)*v - u"}, {"mu": 1.0})
    >>> cycle = limit_cycle(Problem(field, [2.0, 0.0], (0.0, 40.0)))
    >>> f"{cycle.period:.10f}", cycle.stable
    ('6.6632868593', True)
    """
    tol = positive("tol", tol)
    with one_blas_thread, np.errstate(all="ignore"):
        if hopf is not None:
            return _from_hopf(problem, hopf, amplitude, tol)
        if isinstance(problem, Field):
            raise UsageError("hopf", given=None, allowed="a Hopf point of a Branch, for a field; or a Problem alone")
        return _from_run(checked_problem(problem), period, tol)


# --- from a run --------------------------------------------------------------------------------------------------


def _from_run(problem: Problem, period: float | None, tol: float) -> Cycle:
    field, x = problem.field, _held(problem)
    _autonomous(field, problem.r0, x, problem.t_span)
    family = Family(field, (), x)
    run = simulate(problem.replace(objective=None), rtol=1e-9, atol=1e-12)
    t, r = run.t, run.r
    if period is not None:
        T = float(checked_array("period", period, ()))
        if not 0 < T <= t[-1] - t[0]:
            raise UsageError("period", given=T, allowed=f"a time up to {t[-1] - t[0]:g} (t_span)")
    else:
        T = return_time(family, t, r)
    guess = partial(sampled, family, t, r, T)
    found = refined(family, guess, tol)
    if found is None or (found[0].size < 1e-2 * guess(MESHES[0]).size).all():
        raise ConvergenceError(
            f"no limit cycle found from the last {T:.6g} of the run: Newton's method does not converge to one. "
            "Try: a longer t_span, so that the run is nearer to the cycle, or period=…"
        )
    orbit, linear, error = found
    return cycle_of(family, orbit, linear, error)


def _held(problem: Problem) -> Array | None:
    """The input (inputs,), which has to be constant."""
    if problem.noise is not None:
        raise UsageError("problem", given="a problem with noise", allowed="one without: a cycle closes")
    if problem.events:
        raise UsageError("problem", given="events", allowed="a problem without events, here")
    if problem.field.input_size == 0:
        return None
    t0, t1 = problem.t_span
    x = problem.x(t0)
    if not isinstance(problem.x, Constant):
        samples = np.array([problem.x(t) for t in np.linspace(t0, t1, 17)])
        if np.ptp(samples, axis=0).any():
            hint = "make the drive two states of the field, as u' = −ωv, v' = ωu"
            raise UsageError("problem", given="an input that changes", allowed="a constant input", hint=hint)
    return np.asarray(x)


def _autonomous(field: Field, r: Array, x: Array | None, span: tuple[float, float]) -> None:
    if field.n < 2:
        raise UsageError("problem", given="a field of one state", allowed="two states or more: on a line no cycle is")
    if depends_on_time(field, r, x, span):
        raise UsageError("problem", given="a field that depends on t", allowed="one that does not name t, for a cycle")


def refined(
    family: Family, guess: Callable[[int], Orbit], tol: float, more: Any = None, largest: int = LARGEST_MESH
) -> tuple[Orbit, Linear, float] | None:
    """Newton's cycle from a guess on N intervals, its mesh adapted and doubled until the period stays.

    The last of the three is how much the period changed at last, relatively.
    """
    found = None
    for N in MESHES:
        first = guess(N)
        found = collocation.newton(family, first, first, more)
        if found is not None:
            break
    if found is None:
        return None
    orbit, linear = found
    N, error = len(orbit.R), np.inf
    while True:
        moved = collocation.on_mesh(orbit, linear.F, collocation.better_mesh(orbit, linear.F, N))
        found = collocation.newton(family, moved, moved, more)
        if found is None:
            return (orbit, linear, error) if np.isfinite(error) else None
        error = abs(found[0].T - orbit.T) / orbit.T
        centre, unit = orbit.R.mean(axis=0), orbit.unit
        drift = np.abs(_means(found[0], centre, unit) - _means(orbit, centre, unit))
        stays = 1e2 * tol + np.tile(ROUNDED * np.abs(centre) / unit, 2)
        orbit, linear = found
        if (error <= tol and (drift <= stays).all()) or largest <= N:
            break
        N = min(2 * N, largest)
    return orbit, linear, error


def _means(orbit: Orbit, centre: Array, size: Array) -> Array:
    """The means over a turn of each state and of its square, from ``centre`` in units of ``size``.

    From another place the square of a small cycle would drown in rounding.
    """
    weights, around = orbit.h[:, None] * collocation.gauss()[1], (orbit.Y - centre) / size
    return np.concatenate([np.einsum("ij,ijn->n", weights, around**power) for power in (1, 2)])


# --- from a Hopf point -------------------------------------------------------------------------------------------


def _from_hopf(field: Any, hopf: SpecialPoint, amplitude: float, tol: float) -> Cycle:
    if not isinstance(field, Field):
        raise UsageError("problem", given=field, allowed="a field, with a Hopf point of one of its branches")
    if not isinstance(hopf, SpecialPoint) or hopf.kind != "hopf" or hopf.omega is None:
        raise UsageError("hopf", given=hopf, allowed="a point of kind 'hopf' of a Branch")
    amplitude = positive("amplitude", amplitude)
    family = Family(field, (hopf.name,), hopf.x, hopf.t)
    guess, rows = hopf_guess(family, hopf, amplitude)
    found = refined(family, guess, tol, rows)
    if found is None:
        raise ConvergenceError(
            f"no limit cycle of amplitude {amplitude:g} found near {hopf}. Try: a smaller amplitude; where the pair "
            "does not cross the axis, or l1 is zero, there may be none"
        )
    orbit, linear, error = found
    return cycle_of(family, orbit, linear, error)


def hopf_guess(family: Family, hopf: SpecialPoint, amplitude: float) -> tuple[Callable[[int], Orbit], Any]:
    """The ellipse r* + ε Re(q e^{iωt}) at a Hopf point, and the row that keeps ⟨r − r*, that ellipse⟩."""
    omega = float(hopf.omega or 0.0)
    mu = np.array([hopf.parameter])
    q, _ = null_vectors(family.J(hopf.r, mu), 1j * omega)
    ε = amplitude * max(1.0, float(np.abs(hopf.r).max())) / float(np.abs(q).max())
    c, b, _, _, _ = collocation.gauss()

    def ellipse(s: Array) -> Array:
        return ε * (np.exp(2j * np.pi * s)[..., None] * q).real

    def guess(N: int) -> Orbit:
        s = np.linspace(0.0, 1.0, N + 1)
        stages = s[:-1, None] + np.diff(s)[:, None] * c
        return Orbit(s, hopf.r + ellipse(s[:-1]), hopf.r + ellipse(stages), 2 * np.pi / omega, mu)

    def rows(orbit: Orbit) -> list[Row]:
        own = orbit.s[:-1, None] + orbit.h[:, None] * c
        w = ellipse(own) * (orbit.h[:, None] * b)[:, :, None]
        size = float((w * ellipse(own)).sum())
        return [Row(w / size, 0.0, np.zeros(1), 1.0 - float(((orbit.Y - hopf.r) * w).sum()) / size)]

    return guess, rows
