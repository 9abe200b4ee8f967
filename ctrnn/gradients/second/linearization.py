"""The steps of one run, ready for a derivative along any direction (δw, δr0) through them.

    tangent      δk_i = J_i δr_i + F_w,i δw,   δr_i = δr + h Σ_j a_ij δk_j,   δr⁺ = δr + h Σ_i b_i δk_i
    cotangents   the stage rows K̄_i of the loss, by the pullback

and the tangent of the pullback (ctrnn.kernels.second has the formulas of each).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np

from ctrnn.curvature import Curvature
from ctrnn.errors import SingularJacobianError
from ctrnn.fields.base import Array
from ctrnn.gradients.recording.discrete import DiscreteRun
from ctrnn.gradients.recording.losses import Part
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.solvers.exponential import with_steps
from ctrnn.threads import one_blas_thread


class Linearization:
    """The steps of one run, with what every direction through them needs."""

    def __init__(self, problem: Problem, settings: Settings, caller: str) -> None:
        from ctrnn.kernels import abi
        from ctrnn.kernels.linalg import lapack_addresses

        problem = with_steps(checked_problem(problem), settings)
        self.problem, self.objective = problem, problem.needs_objective(caller)
        self.n, self.m = problem.field.n, problem.field.m
        self.run = DiscreteRun(problem, settings, caller)
        self.bound = self.run.bound
        self.kernel = problem.field.second_kernel
        self.scratch = np.zeros(max(self.kernel.scratch, 1))
        self.ctx = np.concatenate([self.bound.system.ctx, np.array(self.kernel.extra, dtype=np.int64)])
        self.ctx[abi.SCRATCH] = self.scratch.ctypes.data
        self.lapack = lapack_addresses()
        self.blas = one_blas_thread if self.bound.kernel.blas else nullcontext()
        observed = problem.observed
        #: observations at t0, and the curvature of the loss there
        self.first = int((observed == problem.t_span[0]).sum())
        self.at_start = self._observed(np.tile(problem.r0, (self.first, 1)), 0)

    def _observed(self, r: Array, first: int) -> Curvature:
        here = slice(first, first + len(r))
        o = self.objective
        each = None if o.each is None else o.each[here]
        return Curvature(o, r, o.targets[here], o.weights[here], np.ones(len(r)), each)

    def blocks(self, capacity: int | None = None) -> Iterator[tuple[Record, Part, Curvature, Array | None]]:
        """The record of each block, its part of the losses, their curvature and, for observations, the steps they follow."""
        self.run.losses.start()
        taken, nx = self.first, self.problem.field.input_size
        for record, part in self.run.blocks() if capacity is None else self.run.blocks(capacity):
            if self.objective.times is None:
                signals = record.stage_x[:, :, nx:].reshape(record.stage_t.size, -1)
                h = (record.h[:, None] * self.run.b).ravel()
                r = record.stage_r.reshape(-1, self.n)
                yield record, part, Curvature(self.objective, r, signals[:, :-1], signals[:, -1], h), None
                continue
            times = self.problem.observed[taken:]
            rows = np.searchsorted(record.t, times[times <= record.t[-1]])
            yield record, part, self._observed(record.r[rows], taken), rows
            taken += len(rows)

    def tangent(self, record: Record, dr: Array, dw: Array, stages: Array, ends: Array) -> None:
        """δr_i and δr⁺ of a block's steps into ``stages`` and ``ends``; ``dr`` goes from its start to its end."""
        from ctrnn.kernels import second

        run = self.run
        self._regular(
            second.tangent(
                self.bound.system, self.lapack, self.kernel.jvp, self.ctx, run.a, run.b, record.h, record.stage_t,
                record.stage_r, record.stage_x, dr, dw, stages, ends,
            )
        )  # fmt: skip

    def cotangents(self, record: Record, part: Part, lam: Array, K: Array) -> None:
        from ctrnn.kernels import second

        run = self.run
        self._regular(
            second.cotangents(
                self.bound.system, self.lapack, run.a, run.b, record.h, record.stage_t, record.stage_r, record.stage_x,
                part.jumps, part.sources, lam, K,
            )
        )  # fmt: skip

    def pullback_tangent(
        self, record: Record, jumps: Array, sources: Array, K: Array, stages: Array, dw: Array, lam: Array, G: Array
    ) -> None:
        from ctrnn.kernels import second

        run = self.run
        self._regular(
            second.pullback_tangent(
                self.bound.system, self.lapack, self.kernel.second, self.ctx, run.a, run.b, record.h, record.stage_t,
                record.stage_r, record.stage_x, jumps, sources, K, stages, dw, lam, np.empty_like(K), G,
            )
        )  # fmt: skip

    def _regular(self, solved: bool) -> None:
        self.bound.raise_pending()
        if not solved:
            raise SingularJacobianError(np.inf, "I − h a_ii J of an implicit stage", "a smaller step or tolerance")

    def direction(self, v: Array) -> tuple[Array, Array, Array]:
        """A direction (m + n + readout_size,) as δw in the kernel's layout, δr0 and the change of V and c."""
        parts = np.split(v, [self.m, self.m + self.n])
        return self.problem.field.kernel_direction(parts[0]), parts[1].copy(), parts[2]

    @property
    def size(self) -> int:
        """m + n + readout_size, the length of a direction."""
        return self.m + self.n + self.objective.readout_size
