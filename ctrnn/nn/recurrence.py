"""The states of a batch after each input interval, as a function that torch can differentiate.

    (x (T, B, nx), r0 (B, n), W (n, n), U (n, nx), b (n,), τ (n,))  ->  r (T, B, n)
    dr/dt = G(r, W φ(r) + U x(t) + b, τ)

by a fixed step of an explicit Runge–Kutta method. Forward and backward are those of the field's kernel of many rows
(ctrnn.fields.rows), the same that recordings in lockstep stand on; here the cotangents come from torch. Second
derivatives: the same steps by torch (``replayed``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctrnn.errors import DivergenceError, UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.cells import Cell
from ctrnn.fields.rows import NetworkRows, Part, Rows, Weights, extended
from ctrnn.kernels.batch.network_batch import Steps
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import weights as method_weights


@dataclass(frozen=True)
class Recurrence:
    """What is not a tensor: the cell, and how its steps are taken.

    ``linear``: the input runs linearly from interval to interval; otherwise it is held.
    """

    cell: Cell
    solver: str
    dt: float
    steps: int
    linear: bool

    def __post_init__(self) -> None:
        tableau = tableaus.get(self.solver)
        if tableau.implicit:
            explicit = [name for name in tableaus.names() if not tableaus.get(name).implicit]
            raise UsageError("solver", given=self.solver, allowed=f"an explicit method: {', '.join(explicit)}")

    @property
    def tableau(self) -> tuple[Array, Array, Array]:
        """The coefficients a (s, s), b (s,), c (s,) of the stages that enter r⁺."""
        a, b = method_weights(self.solver)
        return a, b, np.array(tableaus.get(self.solver).c[: len(b)])

    def intervals(self, T: int) -> Steps:
        """The steps of T inputs for the kernels.

        Each stage takes the row of its interval, and where the input runs linearly the row before too.
        """
        s = len(self.tableau[1])
        C = T * self.steps
        interval, j = np.divmod(np.arange(C), self.steps)
        p = (j[:, None] + self.tableau[2]) / self.steps if self.linear else np.ones((C, s))
        mark = np.where(j == self.steps - 1, interval, -1)
        return Steps(np.full(C, self.dt), np.repeat(interval[:, None], s, axis=1), p, False, mark)

    def rows(self, W: Array, U: Array, b: Array, tau: Array, *, trained: bool) -> Rows:
        """The kernel of many rows with these weights; ``trained``: whether τ is."""
        weights = Weights(W, np.concatenate([U, b[:, None]], axis=1), tau)
        return NetworkRows(self.cell, trained).bind(weights, method_weights(self.solver))

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """States (T, B, n) from float64 tensors x, r0, W, U, b, τ on the CPU.

        Raises DivergenceError where they are not finite.
        """
        if torch.is_grad_enabled() and any(v.requires_grad for v in tensors):
            return _States.apply(self, *tensors)
        return torch.from_numpy(self.forward(tuple(map(_array, tensors)), None)[0])

    def forward(self, numbers: tuple[Array, ...], trained: bool | None) -> tuple[Array, list[Part]]:
        """The states from (x, r0, W, U, b, τ), and what is kept of the trials.

        ``trained``: whether τ is, None where nothing need be kept.
        """
        x, r0, *weights = numbers
        T, (B, n) = len(x), r0.shape
        rows = self.rows(*weights, trained=bool(trained))
        r = np.zeros((B, rows.width))
        r[:, :n] = r0
        states = np.empty((T, B, rows.width))
        parts = rows.forward(self.intervals(T), extended(x), r, states, trained is not None)
        states = np.ascontiguousarray(states[..., :n])
        self._check(states, r0)
        return states, parts

    def backward(
        self, parts: list[Part], weights: tuple[Array, ...], cotangent: Array, trained: bool, x_wanted: bool
    ) -> tuple[Array, ...]:
        """The cotangents of x, r0, W, U, b and τ; of x an empty one where it is not wanted."""
        T, B, n = cotangent.shape
        rows = self.rows(*weights, trained=trained)
        nx, bars, lam, steps = rows.inputs, rows.zero_cotangents(B), np.zeros((B, rows.width)), self.intervals(T)
        jumps, none = np.zeros((T, B, rows.width)), np.empty((0, steps.row.shape[1], B, rows.width))
        jumps[..., :n] = cotangent
        rows.backward(steps, parts, jumps, none, lam, bars, x_wanted)
        x_bar = np.empty((0, B, nx)) if bars.X is None else bars.X[..., :nx].copy()
        drive, theta = bars.drive, bars.theta[:, :n].sum(axis=0)
        parameters = bars.W[:, :n].copy(), drive[:, :nx].copy(), drive[:, nx].copy(), theta
        return x_bar, lam[:, :n].copy(), *parameters

    def replayed(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The same steps by torch, with their graph."""
        x, r, W, U_in, bias, tau = tensors
        (a, b, c), made, states, D = self.tableau, self.cell.module, [], x @ U_in.mT + bias
        for t in range(len(D)):
            before, drive = D[max(t - 1, 0)], D[t]
            for j in range(self.steps):
                k: list[torch.Tensor] = []
                for i in range(len(b)):
                    p = (j + c[i]) / self.steps if self.linear else 1.0
                    z = r + self.dt * sum(a[i, l] * k[l] for l in range(i))
                    u = made.torch_source([z]) @ W.mT + (1.0 - p) * before + p * drive
                    k.append(made.torch_rate([z], [u], [tau])[0])
                r = r + self.dt * sum(b_i * k_i for b_i, k_i in zip(b, k, strict=True))
            states.append(r)
        return torch.stack(states)

    def _check(self, states: Array, r0: Array) -> None:
        if np.isfinite(states[-1]).all():  # what is no longer finite stays so: r⁺ = r + …
            return
        t, b = np.argwhere(~np.isfinite(states).all(axis=2))[0]
        raise DivergenceError(
            f"the states of trial {b} became infinite or NaN in input interval {t}",
            t=float(t * self.steps * self.dt),
            r=states[t - 1, b] if t else r0[b],
            h=self.dt,
            hint="a smaller dt, with more steps_per_input",
        )


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


class _States(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recurrence: Recurrence, *tensors: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.recurrence, ctx.trained = recurrence, ctx.needs_input_grad[6]
        states, parts = recurrence.forward(tuple(map(_array, tensors)), ctx.trained)
        # torch lets go of what it saves itself once backward has run, though the loss be kept
        kept = (torch.from_numpy(array) for part in parts for array in (part.X, part.Z, part.U))
        ctx.save_for_backward(*tensors, *kept)
        ctx.trials = [(part.first, part.last) for part in parts]
        return torch.from_numpy(states)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (cotangent,) = cotangents
        needed, saved = ctx.needs_input_grad[1:], ctx.saved_tensors
        tensors, kept = saved[: len(needed)], map(_array, saved[len(needed) :])
        parts = [Part(first, last, next(kept), next(kept), next(kept)) for first, last in ctx.trials]
        if torch.is_grad_enabled():
            leaves = [v for v, wanted in zip(tensors, needed, strict=True) if wanted]
            found = iter(torch.autograd.grad(ctx.recurrence.replayed(*tensors), leaves, cotangent, create_graph=True))
            return (None, *(next(found) if wanted else None for wanted in needed))
        weights = tuple(map(_array, tensors[2:]))
        bars = ctx.recurrence.backward(parts, weights, _array(cotangent), ctx.trained, needed[0])
        return (None, *(torch.from_numpy(bar) if wanted else None for bar, wanted in zip(bars, needed, strict=True)))
