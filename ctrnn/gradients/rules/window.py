"""Truncated back-propagation as a rule: each loss looks back over the last k steps.

    g_t = Σ_{t−k < j ≤ t} ∂ℓ_t/∂r Φ_t ⋯ Φ_{j+1} C_j         Φ_j, C_j at the weights of step j

(Williams & Peng, Neural Comput. 2:490, 1990.) Bias: all influence that takes longer than k steps to show. Variance:
none. Time: O(k m) at each step with a loss. Memory: k steps, with the weights that they were taken with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.rules.kept import Kept
from ctrnn.gradients.rules.rule import Memory, Rule
from ctrnn.gradients.rules.step import Lane, Step


class Window(Memory):
    """The last k steps."""

    def __init__(self, lane: Lane, rng: np.random.Generator, window: int) -> None:
        super().__init__(lane, rng)
        self.steps = Kept(lane, window)

    def reset(self) -> None:
        """No step behind."""
        self.steps.clear()

    def take(self, step: Step) -> None:
        """One step on."""
        self.steps.append(step)

    def pull(self, row: Array) -> Array:
        """g_t, by one row through the window."""
        G = np.zeros((self.lane.groups, 1, self.lane.columns))
        if len(self.steps):
            self.steps.pull(row, G)
        return G[:, 0]

    def state_dict(self) -> dict[str, Array]:
        """The steps with their weights."""
        return super().state_dict() | self.steps.state_dict()

    def load_state_dict(self, arrays: dict[str, Array]) -> None:
        """The same again."""
        super().load_state_dict(arrays)
        self.steps.load_state_dict(arrays)

    @property
    def nbytes(self) -> int:
        """Bytes that are carried."""
        return self.steps.nbytes


@dataclass(frozen=True)
class WindowRule(Rule):
    """Truncated back-propagation over ``window`` steps."""

    window: int

    def start(self, lane: Lane, rng: np.random.Generator) -> Window:
        """A memory for one lane."""
        return Window(lane, rng, self.window)
