r"""The ways to a point of rest, each from one start, at fixed t and x.

    relaxation           dr/dt = F(r)                            LSODA, until it rests
    Anderson             r ← Σ_k α_k (r_k + h F_k),  Σ α = 1     α minimises ‖Σ α_k F_k‖ over the last points; no J
    Newton               J δ = −F,  r ← r + α δ                  α = 1, ½, ¼, … until ‖F‖ falls
    pseudo-transient     (I/δ − J) Δ = F,  r ← r + Δ             δ ← δ ‖F_old‖/‖F‖: an implicit Euler step at first,
                                                                 Newton's step near rest

Anderson's h is a network's τ, or 1/‖J‖ from products; where h alone would diverge, the combination of the last points
converges in most cases. Pseudo-transient continuation follows the flow where it is far from rest, so that it ends at a
stable point where Newton may not.

Sources: D. G. Anderson, J. ACM 12 (1965); H. F. Walker and P. Ni, SIAM J. Numer. Anal. 49 (2011); C. T. Kelley and
D. E. Keyes, "Convergence analysis of pseudo-transient continuation", SIAM J. Numer. Anal. 35 (1998).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.analysis.linear import shortest
from ctrnn.callbacks import Pending
from ctrnn.fields.base import Field, time_constants
from ctrnn.gradients.rest.equilibrium import rest_scale
from ctrnn.gradients.rest.rows import norm_from_below
from ctrnn.kernels import abi, rest, signals

REST_SPEED = 1e-6  # the speed, over that at r0, at which the relaxation counts as come to rest
NEWTON_STEPS = 100
ANDERSON_STEPS = 2000
STEPS = 20_000  # of LSODA, in one stretch of the flow
STRETCHES = 11  # of the relaxation, from ten time constants on: 20,000 in all
#: up to so many states ‖J‖ is that of the matrix
SMALL = 32


# --- the field at a fixed t and x ----------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A field at a fixed time t and input x (inputs,)."""

    field: Field
    t: float
    x: np.ndarray | None

    def F(self, r: np.ndarray) -> np.ndarray:
        """F (n,) at a state; NaN where the state is not finite."""
        if not np.isfinite(r).all():  # a field refuses such a state; a trial step only backs off
            return np.full(r.shape, np.nan)
        return self.field(self.t, r, self.x)

    @cached_property
    def compiled(self) -> tuple[Any, np.ndarray, Callable[[], None], Any]:
        """What compiled loops take: the system, x, what raises an error of a callback, and what to keep alive."""
        if isinstance(self.field, Field):
            _, bound, _, x = self.field._at_point(self.t, np.zeros(self.field.n), self.x)
            return bound.system, x, bound.raise_pending, bound
        # anything else that can be called as a field is
        pending, n = Pending(), self.field.n

        def rate(ctx: int, t: float, r: int, w: int, x: int, out: int) -> None:
            abi.view(out, n)[:] = self.F(abi.view(r, n).copy())

        function = abi.callback(abi.F, pending.guard(rate, lambda *a: abi.view(a[5], n)))
        table = np.array([abi.address_of(function), 0, 0, 0, 0])
        ctx = np.zeros(abi.EXTRA, dtype=np.int64)
        system = abi.System(table, ctx, np.zeros(1), *signals.source(None))
        return system, np.zeros(1), pending.raise_pending, function

    def J(self, r: np.ndarray) -> np.ndarray:
        """J (n, n) at a state."""
        return self.field.jacobian(self.t, r, self.x)

    def norm(self, r: np.ndarray) -> float:
        """‖J‖₂ from below, by a few products."""
        if r.size <= SMALL or not hasattr(self.field, "vjp"):
            J = self.J(r)
            return float(np.linalg.norm(J, 2)) if np.isfinite(J).all() else math.inf
        row = np.random.default_rng(0).normal(size=r.size)
        return norm_from_below(lambda V: self.field.vjp(self.t, r, V, self.x), row)

    def time(self, r: np.ndarray) -> float:
        """1/‖J‖, the fastest time constant; 1 where J is zero."""
        norm = self.norm(r)
        return 1.0 / norm if norm > 0 and math.isfinite(norm) else 1.0


