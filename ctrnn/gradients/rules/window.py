"""Truncated back-propagation as a rule: each loss looks back over the last k steps.

    g_t = Σ_{t−k < j ≤ t} ∂ℓ_t/∂r Φ_t ⋯ Φ_{j+1} C_j         Φ_j, C_j at the weights of step j

(Williams & Peng, Neural Comput. 2:490, 1990.) Bias: all influence that takes longer than k steps to show. Variance:
none. Time: O(k m) at each step with a loss. Memory: k steps, with the weights that they were taken with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrnn.gradients.rules.kept import KeptSteps
from ctrnn.gradients.rules.rule import Rule
from ctrnn.gradients.rules.step import Lane
from ctrnn.kernels.rules import window as w


class Window(KeptSteps):
    """The last k steps."""

    functions = (w.take, w.add, w.collect, w.reset)
    pulls = w.pull

    def __init__(self, lane: Lane, rng: np.random.Generator, window: int) -> None:
        super().__init__(lane, rng, w.SIZE, window, slides=True)
        self._lies(w.G, self.g)


@dataclass(frozen=True)
class WindowRule(Rule):
    """Truncated back-propagation over ``window`` steps."""

    window: int

    def start(self, lane: Lane, rng: np.random.Generator) -> Window:
        """A memory for one lane."""
        return Window(lane, rng, self.window)
