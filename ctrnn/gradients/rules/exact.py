"""Exact RTRL, also when the weights move at every step.

The textbook's algorithm (Williams & Zipser, Neural Comput. 1:270, 1989) carries P = dr/dw through each step at the
weights of that step, and reads the gradient of each loss off it:

    P_t = Φ_t P_{t−1} + C_t          g_t = ∂ℓ_t/∂r P_t          Φ_t, C_t at the weights w_t of step t

at n²m = O(n⁴) a step for a dense network. Here P is kept at the beginning of a block of at most K steps, and the steps
of the block with the weights they were taken with. Then

    g_t = λ_0 P_block + Σ_{j ≤ t} λ_j C_j        λ_{j−1} = λ_j Φ_j,   λ_t = ∂ℓ_t/∂r

one row through at most K recorded steps, and one product with P: O(K n²) + O(n m). At the end of the block n rows go
through it once and P ← Φ P + C: O(n² m/K + n³) a step. The sums are those of the textbook in another order, so that the
gradients, and the way of the weights that move along them, are the same to round-off, at O(n³) a step
(Schmidhuber, Neural Comput. 4:243, 1992, has the blocks, for weights that wait).

Exact for weights at rest. Where they move, P holds what the state owes to the weights as they were, as the textbook's
does. Bias and variance: none at rest. Memory: n m for P, and K copies of the weights. Where the states fall into parts
that know nothing of each other, P has rows for the largest part only (ctrnn.gradients.recording.structure): a diagonal
recurrence costs O(m) a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.recording.structure import Structure
from ctrnn.gradients.rules.kept import Kept
from ctrnn.gradients.rules.rule import Memory, Rule
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.kernels import carry, online
from ctrnn.kernels.abi import dgemm_address
from ctrnn.memory import claim
from ctrnn.threads import run_parallel, workers

#: bytes of P below which a second thread costs more than it saves
WORTH_THREADS = 2**23
#: bytes that the weights of a block's steps, and the cotangents at its end, may take
BLOCK_BYTES = 128 * 2**20


class Exact(Memory):
    """P at the beginning of a block, and the steps of the block."""

    carried: ClassVar[tuple[str, ...]] = ("P",)

    def __init__(self, lane: Lane, rng: np.random.Generator, block: int | None) -> None:
        super().__init__(lane, rng)
        self.structure = Structure(lane.n, lane.bound)
        self.size = self.structure.size
        self.block = default_block(lane, self.size) if block is None else block
        claim("method", 8.0 * lane.groups * self.size * lane.columns, 'method="snap-1", "rflo" or ctrnn.Sketch(rank)')
        #: (groups, size, columns) at the beginning of the block, and whether it is more than zeros
        self.P, self._begun = np.zeros((lane.groups, self.size, lane.columns)), False
        #: the steps since; losses that were seen at their ends wait there to go back together
        self.steps = Kept(lane, self.block)

    def reset(self) -> None:
        """P = 0; what was seen before counts."""
        self._pull_waiting()
        self.P[...], self._begun = 0.0, False
        self.steps.clear()

    def take(self, step: Step) -> None:
        """Keep it; at the end of a block P ← Φ P + C."""
        if len(self.steps) >= self.block:
            self._close()
        self.steps.append(step)

    def pull(self, row: Array) -> Array:
        """g_t, by one row through the block."""
        if not len(self.steps):
            return self._through_P(row)
        G = np.zeros((self.lane.groups, 1, self.lane.columns))
        return self._through_P(self.steps.pull(row, G), G[:, 0])

    def add(self, row: Array) -> None:
        """A loss at the present state: it waits, and goes back with the others."""
        if len(self.steps):
            self.steps.wait(row)
        else:
            self._through_P(row, self.g)

    def peek(self) -> Array:
        """What ``collect`` would give; nothing changes."""
        g = self.g.copy()
        return self._pulled(g) if self.steps.waiting else g

    def collect(self) -> Array:
        """The gradient of all losses since the last call."""
        self._pull_waiting()
        return super().collect()

    def _pull_waiting(self) -> None:
        if self.steps.waiting:
            self._pulled(self.g)
            self.steps.forget_waiting()

    def _pulled(self, g: Array) -> Array:
        """g + Σ_j λ_j C_j + λ_0 P, of the losses that wait, in place."""
        return self._through_P(self.steps.pull_waiting(g[:, None]), g)

    def _through_P(self, row: Array, g: Array | None = None) -> Array:
        """g + row P (groups, columns), in place; without g, row P."""
        g = self.lane.zeros() if g is None else g
        if not self._begun:
            return g
        structure, P = self.structure, self.P
        rows = np.zeros((structure.count, self.size))
        rows[structure.of_state, structure.number] = row
        threads = workers() if P.nbytes > WORTH_THREADS else 1
        edges = [len(P) * i // threads for i in range(threads + 1)]
        run_parallel(
            [(online.through, rows, structure.of_group, P, g, *ends, np.empty(P.shape[2])) for ends in pairwise(edges)]
        )
        return g

    def _close(self) -> None:
        """P ← Φ P + C over the block, which begins anew."""
        if not len(self.steps):
            return
        self._pull_waiting()
        structure = self.structure
        rows = np.ascontiguousarray(structure.rows()[:, :-1])
        K = self.steps.pull_rows(rows)
        if self._begun:
            T = np.zeros((structure.count, self.size, self.size))
            T[structure.of_state, :, structure.number] = rows
            if structure.blas and self.P.nbytes <= WORTH_THREADS:  # small: a thread that is waited for costs more
                carry.transform(dgemm_address(), T, structure.of_group, self.P, 0, len(self.P), 0)
            else:
                structure.transform(T, self.P)
        self.steps.add_parameter_part(K, self.P)
        self._begun = True
        self.steps.clear()

    @property
    def sensitivities(self) -> Array:
        """dr/dw (n, m) of the present state, columns in the order of the field's labels."""
        self._close()
        whole = self.structure.count == 1
        return self.lane.bound.rows(self.P if whole else self.structure.sensitivities(self.P))

    # -- to disk and back

    def state_dict(self) -> dict[str, Array]:
        """P, and the steps of the block with their weights and the losses that wait."""
        return super().state_dict() | self.steps.state_dict()

    def load_state_dict(self, arrays: dict[str, Array]) -> None:
        """The same again."""
        super().load_state_dict(arrays)
        if len(arrays.get("step h", ())) > self.steps.capacity:  # of a memory with longer blocks: as they are
            self.steps = Kept(self.lane, len(arrays["step h"]))
        self.steps.load_state_dict(arrays)
        self._begun = bool(self.P.any())

    @property
    def nbytes(self) -> int:
        """Bytes that are carried."""
        return self.P.nbytes + self.steps.nbytes


def default_block(lane: Lane, size: int) -> int:
    """K: what one row costs through K/2 steps, beside what P ← Φ P + C costs divided among K, within bounded memory.

    A step of the row's way back reads and writes as many numbers as there are parameters, whatever it computes; Φ P
    takes 2 size² flops a parameter. Both are equal at K² ∝ size².
    """
    w = lane.bound.system.w.size
    memory = 8 * (w + lane.s * lane.n * (size + 1))
    return int(max(1, min(4 + size // 2, 64, BLOCK_BYTES // memory)))


@dataclass(frozen=True)
class ExactRule(Rule):
    """Exact RTRL; ``block``: steps in a block, at least 1, by default chosen."""

    block: int | None = None
    is_exact: ClassVar[bool] = True

    def start(self, lane: Lane, rng: np.random.Generator) -> Exact:
        """A memory for one lane."""
        return Exact(lane, rng, self.block)
