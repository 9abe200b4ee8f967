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
    """The objective of a problem, taken block by block in the order of time."""

    def __init__(self, problem: Problem, b: Array) -> None:
        self.objective = problem.needs_objective("a gradient")
        self.problem, self.b = problem, b
        self.readout_size = self.objective.readout_size
        self._next = 0

    def start(self) -> tuple[float, Array, Array]:
        """The loss at t0, its ∂/∂r0 (n,) and its read-out part; zeros where t0 is not observed."""
        observed, n = self.problem.observed, self.problem.field.n
        if observed.size == 0 or observed[0] != self.problem.t_span[0]:
            return 0.0, np.zeros(n), np.zeros(self.readout_size)
        self._next = 1
        l, l_r, l_o = self.at(self.problem.r0[None], 0)
        return float(l.sum()), l_r.sum(axis=0), l_o.sum(axis=0)

    def at(self, r: Array, first: int) -> tuple[Array, Array, Array]:
        """ℓ (K,), ∂ℓ/∂r (K, n), ∂ℓ/∂(V, c) (K, ·) at the observations first, first + 1, ...; r (K, n)."""
        return self.objective.at_observations(r, first)

    def block(self, record: Record) -> Part:
        n = record.r.shape[1]
        C, s = record.stage_t.shape
        if self.objective.times is None:
            nx = self.problem.field.input_size
            signals = record.stage_x[:, :, nx:].reshape(C * s, -1)
            l, l_r, l_o = self.objective.rate(record.stage_r.reshape(C * s, n), signals)
            weights = (record.h[:, None] * self.b).ravel()
            return Part(float(weights @ l), weights @ l_o, np.empty((0, n)), l_r.reshape(C, s, n))
        observed = self.problem.observed[self._next :]
        observed = observed[observed <= record.t[-1]]
        none = np.empty((0, s, n))
        if observed.size == 0:
            return Part(0.0, np.zeros(self.readout_size), np.empty((0, n)), none)
        rows = np.searchsorted(record.t, observed)
        l, l_r, l_o = self.at(record.r[rows], self._next)
        self._next += observed.size
        jumps = np.zeros((C, n))
        jumps[rows] = l_r
        return Part(float(l.sum()), l_o.sum(axis=0), jumps, none)