# --- relaxation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Path:
    """What following the flow has shown."""

    r: np.ndarray  # the slowest point seen
    mean: np.ndarray  # the time average over the last stretch
    rests: bool


def follow(point: Point, r0: np.ndarray) -> Path:
    """Follow dr/dt = F from r0 for as long as that slows it down.

    Stretches of 10, 20, 40, … time constants (1 over ‖J‖ at r0, about), until the
    speed has fallen by REST_SPEED, or has not halved over four stretches, or the flow escapes.
    """
    duration = 10.0 * point.time(r0)
    start_speed = best_speed = float(np.linalg.norm(point.F(r0)))
    slowest = r = mean = r0
    idle = 0
    while best_speed > REST_SPEED * start_speed and idle < 4:
        integral, previous_best, t, before = np.zeros_like(r), best_speed, 0.0, r
        for t_now, now in steps_along(point, r, duration, 1e-8, 1e-10):
            integral += 0.5 * (t_now - t) * (before + now)
            speed = float(np.linalg.norm(point.F(now)))
            if speed < best_speed:
                best_speed, slowest = speed, now
            t, before = t_now, now
        if t < duration:  # the flow left the region where F can be evaluated
            break
        r, mean = before, integral / duration
        idle = 0 if best_speed <= 0.5 * previous_best else idle + 1
        duration *= 2.0
    return Path(slowest, mean, best_speed <= REST_SPEED * start_speed)


