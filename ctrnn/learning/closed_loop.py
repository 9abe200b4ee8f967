"""States of a batch whose outputs come back as inputs, as a function that torch can differentiate.

    r_k = Φ(r_{k−1}, x̃_k),    o_k = g(V r_k + c),    x̃_k = x_k, but o_{k−1} in the channels that are fed back,
                                                      of the trials and times where own_bk holds

Φ are the fixed steps of ctrnn.nn.recurrence over the time of one input. The gradient is exact: it passes through every
output that was fed back,

    λ ← λ + ∂ℓ/∂r_k + Vᵀ g′ᵀ ō_k,    (λ, x̄_k) ← λ ∂Φ/∂(r, x̃),    ō_{k−1} = x̄_k in those channels where own_bk holds.

Times without an output fed back run in one call of the compiled loops. With own everywhere, the network runs free
(one-to-many); with none, it is taught; between them lies scheduled sampling (S. Bengio et al., NIPS 2015), here with
the exact derivative, not the one that stops at the sampled input.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ctrnn.errors import DivergenceError
from ctrnn.fields.base import Array
from ctrnn.learning.output_loss import outputs
from ctrnn.learning.torch_transforms import refuse_transforms
from ctrnn.losses import Readout
from ctrnn.nn.recurrence import Recurrence

Tensor = torch.Tensor


@dataclass(frozen=True)
class ClosedLoop:
    """How outputs come back: the steps, the input channel of each output, and g.

    channels : (p,), numbers of input channels
    """

    recurrence: Recurrence
    channels: Array
    activation: str

    def __call__(
        self,
        x: Tensor,
        r0: Tensor,
        w: dict[str, Tensor],
        V: Tensor,
        c: Tensor,
        own: Array,
    ) -> Tensor:
        """States (T, B, n) of inputs x (T, B, inputs) in float64; own (T, B) of booleans, none at the first time."""
        refuse_transforms("layer", x, r0, V, c, *w.values())
        if self.recurrence.field.row_slots is None:
            return self._by_torch(x, r0, V, c, own, *w.values())
        states: Tensor = _Loop.apply(self, own, x, r0, V, c, *w.values())
        return states

    def forward(self, numbers: tuple[Array, ...], own: Array) -> tuple[Array, Array, list[Any]]:
        """The states, the inputs x̃ that were taken, and what is kept for the way back."""
        x, r0, V, c, *parameters = numbers
        how, (B, n) = self.recurrence, r0.shape
        rows, readout = how.rows(tuple(parameters)), Readout(V, c, self.activation)
        r, taken = np.zeros((B, rows.width)), x.copy()
        r[:, :n] = r0
        states, kept = np.empty((len(x), B, rows.width)), []
        for k, end in self.pieces(own):
            if own[k].any():
                fed = taken[k][:, self.channels]
                taken[k][:, self.channels] = np.where(own[k][:, None], readout(states[k - 1, :, :n]), fed)
            steps = how.intervals(end - k, None)
            t = how.stage_times(steps) + k * how.steps * how.dt
            kept.append(rows.forward(steps, t, taken[k:end], r, states[k:end], True))
            self._check(states[k:end, :, :n], states[k - 1, :, :n] if k else r0, k)
        return np.ascontiguousarray(states[..., :n]), taken, kept

    def backward(
        self, numbers: tuple[Array, ...], own: Array, states: Array, kept: list[Any], cotangent: Array
    ) -> tuple[Array, ...]:
        """The cotangents of x, r0, V, c and the parameters."""
        x, r0, V, c, *parameters = numbers
        how, (B, n) = self.recurrence, r0.shape
        rows, readout = how.rows(tuple(parameters)), Readout(V, c, self.activation)
        found, lam = rows.zero_cotangents(), np.zeros((B, rows.width))
        x_bar, V_bar, c_bar = np.zeros_like(x), np.zeros_like(V), np.zeros_like(c)
        for (k, end), parts in zip(reversed(self.pieces(own)), reversed(kept), strict=True):
            steps = how.intervals(end - k, None)
            jumps, none = np.zeros((end - k, B, rows.width)), np.empty((0, steps.row.shape[1], B, rows.width))
            jumps[..., :n] = cotangent[k:end]
            rows.backward(steps, parts, jumps, none, lam, found, True)
            assert found.X is not None
            x_bar[k:end] = found.X
            if own[k].any():
                fed = x_bar[k][:, self.channels]
                o_bar = np.where(own[k][:, None], fed, 0.0)
                x_bar[k][:, self.channels] = fed - o_bar
                before = states[k - 1]
                u_bar = readout.pullback(readout(before), o_bar)
                lam[:, :n] += u_bar @ V
                V_bar += u_bar.T @ before
                c_bar += u_bar.sum(axis=0)
        vector = how.field.unflatten(found.vector)
        return x_bar, lam[:, :n].copy(), V_bar, c_bar, *vector.values()

    def _by_torch(self, x: Tensor, r0: Tensor, V: Tensor, c: Tensor, own: Array, *parameters: Tensor) -> Tensor:
        """The same of a field without a form of many rows, in torch's operations."""
        how, r, states = self.recurrence, r0, [r0[None][:0]]
        for k, end in self.pieces(own):
            part = x[k:end]
            if own[k].any():
                fed = part[0].clone()
                taken = torch.from_numpy(own[k])[:, None]
                fed[:, self.channels] = torch.where(taken, outputs(r @ V.T + c, self.activation), fed[:, self.channels])
                part = torch.cat([fed[None], part[1:]])
            states.append(how.replayed(None, part, r, *parameters, t0=k * how.steps * how.dt))
            self._check(states[-1], r, k)
            r = states[-1][-1]
        return torch.cat(states)

    def _check(self, states: Any, before: Any, k: int) -> None:
        """Raise DivergenceError where the states from input k on are not finite."""
        how, after, r = self.recurrence, np.asarray(_array(states[-1])), np.asarray(_array(before))
        if not np.isfinite(after).all():
            message = "the states of a network that runs on its own outputs became infinite or NaN"
            hint = "more teacher forcing, gradient clipping, or a smaller dt with more steps_per_input"
            raise DivergenceError(message, t=k * how.steps * how.dt, r=r, h=how.dt, hint=hint)

    @staticmethod
    def pieces(own: Array) -> list[tuple[int, int]]:
        """Times from k to end that run in one call: they begin where an output is fed back, or at 0."""
        starts = np.flatnonzero(own.any(axis=1)).tolist()
        return list(pairwise([0, *starts, len(own)]))


def _array(values: Any) -> Any:
    return values.detach().numpy() if isinstance(values, Tensor) else values


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loop: ClosedLoop, own: Array, *tensors: Tensor) -> Tensor:  # type: ignore[override]
        ctx.loop, ctx.own = loop, own
        numbers = tuple(v.detach().contiguous().numpy() for v in tensors)
        states, _, ctx.kept = loop.forward(numbers, own)
        made = torch.from_numpy(states)
        ctx.save_for_backward(made, *tensors)
        return made

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        states, *tensors = ctx.saved_tensors
        numbers = tuple(v.detach().contiguous().numpy() for v in tensors)
        cotangent = cotangents[0].contiguous().numpy()
        bars = ctx.loop.backward(numbers, ctx.own, states.numpy(), ctx.kept, cotangent)
        needed = ctx.needs_input_grad[2:]
        return (None, None, *(torch.from_numpy(b) if wanted else None for b, wanted in zip(bars, needed, strict=True)))
