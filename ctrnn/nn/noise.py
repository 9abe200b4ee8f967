"""Noise of a layer: dr = F dt + g dW, with ξ = ΔW/h, held over each step, as inputs behind the layer's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array

#: how far the paths of one layer lie from those of the next: more than any batch has trials
LAYER = 2**32


def checked_seed(seed: Any) -> int:
    """The seed of a call; None takes one from torch's generator."""
    if seed is None:
        return int(torch.randint(2**62, ()))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise UsageError("seed", given=seed, allowed="a whole number, at least 0, or None")
    return seed


def noisy_inputs(x: torch.Tensor, h: Array, steps: int, channels: int, seed: int, cell: int) -> torch.Tensor:
    """x (T, B, inputs), each ``steps`` times, with ξ (T steps, B, channels) beside it.

    h (T steps,): the steps. Trial b of layer number ``cell`` takes the path b + LAYER cell of the seed, whatever its
    company: for steps of one size that of ctrnn.WhiteNoise(…, seed=seed, path=…).
    """
    K, B = h.size, x.shape[1]
    dW = np.empty((K, B, channels))
    for b in range(B):
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, b + LAYER * cell], dtype=np.uint64)))
        dW[:, b] = rng.standard_normal((K, channels))
    xi = torch.from_numpy(dW * np.sqrt(1.0 / h)[:, None, None])
    return torch.cat([x.repeat_interleave(steps, dim=0), xi], dim=-1)
