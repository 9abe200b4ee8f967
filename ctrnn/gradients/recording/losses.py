"""What a block of recorded steps contributes to the loss, and what the pullback needs of it.

At observation times: ℓ_k and the jump a_k ∂ℓ/∂r(t_k) of the cotangent at the end of the step that lands there. For ∫ a
    ℓ dt: the step's own quadrature h Σ_i b_i aℓ(r_i), and the source a ∂ℓ/∂r(r_i) at each stage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrnn.curvature import Curvature
from ctrnn.fields.base import Array
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem


class BlockLosses(NamedTuple):
    """A block's part of the loss, the read-out's gradient, jumps (C, n) or (0, n), sources (C, s, n) or (0, s, n)."""

    loss: float
    readout: Array
    jumps: Array
    sources: Array

    @classmethod
    def of_jumps(cls, jumps: Array, s: int) -> BlockLosses:
        """Cotangents (C, n) at the ends of steps, or (0, n), whatever the loss is that they are of."""
        return cls(0.0, np.empty(0), jumps, np.empty((0, s, jumps.shape[1])))

    def cut(self, first: int, last: int) -> BlockLosses:
        """What the steps from ``first`` to ``last`` give to the cotangents."""
        return self._replace(loss=0.0, jumps=self.jumps[first:last], sources=self.sources[first:last])

    def without(self) -> BlockLosses:
        """Steps in which no loss is seen."""
        return self._replace(loss=0.0, jumps=self.jumps[:0], sources=self.sources[:0])

    def where(self) -> Array:
        """The numbers of the steps in which a loss is seen."""
        seen = self.jumps.any(axis=1) if self.jumps.size else self.sources.any(axis=(1, 2))
        return np.flatnonzero(seen)


#: where between the stages of a step a loss is looked for that all of them miss
THETA = (np.arange(16) + 0.5) / 16


class Losses:
    """The objective of a problem along the recorded steps of a method with weights b (s,)."""

    def __init__(self, problem: Problem, b: Array) -> None:
        self.objective = problem.needs_objective("a gradient")
        self.problem, self.b = problem, b
        self.readout_size = self.objective.readout_size

    def at(self, t: float, r: Array) -> tuple[float, Array, Array]:
        """The loss at a time with the state r (n,), its ∂/∂r (n,) and its read-out part.

        Zeros where nothing is observed.
        """
        observed = self.problem.observed
        first = int(observed.searchsorted(t))
        last = first if first == observed.size or observed[first] > t else int(observed.searchsorted(t, "right"))
        if first == last:
            return 0.0, np.zeros(self.problem.field.n), np.zeros(self.readout_size)
        l, l_r, l_o = self.objective.at_observations(np.tile(r, (last - first, 1)), first)
        return float(l.sum()), l_r.sum(axis=0), l_o

    def block(self, record: Record) -> BlockLosses:
        """The part of these steps: observations behind their start, up to their end."""
        n = record.r.shape[1]
        C, s = record.stage_t.shape
        if self.objective.times is None:
            nx = self.problem.field.input_size
            signals = record.stage_x[:, :, nx:].reshape(C * s, -1)
            h = (record.h[:, None] * self.b).ravel()
            l, l_r, l_o = self.objective.rate(record.stage_r.reshape(C * s, n), signals, h)
            return BlockLosses(float(h @ l), l_o, np.empty((0, n)), l_r.reshape(C, s, n))
        first, observed = self._observed(record)
        none = np.empty((0, s, n))
        if observed.size == 0:
            return BlockLosses(0.0, np.zeros(self.readout_size), np.empty((0, n)), none)
        if observed.size == C and (observed == record.t).all():  # after each step, as networks mostly are
            l, jumps, l_o = self.objective.at_observations(record.r, first)
            return BlockLosses(float(l.sum()), l_o, np.ascontiguousarray(jumps), none)
        rows = record.t.searchsorted(observed)
        l, l_r, l_o = self.objective.at_observations(record.r[rows], first)
        jumps = np.zeros((C, n))
        if (rows[1:] > rows[:-1]).all():
            jumps[rows] = l_r
        else:  # times that are equal but for rounding are one stop
            np.add.at(jumps, rows, l_r)
        return BlockLosses(float(l.sum()), l_o, jumps, none)

    def stepped_over(self, record: Record, sources: Array) -> Array:
        """h ∫ ∂ℓ/∂r dθ (C, n) of steps at whose stages ∂ℓ/∂r is 0, and not between them; 0 of all others.

        r between the stages is the parabola through both ends, with the slope at the start that the second stage shows.
        """
        n, nx = record.r.shape[1], self.problem.field.input_size
        found = np.zeros((len(record.h), n))
        silent = ~sources.any(axis=(1, 2))
        if not silent.any():
            return found
        r, t = record.stage_r[silent, 0], record.stage_t[silent]
        nearest = np.abs((t - t[:, :1])[:, None] / record.h[silent, None, None] - THETA[:, None]).argmin(axis=2)
        signals = np.take_along_axis(record.stage_x[silent, :, nx:], nearest[:, :, None], axis=1)
        h, moved = record.h[silent], record.r[silent] - r
        reach = t[:, 1] - t[:, 0]  # 0 of a step that rounding leaves without room
        reach[reach == 0.0] = np.inf
        slope = (record.stage_r[silent, 1] - r) * (h / reach)[:, None]
        between = r[:, None] + THETA[:, None] * slope[:, None] + THETA[:, None] ** 2 * (moved - slope)[:, None]
        numbers = signals.reshape(-1, signals.shape[2])
        l_r = self.objective.rate(between.reshape(-1, n), numbers, np.repeat(h, THETA.size))[1]
        found[silent] = h[:, None] * l_r.reshape(-1, THETA.size, n).mean(axis=1)
        return found

    def _observed(self, record: Record) -> tuple[int, Array]:
        """The observations of a block: the number of the first, and their times."""
        # the first stage of every explicit and of our implicit methods is the start of the step
        observed, start = self.problem.observed, record.stage_t[0, 0]
        first = 0 if not observed.size or observed[0] > start else int(observed.searchsorted(start, "right"))
        return first, observed[first : observed.searchsorted(record.t[-1], "right")]

    # -- second order

    def curvature(self, record: Record) -> tuple[Curvature, Array | None]:
        """The second derivative of a block's losses, at its stages.

        Or at its observations; with the steps that these follow.
        """
        if self.objective.times is None:
            nx, n = self.problem.field.input_size, record.r.shape[1]
            signals = record.stage_x[:, :, nx:].reshape(record.stage_t.size, -1)
            h = (record.h[:, None] * self.b).ravel()
            return Curvature(self.objective, record.stage_r.reshape(-1, n), signals[:, :-1], signals[:, -1], h), None
        first, observed = self._observed(record)
        rows = record.t.searchsorted(observed)
        return self._at_observations(record.r[rows], first), rows

    def curvature_at_start(self) -> Curvature:
        """That of the observations at t0."""
        first = int((self.problem.observed == self.problem.t_span[0]).sum())
        return self._at_observations(np.tile(self.problem.r0, (first, 1)), 0)

    def _at_observations(self, r: Array, first: int) -> Curvature:
        here = slice(first, first + len(r))
        o = self.objective
        each = None if o.each is None else o.each[here]
        return Curvature(o, r, o.targets[here], o.weights[here], np.ones(len(r)), each)
