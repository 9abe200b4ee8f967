"""Back-propagation through time on a device: one row of cotangents a trial backward, λ = dl/dr, all trials together.

    λ ← λ Φ + jumps, step by step        dl/dw ← dl/dw + Σ_b Σ_S K̄_b F_w, one product for a block of steps and all trials

The states of all stages are kept, T s B n numbers; what else the pullback needs is made again from them, a block of steps at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ctrnn.gradients.recording.lockstep import Found
from ctrnn.gradients.recording.torch.place import Place, to_numpy
from ctrnn.gradients.recording.torch.run import Run
from ctrnn.problem import Problem, Settings

#: bytes that what is made for a block of steps may take
BLOCK_BYTES = 128 * 2**20


def adjoint(problems: Sequence[Problem], settings: Settings, place: Place, caller: str) -> Found:
    """The losses of B trials and their gradients; raises what Run raises."""
    run = Run(problems, settings, place, caller)
    numbers = run.s * run.B * (7 * run.n + run.field.input_size)
    taken = list(run.blocks(max(1, BLOCK_BYTES // (place.item * numbers))))
    with torch.no_grad():
        rows = torch.zeros((run.B, run.n, 1), **place.options)
        g: list[Any] = run.system.zeros()
        while taken:
            block = taken.pop()
            linear = run.system.linear(block)
            K = torch.empty((*block.z.shape, 1), **place.options)
            run.pullback(block, linear, rows, K)
            linear.row_part(K, g)
        return Found(run.loss, run.system.vector(g), run.l_r0 + to_numpy(rows[..., 0]), run.l_o, run.stats)
