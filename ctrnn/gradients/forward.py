"""The forward sensitivity equation on any solver: dP/dt = J P + F_w beside dr/dt = F (ctrnn.kernels.augmented.forward)."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Bound
from ctrnn.gradients.gradient import Gradient, result
from ctrnn.gradients.integral import LossRate, augmented_bound
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.solve import solve


class ForwardSystem:
    """y = [r | P | S | l | g | g₀ | g_o], with P = dr/dw (groups, n, columns) and S = dr/dr0; ``with_p`` False leaves P, S, g, g₀ out.

    leak_only : J in dP/dt is replaced by what a unit does to itself directly
    """

    def __init__(self, problem: Problem, with_p: bool = True, leak_only: bool = False) -> None:
        from ctrnn.kernels import abi, augmented

        field = problem.field
        self.problem, self.with_p, self.n = problem, with_p, field.n
        base = problem.bind()
        self.base, self.kernel = base, base.kernel
        slot = abi.LEAK if leak_only else abi.JACOBIAN
        if not base.system.table[slot]:
            raise UsageError(
                "method",
                given="RFLO",
                allowed="a network: only there is the leak a part of its own",
                hint="ctrnn.RateNetwork(1, inputs=1, activation='linear') is the scalar example",
            )
        g, c, n = base.kernel.groups, base.kernel.columns, self.n
        objective = problem.objective
        self.loss = LossRate(problem) if objective is not None and objective.times is None else None
        readout = 0 if objective is None else objective.readout_size
        self.sizes = {"r": n, "P": g * n * c * with_p, "S": n * n * with_p}
        if self.loss is not None:
            self.sizes |= {"l": 1, "g": g * c * with_p, "g0": n * with_p, "g_o": readout}
        self.bound: Bound = augmented_bound(
            base,
            augmented.forward,
            sum(self.sizes.values()),
            problem.field.input_size,
            slot,
            self.loss,
            with_p,
            readout,
        )

    def start(self) -> Array:
        y = np.zeros(self.bound.n)
        y[: self.n] = self.problem.r0
        if self.with_p:
            self.part(y, "S")[...] = np.eye(self.n).ravel()
        return y

    def part(self, y: Array, name: str) -> Array:
        """A part of the state y (..., N), flat, as a view (..., size)."""
        begin = 0
        for key, size in self.sizes.items():
            if key == name:
                return y[..., begin : begin + size]
            begin += size
        raise KeyError(name)

    def p(self, y: Array) -> Array:
        """dr/dw of states y (T, N), as (T, n, m)."""
        g, c = self.kernel.groups, self.kernel.columns
        P = self.part(y, "P").reshape(len(y), g, self.n, c)
        return np.stack([self.base.rows(P[k]) for k in range(len(P))])

    def tolerances(self, settings: Settings, error_control: str) -> tuple[Settings, tuple[int, ...]]:
        """The settings for the augmented state, and the groups of its error norm: the state, and all the rest.

        A sensitivity has the unit r/w_j: its absolute tolerance is atol/|w_j|, as in CVODES, or atol where w_j = 0.
        """
        n, N = self.n, self.bound.n
        atol = np.full(N, np.inf)
        rtol = np.zeros(N)
        atol[:n], rtol[:n] = settings.atol, settings.rtol
        if error_control == "all":
            rest_atol, rest_rtol = float(np.min(settings.atol)), float(np.min(settings.rtol))
            atol[n:], rtol[n:] = rest_atol, rest_rtol
            if self.with_p:
                w = np.append(np.abs(self.problem.field.vector), 0.0)[self.kernel.index]
                scale = np.where(w > 0, w, 1.0).reshape(self.kernel.groups, 1, self.kernel.columns)
                self.part(atol, "P")[...] = (
                    rest_atol / np.broadcast_to(scale, (self.kernel.groups, n, self.kernel.columns))
                ).ravel()
        elif settings.library:
            raise UsageError("error_control", given=error_control, allowed="'all', on another library's solver")
        return replace(
            settings,
            rtol=rtol if settings.library == "" else settings.rtol,
            atol=atol if settings.library != "torchdiffeq" else settings.atol,
        ), (0, n, N)


def forward_gradient(
    problem: Problem, settings: Settings, name: str, error_control: str = "all", leak_only: bool = False
) -> Gradient:
    """g = Σ_k a_k ∂ℓ/∂r(t_k) P(t_k), or the integral of the same, from the augmented solution."""
    began = time.perf_counter()
    objective = problem.needs_objective(name)
    system = ForwardSystem(problem, leak_only=leak_only)
    n, kernel = problem.field.n, system.kernel
    settings, groups = system.tolerances(settings, error_control)
    integral = objective.times is None
    save_at = problem.stops[-1:] if integral else problem.observed
    found = solve(
        system.bound,
        system.start(),
        problem.t_span[0],
        problem.stops,
        problem.is_break,
        settings,
        save_at,
        groups,
        label=name,
    )
    y = found.r
    if integral:
        loss, g_o = float(system.part(y, "l")[-1, 0]), system.part(y, "g_o")[-1]
        g, g0 = system.part(y, "g")[-1].reshape(kernel.groups, kernel.columns), system.part(y, "g0")[-1]
    else:
        l, l_r, l_o = objective.at_observations(np.ascontiguousarray(y[:, :n]))
        P = system.part(y, "P").reshape(len(y), kernel.groups, n, kernel.columns)
        S = system.part(y, "S").reshape(-1, n, n)
        loss, g_o = float(l.sum()), l_o.sum(axis=0)
        g, g0 = np.einsum("tn,tgnc->gc", l_r, P), np.einsum("tn,tnk->k", l_r, S)
    vector = system.base.rows(g[:, None])[0]
    stats = replace(found.stats, jacobians=found.stats.evaluations, wall_time=time.perf_counter() - began)
    return result(problem, name, loss, vector, g0, g_o, stats)
