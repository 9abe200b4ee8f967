"""A frame of tangent vectors along a run, and the mean rates at which it is stretched.

    dr/dt = F,   dQ/dt = J Q                 k tangent vectors beside the state, error-controlled with it
    after each interval:  Q R ← Q            (QR, R_ii > 0: orthonormal again)
    λ_i = (1/T) Σ log R_ii

(Benettin, Galgani, Giorgilli & Strelcyn 1980; Shimada & Nagashima 1979.) The standard errors of λ come from the means
over blocks of the run. Small frames of explicit methods stay in compiled code from one interval to the next
(ctrnn.kernels.frames); behind implicit methods Q follows step by step, as the derivative of the step that was taken
(ctrnn.kernels.staggered).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from ctrnn.course import Course
from ctrnn.errors import ConvergenceError, DivergenceError
from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.integral import augmented_bound
from ctrnn.kernels import abi, augmented, frames, stepper
from ctrnn.kernels.tangent import tangent
from ctrnn.memory import claim_more
from ctrnn.problem import Problem, Settings
from ctrnn.progress import track
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import Integration, staggered_for
from ctrnn.solvers.solve import solve
from ctrnn.threads import raise_if_stopped
from ctrnn.trajectory import Stats

#: blocks of equal time for the standard errors
BLOCKS = 20
#: an interval whose log R_ii spread over more than this is taken again, shorter: the least of them would drown in
#: rounding
SPREAD = 25.0
#: the next interval aims at this much
AIM = 6.0
#: the shortest interval, as a part of the run
SHORTEST = 1e-7
#: a frame of up to so much n k² is made orthonormal in compiled code; a larger one by LAPACK
SMALL = 200_000
#: intervals that compiled code takes at a time
STRETCH = 1024


class Frame:
    """[r | Q] on its way, from one interval to the next; Q (n, k) from random directions.

    ``stats`` is the cost; ``kept``, where asked for, is (r, Q, R) at the end of each interval, R the factor that led
    there.
    """

    def __init__(
        self, problem: Problem, k: int, settings: Settings, seed: int = 0, keep: bool = False, label: str = "frame"
    ) -> None:
        n = problem.field.n
        self.problem, self.n, self.k, self.label = problem, n, k, label
        base = problem.bind()
        self.base = base
        self.is_staggered = not settings.library and tableaus.get(settings.solver).implicit
        self.is_small = not (settings.library or self.is_staggered or keep) and n * k * k <= SMALL
        self.bound = augmented_bound(base, tangent, n + n * k, problem.field.input_size, abi.JACOBIAN, None, False, 0)
        ctx = self.bound.system.ctx
        ctx[abi.COLUMNS] = k
        ctx[abi.DGEMM] = abi.dgemm_address() if n * n * k > augmented.SMALL else 0
        self.groups = (0, n, n + n * k)
        self.settings = self._tolerances(settings)
        Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, k)))
        self.y = np.concatenate([problem.r0, Q.ravel()])
        self.t = problem.t_span[0]
        self.step: float | None = None
        self.stats = Stats()
        self.kept: list[tuple[Array, Array, Array]] = []
        self._keep = keep

    def _tolerances(self, settings: Settings) -> Settings:
        """r as asked; the columns of Q, of length 1 at first, to rtol."""
        rtol, atol = settings.tolerances(self.n)
        least = float(rtol[rtol > 0].min()) if (rtol > 0).any() else float(atol.min())
        rest = np.full(self.n * self.k, least)
        rtol, atol = np.append(rtol, rest), np.append(atol, rest)
        if settings.library:
            # their norm is the mean over all components
            share = np.sqrt(self.n / rtol.size)
            rtol, atol = rtol * share, atol * share
        if settings.library == "torchdiffeq":
            rtol, atol = rtol[rtol > 0].min(), atol.min()
        return replace(settings, rtol=rtol, atol=atol)

    def run(self, transient: float = 0.0) -> tuple[Array, Array]:
        """The ends of the intervals (K + 1,) behind the transient, and log R_ii of each (K, k).

        Raises ConvergenceError where the columns grow too far apart to be told from rounding, and what the solver
        raises.
        """
        t0, t1 = self.problem.t_span
        begin = t0 + transient
        longest = (t1 - begin) / (2 * BLOCKS)
        J = self._jacobian()
        if not np.isfinite(J).all():
            hint = "another r0, or other parameters"
            raise DivergenceError("the Jacobian is infinite or NaN", t=t0, r=self.problem.r0, h=0.0, hint=hint)
        rate = float(np.linalg.norm(J, 2))
        interval = min(longest, AIM / rate) if rate > 0 else longest
        ends, growth = [np.array([begin])], [np.empty((0, self.k))]
        self._remember(np.empty((0, 0)))
        count = 1
        with track(t1 - t0, self.label) as update:
            while self.t < t1:
                raise_if_stopped()
                if interval < SHORTEST * (t1 - t0):
                    raise ConvergenceError(
                        f"the exponents lie too far apart: near t = {self.t:.6g} the frame would have to be set right "
                        f"every {interval:.2g}, {1 / SHORTEST:.0e} times in a run. Try: a smaller k, a shorter t_span"
                    )
                counts = self.t >= begin
                planned = self._planned(interval, t1 if counts else begin, count)
                rows = self._stretch(planned) if self.is_small else self._one(float(planned[0]))
                if counts:
                    ends.append(planned[: len(rows)])
                    growth.append(rows)
                elif len(rows):
                    self.kept.clear()
                if len(rows):
                    self._remember(self._R)
                if len(rows) < len(planned):
                    interval = 0.5 * min(interval, planned[len(rows)] - self.t)
                    continue
                spread = _spread(rows)
                interval = min(longest, interval * float(np.clip(AIM / max(spread, 1e-300), 0.5, 2.0)))
                count = count if not self.is_small else min(4 * count, STRETCH)
                update(self.t - t0)
        return np.concatenate(ends), np.concatenate(growth)

    def transition(self, end: float) -> Array:
        """∂r(end)/∂r(now) (n, k) in the directions of an orthonormal frame's k = n axes; the run goes on from there."""
        self.y[self.n :] = np.eye(self.n, self.k).ravel()
        self.y, self.step, stats = self._advanced_by_columns(end) if self.is_staggered else self._advanced(end)
        self.t, self.stats = end, self.stats + stats
        return self.y[self.n :].reshape(self.n, self.k).copy()

    def _remember(self, R: Array) -> None:
        if self._keep:
            claim_more("covariant", 3.0 * self.y.nbytes, "a shorter t_span, or fewer vectors (k)")
            self.kept.append((self.y[: self.n], self.y[self.n :].reshape(self.n, self.k), R))

    def _planned(self, interval: float, goal: float, count: int) -> Array:
        """The ends of up to ``count`` intervals from here, the last at the goal where they reach so far."""
        dt = self.settings.dt
        if dt is not None:
            interval = max(1.0, np.round(interval / dt)) * dt
        planned = self.t + interval * np.arange(1, count + 1)
        # no short rest: it would say little
        inside = planned + 0.5 * interval < goal
        return planned if inside.all() else np.append(planned[inside], goal)

    def _is_least(self, end: float) -> bool:
        """Whether the interval is a single step of fixed length."""
        return self.settings.dt is not None and end - self.t <= 1.5 * self.settings.dt

    def _jacobian(self) -> Array:
        t0 = self.problem.t_span[0]
        x = self.problem.x(t0) if self.problem.field.input_size else None
        return self.problem.field.jacobian(t0, self.problem.r0, x)

    def _course(self, ends: Array) -> Course:
        """The way to these ends, on which the input's own stops lie too."""
        whole = self.problem.course
        inside = (whole.stops > self.t) & (whole.stops < ends[-1])
        stops, breaks = (
            np.append(whole.stops[inside], ends),
            np.append(whole.is_break[inside], np.ones(len(ends), bool)),
        )
        stops, first = np.unique(stops, return_index=True)
        return Course(self.t, stops, breaks[first] | np.isin(stops, ends))

    def _stretch(self, ends: Array) -> Array:
        """log R_ii (K, k) of as many of these intervals as stay within SPREAD, in compiled code."""
        course = self._course(ends)
        run = Integration(
            self.bound, self.y, course, self.settings, np.empty(0), "nothing", self.groups, self.step, self.label
        )
        arguments: Any = run.arguments(run.record(0), self.settings.max_steps)
        marks = np.searchsorted(course.stops, ends)
        growth = np.empty((len(ends), self.k))
        widest = np.inf if self._is_least(ends[0]) else SPREAD
        began = time.perf_counter()
        done, status = frames.follow(
            arguments, self.n, self.k, marks, growth, widest, np.empty(run.r.size + run.clock.size)
        )
        run.wall_time += time.perf_counter() - began
        self.bound.raise_pending()
        if status not in (stepper.DONE, frames.SPREAD):
            raise run.failure(status)
        self.y, self.step, self.t = run.r, float(run.clock[stepper.H]), (float(ends[done - 1]) if done else self.t)
        self.stats = self.stats + run.stats
        self._R = np.empty((0, 0))
        return growth[:done]

    def _one(self, end: float) -> Array:
        """log R_ii (1, k) of the interval up to ``end``; (0, k) where it spread too far and was taken back."""
        y, step, stats = self._advanced_by_columns(end) if self.is_staggered else self._advanced(end)
        n = self.n
        Q, R = np.linalg.qr(y[n:].reshape(n, self.k))
        diagonal = np.diag(R)
        sign = np.where(diagonal < 0, -1.0, 1.0)
        y[n:] = (Q * sign).ravel()
        self.stats = self.stats + stats
        # a map may be singular, as Euler's of step tau is where a unit has no input
        log_R = np.log(np.maximum(np.abs(diagonal), np.finfo(float).tiny))
        if _spread(log_R[None]) > SPREAD and not self._is_least(end):
            return np.empty((0, self.k))
        self._R = sign[:, None] * R
        self.y, self.step, self.t = y, step, end
        return log_R[None]

    def _advanced(self, end: float) -> tuple[Array, float | None, Stats]:
        found = solve(
            self.bound,
            self.y,
            self._course(np.array([end])),
            self.settings,
            np.array([end]),
            self.groups,
            self.step,
            self.label,
        )
        return found.r[-1].copy(), found.step, found.stats

    def _advanced_by_columns(self, end: float) -> tuple[Array, float | None, Stats]:
        """By an implicit method: the state's stages first, then those of Q's columns."""
        n, k = self.n, self.k
        rtol, atol = (np.asarray(v) for v in self.settings.tolerances(n + n * k))
        its = replace(self.settings, rtol=rtol[:n], atol=atol[:n])
        z = self.y[n:].reshape(n, k)
        method = tableaus.get(self.settings.solver)
        columns = staggered_for(self.base, method, z, rtol[n:].reshape(n, k), atol[n:].reshape(n, k))
        # no parameter drives Q: what the field writes as F_w goes to memory of which no column is read
        columns = columns._replace(drive=columns.drive[:, :, :0])
        run = Integration(
            self.base,
            self.y[:n],
            self._course(np.array([end])),
            its,
            None,
            "nothing",
            None,
            self.step,
            self.label,
            columns,
        )
        run.run()
        return np.concatenate([run.r, run.staggered.z.ravel()]), float(run.clock[stepper.H]), run.stats


def _spread(log_R: Array) -> float:
    """How far apart log R_ii, with 0 among them, lie in the widest of some intervals (K, k)."""
    return float((log_R.max(axis=1).clip(min=0.0) - log_R.min(axis=1).clip(max=0.0)).max())


def mean_rates(t: Array, growth: Array) -> tuple[Array, Array]:
    """λ (k,) of intervals that end at t (K + 1,) and grew by ``growth`` (K, k), and their standard errors (k,).

    The errors are NaN where there is one block alone.
    """
    total = t[-1] - t[0]
    middle = 0.5 * (t[1:] + t[:-1])
    block = np.minimum((BLOCKS * (middle - t[0]) / total).astype(int), BLOCKS - 1)
    sums = np.stack([np.bincount(block, weights=g, minlength=BLOCKS) for g in growth.T], axis=1)
    lengths = np.bincount(block, weights=np.diff(t), minlength=BLOCKS)
    filled = lengths > 0
    means = sums[filled] / lengths[filled, None]
    errors = np.full(growth.shape[1], np.nan)
    if len(means) > 1:
        errors = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    return growth.sum(axis=0) / total, errors
