"""Exact RTRL on a device: what is carried (ctrnn.gradients.schedules.rtrl_state) for B trials side by side.

And how long blocks are.

A block of K steps gives, by the pullback of q = n + 1 rows, T = [Φ 0; λ 1] and the parameter part, and

    [P; g] ← T [P; g]  in place, a few units at a time,    then  [P; g] += Σ_S K̄ F_w  where it stands

T is known when the rows are back at the start of the block, and until then the cotangents K̄ of all its stages would
have to be kept: s K n q numbers, and K should be near n. Where they do not fit, the rows go back twice: once for T,
keeping nothing, and once more, now that P is transformed, a piece of the block at a time.

    flops a step     one sweep    s q (2n² + 2nN) + 2 q² n N / K       K as long as K̄ fits
                     two sweeps   s q (4n² + 2nN) + 2 q² n N / K       any K

The cheaper is taken. Memory (``peak_bytes``), n units, nx inputs, N = n + nx + 1, of one trial, in numbers:

    P, g             n q N                2048 units, no inputs: 2048 · 2049 · 2049 · 8 B = 68.8 GB in float64
    cotangents       S n q                of the S stages of a piece, here P/12: 5.6 GB
    rows, stages     (s + 4) n q          0.3 GB
    units            few q N              P/64: 1.1 GB
    record           K s · 10 n or so     K = 2560: 1.7 GB
    weights          2 m                  0.1 GB

together 77.6 GB. Without the second sweep, the K that fits, 42 steps, would leave Φ P six times all else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.recording.base import Carry
from ctrnn.gradients.recording.torch.device import Device, to_numpy
from ctrnn.gradients.recording.torch.fields import General
from ctrnn.gradients.recording.torch.graph import GraphSystem, units_at_once
from ctrnn.gradients.recording.torch.structure import Size, size_of

#: bytes that the cotangents of a piece may take: SMALL in any case, as many as P up to LARGE, and the share 1/PIECE of
#: P
SMALL, LARGE, PIECE = 2**28, 2**30, 12


@dataclass(frozen=True)
class Plan:
    """Steps K in a block, and in a piece of it; the same number is one sweep."""

    block: int
    piece: int


def plan_for(n: int, N: float, s: int, steps: int, item: int, B: int = 1, block: int | None = None) -> Plan:
    """The block and pieces that cost least, for ``steps`` in all; a block that is asked for is taken.

    A row of P has n N numbers.
    """
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


def peak_bytes(size: Size, s: int, plan: Plan, item: int, B: int = 1) -> int:
    """Bytes that RTRL allocates at most, as the table above counts them."""
    n, q = size.n, size.n + 1
    rows = B * ((s + 4) * n * q + 2 * q * q)
    record = plan.block * s * B * (size.kept + 2 * n + size.inputs)
    few = max(units_at_once(many, item * q * width) * q * width for many, width in size.rows)
    return item * (B * q * size.entries + plan.piece * s * B * n * q + rows + few + record + 2 * size.weights)


class TorchCarry(Carry):
    """[P; g] of B trials, as their field keeps them, and [S; g₀] (B, q, n).

    Raises UsageError where a network does not fit on the device.
    """

    def __init__(self, system: GraphSystem | General, device: Device, s: int, B: int, plan: Plan) -> None:
        self.system, self.device, self.B, self.n, self.block = system, device, B, system.n, plan.block
        size = size_of(system.field)
        needed = 0 if size is None else peak_bytes(size, s, plan, device.item, B)
        if needed > device.free:
            raise UsageError(
                "device", given=f"{device.name} with {device.free / 1e9:.1f} GB free",
                allowed=f"{needed / 1e9:.1f} GB, for RTRL of {self.n} units",
                hint='dtype="float32" takes half, block=1 the least; ctrnn.Adjoint(device=...) does without dr/dw',
            )  # fmt: skip

    def rows(self, l_r: Array | None = None) -> Any:
        """The cotangents that go back through a block: unit vectors, and ∂ℓ/∂r (B, n) or 0 as the last."""
        import torch

        rows = torch.eye(self.n, self.n + 1, **self.device.options).repeat(self.B, 1, 1)
        if l_r is not None:
            rows[..., -1] = self.device.tensor(l_r)
        return rows

    def transition(self, rows: Any) -> Any:
        """T = [Φ 0; λ 1], from the rows that came back: Φ and, as the last row, λ."""
        import torch

        last = torch.zeros((self.B, self.n + 1, 1), **self.device.options)
        last[:, -1] = 1.0
        return torch.cat([rows.mT, last], dim=2)

    def zero_parameters(self) -> list[Any]:
        """[P; g] at the start."""
        return self.system.carried(self.B, self.n + 1)

    def start_states(self) -> Any:
        """[S; g₀] at the start: S = 1."""
        return self.rows().mT.contiguous()

    def transform_states(self, T: Any, S: Any) -> Any:
        """T [S; g₀], as a new one."""
        return T @ S

    def transform(self, T: Any, G: list[Any]) -> list[Any]:
        """T [P; g], in place: P is the largest thing there is, and there is one of it."""
        import torch

        with torch.no_grad():
            self.system.transform(T, G)
        return G

    def r0(self, S: Any) -> Array:
        """g₀ (B, n)."""
        return to_numpy(S[:, -1])

    def vector(self, G: list[Any]) -> Array:
        """g (m,), the sum over the trials."""
        return self.system.vector(self.system.last(G))
