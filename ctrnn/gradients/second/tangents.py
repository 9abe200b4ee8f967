"""Derivatives along directions (δw, δr0) through the steps of one recording.

    tangent               δk_i = J_i δr_i + F_w,i δw,   δr_i = δr + h Σ_j a_ij δk_j,   δr⁺ = δr + h Σ_i b_i δk_i
    tangent of pullback   δ of what the pullback gives, with the cotangents K̄_i of the loss

(ctrnn.kernels.second has the formulas of both; the cotangents come from the recording's own pullback).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from ctrnn.curvature import Curvature
from ctrnn.errors import SingularJacobianError
from ctrnn.fields.base import Array
from ctrnn.gradients.recording.control import refined_recording
from ctrnn.gradients.recording.stepper import Steps
from ctrnn.kernels import second
from ctrnn.kernels.linalg import lapack_addresses
from ctrnn.problem import Problem, Settings, checked_problem


class Direction(NamedTuple):
    """δw as the kernel lays w out, δr0 (n,), and the change of V and c."""

    w: Array
    r0: Array
    readout: Array


class Tangents:
    """A recording, ready for a derivative along any direction."""

    def __init__(self, problem: Problem, settings: Settings, caller: str) -> None:
        checked_problem(problem).needs_objective(caller)
        self.recording = recording = refined_recording(problem, settings, caller)
        self.bound, self.losses, self.n = recording.bound, recording.losses, recording.n
        self.field = recording.problem.field
        self.kernel = self.field._second_kernel
        self.ctx, self.scratch = self.kernel.ctx(self.bound.system.ctx)
        self.lapack = lapack_addresses()

    @property
    def size(self) -> int:
        """m + n + readout_size, the length of a direction."""
        return self.field.m + self.n + self.losses.readout_size

    def threads(self) -> AbstractContextManager[Any]:
        """How many threads the libraries may use in the passes."""
        return self.recording.threads(self.recording.problem, self.recording.integration.settings)

    def direction(self, v: Array) -> Direction:
        """A direction (m + n + readout_size,) in its parts."""
        w, r0, readout = np.split(v, [self.field.m, self.field.m + self.n])
        return Direction(self.field._kernel_direction(w), r0.copy(), readout)

    def curvature(self, block: Steps) -> tuple[Curvature, Array | None]:
        """That of a block's losses: at its stages, or at its observations and the steps that these follow."""
        return self.losses.curvature(block.record)

    def tangent(self, block: Steps, dr: Array, dw: Array, stages: Array, ends: Array) -> None:
        """δr_i and δr⁺ of a block's steps into ``stages`` and ``ends``; ``dr`` goes from its start to its end."""
        record, run = block.record, self.recording
        self._regular(
            second.tangent(
                self.bound.system, self.lapack, self.kernel.jvp, self.ctx, run.a, run.b, record.h, record.stage_t,
                record.stage_r, record.stage_x, dr, dw, stages, ends,
            )
        )  # fmt: skip

    def pull_back(
        self, block: Steps, jumps: Array, sources: Array, K: Array, stages: Array, dw: Array, lam: Array, G: Array
    ) -> None:
        """δΛ, ``lam`` (n,), from the end of a block to its start, in place; G receives δ of the parameter part.

        jumps (C, n) or (0, n) and sources (C, s, n) or (0, s, n): δ of those of the pullback; K (C, s, n) its
        cotangents, stages those of ``tangent``.
        """
        record, run = block.record, self.recording
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
