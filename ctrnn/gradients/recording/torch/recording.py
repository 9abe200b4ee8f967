"""B trials in lockstep in torch, on a device: forward block by block, and rows of cotangents back.

    r_i = r + h Σ_{j<i} a_ij k_j,   k_i = F(t + c_i h, r_i, w, x),   r⁺ = r + h Σ_i b_i k_i

for r (B, n) at once; times, inputs and losses are those of ctrnn.gradients.recording.lockstep. The states of all stages
are kept; what else the pullback needs is made again from them, a block of steps at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.recording.base import Needs
from ctrnn.gradients.recording.lockstep import LockstepRecording, check_same_stops
from ctrnn.gradients.recording.torch.carry import Plan, TorchCarry, plan_for
from ctrnn.gradients.recording.torch.device import Device, to_numpy
from ctrnn.gradients.recording.torch.fields import entries, system_of
from ctrnn.gradients.recording.torch.threads import divided, one_torch_thread
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings

#: bytes that what is made for a block of steps may take, while one row goes back
BLOCK_BYTES = 128 * 2**20
#: bytes of P of the trials that go together; one goes alone, whatever it takes
TOGETHER_BYTES = 2**30


@dataclass
class TorchBlock:
    """C recorded steps of B trials, on the device but for t and h.

    t (C, s), h (C,); z (C, s, B, n) the states and x (C, s, B, inputs) the inputs of the stages; jumps (C, B, n) of the
    cotangent at the end of a step, and sources (C, s, B, n) at its stages, or None
    """

    t: Array
    h: Array
    z: Any
    x: Any
    jumps: Any
    sources: Any
    loss: Array
    readout: Array

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return int(self.h.size)

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return sum(part.nbytes for part in (self.z, self.x, self.jumps, self.sources) if part is not None)

    @property
    def seen(self) -> tuple[Array, Array]:
        """The loss of each trial, and the read-out's gradient summed over them."""
        return self.loss, self.readout

    def cut(self, first: int, last: int, *, copy: bool = False) -> TorchBlock:
        """The steps from ``first`` to ``last``."""
        here = slice(first, last)
        jumps, sources = (None if part is None else part[here] for part in (self.jumps, self.sources))
        nothing = np.zeros_like(self.loss), np.zeros_like(self.readout)
        return TorchBlock(self.t[here], self.h[here], self.z[here], self.x[here], jumps, sources, *nothing)


class Pulled(NamedTuple):
    """What the parameter part of rows needs.

    The field along the block, and the cotangents K̄ (C, s, B, n, q) of its stages; or, where these do not fit, the rows
    (B, n, q) as they were at its end, which then go back once more.
    """

    linear: Any
    K: Any
    rows: Any


