"""How far a gradient can be trusted: the same number by other routes, its own error, and what chaos leaves of it.

error        ‖g − g*‖/‖g*‖, g* by another method, another solver and a hundredth of the tolerances; entries of w and r0
             times their size, so that units do not matter. digits = −log10(error)
same steps   the same comparison with torch's derivatives through the very steps taken: right to round-off where the
             code is right
slope        dl/dε = g·d along d = the gradient in relative coordinates, against [64 D(ε/2) − 20 D(ε) + D(2ε)]/45, D the
             central difference of the loss: no derivative at all
             Through events both are those of whole solutions: g* by the other one of RTRL and the adjoint, differences
             at the tighter tolerance
horizon      t0 + log(1/tol)/λ, with λ the run's largest Lyapunov exponent: an error of the relative size tol, such as
             each step makes, has grown to the size of the state by then. tol = rtol, or for fixed steps the measured
             relative error of the first one
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import CtrnnError, SolverError, UnknownNameError
from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.frame import Frame, mean_rates
from ctrnn.gradients.continuous.scales import parameter_scales, typical
from ctrnn.gradients.continuous.system import ForwardSystem
from ctrnn.gradients.dispatch import compute
from ctrnn.gradients.independent.autograd import Autograd
from ctrnn.gradients.independent.differences import CentralDifference, moved_field
from ctrnn.gradients.method import Exact, GradientMethod, Passes
from ctrnn.gradients.recording.replay import recorded
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.schedules.adjoint import Adjoint
from ctrnn.gradients.schedules.rtrl import RTRL
from ctrnn.gradients.sensitivity.events import event_loss
from ctrnn.problem import Problem, Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.solve import solve
from ctrnn.threads import one_blas_thread

#: stages that torch may take again; each takes some 100 µs there
STAGES = 4000
#: doubles that the recorded stages may take
MEMORY = 5e7
#: flops of forward sensitivities that a second opinion may cost
FLOPS = 2e10
#: rtol below which rounding rules
LEAST_RTOL = 3e-14
#: relative steps of the central differences; in chaos only the smallest are small
STEPS = (1e-3, 1e-5, 1e-7, 1e-9)


@dataclass(frozen=True, repr=False)
class Certificate:
    """What stands behind a gradient; prints as a few lines. ``notes`` say why something could not be computed.

    Attributes
    ----------
    digits, error
        Of the gradient, against ``route``; None without a second opinion.
    loss_error
        Relative, of the loss.
    route
        The independent method, solver and tolerance.
    same_steps, same_route
        Digits of agreement through the steps taken, and with what.
    slope, difference, slope_digits
        dl/dε along the gradient, the central difference of the loss, and their digits of agreement.
    exponent, exponent_error
        The run's largest Lyapunov exponent, per unit of t, and its standard error.
    tolerance, horizon
        tol, and the time beyond which an error of that size has grown to the size of the state; None: never.
    t_span, notes
        Of the problem; remarks.
    reference
        g*, the gradient by ``route``.
    """

    digits: float | None
    error: float | None
    loss_error: float | None
    route: str
    same_steps: float | None
    same_route: str
    slope: float
    difference: float | None
    slope_digits: float | None
    exponent: float | None
    exponent_error: float | None
    tolerance: float
    horizon: float | None
    t_span: tuple[float, float]
    notes: tuple[str, ...] = ()
    reference: Gradient | None = None

    @property
    def lost(self) -> bool:
        """Whether the run goes beyond its horizon and the gradient shows it: no digit of it is left."""
        return self.horizon is not None and self.horizon < self.t_span[1] and not (self.digits or 0.0) >= 1.0

    @property
    def text(self) -> str:
        """All of it, in lines."""
        if self.digits is None:
            lines = [f"certificate: none, for want of a second opinion by {self.route}"]
        else:
            lines = [
                f"certificate: {self.digits:.1f} digits; estimated relative error {self.error:.1e} (of the loss "
                f"{self.loss_error:.1e}), against {self.route}"
            ]
        if self.same_steps is not None:
            lines.append(f"  through the same steps, {self.same_route}: {self.same_steps:.1f} digits")
        if self.difference is not None:
            lines.append(
                f"  along the gradient dl/dε = {self.slope:.8g}, by central differences {self.difference:.8g}: "
                f"{self.slope_digits:.1f} digits"
            )
        if self.exponent is not None:
            lines.append(
                f"  largest Lyapunov exponent {self.exponent:+.3g} ± {self.exponent_error:.1g} per unit of t: "
                f"{self._growth}"
            )
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    @property
    def _growth(self) -> str:
        if self.horizon is None:
            return "errors do not grow" if (self.exponent or 0.0) <= 0.0 else "not told from zero by a run this short"
        end = self.t_span[1]
        reach = f"a relative error of {self.tolerance:.1g} grows to the size of the state by t = {self.horizon:.4g}"
        if self.lost:
            return f"{reach}; beyond that no gradient means anything, and this run goes on to t = {end:.4g}"
        if self.horizon < end:
            return f"{reach}, but what it disturbs grows as fast: the digits above remain"
        return f"{reach}, beyond the end of this run at t = {end:.4g}"

    def __repr__(self) -> str:
        return self.text


def certify(found: Gradient, method: GradientMethod, problem: Problem, settings: Settings) -> Certificate:
    """Check a gradient that ``method`` has found, at a few times its cost; the module has the formulas."""
    notes: list[str] = []

    def attempt(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except CtrnnError as error:
            notes.append(f"no {what}: {error}")
            return None

    problem = with_steps(problem, settings)
    scale = _scale(problem)
    judge, tight = _second_opinion(found, method, problem, settings)
    route = f"{judge.name}, by {tight.solver} at rtol = {float(np.min(tight.rtol)):.1g}"
    reference = attempt("second opinion", compute, judge, problem, tight)
    error = None if reference is None else distance(found, reference, scale)
    loss_error = None
    if reference is not None:
        loss_error = abs(found.loss - reference.loss) / (abs(reference.loss) or 1.0)

    same_steps, same_route = None, ""
    other = _through_the_same_steps(found, method, problem, settings)
    if other is not None:
        again = attempt("derivatives through the same steps", compute, other, problem, settings)
        if again is not None:
            same_steps, same_route = digits_of(distance(found, again, scale)), other.name

    g = np.concatenate([found.vector, found.r0])
    # what is 0 at the start stays 0: a concentration may not become negative, by however little
    moved = np.concatenate([scale[: problem.field.m], np.abs(problem.r0)])
    slope = float(np.linalg.norm(moved * g))
    difference, slope_digits = None, None
    if slope > 0.0:
        along = attempt("central difference", _Along, problem, settings, tight, found, moved**2 * g / slope)
        difference = None if along is None else attempt("central difference", along.difference)
    if difference is not None:
        slope_digits = digits_of(abs(slope - difference) / max(abs(slope), abs(difference)))

    exponents = None
    if problem.events:
        notes.append("no Lyapunov exponent: of a run without events only")
    else:
        exponents = attempt("Lyapunov exponent", _exponent, problem, settings)
    tol = attempt("tolerance", _tolerance, problem, settings, tight) or float(np.finfo(float).eps)
    exponent, spread = (None, None) if exponents is None else exponents
    horizon = None
    if exponent is not None and exponent > 2.0 * (spread or 0.0) and exponent > 0.0:
        horizon = problem.t_span[0] + math.log(1.0 / tol) / exponent
    return Certificate(
        None if error is None else digits_of(error),
        error,
        loss_error,
        route,
        same_steps,
        same_route,
        slope,
        difference,
        slope_digits,
        exponent,
        spread,
        tol,
        horizon,
        problem.t_span,
        tuple(notes),
        reference,
    )


# --- the other routes


def _second_opinion(
    found: Gradient, method: GradientMethod, problem: Problem, settings: Settings
) -> tuple[GradientMethod, Settings]:
    """Another family of methods, another solver, and a hundredth of the tolerances."""
    n, kernel = problem.field.n, problem.field._kernel
    flops = 2.0 * n * n * (kernel.groups * kernel.columns + n) * 12 * max(found.stats.steps, 100)
    stiff = is_stiff(settings)
    solver = settings.solver.lower()
    if stiff:
        other = "kencarp4" if solver == "kvaerno5" else "kvaerno5"
    else:
        other = "tsit5" if solver in ("dop853", "dopri8") else "dop853"
    judge: GradientMethod = Adjoint() if stiff else Adjoint("interpolate")
    if problem.events:
        judge = RTRL() if method.facts.passes is Passes.BACKWARD else Adjoint()
    elif method.facts.passes is not Passes.FORWARD and (flops < FLOPS or method == judge):
        judge = RTRL() if stiff else RTRL(mode="continuous")
    rtol = np.maximum(np.asarray(settings.rtol) / 100.0, LEAST_RTOL)
    atol = np.asarray(settings.atol) / 100.0
    return judge, Settings(other, rtol, atol, max_steps=10**7)


def is_stiff(settings: Settings) -> bool:
    """Whether the solver is one for stiff problems, so that its judge should be."""
    if settings.library:
        return settings.solver.partition(":")[2].lower() in ("lsoda", "bdf", "radau")
    return not _explicit(settings)


def _explicit(settings: Settings) -> bool:
    """Whether the solver is an explicit tableau of ours."""
    try:
        return settings.library == "" and not np.triu(tableaus.get(settings.solver).a).any()
    except UnknownNameError:
        return False


def _through_the_same_steps(
    found: Gradient, method: GradientMethod, problem: Problem, settings: Settings
) -> GradientMethod | None:
    """A method with other derivatives, for those that are exact for the steps taken; None where that is too dear."""
    if settings.library or problem.events or method.facts.exact_for is Exact.EQUATION:
        return None
    if method.facts.independent:
        return Adjoint()
    # implicit stages also need J from torch
    stages = tableaus.get(settings.solver).stages * (1 if _explicit(settings) else 4)
    affordable = found.stats.steps * stages <= STAGES
    return Autograd() if affordable else None


class _Along:
    """The loss on the line (w, r0) + ε d: through the steps taken, if they are ours, else by tight solutions."""

    def __init__(self, problem: Problem, settings: Settings, tight: Settings, found: Gradient, d: Array) -> None:
        self.problem, self.settings, self.tight, self.d = problem, settings, tight, d
        self.steps = None
        if _explicit(settings) and not problem.events:
            stages = found.stats.steps * tableaus.get(settings.solver).stages * problem.field.n
            if stages <= MEMORY:
                self.steps = recorded(problem, settings, "central difference")

    def loss(self, epsilon: float) -> float:
        m = self.problem.field.m
        w, r0 = self.problem.field.vector + epsilon * self.d[:m], self.problem.r0 + epsilon * self.d[m:]
        if self.steps is not None:
            return CentralDifference._loss(self.problem, self.settings, self.steps, w, r0)
        return _loss(self.problem.replace(field=moved_field(self.problem.field, w), r0=r0), self.tight)

    def difference(self) -> float:
        """dl/dε by differences of order 6, with the step at which they differ least from those of order 4.

        Raises what the solver raises, where it cannot go the smallest step away.
        """
        best, least = 0.0, math.inf
        for step in STEPS:
            try:
                half, one, two = ((self.loss(e) - self.loss(-e)) / (2.0 * e) for e in (0.5 * step, step, 2.0 * step))
            except SolverError:
                if step == STEPS[-1] and least == math.inf:
                    raise
                continue
            six, four = (64.0 * half - 20.0 * one + two) / 45.0, (4.0 * half - one) / 3.0
            doubt = abs(six - four) / (abs(six) or 1.0)
            if doubt < least:
                best, least = six, doubt
            if least < 1e-9:
                break
        return best


def _loss(problem: Problem, settings: Settings) -> float:
    """The loss alone, on any solver."""
    if problem.events:
        return event_loss(problem, settings)[0]
    objective = problem.needs_objective("a loss")
    system = ForwardSystem(problem, with_p=False, with_readout=False)
    settings, groups = system.tolerances(settings)
    save_at = problem.course.stops[-1:] if objective.times is None else problem.observed
    found = solve(system.bound, system.start(), problem.course, settings, save_at, groups, label="loss")
    if objective.times is None:
        return float(system.part(found.r, "l")[-1, 0])
    return float(objective.at_observations(np.ascontiguousarray(found.r[:, : problem.field.n]))[0].sum())


def _exponent(problem: Problem, settings: Settings) -> tuple[float, float]:
    """The run's largest Lyapunov exponent, to the accuracy that a mean over it is worth, and its standard error."""
    looser = max(1.0, 1e-6 / max(float(np.min(settings.rtol)), 1e-300))
    rtol, atol = np.asarray(settings.rtol) * looser, np.asarray(settings.atol) * looser
    # an implicit method of ours solves for r alone, not for r and its tangent
    explicit = settings.library or _explicit(settings)
    solver, dt = (settings.solver, settings.dt) if explicit else ("scipy:LSODA", None)
    problem = problem.replace(objective=None)
    with one_blas_thread if problem.field._kernel.blas else nullcontext():
        (rate,), (error,) = mean_rates(*Frame(problem, 1, Settings(solver, rtol, atol, dt, 10**7), label="chaos").run())
    return float(rate), float(error)


