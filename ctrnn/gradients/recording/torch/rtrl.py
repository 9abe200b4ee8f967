"""Exact RTRL on a device, blocked as in ctrnn.gradients.schedules.carried, for B trials side by side.

A block of K steps gives, by the pullback of q = n + 1 rows, T = [Φ 0; λ 1] and the parameter part, and

    [P; g] ← T [P; g]  in place, a few units at a time,    then  [P; g] += Σ_S K̄ F_w  where it stands

T is known when the rows are back at the start of the block, and until then the cotangents K̄ of all its stages would have to be kept: s K n q numbers, and K
should be near n. Where they do not fit, the rows go back twice: once for T, keeping nothing, and once more, now that P is transformed, a piece of the block at a time.

    flops a step     one sweep    s q (2n² + 2nN) + 2 q² n N / K       K as long as K̄ fits
                     two sweeps   s q (4n² + 2nN) + 2 q² n N / K       any K

The cheaper is taken. Memory (``peak_bytes``), n units, nx inputs, N = n + nx + 1, of one trial, in numbers:

    P, g             n q N                2048 units, no inputs: 2048 · 2049 · 2049 · 8 B = 68.8 GB in float64
    cotangents       S n q                of the S stages of a piece, here P/12: 5.6 GB
    rows, stages     (s + 2) n q          0.2 GB
    units            few q N              P/64: 1.1 GB
    record           K s (7n + N + nx)    K = 2560: 1.4 GB
    W, J             (B + 2) n²           0.1 GB

together 77.2 GB. Without the second sweep, the K that fits, 42 steps, would leave Φ P six times all else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctrnn.errors import UsageError
from ctrnn.fields.network import RateNetwork
from ctrnn.gradients.recording.lockstep import Found, check_together, summed
from ctrnn.gradients.recording.torch.fields import entries, units_at_once
from ctrnn.gradients.recording.torch.place import Place, to_numpy
from ctrnn.gradients.recording.torch.run import Block, Run
from ctrnn.problem import Problem, Settings

#: bytes that the cotangents of a piece may take: SMALL in any case, as many as P up to LARGE, and the share 1/PIECE of P
SMALL, LARGE, PIECE = 2**28, 2**30, 12
#: bytes of P of the trials that go together; one goes alone, whatever it takes
TOGETHER_BYTES = 2**30


@dataclass(frozen=True)
class Plan:
    """Steps K in a block, and in a piece of it; the same number is one sweep."""

    block: int
    piece: int


def plan_for(n: int, N: float, s: int, steps: int, item: int, B: int = 1, block: int | None = None) -> Plan:
    """The block and pieces that cost least, for ``steps`` in all; a block that is asked for is taken. A row of P has n N numbers."""
    q = n + 1
    P = B * item * n * q * N
    fits = max(1, int(max(SMALL, min(P, LARGE), P / PIECE) // (B * item * s * n * q)))
    # Φ P a tenth of the rest; a small network waits for its device, not for flops
    wanted = min(steps, max(int(np.ceil(10.0 * q * N / (s * (n + N)))), 16))
    if block is not None:
        return Plan(min(block, steps), min(block, steps, fits))
    if wanted <= fits:
        return Plan(wanted, wanted)
    again, carry = s * q * 2.0 * n * n, 2.0 * q * q * n * N
    return Plan(wanted, fits) if again < carry * (1.0 / fits - 1.0 / wanted) else Plan(fits, fits)


def peak_bytes(n: int, nx: int, s: int, plan: Plan, item: int, B: int = 1, train_tau: bool = False) -> int:
    """Bytes that RTRL of a rate network allocates at most, as the table above counts them."""
    q, N = n + 1, n + nx + 1
    P = B * n * q * (N + int(train_tau))
    rows = B * ((s + 2) * n * q + 2 * q * q)
    record = plan.block * s * B * ((10 if train_tau else 7) * n + N + nx)
    return item * (
        P + plan.piece * s * B * n * q + rows + units_at_once(n, item * q * N) * q * N + record + (B + 2) * n * n
    )


def rtrl(problems: Sequence[Problem], settings: Settings, place: Place, caller: str, block: int | None = None) -> Found:
    """The losses of B trials and their gradients, as many at a time as fit; raises what Run raises."""
    check_together(problems, caller)
    field = problems[0].field
    one = place.item * (field.n + 1) * entries(field)
    together = max(1, min(len(problems), TOGETHER_BYTES // max(one, 1)))
    return summed(
        [
            _together(Run(problems[b : b + together], settings, place, caller), block)
            for b in range(0, len(problems), together)
        ]
    )


def _together(run: Run, asked: int | None) -> Found:
    n, field, place, system = run.n, run.field, run.place, run.system
    plan = plan_for(n, entries(field) / n, run.s, run.steps, place.item, run.B, asked)
    needed = 0
    if isinstance(field, RateNetwork):
        needed = peak_bytes(n, field.input_size, run.s, plan, place.item, run.B, field.train_tau)
    if needed > place.free:
        raise UsageError(
            "device", given=f"{place.device} with {place.free / 1e9:.1f} GB free", allowed=f"{needed / 1e9:.1f} GB, for RTRL of {n} units",
            hint='dtype="float32" takes half, block=1 the least; ctrnn.Adjoint(device=...) does without dr/dw',
        )  # fmt: skip
    carried = Carried(run, plan)
    for block in run.blocks(plan.block):
        carried.take(block)
    g = system.vector(system.last(carried.P))
    return Found(run.loss, g, to_numpy(carried.S[:, -1]), run.l_o, run.stats)


class Carried:
    """P and g of B trials, as their field keeps them, and S = [dr/dr0; dl/dr0] (B, q, n)."""

    def __init__(self, run: Run, plan: Plan) -> None:
        self.run, self.plan, self.begun = run, plan, False
        self.P: list[Any] = run.system.carried(run.B, run.n + 1)
        self.S = torch.cat([self._identity()[..., :-1].mT, run.place.tensor(run.l_r0)[:, None]], dim=1)
        self._K = torch.empty(0, **run.place.options)

    def take(self, block: Block) -> None:
        """A block of recorded steps."""
        run, C, piece = self.run, block.h.size, self.plan.piece
        with torch.no_grad():
            linear = run.system.linear(block)
            rows, K = self._identity(), None if piece < C else self._room(C)
            run.pullback(block, linear, rows, K)
            self._transform(rows)
            if K is not None:
                linear.rows_part(K, self.P)
            else:
                self._again(block, linear, rows)
        self.begun = True

    def _again(self, block: Block, linear: Any, rows: Any) -> None:
        """The second sweep: the parameter part, a piece at a time."""
        C, piece = block.h.size, self.plan.piece
        rows.copy_(self._identity())
        for first in range((C - 1) // piece * piece, -1, -piece):
            last = min(first + piece, C)
            part, K = linear.steps(first, last), self._room(last - first)
            self.run.pullback(block.steps(first, last), part, rows, K)
            part.rows_part(K, self.P)

    def _transform(self, rows: Any) -> None:
        """[P; g] ← T [P; g], and S likewise, with T = [Φ 0; λ 1] from the rows that came back (B, n, q)."""
        last = torch.zeros((self.run.B, self.run.n + 1, 1), **self.run.place.options)
        last[:, -1] = 1.0
        T = torch.cat([rows.mT, last], dim=2)
        self.S = T @ self.S
        if self.begun:
            self.run.system.transform(T, self.P)

    def _identity(self) -> Any:
        """The cotangents (B, n, q): n unit vectors, and 0 for the loss."""
        run = self.run
        return torch.eye(run.n, run.n + 1, **run.place.options).repeat(run.B, 1, 1)

    def _room(self, C: int) -> Any:
        """Cotangents (C, s, B, n, q) of C steps, kept from piece to piece."""
        run = self.run
        shape = (C, run.s, run.B, run.n, run.n + 1)
        numbers = int(np.prod(shape))
        if self._K.numel() < numbers:
            self._K = torch.empty(0, **run.place.options)  # let go before asking for more
            self._K = torch.empty(numbers, **run.place.options)
        return self._K[:numbers].view(shape)