class TorchRecording(LockstepRecording):
    """B trials side by side, on a device."""

    def __init__(
        self, problems: Sequence[Problem], settings: Settings, device: Device, caller: str, first: int | None = None
    ) -> None:
        self._options = device.options  # first of all: there may be no such device
        super().__init__(problems, settings, caller, first)
        self.device, self.system = device, system_of(self.field, device)
        self.r = device.tensor(self.r0_given)
        self._plan: Plan | None = None
        self._K: Any = None

    @classmethod
    def supports(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> bool:
        """Whoever names a device is told what does not go there; nothing else is taken in its place."""
        return needs.device is not None

    @classmethod
    def record(
        cls, problems: Sequence[Problem], settings: Settings, caller: str, needs: Needs, first: int | None = None
    ) -> TorchRecording:
        """A run of these problems, not begun yet."""
        return cls(problems, settings, needs.device, caller, first)

    @classmethod
    def at_once(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> int:
        """How many of them at a time, for memory's sake."""
        check_same_stops(problems, "a device")
        if needs.rows == "one":
            return len(problems)
        field = problems[0].field
        return max(1, int(TOGETHER_BYTES // max(needs.device.item * (field.n + 1) * entries(field), 1)))

    @classmethod
    def threads(cls, problem: Problem, settings: Settings) -> AbstractContextManager[Any]:
        """A context in which libraries use as many threads as suit it."""
        return one_torch_thread

    # -- forward

    def blocks(self, capacity: int | None = None) -> Iterator[TorchBlock]:
        """Up to ``capacity`` steps at a time; raises SolverError, and NotFiniteError for a loss that is not finite."""
        if capacity is None:
            numbers = self.s * self.B * (7 * self.n + self.field.input_size)
            capacity = max(1, BLOCK_BYTES // (self.device.item * numbers))
        for records in self.records(capacity):
            yield self._taken(records)

    def _taken(self, records: Sequence[Record]) -> TorchBlock:
        import torch

        t, h = records[0].stage_t, records[0].h
        C, s, shape = h.size, self.s, (self.B, self.n)
        x = self.device.tensor(self.inputs(records)).expand(C, s, self.B, self.field.input_size)
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
        losses = self.seen_in(records, to_numpy(r_new).transpose(1, 0, 2), stages)
        jumps, sources = (None if part is None else self.device.tensor(part) for part in (losses.jumps, losses.sources))
        return TorchBlock(t, h, z, x, jumps, sources, losses.loss, losses.readout)

    # -- back

    def zero_rows(self) -> Any:
        """One cotangent, 0, for each trial."""
        import torch

        return torch.zeros((self.B, self.n, 1), **self._options)

    def zero_parameters(self) -> list[Any]:
        """A parameter part of one cotangent, 0."""
        return self.system.zeros()

    def pull(self, block: TorchBlock, rows: Any, G: list[Any]) -> None:
        """Take ``rows`` back through a block, in place, and add their parameter part to G."""
        import torch

        with torch.no_grad():
            linear = self.system.linear(block)
            K = torch.empty((*block.z.shape, 1), **self._options)
            self._pull_back(block, linear, rows, K)
            linear.row_part(K, G)

    def r0(self, rows: Any) -> Array:
        """The cotangents that carry the loss (B, n)."""
        return to_numpy(rows[..., -1])

    def vector(self, G: list[Any]) -> Array:
        """The parameter part of one cotangent, summed over the trials, in the order of the field's parameters (m,)."""
        return self.system.vector(G)

    # -- many rows

    def carry(self, block: int | None = None) -> TorchCarry:
        """What RTRL carries through this run; ``block``: steps in a block, None chooses."""
        n, field = self.n, self.field
        self._plan = plan_for(n, entries(field) / n, self.s, self.steps, self.device.item, self.B, block)
        return TorchCarry(self.system, self.device, self.s, self.B, self._plan)

    def pull_rows(self, block: TorchBlock, rows: Any) -> Pulled:
        """The rows alone. Where the cotangents of a block do not fit, nothing is kept but the rows as they were."""
        import torch

        assert self._plan is not None
        with torch.no_grad():
            linear = self.system.linear(block)
            fits = block.steps <= self._plan.piece
            pulled = Pulled(linear, self._room(block.steps) if fits else None, None if fits else rows.clone())
            self._pull_back(block, linear, rows, pulled.K)
        return pulled

    def add_parameter_part(self, block: TorchBlock, pulled: Pulled, G: list[Any]) -> None:
        """P where it stands receives the parameter part.

        It is that of the cotangents that were kept, or of a piece of the block at a time, in a second sweep.
        """
        import torch

        assert self._plan is not None
        with torch.no_grad():
            if pulled.K is not None:
                pulled.linear.rows_part(pulled.K, G)
                return
            C, piece = block.steps, self._plan.piece
            for first in range((C - 1) // piece * piece, -1, -piece):
                last = min(first + piece, C)
                part, K = pulled.linear.steps(first, last), self._room(last - first)
                self._pull_back(block.cut(first, last), part, pulled.rows, K)
                part.rows_part(K, G)

    def _room(self, C: int) -> Any:
        """Cotangents (C, s, B, n, q) of C steps, kept from piece to piece."""
        import torch

        shape = (C, self.s, self.B, self.n, self.n + 1)
        numbers = int(np.prod(shape))
        if self._K is None or self._K.numel() < numbers:
            self._K = None  # let go before asking for more
            self._K = torch.empty(numbers, **self._options)
        return self._K[:numbers].view(shape)

    def _pull_back(self, block: TorchBlock, linear: Any, rows: Any, keep: Any = None) -> None:
        """Take ``rows`` (B, n, q) back through a block, in place.

        ``keep`` (C, s, B, n, q) receives the cotangents K̄ of the stages.

            for i = s … 1:   K̄_i = h b_i Λ + h Σ_{j>i} a_ji R̄_j        R̄_i = K̄_i J_i            Λ ← Λ + Σ_i R̄_i

        as in ctrnn.kernels.pullback. Jumps and sources act on the last of the q cotangents.
        """
        B, n, q = rows.shape

        def columns(first: int, last: int) -> None:
            self._pull(block, last == q, linear, rows[..., first:last], None if keep is None else keep[..., first:last])

        divided(columns, q, 2.0 * B * n * n * q, self.device.name)
        self.pulled += block.steps * self.s * B

    def _pull(self, block: TorchBlock, with_loss: bool, linear: Any, rows: Any, keep: Any) -> None:
        import torch

        s, a, b = self.s, self.a, self.b
        every = torch.empty((s, *rows.shape), **self._options)
        own: Any = torch.empty(rows.shape, **self._options) if keep is None else None
        # views made once: making one takes as long as a product of small matrices
        R, last, last_of_R = every.unbind(), rows[..., -1], every[..., -1].unbind()
        for m in range(block.h.size - 1, -1, -1):
            h = float(block.h[m])
            if with_loss and block.jumps is not None:
                last += block.jumps[m]
            kept = (own,) * s if keep is None else keep[m].unbind()
            for i in range(s - 1, -1, -1):
                K = kept[i]
                torch.mul(rows, h * float(b[i]), out=K)
                for j in range(i + 1, s):
                    if a[j, i] != 0.0:
                        K.add_(R[j], alpha=h * float(a[j, i]))
                linear.vjp(m, i, K, R[i])
                if with_loss and block.sources is not None:
                    last_of_R[i].add_(block.sources[m, i], alpha=h * float(b[i]))
            rows += every.sum(dim=0)
