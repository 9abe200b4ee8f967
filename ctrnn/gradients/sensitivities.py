"""The sensitivities themselves, p(t) = dr/dw and dr/dr0 along a solution: dp/dt = J p + F_w, dS/dt = J S."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctrnn.errors import UnknownNameError
from ctrnn.fields.base import Array
from ctrnn.gradients.forward import ForwardSystem
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.solve import checked_times, solve
from ctrnn.threads import one_blas_thread
from ctrnn.trajectory import Stats


@dataclass(frozen=True, repr=False, eq=False)
class Sensitivities:
    """t (T,), r (T, n), p (T, n, m) = dr/dw with columns named by ``labels``, p0 (T, n, n) = dr/dr0, stats."""

    t: Array
    r: Array
    p: Array
    p0: Array
    labels: tuple[str, ...]
    stats: Stats

    def __repr__(self) -> str:
        return f"Sensitivities at {self.t.size} times of {self.r.shape[1]} states to {len(self.labels)} parameters\n{self.stats}"


def sensitivities(
    problem: Problem,
    save_at: Any = None,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    error_control: str = "all",
    leak_only: bool = False,
) -> Sensitivities:
    """dr/dw and dr/dr0 at times, from the augmented system; their error counts in the step test.

    save_at : times (T,), increasing; None saves every step
    error_control : "all", or "state" (the step test looks at r alone)
    leak_only : the approximation of RFLO (networks only)

    Raises what ctrnn.simulate raises.

    >>> import ctrnn, numpy as np
    >>> decay = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0}), r0=[1.0], t_span=(0.0, 1.0))
    >>> s = sensitivities(decay, save_at=[0.5, 1.0])
    >>> s.p.shape, bool(abs(s.p[1, 0, 0] + np.exp(-2.0)) < 1e-8)  # dr/dk = -t e^(-kt)
    ((2, 1, 1), True)
    """
    if error_control not in ("all", "state"):
        raise UnknownNameError("error_control", error_control, ("all", "state"))
    settings = Settings(solver, rtol, atol, dt, max_steps, min_step)
    saved = None if save_at is None else checked_times("save_at", save_at, problem.t_span)
    # the objective is not needed here, and an integral one would ride along
    problem = problem.replace(objective=None)
    system = ForwardSystem(problem, leak_only=leak_only)
    settings, groups = system.tolerances(settings, error_control)
    with one_blas_thread:
        found = solve(
            system.bound,
            system.start(),
            problem.course,
            settings,
            saved,
            groups,
            label="sensitivities",
        )
    n = problem.field.n
    return Sensitivities(
        found.t,
        found.r[:, :n].copy(),
        system.p(found.r),
        system.part(found.r, "S").reshape(-1, n, n).copy(),
        tuple(problem.field.labels),
        found.stats,
    )
