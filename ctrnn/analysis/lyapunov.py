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
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.frame import Frame, mean_rates
from ctrnn.numbers import checked_array, flag, generator, whole
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.threads import one_blas_thread
from ctrnn.trajectory import Stats


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
        """The largest exponent."""
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
        As in ctrnn.simulate; "kvaerno5", "kencarp4" or "scipy:LSODA" for a stiff field. The tangent vectors are in
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
    k = n if k is None else whole("k", k, 1, f"a number of exponents, 1 to {n}, or None for all", n)
    flag("covariant", covariant)
    generator(seed)
    transient = float(checked_array("transient", transient, ()))
    if not 0.0 <= transient < t1 - t0:
        raise UsageError("transient", given=transient, allowed=f"a time from 0 to less than {t1 - t0:g} (t_span)")
    if solver == "auto":
        hint = "'tsit5', or 'kvaerno5' for a stiff field"
        raise UsageError("solver", given=solver, allowed="a solver by its own name, for Lyapunov exponents", hint=hint)
    problem = problem.replace(objective=None)
    with one_blas_thread if problem.field._kernel.blas else nullcontext():
        frame = Frame(problem, int(k), settings, seed, covariant, f"Lyapunov exponents, {settings.solver}")
        t, growth = frame.run(transient)
    exponents, errors = mean_rates(t, growth)
    order = np.argsort(-exponents, kind="stable")
    found = LyapunovSpectrum(exponents[order], errors[order], t, growth[:, order], frame.stats)
    if not covariant:
        return found
    states, frames, factors = zip(*frame.kept, strict=True)
    vectors, at = covariant_vectors(list(frames), list(factors[1:]), t)
    return replace(
        found, covariant_vectors=vectors[:, :, order], covariant_t=t[at], covariant_r=np.array([states[j] for j in at])
    )


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
    """The largest Lyapunov exponent, by one tangent vector.

    Parameters
    ----------
    problem : Problem
        Its run over t_span; the objective is not used.
    transient : float, default 0
        Time at the start that does not count.
    solver, rtol, atol, dt, max_steps, seed
        As in `ctrnn.analysis.lyapunov_spectrum`.

    Returns
    -------
    LyapunovSpectrum
        ``.largest`` and ``.standard_errors[0]``.

    Raises
    ------
    UsageError
        As of `ctrnn.analysis.lyapunov_spectrum`.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Problem(ctrnn.Equations({"r": "-2*r"}), r0=[1.0], t_span=(0.0, 10.0))
    >>> round(largest_exponent(decay).largest, 6)
    -2.0
    """
    return lyapunov_spectrum(problem, 1, transient, solver, rtol, atol, dt, max_steps, seed)
