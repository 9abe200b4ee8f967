"""The forward sensitivity equation on any solver: dP/dt = J P + F_w beside dr/dt = F (its layout: .system).

On our own implicit solvers it goes behind the state, stage by stage (ctrnn.gradients.continuous.staggered).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctrnn.clock import working
from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.staggered import is_staggered, solve_staggered
from ctrnn.gradients.continuous.system import ForwardSystem
from ctrnn.gradients.result import Gradient, result
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.solution import Solution
from ctrnn.solvers.solve import solve


def solve_forward(
    system: ForwardSystem,
    settings: Settings,
    groups: tuple[int, ...],
    save_at: Array | None = None,
    label: str = "solve",
) -> Solution:
    """The whole state y (T, N) at ``save_at``, or at every step, from ``system.start()``.

    Settings and groups are those of ``system.tolerances``.
    """
    if is_staggered(settings):
        return solve_staggered(system, settings, save_at, label)
    return solve(system.bound, system.start(), system.problem.course, settings, save_at, groups, label=label)


def forward_gradient(
    problem: Problem, settings: Settings, name: str, error_control: str = "all", leak_only: bool = False
) -> Gradient:
    """g = Σ_k a_k ∂ℓ/∂r(t_k) P(t_k), or the integral of the same, from the augmented solution."""
    began = working()
    objective = problem.needs_objective(name)
    system = ForwardSystem(problem, leak_only=leak_only)
    n, kernel = problem.field.n, system.kernel
    settings, groups = system.tolerances(settings, error_control)
    integral = objective.times is None
    save_at = problem.course.stops[-1:] if integral else problem.observed
    found = solve_forward(system, settings, groups, save_at, name)
    y = found.r
    if integral:
        loss, g_o = float(system.part(y, "l")[-1, 0]), system.part(y, "g_o")[-1]
        g, g0 = system.part(y, "g")[-1].reshape(kernel.groups, kernel.columns), system.part(y, "g0")[-1]
    else:
        l, l_r, l_o = objective.at_observations(np.ascontiguousarray(y[:, :n]))
        P = system.part(y, "P").reshape(len(y), kernel.groups, n, kernel.columns)
        S = system.part(y, "S").reshape(-1, n, n)
        loss, g_o = float(l.sum()), l_o
        g, g0 = np.einsum("tn,tgnc->gc", l_r, P), np.einsum("tn,tnk->k", l_r, S)
    vector = system.base.rows(g[:, None])[0]
    jacobians = found.stats.jacobians or found.stats.evaluations  # the augmented F calls J itself
    stats = replace(found.stats, jacobians=jacobians, wall_time=working() - began)
    return result(problem, name, loss, vector, g0, g_o, stats)