def steps_along(
    point: Point, r: np.ndarray, duration: float, rtol: float, atol: float
) -> Iterator[tuple[float, np.ndarray]]:
    """LSODA's steps t, r along dr/dt = F.

    They end before the duration where F cannot be evaluated, and after STEPS: at a pole of F they grow short without
    end.
    """
    from scipy.integrate import LSODA

    try:
        solver = LSODA(lambda _, r: point.F(r), 0.0, r, duration, rtol=rtol, atol=atol)
        for _ in range(STEPS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # LSODA's; its status is read below
                solver.step()
            if solver.status == "failed" or not np.isfinite(solver.y).all():
                return
            yield solver.t, solver.y.copy()
            if solver.status == "finished":
                return
    except (ArithmeticError, ValueError, np.linalg.LinAlgError):
        return


# --- Newton --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Where a search has ended: r and F there, after how many iterations, and whether that is a point of rest."""

    r: np.ndarray
    F: np.ndarray
    point: Point
    iterations: int
    found: bool
    singular: bool = False

    @cached_property
    def J(self) -> np.ndarray:
        """J (n, n) at the end."""
        return self.point.J(self.r)


def newton(point: Point, r: np.ndarray, tol: float) -> Run:
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
        least = shortest(J, -F)
        if least is None:
            break
        δ, singular = least[0], least[1] < r.size
        α, α_least = 1.0, (1.0 if at_rest else 2.0**-30)  # once at rest only full steps: it polishes
        while α >= α_least:
            ahead = r + α * δ
            F_ahead = point.F(ahead)
            if np.linalg.norm(F_ahead) <= (1.0 - 1e-4 * α) * size:  # False for NaN
                break
            α *= 0.5
        if α < α_least:
            break
        r, F, J, steps = ahead, F_ahead, point.J(ahead), steps + 1
    return Run(r, F, point, steps, _is_zero(F, J, r, tol), singular)


def _is_zero(F: np.ndarray, J: np.ndarray, r: np.ndarray, tol: float) -> bool:
    """|F_i| ≤ tol Σ_j |J_ij| max(1, |r_j|), if that is finite: beside infinity, all is zero."""
    return _is_below(F, tol * rest_scale(J, r))


def _is_below(F: np.ndarray, bound: np.ndarray | float) -> bool:
    return bool(np.isfinite(bound).all() and (np.abs(F) <= bound).all())


def rests(point: Point, r: np.ndarray, F: np.ndarray, tol: float) -> bool:
    """|F_i| ≤ tol Σ_j |J_ij| max(1, |r_j|); of many states |F_i| ≤ tol ‖J‖ max(1, max |r|), without J."""
    if r.size <= SMALL:
        return _is_zero(F, point.J(r), r, tol)
    tau = time_constants(point.field)  # a network's leak alone makes J as large as 1/τ
    norm = point.norm(r) if tau is None else 1.0 / np.asarray(tau)
    return _is_below(F, tol * norm * max(1.0, float(np.abs(r).max())))


def relaxation(point: Point, r: np.ndarray, tol: float) -> Run:
    """The flow itself, with tight tolerances, in stretches that double.

    It goes on for as long as the speed halves within three of them, and for `STRETCHES` at most. Where it slows down as
    a power of the time (at a Hopf point as 1/√t) it would never be at rest.
    """
    duration, speeds, F, stretches = 10.0 * point.time(r), [np.inf], point.F(r), 0
    while stretches < STRETCHES and not rests(point, r, F, tol) and np.isfinite(F).all():
        speeds.append(float(np.linalg.norm(F)))
        if len(speeds) > 4 and speeds[-1] > 0.5 * speeds[-4]:
            break
        t, ahead = 0.0, r
        for t, ahead in steps_along(point, r, duration, 1e-11, 1e-14 + 1e-16 * float(np.abs(r).max())):  # noqa: B007
            pass
        if t < duration or not np.isfinite(point.F(ahead)).all():
            break
        r, F, stretches, duration = ahead, point.F(ahead), stretches + 1, 2.0 * duration
    return Run(r, F, point, stretches, rests(point, r, F, tol))


def anderson(point: Point, r: np.ndarray, tol: float) -> Run:
    """Anderson's iteration on r ↦ r + h F(r), down to tol, compiled; h halves where it diverges."""
    tau = time_constants(point.field)  # with h = τ a network's own decay is done in one step
    h = np.array(np.broadcast_to(point.time(r) if tau is None else tau, r.shape), dtype=float)
    system, x, raise_pending, _ = point.compiled
    r, F = np.array(r, dtype=float), np.empty(r.size)
    steps = rest.anderson(system, point.t, x, h, tol, ANDERSON_STEPS, r, F)
    raise_pending()
    return Run(r, F, point, steps, rests(point, r, F, tol))


def pseudo_transient(point: Point, r: np.ndarray, tol: float) -> Run:
    """Implicit Euler steps whose length grows as ‖F‖ falls, until it falls no more.

    A step that is not finite is tried at a tenth of its length.
    """
    F, δ, steps = point.F(r), point.time(r), 0
    while steps < 10 * NEWTON_STEPS:
        size = float(np.linalg.norm(F))
        if size == 0.0:
            break
        J = point.J(r)
        try:
            ahead = r + np.linalg.solve(np.eye(r.size) / δ - J, F)
            F_ahead = point.F(ahead)
        except np.linalg.LinAlgError:
            F_ahead = np.full(r.size, np.nan)
        steps += 1
        if not np.isfinite(F_ahead).all():
            δ /= 10.0
            if δ < 1e-12 * point.time(r):
                break
            continue
        now = float(np.linalg.norm(F_ahead))
        if now >= size and (np.abs(F) <= tol * rest_scale(J, r)).all():
            break
        r, F, δ = ahead, F_ahead, min(δ * size / max(now, 1e-300), 1e15 * point.time(r))
    return Run(r, F, point, steps, rests(point, r, F, tol))


BY_NAME = {"relaxation": relaxation, "newton": newton, "pseudo-transient": pseudo_transient, "anderson": anderson}
