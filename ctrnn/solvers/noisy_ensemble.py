"""Ensembles along paths of noise: member b takes path b, by fixed steps of an explicit method.

    r_b⁺ = r_b + h Σ_i b_i k_i,    k_i = F(t_i, r_b) + g(t_i, r_b) ∘ ΔW_b/h

Members of one set of parameters go side by side, by the field's functions of many rows (ctrnn.fields.rows); others, and
fields without such functions, one after the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ctrnn.errors import SolverError
from ctrnn.fields.base import Array
from ctrnn.fields.rows import Rows, Steps
from ctrnn.inputs import stack
from ctrnn.problem import Problem, Settings
from ctrnn.progress import track
from ctrnn.solvers import tableaus
from ctrnn.solvers.noise import at_rest, step_times, with_noise
from ctrnn.solvers.runge_kutta import Integration, weights
from ctrnn.threads import map_parallel, raise_if_stopped
from ctrnn.trajectory import Stats

#: numbers of the noise of members that go side by side, and of a block of their steps
TOGETHER, BLOCK = 2**22, 2**18
#: by how many units in the last place a time may miss the end of a step and still be it
SLACK = 16.0


class Paths:
    """What the members have in common: the noisy problem, its steps, and where its numbers go.

    r (B, times, n) saved states, steps (B,), evaluations; failures: member -> error, whose states are NaN
    """

    def __init__(self, problem: Problem, settings: Settings, vectors: Array, starts: Array, times: Array) -> None:
        self.problem, self.settings, self.vectors, self.starts, self.times = problem, settings, vectors, starts, times
        self.noisy = with_noise(problem, settings)
        self.ends = step_times(problem.course, settings)
        self.channels = self.noisy.field.input_size - problem.field.input_size
        self.r = np.full((len(starts), times.size, problem.field.n), np.nan)
        self.steps = np.full(len(starts), self.ends.size - 1)
        self.evaluations = 0
        self.failures: dict[int, SolverError] = {}

    def solve(self) -> Paths:
        """All members; errors are in ``failures``."""
        at = np.searchsorted(self.ends, self.times - SLACK * np.spacing(abs(self.times)))
        meets = abs(self.ends[np.minimum(at, self.ends.size - 1)] - self.times) <= SLACK * np.spacing(abs(self.times))
        field = self.noisy.field.as_rows()
        if field.row_slots is None or not meets.all() or (self.vectors != self.vectors[0]).any():
            self._one_by_one(range(len(self.starts)))
            return self
        rows = Rows(field.with_vector(self.vectors[0]), weights(self.settings.solver))
        chunk = max(1, TOGETHER // max(1, self.channels * self.ends.size))
        with track(len(self.starts), "ensemble") as update:
            for first in range(0, len(self.starts), chunk):
                self._side_by_side(rows, slice(first, min(first + chunk, len(self.starts))), at)
                update(min(first + chunk, len(self.starts)))
        self._one_by_one(np.flatnonzero(~np.isfinite(self.r).all(axis=(1, 2))).tolist())  # which tells what went wrong
        return self

    def _side_by_side(self, rows: Rows, here: slice, at: Array) -> None:
        """Members of one set of parameters; ``at``: the number of the end at which each time lies."""
        B, n, s = here.stop - here.start, self.problem.field.n, tableaus.get(self.settings.solver).stages
        xi = np.empty((self.ends.size - 1, B, self.channels))
        for b in range(B):
            raise_if_stopped()
            xi[:, b] = self._increments(here.start + b) / np.diff(self.ends)[:, None]
        r = np.zeros((B, rows.width))
        r[:, :n] = self.starts[here]
        self.r[here, at == 0] = self.starts[here, None]
        own, done = self.problem.driven_by, 0
        alone = replace(self.settings, rtol=1e-8, atol=1e-8)  # of the one state that stays where it is
        bound = at_rest()._bind(own.program(), own.size)
        clock = Integration(bound, np.zeros(1), self.problem.course, alone, keep="stages", label="ensemble")
        for record in clock.blocks(max(1, BLOCK // (B * (rows.width + s * rows.inputs)))):
            C = record.h.size
            # a row of inputs for each step, or, where the field has its own, for each stage
            X = np.repeat(xi[done : done + C], s, axis=0) if own.size else xi[done : done + C]
            if own.size:
                x = record.stage_x[:, :s, : own.size].reshape(C * s, 1, own.size)
                X = np.concatenate([np.broadcast_to(x, (C * s, B, own.size)), X], axis=2)
            row = np.arange(C * s).reshape(C, s) if own.size else np.repeat(np.arange(C)[:, None], s, axis=1)
            saved = np.flatnonzero((at > done) & (at <= done + C))
            ends, number = np.unique(at[saved] - done - 1, return_inverse=True)
            mark = np.full(C, -1)
            mark[ends] = np.arange(ends.size)
            states = np.empty((ends.size, B, rows.width))
            rows.forward(Steps(record.h, row, np.ones((C, s)), mark), record.stage_t[:, :s], X, r, states, False)
            self.r[here, saved] = states[number].transpose(1, 0, 2)[..., :n]
            done += C
        self.r[here][~np.isfinite(r[:, :n]).all(axis=1)] = np.nan
        self.evaluations += B * done * s

    def _increments(self, b: int) -> Array:
        noise, dt = self.problem.noise, self.settings.dt
        assert noise is not None and dt is not None
        return noise.of_path(b).increments(self.ends, self.channels, dt)

    def _one_by_one(self, members: Any) -> None:
        own, field = self.problem.driven_by, self.noisy.field
        noise, dt = self.problem.noise, self.settings.dt
        assert noise is not None and dt is not None
        cost: dict[int, Stats] = {}

        def solve_one(b: int) -> None:
            path = noise.of_path(b).signal(self.ends, self.channels, dt)
            x = (stack(own, path) if own.size else path).program()
            bound = field.with_vector(self.vectors[b])._bind(x, x.size)
            run = Integration(bound, self.starts[b], self.noisy.course, self.settings, self.times, label="ensemble")
            try:
                run.run()
                self.r[b] = run.saved
            except SolverError as error:
                error.args = (f"member {b}: {error}",)
                self.failures[b] = error
            cost[b] = run.stats

        _ = field._kernel  # compiled once, before many threads ask for it
        map_parallel(members, solve_one, "ensemble")
        for b, stats in cost.items():
            self.steps[b] = stats.steps
        self.evaluations += sum(stats.evaluations for stats in cost.values())
        self.failures = dict(sorted(self.failures.items()))
