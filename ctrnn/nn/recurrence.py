"""The states of a batch after each input interval, as a function that torch can differentiate.

    (x (T, B, nx), r0 (B, n), W (n, n), U (n, nx), b (n,), τ (n,))  ->  r (T, B, n),        dr/dt = G(r, W φ(r) + U x(t) + b, τ)

by a fixed step of an explicit Runge–Kutta method. Forward and backward are compiled (ctrnn.kernels.network_batch, with the formulas), the trials divided
among threads in parts of a few, whose sums are taken in their order whoever was quicker. Second derivatives: the same steps by torch (``replayed``).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrnn.errors import DivergenceError, UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.cells import Cell
from ctrnn.solvers import tableaus
from ctrnn.threads import one_blas_thread, share, workers

#: flops below which a second thread costs more than it saves
WORTH_THREADS = 1e7
#: flops of a unit apart from products, most of them in φ
UNIT_FLOPS = 60
#: the trials that go together: enough for products and loops of useful length, few enough for the first-level cache
PART_TRIALS, PART_NUMBERS, LEAST_NUMBERS = 8, 512, 128
#: rows of the products that make W̄
PANEL_ROWS = 128


@dataclass(frozen=True)
class Recurrence:
    """What is not a tensor: the cell, and how its steps are taken. ``linear``: the input runs linearly from interval to interval, or is held."""

    cell: Cell
    solver: str
    dt: float
    steps: int
    linear: bool

    def __post_init__(self) -> None:
        tableau = tableaus.get(self.solver)
        if tableau.gamma:
            explicit = [name for name in tableaus.names() if not tableaus.get(name).gamma]
            raise UsageError("solver", given=self.solver, allowed=f"an explicit method: {', '.join(explicit)}")

    @property
    def tableau(self) -> tuple[Array, Array, Array]:
        """a (s, s), b (s,), c (s,) of the stages that enter r⁺."""
        tableau = tableaus.get(self.solver)
        s = tableau.stages
        a, b, c = tableau.a[:s, :s], tableau.b[:s], tableau.c[:s]
        return np.array(a), np.array(b), np.array(c)

    def scheme(self, tau_is_trained: bool) -> Any:
        """The same for the kernels."""
        from ctrnn.kernels import abi
        from ctrnn.kernels.network_batch import Scheme

        made = self.cell.module
        by_theta = made.by_theta.address if tau_is_trained else 0
        loops = (made.source.address, made.rate.address, made.partials.address, by_theta)
        return Scheme(*loops, abi.dgemm_address(), *self.tableau, self.dt, self.steps, self.linear)

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Float64 tensors x, r0, W, U, b, τ on the CPU in, states (T, B, n) out; raises DivergenceError where they are not finite."""
        if torch.is_grad_enabled() and any(v.requires_grad for v in tensors):
            return _States.apply(self, *tensors)
        return torch.from_numpy(self.forward(tuple(map(_array, tensors)), None)[0])

    def forward(self, numbers: tuple[Array, ...], trained: bool | None) -> tuple[Array, list[Part]]:
        """The states from (x, r0, W, U, b, τ), and what is kept of the trials; ``trained``: whether τ is, None where nothing need be kept."""
        from ctrnn.kernels.network_batch import Kept, forward

        x, r0, W, U_in, b, tau = numbers
        T, (B, n) = len(x), r0.shape
        scheme, weights = self.scheme(bool(trained)), (np.ascontiguousarray(W.T), np.ascontiguousarray(U_in.T), b)
        s = scheme.b.size
        rows = 1 if trained is None else T * self.steps
        rows_u = rows if trained or self.cell.module.NEEDS_U else 1
        # one large array each: the system gives large ones in large pages
        Z, U = np.empty(rows * s * B * n), np.empty(rows_u * s * B * n)
        states, parts, calls = np.empty((T, B, n)), [], []
        for first, last in pairwise(_edges(B, n)):
            N = (last - first) * n
            kept = Kept(_piece(Z, first * n, rows, s, N), _piece(U, first * n, rows_u, s, N))
            theta, R = np.tile(tau, last - first), r0[first:last].flatten()
            parts.append(Part(first, theta, kept))
            work = np.empty((s, N)), np.empty(N), np.empty((2, N))
            calls.append((forward, scheme, *weights, theta, x, R, kept, *work, states, first))
        _in_threads(calls, T * self.steps * s * B * n * (2 * n + UNIT_FLOPS))
        self._check(states, r0)
        return states, parts

    def backward(
        self, parts: list[Part], x: Array, W: Array, U_in: Array, cotangent: Array, trained: bool, x_wanted: bool
    ) -> tuple[Array, ...]:
        """The cotangents of x, r0, W, U, b and τ; of x an empty one where it is not wanted."""
        from ctrnn.kernels.network_batch import backward

        T, B, n = cotangent.shape
        scheme = self.scheme(trained)
        s = scheme.b.size
        x_bar, calls, found = np.empty(x.shape if x_wanted else (0, *x.shape[1:])), [], []
        for part in parts:
            N = part.theta.size
            bars = np.zeros(N), np.zeros(W.shape), np.zeros(U_in.shape), np.zeros(N), np.zeros(N)
            panel = np.empty((2, max(1, min(PANEL_ROWS * n // N, T * self.steps * s)), N))
            work = np.empty((s, N)), np.empty((7, N)), panel
            found.append(bars)
            calls.append(
                (backward, scheme, W, U_in, part.theta, x, part.kept, cotangent, *bars, x_bar, *work, part.first)
            )
        _in_threads(calls, T * self.steps * s * B * n * (2 * n + UNIT_FLOPS))
        r0_bars, W_bars, U_bars, b_bars, tau_bars = zip(*found, strict=True)
        r0_bar, b_bar, tau_bar = (np.concatenate(of).reshape(B, n) for of in (r0_bars, b_bars, tau_bars))
        return x_bar, r0_bar, np.sum(W_bars, axis=0), np.sum(U_bars, axis=0), b_bar.sum(axis=0), tau_bar.sum(axis=0)

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


class Part(NamedTuple):
    """The trials that go together, from ``first`` on: τ of each unit of each, and what they keep."""

    first: int
    theta: Array
    kept: Any


def _piece(whole: Array, first: int, rows: int, s: int, N: int) -> Array:
    """(rows, s, N) of what is kept of all trials, those of N numbers from ``first`` on."""
    return whole[rows * s * first : rows * s * (first + N)].reshape(rows, s, N)


def _edges(B: int, n: int) -> list[int]:
    """Where parts of a batch begin and end: two a thread where they stay long enough, so that one that is held up leaves its second to another."""
    most = max(PART_TRIALS, PART_NUMBERS // n)
    count = max(1, -(-B // most), min(B, 2 * workers(), B * n // LEAST_NUMBERS))
    return [B * i // count for i in range(count + 1)]


def _in_threads(calls: list[tuple[Any, ...]], flops: float) -> None:
    """Each thread takes the next of the calls (function, *arguments) when it is done with one."""
    waiting = iter(calls)

    def work() -> None:
        for function, *arguments in waiting:
            function(*arguments)

    with one_blas_thread:
        share([(work,)] * (min(workers(), len(calls)) if flops > WORTH_THREADS else 1))


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


class _States(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recurrence: Recurrence, *tensors: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.recurrence, ctx.trained = recurrence, ctx.needs_input_grad[6]
        ctx.save_for_backward(*tensors)
        states, ctx.parts = recurrence.forward(tuple(map(_array, tensors)), ctx.trained)
        return torch.from_numpy(states)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (cotangent,) = cotangents
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            leaves = [v for v, wanted in zip(tensors, needed, strict=True) if wanted]
            found = iter(torch.autograd.grad(ctx.recurrence.replayed(*tensors), leaves, cotangent, create_graph=True))
            return (None, *(next(found) if wanted else None for wanted in needed))
        x, _, W, U_in, _, _ = map(_array, tensors)
        bars = ctx.recurrence.backward(ctx.parts, x, W, U_in, _array(cotangent), ctx.trained, needed[0])
        return (None, *(torch.from_numpy(bar) if wanted else None for bar, wanted in zip(bars, needed, strict=True)))
