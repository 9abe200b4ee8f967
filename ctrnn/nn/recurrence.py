"""The states of a batch after each input interval, as a function that torch can differentiate.

    (x (T, B, inputs), r0 (B, n), parameters)  ->  r (T, B, n),        dr/dt = F(r, w, x(t))

by fixed steps of an explicit Runge–Kutta method. Forward and backward are those of the field's kernel of many rows
(ctrnn.fields.rows), the same that recordings in lockstep stand on; here the cotangents come from torch. Second
derivatives, and fields without such a kernel: the same steps by torch (``replayed``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ctrnn.errors import DivergenceError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.rows import Part, Rows, Steps
from ctrnn.memory import claim
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import weights as method_weights


@dataclass(frozen=True)
class Recurrence:
    """What is not a tensor: the field but for its numbers, and how its steps are taken.

    linear : whether the input runs linearly from interval to interval, or is held
    """

    field: Field
    solver: str
    dt: float
    steps: int
    linear: bool

    def __post_init__(self) -> None:
        tableau = tableaus.get(self.solver)
        if tableau.gamma or tableau.exponential:
            explicit = [name for name in tableaus.names() if not tableaus.get(name).gamma]
            raise UsageError("solver", given=self.solver, allowed=f"an explicit method: {', '.join(explicit)}")

    @property
    def tableau(self) -> tuple[Array, Array, Array]:
        """a (s, s), b (s,), c (s,) of the stages that enter r⁺."""
        a, b = method_weights(self.solver)
        return a, b, np.array(tableaus.get(self.solver).c[: len(b)])

    def intervals(self, T: int, spans: Array | None) -> Steps:
        """The steps of T inputs: a stage takes the row of its interval and, of a linear input, the row before too."""
        s = len(self.tableau[1])
        C = T * self.steps
        interval, j = np.divmod(np.arange(C), self.steps)
        h = np.full(C, self.dt) if spans is None else np.repeat(spans / self.steps, self.steps)
        p = (j[:, None] + self.tableau[2]) / self.steps if self.linear else np.ones((C, s))
        mark = np.where(j == self.steps - 1, interval, -1)
        return Steps(h, np.repeat(interval[:, None], s, axis=1), p, mark)

    def stage_times(self, steps: Steps) -> Array:
        """t (C, s) of the stages, from 0 on."""
        ends = np.cumsum(steps.h)
        return np.asarray((ends - steps.h)[:, None] + steps.h[:, None] * self.tableau[2])

    def rows(self, numbers: tuple[Array, ...]) -> Rows:
        """The field's rows at parameters in the order of its names."""
        named = dict(zip(self.field.parameter_names, numbers, strict=True))
        return Rows(self.field.with_parameters(**named), method_weights(self.solver))

    def __call__(
        self, x: torch.Tensor, r0: torch.Tensor, w: dict[str, torch.Tensor], spans: Array | None = None
    ) -> torch.Tensor:
        """States (T, B, n) from float64 tensors on the CPU; raises DivergenceError where they are not finite.

        spans : durations (T,) of the inputs; None: ``steps`` steps of ``dt`` each
        """
        tensors = x, r0, *w.values()
        if x.shape[1] == 0:  # nobody is there; the graph is
            return torch.zeros(len(x), 0, r0.shape[1], dtype=x.dtype) + 0.0 * sum(v.sum() for v in tensors)
        if self.field.row_slots is None:
            states = self.replayed(spans, *tensors)
            self._check(_array(states), _array(r0), self.intervals(len(x), spans))
            return states
        if torch.is_grad_enabled() and any(v.requires_grad for v in tensors):
            return _States.apply(self, spans, *tensors)
        return torch.from_numpy(self.forward(tuple(map(_array, tensors)), spans, keep=False)[0])

    def forward(self, numbers: tuple[Array, ...], spans: Array | None, keep: bool) -> tuple[Array, list[Part]]:
        """The states from (x, r0, *parameters), and what is kept of the trials for the way back."""
        x, r0, *parameters = numbers
        T, (B, n) = len(x), r0.shape
        stages = self.steps * (len(self.tableau[1]) + 1) if keep else 0
        claim("x", 8.0 * T * (B * n * (2 + stages) + 5 * self.steps), "fewer sequences at a time, or shorter ones")
        rows, steps = self.rows(tuple(parameters)), self.intervals(len(x), spans)
        r = np.zeros((B, rows.width))
        r[:, :n] = r0
        states = np.empty((T, B, rows.width))
        parts = rows.forward(steps, self.stage_times(steps), x, r, states, keep)
        states = np.ascontiguousarray(states[..., :n])
        self._check(states, r0, steps)
        return states, parts

    def backward(
        self, parts: list[Part], parameters: tuple[Array, ...], cotangent: Array, spans: Array | None, x_wanted: bool
    ) -> tuple[Array, ...]:
        """The cotangents of x (an empty one where it is not wanted), r0 and the parameters."""
        T, B, n = cotangent.shape
        rows, steps = self.rows(parameters), self.intervals(T, spans)
        found, lam = rows.zero_cotangents(), np.zeros((B, rows.width))
        jumps, none = np.zeros((T, B, rows.width)), np.empty((0, steps.row.shape[1], B, rows.width))
        jumps[..., :n] = cotangent
        rows.backward(steps, parts, jumps, none, lam, found, x_wanted)
        x_bar = np.empty((0, B, self.field.input_size)) if found.X is None else found.X
        vector = self.field.unflatten(found.vector)
        return x_bar, lam[:, :n].copy(), *vector.values()

    def replayed(self, spans: Array | None, *tensors: torch.Tensor, t0: float = 0.0) -> torch.Tensor:
        """The same steps by torch from t0, with their graph."""
        x, r, *parameters = tensors
        w, F = dict(zip(self.field.parameter_names, parameters, strict=True)), self.field.torch_function()
        (a, b, c), states = self.tableau, []
        plan = self.intervals(len(x), spans)
        h_of, t_of = plan.h, t0 + self.stage_times(plan)
        for k in range(len(x)):
            before, now = x[max(k - 1, 0)], x[k]
            for j in range(self.steps):
                h = float(h_of[k * self.steps + j])
                slopes: list[torch.Tensor] = []
                for i in range(len(b)):
                    p = (j + c[i]) / self.steps if self.linear else 1.0
                    z = r + h * sum(a[i, l] * slopes[l] for l in range(i))
                    t = float(t_of[k * self.steps + j, i])
                    slopes.append(F(t, z, w, (1.0 - p) * before + p * now))
                r = r + h * sum(b_i * k_i for b_i, k_i in zip(b, slopes, strict=True))
            states.append(r)
        return torch.stack(states)

    def _check(self, states: Array, r0: Array, steps: Steps) -> None:
        if np.isfinite(states[-1]).all():  # what is no longer finite stays so: r⁺ = r + …
            return
        k, b = np.argwhere(~np.isfinite(states).all(axis=2))[0]
        raise DivergenceError(
            f"the states of trial {b} became infinite or NaN in input interval {k}",
            t=float(steps.h[: k * self.steps].sum()),
            r=states[k - 1, b] if k else r0[b],
            h=float(steps.h[k * self.steps]),
            hint="a smaller dt, with more steps_per_input",
        )


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


