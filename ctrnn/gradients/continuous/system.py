"""The state with its sensitivities, and the loss with its gradients, as one system (ctrnn.kernels.augmented)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.gradients.continuous.integral import LossRate, augmented_bound
from ctrnn.gradients.continuous.scales import integral_scales, parameter_scales, typical
from ctrnn.kernels import abi, augmented
from ctrnn.numbers import flag
from ctrnn.problem import Problem, Settings


class ForwardSystem:
    """y = [r | P | S | l | g | g₀ | g_o], with P = dr/dw (groups, n, columns) and S = dr/dr0.

    ``with_p`` False leaves P, S, g, g₀ out.

    leak_only : J in dP/dt is replaced by what a unit does to itself directly
    """

    def __init__(
        self, problem: Problem, with_p: bool = True, leak_only: bool = False, with_readout: bool = True
    ) -> None:
        field = problem.field
        self.problem, self.with_p, self.n = problem, with_p, field.n
        base = problem.bind()
        self.base, self.kernel = base, base.kernel
        self.leak_only = flag("leak_only", leak_only)
        self.slot = slot = abi.LEAK if leak_only else abi.JACOBIAN
        if not base.system.table[slot]:
            raise UsageError(
                "method",
                given="RFLO",
                allowed="a network: only there is the leak a part of its own",
                hint="ctrnn.RateNetwork(1, inputs=1, activation='linear') is the scalar example",
            )
        g, c, n = base.kernel.groups, base.kernel.columns, self.n
        objective = problem.objective
        self.loss = LossRate(objective) if objective is not None and objective.times is None else None
        readout = 0 if objective is None or not with_readout else objective.readout_size
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
        """The whole state y (N,) at t0: r0, S the identity, all else 0."""
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

    def tolerances(self, settings: Settings, error_control: str = "all") -> tuple[Settings, tuple[int, ...]]:
        """The settings for the augmented state, and the groups of its error norm: r; P and S; l and its gradients.

        The absolute tolerance of dr/dw_j is atol/|w_j| (as in CVODES) or rtol, whichever is less; that of an integral
        is a part rtol of its size, and of its gradients that size over the parameter's
        (ctrnn.gradients.continuous.scales).
        """
        n, N = self.n, self.bound.n
        atol = np.full(N, np.finfo(float).max)
        rtol = np.zeros(N)
        rtol[:n], atol[:n] = settings.tolerances(n)
        inner = n + self.sizes["P"] + self.sizes["S"]
        if error_control == "all":
            rest_atol, rest_rtol = float(np.min(settings.atol)), float(np.min(settings.rtol))
            rtol[n:] = rest_rtol
            w, r0 = self.column_scales(), typical(self.problem.r0)
            if self.with_p:
                each = np.minimum(rest_atol / w, max(rest_rtol, rest_atol))
                self.part(atol, "P")[...] = np.broadcast_to(each[:, None], (len(w), n, w.shape[1])).ravel()
                self.part(atol, "S")[...] = min(rest_atol / r0, max(rest_rtol, rest_atol))
            if self.loss is not None:
                size = integral_scales(self.problem, settings)[0]
                l = max(rest_rtol, rest_atol) * size or rest_atol
                self.part(atol, "l")[...] = l
                if self.with_p:
                    self.part(atol, "g")[...] = (l / w).ravel()
                    self.part(atol, "g0")[...] = l / r0
        elif settings.library:
            raise UsageError("error_control", given=error_control, allowed="'all', on another library's solver")
        if settings.library:
            # their norm is the root mean square over all components, in which the many would dilute the few
            share = np.sqrt(n / N)
            rtol, atol = rtol * share, atol * share
        if settings.library == "torchdiffeq":
            # it takes one number for all
            rtol, atol = rtol[rtol > 0].min(), atol.min()
        return replace(settings, rtol=rtol, atol=atol), (0, n, inner, N)

    def column_scales(self) -> Array:
        """A typical size of the parameter behind each column, (groups, columns)."""
        w = np.append(parameter_scales(self.problem.field), 1.0)[self.kernel.index]
        return w.reshape(self.kernel.groups, self.kernel.columns)
