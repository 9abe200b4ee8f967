"""An identity of autonomous systems, which a gradient that is off breaks.

Rates that are 1 + ε times as large pass the same states, sooner: r(t; ε) = r((1 + ε) t). So a loss of states at t_k has

    dl/dε = Σ_k (t_k − t0) ∂ℓ/∂r_k · F(r_k)

whatever F is, and by the pullback of the steps that were taken dl/dε = Σ_m Σ_i K̄_i · k_i. How far these two are apart,
relative to Σ |K̄_ij k_ij|, tells the error of the quadrature of λ F_w, which the error of λ in each step does not: where
a relaxation oscillator jumps, λ is right to many digits and all but orthogonal to F.

The rates k of stiff systems are taken from the stages of the record, r_i = r + h Σ_j a_ij k_j, and never as F(r), which
multiplies the error of r by J. The last stage, where b = a_s, is the first of the next step.
"""

from __future__ import annotations

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem
from ctrnn.solvers.tableaus import Tableau

#: a state that moves by less than so much of its size within a step is at rest: its rates are what Newton's method left
AT_REST = 1e-7
#: times at which a field is asked whether it depends on them
TIMES = 7


class TimeScale:
    """Both sides of the identity, gathered on the way back through the steps of a stiffly accurate method."""

    def __init__(self, problem: Problem, tableau: Tableau) -> None:
        s = tableau.stages
        self._problem = problem
        self._inverse = np.linalg.inv(tableau.a[1:s, 1:s])
        self._of_first = self._inverse @ tableau.a[1:s, 0]
        self.begin()

    def begin(self) -> None:
        """A cotangent of 0 at the end."""
        self.by_steps = self.by_states = self._size = 0.0
        #: the first of the steps that were seen, whose first stage is the last of a step that was not: K̄, and its k
        self._first: tuple[Array, Array] | None = None

    def note(self, record: Record, K: Array, jumps: Array, scale: Array) -> None:
        """A piece of C steps: the cotangents K (C, s, n) of its stages, ∂ℓ/∂r (C or 0, n) at the ends of its steps.

        scale (n,) are the sizes of the states.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # a gradient that is not finite is refused elsewhere
            self._note(record, K, jumps, scale)

    def _note(self, record: Record, K: Array, jumps: Array, scale: Array) -> None:
        moved = (record.stage_r[:, 1:] - record.stage_r[:, :1]) / record.h[:, None, None]
        later = self._inverse @ moved  # of all stages but the first, whose part comes below
        ends = later[:, -1]
        self._add_first(ends[-1])
        self._add(K[1:], later[1:], ends[:-1])
        self._first = K[:1].copy(), later[:1].copy()
        self._size += AT_REST * float((np.abs(K).sum(axis=1) @ scale / record.h).sum())
        if len(jumps):
            self.by_states += float((record.t - self._problem.t_span[0]) @ (jumps * ends).sum(axis=1))

    def _add_first(self, k: Array) -> None:
        if self._first is not None:
            self._add(*self._first, k[None])

    def _add(self, K: Array, later: Array, first: Array) -> None:
        """Steps (C,), with k of their first stages (C, n), and of the others but for the part that the first takes."""
        rates = np.concatenate([first[:, None], later - self._of_first[:, None] * first[:, None]], axis=1)
        products = (K * rates).ravel()
        self.by_steps += float(products.sum())
        self._size += float(np.abs(products).sum())

    def error(self, allowed: float) -> float:
        """How far the two sides are apart, when the start is reached, if that is more than allowed, and 0 otherwise.

        0 also of a field that depends on the time, which has no such identity.
        """
        problem = self._problem
        t0, t1 = problem.t_span
        rate = problem.field(t0, problem.r0)
        self._add_first(rate)
        self._first = None
        error = abs(self.by_steps - self.by_states)
        if not error > allowed * self._size:
            return 0.0
        times = np.linspace(t0, t1, TIMES)
        return error / self._size if all((problem.field(t, problem.r0) == rate).all() for t in times) else 0.0
