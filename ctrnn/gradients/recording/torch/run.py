"""A forward run of B trials in torch, block by block, with what the pullback needs.

    r_i = r + h Σ_{j<i} a_ij k_j,   k_i = F(t + c_i h, r_i, w, x),   r⁺ = r + h Σ_i b_i k_i

for r (B, n) at once; times, inputs and losses are those of ctrnn.gradients.recording.lockstep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.recording.lockstep import Together
from ctrnn.gradients.recording.torch.fields import system_of
from ctrnn.gradients.recording.torch.place import Place, to_numpy
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings


class Block(NamedTuple):
    """C recorded steps of B trials, on the device but for t and h.

    t (C, s), h (C,); z (C, s, B, n) the states and x (C, s, B, inputs) the inputs of the stages; jumps (C, B, n) of the cotangent at the end of a step, and
    sources (C, s, B, n) at its stages, or None
    """

    t: Array
    h: Array
    z: Any
    x: Any
    jumps: Any
    sources: Any

    def steps(self, first: int, last: int) -> Block:
        """The steps from ``first`` to ``last``, views."""
        parts: list[Any] = [None if part is None else part[first:last] for part in self]
        return Block(*parts)


class Run(Together):
    """B trials side by side, on a device."""

    def __init__(self, problems: Sequence[Problem], settings: Settings, place: Place, caller: str) -> None:
        self._options = place.options  # first of all: there may be no such device
        super().__init__(problems, settings, caller)
        self.place, self.system = place, system_of(self.field, place)
        self.r = place.tensor(self.r0)

    def blocks(self, capacity: int) -> Iterator[Block]:
        """Up to ``capacity`` steps at a time; raises SolverError, and NotFiniteError for a loss that is not finite."""
        for records in self.records(capacity):
            yield self._taken(records)

    def _taken(self, records: Sequence[Record]) -> Block:
        import torch

        t, h = records[0].stage_t, records[0].h
        C, s, shape = h.size, self.s, (self.B, self.n)
        x = self.place.tensor(self.inputs(records)).expand(C, s, self.B, self.field.input_size)
        z, r_new = torch.empty((C, s, *shape), **self._options), torch.empty((C, *shape), **self._options)
        with torch.no_grad():
            drive = self.system.drive(x)
            r = self.r
            for m in range(C):
                k: list[Any] = []
                for i in range(s):
                    here = z[m, i].copy_(r)
                    for j in range(i):
                        if self.a[i, j] != 0.0:
                            here.add_(k[j], alpha=float(h[m] * self.a[i, j]))
                    k.append(self.system(float(t[m, i]), here, drive[m, i]))
                for i in range(s):
                    if self.b[i] != 0.0:
                        r = torch.add(r, k[i], alpha=float(h[m] * self.b[i]))
                r_new[m] = r
        self.r = r
        stages = to_numpy(z).transpose(2, 0, 1, 3) if self.integral else np.empty(0)
        parts = self.shares(records, to_numpy(r_new).transpose(1, 0, 2), stages)
        jumps, sources = (None if part is None else self.place.tensor(part) for part in parts)
        return Block(t, h, z, x, jumps, sources)

    def pullback(self, block: Block, linear: Any, rows: Any, keep: Any = None) -> None:
        """Take ``rows`` (B, n, q) back through a block, in place; ``keep`` (C, s, B, n, q) receives the cotangents K̄ of the stages.

            for i = s … 1:   K̄_i = h b_i Λ + h Σ_{j>i} a_ji R̄_j        R̄_i = K̄_i J_i            Λ ← Λ + Σ_i R̄_i

        as in ctrnn.kernels.pullback. Jumps and sources act on the last of the q cotangents.
        """
        from ctrnn.gradients.recording.torch.threads import divided

        B, n, q = rows.shape

        def columns(first: int, last: int) -> None:
            mine = block if last == q else block._replace(jumps=None, sources=None)
            self._pull(mine, linear, rows[..., first:last], None if keep is None else keep[..., first:last])

        divided(columns, q, 2.0 * B * n * n * q, self.place.device)
        self.pulled += block.h.size * self.s * B

    def _pull(self, block: Block, linear: Any, rows: Any, keep: Any) -> None:
        import torch

        s, a, b = self.s, self.a, self.b
        every = torch.empty((s, *rows.shape), **self._options)
        own: Any = torch.empty(rows.shape, **self._options) if keep is None else None
        # views made once: making one takes as long as a product of small matrices
        R, last, last_of_R = every.unbind(), rows[..., -1], every[..., -1].unbind()
        for m in range(block.h.size - 1, -1, -1):
            h = float(block.h[m])
            if block.jumps is not None:
                last += block.jumps[m]
            kept = (own,) * s if keep is None else keep[m].unbind()
            for i in range(s - 1, -1, -1):
                K = kept[i]
                torch.mul(rows, h * float(b[i]), out=K)
                for j in range(i + 1, s):
                    if a[j, i] != 0.0:
                        K.add_(R[j], alpha=h * float(a[j, i]))
                linear.vjp(m, i, K, R[i])
                if block.sources is not None:
                    last_of_R[i].add_(block.sources[m, i], alpha=h * float(b[i]))
            rows += every.sum(dim=0)
