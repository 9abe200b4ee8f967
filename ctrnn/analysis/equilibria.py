r"""Equilibria: where 0 = F(r*, w, x), and what the flow does near them.

    relaxation   dr/dt = F(r)                         to the point that the flow from r0 reaches
    Newton       J δ = −F,   r ← r + α δ              α = 1, ½, ¼, … until ‖F‖ falls

*Which* equilibrium is found is decided so:

1. r0 is relaxed by the ODE. Where the flow comes to rest (its speed falls by `REST_SPEED`), Newton
   polishes that point, and if it is stable (its J has no growing mode) it is the answer: the state
   that the system itself reaches from r0.
2. An unstable equilibrium or a centre is never reached so: the interior point of Lotka–Volterra is
   a centre, the middle of a limit cycle an unstable focus. A trajectory may also creep past a
   saddle, as Lotka–Volterra past (0, 0), which is why 1 asks for stability. Then Newton starts from
   r0 and from the mean of the trajectory over its last stretch: the middle of an oscillation, and
   for Lotka–Volterra about the equilibrium itself. Of the points found the one with the smallest
   spectral abscissa is the answer, of equal ones the one nearest to r0: the centre that the
   populations go around, not the extinct state (0, 0). If neither start converges, the slowest
   point of the trajectory is tried.

``method="newton"`` leaves the relaxation out: Newton from r0 alone, to find a saddle near r0.

The stability is that of the linearisation, by the eigenvalues of J (Strogatz, *Nonlinear Dynamics
and Chaos*, chapters 5 and 6); where one of them has no real part J decides nothing, and the point
does not count as stable.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import ConvergenceError, SingularJacobianError, UnknownNameError, UsageError
from ctrnn.fields.base import Field
from ctrnn.gradients.equilibrium import rest_scale
from ctrnn.problem import state_of

__all__ = ["Equilibrium", "classify", "find_equilibrium"]

METHODS = ("auto", "newton")
REST_SPEED = 1e-6  # the speed, over that at r0, at which the relaxation counts as come to rest
NEWTON_STEPS = 100
#: Real parts below this, over the largest |λ|, count as zero.
ZERO_REAL_PART = 1e-9


@dataclass(frozen=True)
class Equilibrium:
    """A point where F vanishes.

    ``r`` (n,); ``residual`` max |F|; ``speed`` ‖F‖₂ = ‖dr/dt‖, both in units of r per t;
    ``jacobian`` (n, n); ``eigenvalues`` (n,), complex, real parts descending; ``stable``: all real
    parts are negative; ``kind``: see `classify`; ``iterations`` of Newton; ``t`` and ``x`` at which
    F was taken; ``names`` of the states.
    """

    r: np.ndarray
    residual: float
    speed: float
    jacobian: np.ndarray
    eigenvalues: np.ndarray
    stable: bool
    kind: str
    iterations: int
    t: float
    x: np.ndarray | None
    names: tuple[str, ...]

    @property
    def abscissa(self) -> float:
        """The spectral abscissa max Re λ, per unit of t."""
        return float(self.eigenvalues.real[0])

    def __str__(self) -> str:
        title = f"equilibrium: {self.kind} ({'stable' if self.stable else 'not stable'})"
        title += f", max |F| = {self.residual:.2g} after {self.iterations} Newton steps"
        width = max(len("state"), *(len(name) for name in self.names))
        lines = [title, f"  {'state':<{width}}  {'r':>16}"]
        shown = min(self.r.size, 20)
        for name, r in zip(self.names[:shown], self.r, strict=False):
            lines.append(f"  {name:<{width}}  {r:>16.10g}")
        if shown < self.r.size:
            lines.append(f"  … and {self.r.size - shown} more")
        return "\n".join([*lines, f"  eigenvalues of J: {_listed(self.eigenvalues)}"])


def _listed(eigenvalues: np.ndarray, most: int = 8) -> str:
    """Eigenvalues in their order, conjugate pairs as one.

    >>> _listed(np.array([0.5j, -0.5j, -1.0, -2.0 + 3.0j, -2.0 - 3.0j]))
    '±0.5i, -1, -2 ± 3i'
    """
    words = []
    for λ in eigenvalues:
        if λ.imag < 0:  # said with its conjugate
            continue
        if not λ.imag:
            words.append(f"{λ.real:.8g}")
        else:
            words.append(f"{λ.real:.8g} ± {λ.imag:.8g}i" if λ.real else f"±{λ.imag:.8g}i")
    more = f", … ({eigenvalues.size} in all)" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def find_equilibrium(
    field: Field, r0: Any, x: Any = None, t: float = 0.0, tol: float = 1e-12, method: str = "auto"
) -> Equilibrium:
    """The equilibrium of the field that r0 leads to; the module's docstring says which one.

    r0: a state (n,). x: the input (nx,), held; a signal is taken at t. t: time, held, for a field
    that names it. tol: the largest |F_i| at rest, over Σ_j |J_ij| max(1, |r_j|); Newton goes on
    below it for as long as F falls. method: ``"auto"``, or ``"newton"`` without relaxation.

    Raises `ConvergenceError` with the smallest residual reached, `SingularJacobianError` where
    Newton stops at a singular J, `UsageError` for shapes, NaN, or an F that is not finite at r0.

    >>> from ctrnn.fields.equations import Equations
    >>> field = Equations(
    ...     {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"},
    ...     {"a": 0.55, "b": 0.028, "c": 0.80, "d": 0.024},
    ... )
    >>> eq = find_equilibrium(field, [30.0, 20.0])
    >>> eq.kind, np.round(eq.r, 6)  # (c/d, a/b)
    ('centre', array([33.333333, 19.642857]))
    """
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if not tol > 0:
        raise UsageError("tol", given=tol, allowed="a positive number")
    r0 = state_of(field, r0)
    if callable(x):
        x = x(t)
    x = None if x is None else np.atleast_1d(np.asarray(x, dtype=np.float64))
    point = _Point(field, float(t), x)
    if not (np.isfinite(r0).all() and np.isfinite(field(t, r0, x)).all()):
        raise UsageError("r0", given=r0, allowed="a finite state at which F is finite")

    with np.errstate(all="ignore"):  # trial points may lie anywhere; they are tested for NaN
        if method == "newton":
            return _best(point, [_newton(point, r0, tol)], r0)
        path = _relax(point, r0)
        runs = []
        if path.rests:
            runs.append(_newton(point, path.r, tol))
            # not a saddle that the trajectory creeps past
            if runs[0].found and _spectrum(runs[0].J).real[0] <= _zero(runs[0].J):
                return _best(point, runs, r0)
        starts = [_newton(point, start, tol) for start in (r0, path.mean)]
        if not any(run.found for run in starts):
            starts += runs or [_newton(point, path.r, tol)]
        return _best(point, starts, r0)


def classify(eigenvalues: Any) -> str:
    """The kind of an equilibrium, from the eigenvalues of its J.

    "stable node", "unstable node" (all real, of one sign), "stable focus", "unstable focus" (some
    are complex), "saddle", "saddle-focus" (both signs), "centre" (all on the imaginary axis, none
    zero) or "non-hyperbolic" (some on the axis: the linearisation does not decide).

    >>> [classify(λ) for λ in ([-1, -2], [-1 + 2j, -1 - 2j], [1, -1], [1j, -1j], [0, -1])]
    ['stable node', 'stable focus', 'saddle', 'centre', 'non-hyperbolic']
    """
    λ = np.asarray(eigenvalues, dtype=np.complex128)
    zero = ZERO_REAL_PART * np.abs(λ).max(initial=0.0)
    on_axis, focus = np.abs(λ.real) <= zero, bool((np.abs(λ.imag) > zero).any())
    if on_axis.any():
        return "centre" if on_axis.all() and (np.abs(λ) > zero).all() else "non-hyperbolic"
    if (λ.real < 0).all():
        return "stable focus" if focus else "stable node"
    if (λ.real > 0).all():
        return "unstable focus" if focus else "unstable node"
    return "saddle-focus" if focus else "saddle"


# --- the field at a fixed t and x ----------------------------------------------------------------


@dataclass(frozen=True)
class _Point:
    field: Field
    t: float
    x: np.ndarray | None

    def F(self, r: np.ndarray) -> np.ndarray:
        if not np.isfinite(r).all():  # a field refuses such a state; a trial step only backs off
            return np.full(r.shape, np.nan)
        return self.field(self.t, r, self.x)

    def J(self, r: np.ndarray) -> np.ndarray:
        return self.field.jacobian(self.t, r, self.x)


# --- relaxation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Path:
    r: np.ndarray  # the slowest point seen
    mean: np.ndarray  # the time average over the last stretch
    rests: bool


def _relax(point: _Point, r0: np.ndarray) -> _Path:
    """Follow dr/dt = F from r0 for as long as that slows it down.

    Stretches of 10, 20, 40, … time constants (1 over the spectral radius of J at r0), until the
    speed has fallen by REST_SPEED, or has not halved over four stretches, or the flow escapes.
    """
    from scipy.integrate import LSODA

    rate = float(np.abs(np.linalg.eigvals(point.J(r0))).max())
    duration = 10.0 / rate if rate > 0 and math.isfinite(rate) else 10.0
    start_speed = best_speed = float(np.linalg.norm(point.F(r0)))
    slowest = r = mean = r0
    idle = 0
    while best_speed > REST_SPEED * start_speed and idle < 4:
        integral, previous_best = np.zeros_like(r), best_speed
        try:
            solver = LSODA(lambda _, r: point.F(r), 0.0, r, duration, rtol=1e-8, atol=1e-10)
            while solver.status == "running":
                before, t_before = solver.y.copy(), solver.t
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # LSODA's; its status is read below
                    solver.step()
                if solver.status == "failed" or not np.isfinite(solver.y).all():
                    return _Path(slowest, mean, False)
                integral += 0.5 * (solver.t - t_before) * (before + solver.y)
                speed = float(np.linalg.norm(point.F(solver.y)))
                if speed < best_speed:
                    best_speed, slowest = speed, solver.y.copy()
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):
            break  # the flow left the region where F can be evaluated
        r, mean = solver.y.copy(), integral / duration
        idle = 0 if best_speed <= 0.5 * previous_best else idle + 1
        duration *= 2.0
    return _Path(slowest, mean, best_speed <= REST_SPEED * start_speed)


# --- Newton --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    r: np.ndarray
    F: np.ndarray
    J: np.ndarray
    iterations: int
    found: bool
    singular: bool


def _newton(point: _Point, r: np.ndarray, tol: float) -> _Run:
    """Newton with a backtracking line search on ‖F‖, until ‖F‖ does not fall any more.

    Where J is singular to working precision the step is the shortest that solves J δ = −F in the
    sense of least squares: on a line of equilibria that is the way to the line.
    """
    F, J = point.F(r), point.J(r)
    singular, steps = False, 0
    while steps < NEWTON_STEPS:
        size = float(np.linalg.norm(F))
        if size == 0.0:
            break
        at_rest = bool((np.abs(F) <= tol * rest_scale(J, r)).all())
        # lstsq cuts off the singular values that rounding alone produces
        δ, _, rank, _ = np.linalg.lstsq(J, -F, rcond=r.size * np.finfo(float).eps)
        singular = rank < r.size
        α, least = 1.0, (1.0 if at_rest else 2.0**-30)  # once at rest only full steps: it polishes
        while α >= least:
            ahead = r + α * δ
            F_ahead = point.F(ahead)
            if np.linalg.norm(F_ahead) <= (1.0 - 1e-4 * α) * size:  # False for NaN
                break
            α *= 0.5
        if α < least:
            break
        r, F, J, steps = ahead, F_ahead, point.J(ahead), steps + 1
    found = bool((np.abs(F) <= tol * rest_scale(J, r)).all())
    return _Run(r, F, J, steps, found, singular)


def _spectrum(J: np.ndarray) -> np.ndarray:
    """Eigenvalues, real parts descending; of a pair the one above the axis first."""
    λ = np.linalg.eigvals(J).astype(np.complex128)
    return λ[np.lexsort((-λ.imag, -λ.real))]


def _zero(J: np.ndarray) -> float:
    """What counts as a zero real part."""
    return ZERO_REAL_PART * float(np.abs(np.linalg.eigvals(J)).max())


def _best(point: _Point, runs: list[_Run], r0: np.ndarray) -> Equilibrium:
    """Of the runs that came to rest the least unstable, then nearest to r0, as an Equilibrium."""
    found = [run for run in runs if run.found]
    if not found:
        run = min(runs, key=lambda run: float(np.abs(run.F).max()))
        residual = float(np.abs(run.F).max())
        if run.singular:
            raise SingularJacobianError(
                float(np.linalg.cond(run.J)),
                f"the Jacobian where Newton stopped (max |F| = {residual:.3g})",
                "another r0; or other parameters: there may be no equilibrium (|F| has a minimum)",
            )
        raise ConvergenceError(
            f"no equilibrium found from r0: the smallest max |F| reached is {residual:.3g}, at "
            f"r = {np.array2string(run.r, precision=6, threshold=8)} after {run.iterations} Newton "
            "steps. Try: another r0, nearer to where the field is expected to rest"
        )
    least = min(_spectrum(run.J).real[0] + _zero(run.J) for run in found)
    alike = [run for run in found if _spectrum(run.J).real[0] <= least]
    run = min(alike, key=lambda run: float(np.linalg.norm(run.r - r0)))
    λ = _spectrum(run.J)
    kind = classify(λ)
    return Equilibrium(
        r=run.r,
        residual=float(np.abs(run.F).max()),
        speed=float(np.linalg.norm(run.F)),
        jacobian=run.J,
        eigenvalues=λ,
        stable=kind.startswith("stable"),
        kind=kind,
        iterations=run.iterations,
        t=point.t,
        x=point.x,
        names=tuple(point.field.state_names),
    )
