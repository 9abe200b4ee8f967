"""Back-propagation through time: one row of cotangents backward, λ = dl/dr.

    discrete     the pullback of λ through the recorded steps: exact for the steps that were taken
    backsolve    dλ/dt = −λ J − a ∂ℓ/∂r, with r integrated backwards beside it: no memory, but r(t) is only right where
                 running F backwards is harmless (Chen et al. 2018)
    interpolate  the same λ, with r(t) from the dense output of the forward solution (as CVODES and SciML do)

λ jumps by a_k ∂ℓ/∂r at the observation t_k, and dl/dw = ∫ λ F_w dt, dl/dr0 = λ(t0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrnn.errors import UnknownNameError
from ctrnn.gradients.backward import backward_gradient
from ctrnn.gradients.discrete import DiscreteRun
from ctrnn.gradients.gradient import Gradient, result
from ctrnn.problem import Problem, Settings


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
        run = DiscreteRun(problem, settings, self.name)
        loss, g0, g_o = run.losses.start()
        taken = list(run.blocks())
        lam = np.zeros((problem.field.n, 1))
        G = np.zeros((run.bound.kernel.groups, 1, run.bound.kernel.columns))
        for record, part in reversed(taken):
            run.pull(record, part, lam, G)
            loss += part.loss
            g_o = g_o + part.readout
        return result(problem, self.name, loss, run.bound.rows(G)[0], g0 + lam[:, 0], g_o, run.stats)
