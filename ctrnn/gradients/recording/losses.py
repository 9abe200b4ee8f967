"""What a block of recorded steps contributes to the loss, and what the pullback needs of it.

At observation times: ℓ_k and the jump a_k ∂ℓ/∂r(t_k) of the cotangent at the end of the step that lands there. For ∫ a ℓ dt:
the step's own quadrature h Σ_i b_i aℓ(r_i), and the source a ∂ℓ/∂r(r_i) at each stage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem


class Part(NamedTuple):
    """A block's share: the loss, the read-out's gradient, jumps (C, n) or (0, n), sources (C, s, n) or (0, s, n)."""

    loss: float
    readout: Array
    jumps: Array
    sources: Array


class Losses:
    """The objective of a problem, for a solution from ``r0``: block by block in the order of time, or from where ``seek`` says."""

    def __init__(self, problem: Problem, b: Array, r0: Array) -> None:
        self.objective = problem.needs_objective("a gradient")
        self.problem, self.b, self.r0 = problem, b, r0
        self.readout_size = self.objective.readout_size
        self._next = 0

    def start(self) -> tuple[float, Array, Array]:
        """The loss at t0, its ∂/∂r0 (n,) and its read-out part; zeros where t0 is not observed."""
        observed, n = self.problem.observed, self.problem.field.n
        self._next = int(observed.searchsorted(self.problem.t_span[0], side="right"))
        if self._next == 0:
            return 0.0, np.zeros(n), np.zeros(self.readout_size)
        l, l_r, l_o = self.objective.at_observations(np.tile(self.r0, (self._next, 1)))
        return float(l.sum()), l_r.sum(axis=0), l_o

    def seek(self, t: float) -> None:
        """The next block starts at t: observations up to t, t included, are behind it."""
        self._next = int(self.problem.observed.searchsorted(t, side="right"))

    def block(self, record: Record) -> Part:
        """The share of the steps that follow the last block, or the time that was sought."""
        n = record.r.shape[1]
        C, s = record.stage_t.shape
        if self.objective.times is None:
            nx = self.problem.field.input_size
            signals = record.stage_x[:, :, nx:].reshape(C * s, -1)
            h = (record.h[:, None] * self.b).ravel()
            l, l_r, l_o = self.objective.rate(record.stage_r.reshape(C * s, n), signals, h)
            return Part(float(h @ l), l_o, np.empty((0, n)), l_r.reshape(C, s, n))
        last = int(self.problem.observed.searchsorted(record.t[-1], side="right"))
        observed = self.problem.observed[self._next : last]
        none = np.empty((0, s, n))
        if observed.size == 0:
            return Part(0.0, np.zeros(self.readout_size), np.empty((0, n)), none)
        if observed.size == C and (observed == record.t).all():  # after each step, as networks mostly are
            l, jumps, l_o = self.objective.at_observations(record.r, self._next)
            self._next = last
            return Part(float(l.sum()), l_o, np.ascontiguousarray(jumps), none)
        rows = record.t.searchsorted(observed)
        l, l_r, l_o = self.objective.at_observations(record.r[rows], self._next)
        self._next = last
        jumps = np.zeros((C, n))
        if (rows[1:] > rows[:-1]).all():
            jumps[rows] = l_r
        else:  # times that are equal but for rounding are one stop
            np.add.at(jumps, rows, l_r)
        return Part(float(l.sum()), l_o, jumps, none)