#: what a part keeps
KEPT = "X", "tape", "stages"


class _States(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recurrence: Recurrence, spans: Array | None, *tensors: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.recurrence, ctx.spans = recurrence, spans
        states, ctx.parts = recurrence.forward(tuple(map(_array, tensors)), spans, keep=True)
        # torch lets go of what it saves itself once backward has run, though the loss be kept
        kept = [torch.from_numpy(array) for part in ctx.parts for array in (getattr(part, name) for name in KEPT)]
        ctx.parts = [replace(part, **dict.fromkeys(KEPT, np.empty(0))) for part in ctx.parts]
        ctx.count = len(tensors)
        ctx.save_for_backward(*tensors, *kept)
        return torch.from_numpy(states)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (cotangent,) = cotangents
        needed, saved = ctx.needs_input_grad[2:], ctx.saved_tensors
        tensors, kept = saved[: ctx.count], map(_array, saved[ctx.count :])
        if torch.is_grad_enabled():
            leaves = [v for v, wanted in zip(tensors, needed, strict=True) if wanted]
            states = ctx.recurrence.replayed(ctx.spans, *tensors)
            found = iter(torch.autograd.grad(states, leaves, cotangent, create_graph=True, allow_unused=True))
            return (None, None, *(next(found) if wanted else None for wanted in needed))
        parts = [replace(part, **{name: next(kept) for name in KEPT}) for part in ctx.parts]
        parameters = tuple(map(_array, tensors[2:]))
        bars = ctx.recurrence.backward(parts, parameters, _array(cotangent), ctx.spans, needed[0])
        gradients = (torch.from_numpy(bar) if wanted else None for bar, wanted in zip(bars, needed, strict=True))
        return (None, None, *gradients)
