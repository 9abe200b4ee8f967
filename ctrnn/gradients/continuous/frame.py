"""A frame of tangent vectors along a run, and the mean rates at which it is stretched.

    dr/dt = F,   dQ/dt = J Q                 k tangent vectors beside the state, error-controlled with it
    after each interval:  Q R ← Q            (QR, R_ii > 0: orthonormal again)
    λ_i = (1/T) Σ log R_ii

(Benettin, Galgani, Giorgilli & Strelcyn 1980; Shimada & Nagashima 1979.) The standard errors of λ come from the means
over blocks of the run.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctrnn.errors import ConvergenceError
from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.integral import augmented_bound
from ctrnn.kernels import abi, augmented
from ctrnn.kernels.tangent import tangent
from ctrnn.problem import Course, Problem, Settings
from ctrnn.solvers.solve import solve
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
        rate = float(np.linalg.norm(self._jacobian(), 2))
        interval = min(longest, AIM / rate) if rate > 0 else longest
        ends: list[float] = [begin]
        growth: list[Array] = []
        self._remember(np.empty((0, 0)))
        while self.t < t1:
            if interval < SHORTEST * (t1 - t0):
                raise ConvergenceError(
                    f"the exponents lie too far apart: near t = {self.t:.6g} the frame would have to be set right "
                    f"every {interval:.2g}, {1 / SHORTEST:.0e} times in a run. Try: a smaller k, or a shorter t_span"
                )
            counts = self.t >= begin
            goal = t1 if counts else begin
            end = self._end(interval, goal)
            log_R = self._advance(end)
            spread = float(np.ptp(np.append(log_R, 0.0)))
            if log_R.size and spread > SPREAD and not self._is_least(end):
                interval = 0.5 * min(interval, end - self.t)
                continue
            self._accept(end)
            if counts:
                ends.append(end)
                growth.append(log_R)
            else:
                self.kept.clear()
            self._remember(self._R)
            interval = min(longest, interval * float(np.clip(AIM / max(spread, 1e-300), 0.5, 2.0)))
        return np.array(ends), np.array(growth)

    def _remember(self, R: Array) -> None:
        if self._keep:
            self.kept.append((self.y[: self.n], self.y[self.n :].reshape(self.n, self.k), R))

    def _end(self, interval: float, goal: float) -> float:
        dt = self.settings.dt
        if dt is not None:
            interval = max(1.0, np.round(interval / dt)) * dt
        # no short rest: it would say little
        return goal if self.t + 1.5 * interval >= goal else self.t + interval

    def _is_least(self, end: float) -> bool:
        """Whether the interval is a single step of fixed length."""
        return self.settings.dt is not None and end - self.t <= 1.5 * self.settings.dt

    def _jacobian(self) -> Array:
        t0 = self.problem.t_span[0]
        x = self.problem.x(t0) if self.problem.field.input_size else None
        return self.problem.field.jacobian(t0, self.problem.r0, x)

    def _advance(self, end: float) -> Array:
        """log R_ii of the interval up to ``end``; the state and the new frame wait for ``_accept``."""
        whole = self.problem.course
        inside = (whole.stops > self.t) & (whole.stops < end)
        course = Course(self.t, np.append(whole.stops[inside], end), np.append(whole.is_break[inside], True))
        found = solve(self.bound, self.y, course, self.settings, np.array([end]), self.groups, self.step, self.label)
        y, n = found.r[-1].copy(), self.n
        Q, R = np.linalg.qr(y[n:].reshape(n, self.k))
        diagonal = np.diag(R)
        sign = np.where(diagonal < 0, -1.0, 1.0)
        y[n:] = (Q * sign).ravel()
        self._R = sign[:, None] * R
        self._next = y, found.step
        self.stats = self.stats + found.stats
        # a map may be singular, as Euler's of step tau is where a unit has no input
        return np.log(np.maximum(np.abs(diagonal), np.finfo(float).tiny))

    def _accept(self, end: float) -> None:
        (self.y, self.step), self.t = self._next, end


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
