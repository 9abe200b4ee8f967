"""What RTRL carries forward.

P = dr/dw, S = dr/dr0, the loss so far and its gradient, through one block of steps after another.

A block of K steps gives, by the pullback of identity rows, its transition matrix Φ = dr⁺/dr and its parameter part C =
∂r⁺/∂w, and by one more row the losses λ, c seen inside it:

    [P]    [Φ 0] [P]   [C]
    [g]  ← [λ 1] [g] + [c]        and S, dl/dr0 the same without C

A loss at the present state is the same with Φ = 1 and λ = ∂ℓ/∂r. P is changed in place, and the parameter part is added
to it where it stands: P is the largest thing there is, and there is one of it. Its form is that of the recording
(ctrnn.gradients.recording.base.Carry).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.finite import check_finite
from ctrnn.gradients.recording.base import Block, Carry, Recording, Seen, Totals
from ctrnn.trajectory import Stats


@dataclass
class RTRLState:
    """The loss (B,), G = [P; g], S = [S; g₀], and dl/d(V, c).

    begun: whether G is more than zeros
    """

    carry: Carry
    loss: Array
    G: Any
    S: Any
    readout: Array
    begun: bool = False

    @classmethod
    def at_start(cls, carry: Carry, B: int, readout_size: int) -> RTRLState:
        """Nothing yet: P = 0, S = 1."""
        G, S = carry.zero_parameters(), carry.start_states()
        return cls(carry, np.zeros(B), G, S, np.zeros(readout_size))

    def observe(self, seen: Seen) -> None:
        """A loss at the present state; raises NotFiniteError."""
        check_finite(seen.loss, seen.l_r)
        if seen.l_r.any():
            self._transform(self.carry.transition(self.carry.rows(seen.l_r)))
        self.loss, self.readout = self.loss + seen.loss, self.readout + seen.readout

    def take(self, recording: Recording, block: Block) -> None:
        """A block of recorded steps."""
        rows = self.carry.rows()
        pulled = recording.pull_rows(block, rows)
        self._transform(self.carry.transition(rows))
        recording.add_parameter_part(block, pulled, self.G)
        self.begun = True
        loss, readout = block.seen
        self.loss, self.readout = self.loss + loss, self.readout + readout

    def _transform(self, T: Any) -> None:
        self.S = self.carry.transform_states(T, self.S)
        if self.begun:
            self.G = self.carry.transform(T, self.G)

    def totals(self, stats: Stats) -> Totals:
        """The gradient so far."""
        return Totals(self.loss, self.carry.vector(self.G), self.carry.r0(self.S), self.readout, stats)

    def copy(self) -> RTRLState:
        """One that can go on while this one stays."""
        twin = copy.copy(self)
        twin.G, twin.S = self.G.copy(), self.S.copy()
        return twin
