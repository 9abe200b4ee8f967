"""Back-propagation through time: one row of cotangents backward, λ = dl/dr.

    discrete     the pullback of λ through the recorded steps: exact for the steps that were taken
    backsolve    dλ/dt = −λ J − a ∂ℓ/∂r, with r integrated backwards beside it: no memory, but r(t) is only right where
                 running F backwards is harmless (Chen et al. 2018)
    interpolate  the same λ, with r(t) from the dense output of the forward solution (as CVODES and SciML do)

λ jumps by a_k ∂ℓ/∂r at the observation t_k, and dl/dw = ∫ λ F_w dt, dl/dr0 = λ(t0).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from ctrnn.errors import UnknownNameError
from ctrnn.gradients.backward import backward_gradient
from ctrnn.gradients.gradient import Gradient, result
from ctrnn.gradients.losses import Losses
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import Integration, tableau_of
from ctrnn.trajectory import Stats


@dataclass(frozen=True)
class Adjoint:
    """One row backward. mode : "discrete", "backsolve" or "interpolate"; raises UnknownNameError for another one."""

    mode: str = "discrete"

    def __post_init__(self) -> None:
        if self.mode not in ("discrete", "backsolve", "interpolate"):
            raise UnknownNameError("mode", self.mode, ("discrete", "backsolve", "interpolate"))

    @property
    def name(self) -> str:
        return f"adjoint, {self.mode}"

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        if self.mode == "discrete":
            return self._discrete(problem, settings)
        return backward_gradient(problem, settings, self.name, interpolate=self.mode == "interpolate")

    def _discrete(self, problem: Problem, settings: Settings) -> Gradient:
        from ctrnn.kernels.pullback import pullback

        began = time.perf_counter()
        tableau = tableau_of(settings, self.name)
        bound, n, s = problem.bind(), problem.field.n, tableau.stages
        a, b = np.ascontiguousarray(tableau.a[:s, :s]), np.ascontiguousarray(tableau.b[:s])
        run = Integration(
            bound,
            problem.r0,
            problem.t_span[0],
            problem.stops,
            problem.is_break,
            settings,
            keep="stages",
            label="adjoint",
        )
        losses = Losses(problem, b)
        loss, g0, g_o = losses.start()
        taken = []
        for record in run.blocks():
            part = losses.block(record)
            loss += part.loss
            g_o = g_o + part.readout
            taken.append((record, part))
        lam = np.zeros((n, 1))
        G = np.zeros((bound.kernel.groups, 1, bound.kernel.columns))
        pulled = 0
        for record, part in reversed(taken):
            K = np.empty((record.h.size, s, n, 1))
            pullback(
                bound.system,
                a,
                b,
                record.h,
                record.stage_t,
                record.stage_r,
                record.stage_x,
                part.jumps,
                part.sources,
                lam,
                K,
                G,
            )
            bound.raise_pending()
            pulled += record.h.size * s
        stats = replace(run.stats, wall_time=time.perf_counter() - began) + Stats(jacobians=pulled)
        return result(problem, self.name, loss, bound.rows(G)[0], g0 + lam[:, 0], g_o, stats)
