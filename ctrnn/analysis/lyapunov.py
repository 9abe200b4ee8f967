r"""Lyapunov exponents: the mean rates at which a ball of nearby states is stretched along a run.

    dr/dt = F,   dQ/dt = J Q                 k tangent vectors beside the state, error-controlled with it
    after each interval:  Q R ← Q            (QR, R_ii > 0: orthonormal again)
    λ_i = (1/T) Σ log R_ii

(Benettin, Galgani, Giorgilli & Strelcyn 1980; Shimada & Nagashima 1979.) The exponents are those of the run that was
asked for, over its time span: as T grows they tend to the ones of the attractor. Their standard errors come from the
means over blocks of the run.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ctrnn.analysis.covariant import covariant_vectors
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array, checked_array
from ctrnn.gradients.continuous.integral import augmented_bound
from ctrnn.kernels import abi, augmented
from ctrnn.kernels.tangent import tangent
from ctrnn.problem import Course, Problem, Settings, checked_problem
from ctrnn.solvers import tableaus
from ctrnn.solvers.solve import solve
from ctrnn.threads import one_blas_thread
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


@dataclass(frozen=True, repr=False, eq=False)
class LyapunovSpectrum:
    """Lyapunov exponents, per unit of t, largest first.

    Attributes
    ----------
    exponents : (k,)
    standard_errors : (k,) of the means over blocks of the run (the solver's own error is not in it)
    t : (K + 1,) ends of the intervals, the first is where the averages begin
    growth : (K, k) log R_ii of each interval
    stats : what it cost
    covariant_vectors : (L, n, k) covariant Lyapunov vectors, of length 1, in the order of the exponents; None where
        they were not asked for
    covariant_t, covariant_r : (L,) times and (L, n) states where they are, in the middle 60 % of the run: at its ends
        the vectors are not yet
        what they will be, or were

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"u": "-u", "v": "-3*v"}, parameters={})
    >>> found = lyapunov_spectrum(ctrnn.Problem(decay, r0=[1.0, 1.0], t_span=(0.0, 20.0)), transient=10.0)
    >>> round(found.largest, 6), found.entropy
    (-1.0, 0.0)
    """

    exponents: Array
    standard_errors: Array
    t: Array
    growth: Array
    stats: Stats
    covariant_vectors: Array | None = None
    covariant_t: Array | None = None
    covariant_r: Array | None = None

    @property
    def largest(self) -> float:
        return float(self.exponents[0])

    @property
    def running(self) -> Array:
        """(K, k) the exponents as they would have been at the end of each interval."""
        return np.cumsum(self.growth, axis=0) / (self.t[1:] - self.t[0])[:, None]

    @property
    def dimension(self) -> float | None:
        """The Kaplan–Yorke dimension j + (λ_1 + … + λ_j)/|λ_{j+1}|, with j the last for which the sum is not negative.

        None where the exponents at hand do not reach that far.
        """
        sums = np.cumsum(self.exponents)
        below = np.flatnonzero(sums < 0)
        if below.size == 0:
            return None
        j = int(below[0])
        return j + (float(sums[j - 1]) if j else 0.0) / abs(float(self.exponents[j]))

    @property
    def entropy(self) -> float:
        """The sum of the positive exponents, an upper bound of the entropy of Kolmogorov and Sinai.

        (Pesin's formula), per unit of t.
        """
        return float(self.exponents[self.exponents > 0].sum())

    def __repr__(self) -> str:
        pairs = zip(self.exponents, self.standard_errors, strict=True)
        lines = [f"  λ{i + 1} = {value:+.6g} ± {error:.1g}" for i, (value, error) in enumerate(pairs)]
        if len(lines) > 12:
            lines = [*lines[:12], f"  … and {len(lines) - 12} more"]
        dimension = "" if self.dimension is None else f"; Kaplan–Yorke dimension {self.dimension:.4g}"
        head = f"Lyapunov exponents, per unit of t, over t = {self.t[0]:g} to {self.t[-1]:g}{dimension}"
        return "\n".join([head, *lines, f"  {self.stats}"])


def lyapunov_spectrum(
    problem: Problem,
    k: int | None = None,
    transient: float = 0.0,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 10_000_000,
    seed: int = 0,
    covariant: bool = False,
) -> LyapunovSpectrum:
    """The Lyapunov exponents along a problem's run: all of them, or the k largest.

    Parameters
    ----------
    problem : Problem
        The run, over its t_span; its objective does not matter.
    k : int, optional
        Exponents wanted, 1 to n; None for all n.
    transient : float
        Time at the start that does not count, in which the run finds its attractor and the frame its directions.
    solver, rtol, atol, dt, max_steps
        As in ctrnn.simulate: an explicit solver of ours, or "scipy:LSODA", "scipy:Radau" for a stiff field. The
        tangent vectors are in
        the step test too. With dt the exponents are those of the discrete map that the solver is.
    seed : int
        Of the first frame, which is random: one along the axes may lie in an invariant subspace.
    covariant : bool
        Whether the covariant vectors are wanted; the frames of all intervals are then kept.

    Returns
    -------
    LyapunovSpectrum
        With ``exponents``, ``standard_errors``, ``dimension`` (Kaplan and Yorke), ``entropy``, ``running`` averages
        and ``covariant_vectors``.

    Raises
    ------
    UsageError
        For a k, transient or solver that is not allowed.
    ConvergenceError
        Where the exponents lie too far apart to be told from rounding; and the errors of ctrnn.simulate.

    Notes
    -----
    Benettin, Galgani, Giorgilli & Strelcyn, Meccanica 15 (1980); covariant vectors: Ginelli et al., Phys. Rev. Lett.
    99 (2007).

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"u": "-u + v", "v": "-3*v"}, parameters={})
    >>> problem = ctrnn.Problem(decay, r0=[1.0, 1.0], t_span=(0.0, 40.0))
    >>> found = lyapunov_spectrum(problem, transient=20.0, covariant=True)
    >>> np.round(found.exponents, 6)
    array([-1., -3.])
    >>> np.round(np.abs(found.covariant_vectors[0]), 6)  # the eigenvectors, one a column
    array([[1.      , 0.447214],
           [0.      , 0.894427]])
    """
    settings = Settings(solver, rtol, atol, dt, max_steps)
    n, (t0, t1) = checked_problem(problem).field.n, problem.t_span
    k = n if k is None else k
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or not 1 <= k <= n:
        raise UsageError("k", given=k, allowed=f"a number of exponents, 1 to {n}, or None for all")
    transient = float(checked_array("transient", transient, ()))
    if not 0.0 <= transient < t1 - t0:
        raise UsageError("transient", given=transient, allowed=f"a time from 0 to less than {t1 - t0:g} (t_span)")
    if not settings.library and (solver == "auto" or tableaus.get(solver).gamma):
        hint = "'scipy:LSODA' or 'scipy:Radau' for a stiff field"
        raise UsageError("solver", given=solver, allowed="an explicit solver, for Lyapunov exponents", hint=hint)
    with one_blas_thread if problem.field.kernel.blas else nullcontext():
        return _Frame(problem.replace(objective=None), int(k), settings, seed, covariant).run(transient)


def largest_exponent(
    problem: Problem,
    transient: float = 0.0,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 10_000_000,
    seed: int = 0,
) -> LyapunovSpectrum:
    """The largest Lyapunov exponent, by one tangent vector: ``.largest`` and ``.standard_errors[0]``.

    See lyapunov_spectrum.
    """
    return lyapunov_spectrum(problem, 1, transient, solver, rtol, atol, dt, max_steps, seed)


class _Frame:
    """[r | Q] on its way, from one interval to the next."""

    def __init__(self, problem: Problem, k: int, settings: Settings, seed: int, covariant: bool) -> None:
        n = problem.field.n
        self.problem, self.n, self.k, self.label = problem, n, k, f"Lyapunov exponents, {settings.solver}"
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
        self.covariant = covariant

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

    def run(self, transient: float) -> LyapunovSpectrum:
        t0, t1 = self.problem.t_span
        begin = t0 + transient
        longest = (t1 - begin) / (2 * BLOCKS)
        rate = float(np.linalg.norm(self._jacobian(), 2))
        interval = min(longest, AIM / rate) if rate > 0 else longest
        ends: list[float] = [begin]
        growth: list[Array] = []
        kept = [(self.y.copy(), np.empty((0, 0)))]  # the state with its frame, and the R that led to it
        while self.t < t1:
            if interval < SHORTEST * (t1 - t0):
                raise ConvergenceError(
                    f"the exponents lie too far apart: near t = {self.t:.6g} the frame would have to be set right every "
                    f"{interval:.2g}, {1 / SHORTEST:.0e} times in a run. Try: a smaller k, or a shorter t_span"
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
                if self.covariant:
                    kept.append((self.y, self._R))
            elif self.covariant:
                kept = [(self.y, self._R)]
            interval = min(longest, interval * float(np.clip(AIM / max(spread, 1e-300), 0.5, 2.0)))
        return self._result(np.array(ends), np.array(growth), kept)

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

    def _result(self, t: Array, growth: Array, kept: list[tuple[Array, Array]]) -> LyapunovSpectrum:
        total = t[-1] - t[0]
        exponents = growth.sum(axis=0) / total
        middle = 0.5 * (t[1:] + t[:-1])
        block = np.minimum((BLOCKS * (middle - t[0]) / total).astype(int), BLOCKS - 1)
        sums = np.stack([np.bincount(block, weights=g, minlength=BLOCKS) for g in growth.T], axis=1)
        lengths = np.bincount(block, weights=np.diff(t), minlength=BLOCKS)
        filled = lengths > 0
        means = sums[filled] / lengths[filled, None]
        errors = np.full(self.k, np.nan)
        if len(means) > 1:
            errors = means.std(axis=0, ddof=1) / np.sqrt(len(means))
        order = np.argsort(-exponents, kind="stable")
        found = LyapunovSpectrum(exponents[order], errors[order], t, growth[:, order], self.stats)
        if not self.covariant:
            return found
        frames = [y[self.n :].reshape(self.n, self.k) for y, _ in kept]
        vectors, at = covariant_vectors(frames, [R for _, R in kept[1:]], t)
        states = np.array([kept[j][0][: self.n] for j in at]).reshape(-1, self.n)
        return replace(found, covariant_vectors=vectors[:, :, order], covariant_t=t[at], covariant_r=states)