def _tolerance(problem: Problem, settings: Settings, tight: Settings) -> float:
    """The relative error that a step makes."""
    eps = float(np.finfo(float).eps)
    if settings.dt is None:
        rtol = np.asarray(settings.rtol)
        return max(float(rtol[rtol > 0].min(initial=math.inf if (rtol > 0).any() else 1e-16)), eps)
    t0, t1 = problem.t_span
    short = problem.replace(t_span=(t0, min(t1, t0 + settings.dt)), objective=None, events=())
    ends = [
        solve(short.bind(), short.r0, short.course, s, short.course.stops[-1:], label="first step").r[-1]
        for s in (settings, tight)
    ]
    size = float(np.linalg.norm(ends[1])) or 1.0
    return min(max(float(np.linalg.norm(ends[0] - ends[1])) / size, eps), 0.5)


# --- comparison


def relative_error(found: Gradient, star: Gradient, problem: Problem) -> float:
    """‖g − g*‖/‖g*‖ of two gradients of a problem, entries of w and r0 times their size."""
    return distance(found, star, _scale(problem))


def _scale(problem: Problem) -> Array:
    return np.concatenate([parameter_scales(problem.field), np.full(problem.field.n, typical(problem.r0))])


def distance(a: Gradient, b: Gradient, scale: Array) -> float:
    """‖a − b‖/‖b‖ of two gradients; each entry of w and r0 counts with its size."""
    one, two = (
        np.concatenate([scale * np.concatenate([g.vector, g.r0.ravel()]), *map(np.ravel, (g.readout or {}).values())])
        for g in (a, b)
    )
    off, size = float(np.linalg.norm(one - two)), float(np.linalg.norm(two))
    return off / size if size > 0.0 else (0.0 if off == 0.0 else 1.0)


def digits_of(error: float) -> float:
    """The digits of a relative error, 0 to 16; 0 where it is not finite."""
    return float(np.clip(-math.log10(max(error, 1e-16)), 0.0, 16.0)) if math.isfinite(error) else 0.0
