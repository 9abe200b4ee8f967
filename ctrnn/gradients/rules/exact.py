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
from typing import ClassVar

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.recording.structure import Structure
from ctrnn.gradients.rules.rule import Memory, Rule
from ctrnn.gradients.rules.step import Lane, Step, stacked, taken_apart

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
        #: (groups, size, columns) at the beginning of the block
        self.P = np.zeros((lane.groups, self.size, lane.columns))
        #: the steps since, and ∂ℓ/∂r of what was seen at the end of each and not pulled back yet
        self.steps: list[Step] = []
        self.rows: list[Array | None] = []

    def reset(self) -> None:
        """P = 0; what was seen before counts."""
        self._pull_all()
        self.P[...] = 0.0
        self.steps, self.rows = [], []

    def take(self, step: Step) -> None:
        """Keep it; at the end of a block P ← Φ P + C."""
        if len(self.steps) >= self.block:
            self._close()
        self.steps.append(step)
        self.rows.append(None)

    def pull(self, row: Array) -> Array:
        """g_t, by one row through the block."""
        rows: list[Array | None] = [None] * len(self.steps)
        if not self.steps:
            return self._through_P(row)
        rows[-1] = row
        return self._pulled(rows)

    def add(self, row: Array) -> None:
        """A loss at the present state: it waits, and goes back with the others."""
        if not self.steps:
            self.g += self._through_P(row)
            return
        waiting = self.rows[-1]
        self.rows[-1] = row.copy() if waiting is None else waiting + row

    def peek(self) -> Array:
        """What ``collect`` would give; nothing changes."""
        waits = any(row is not None for row in self.rows)
        return self.g + self._pulled(self.rows) if waits else self.g.copy()

    def collect(self) -> Array:
        """The gradient of all losses since the last call."""
        self._pull_all()
        return super().collect()

    def _pull_all(self) -> None:
        if any(row is not None for row in self.rows):
            self.g += self._pulled(self.rows)
            self.rows = [None] * len(self.steps)

    def _pulled(self, rows: list[Array | None]) -> Array:
        """Σ_j λ_j C_j + λ_0 P, of the rows at the ends of the steps."""
        lane = self.lane
        lam, G = np.zeros((1, lane.n)), np.zeros((lane.groups, 1, lane.columns))
        begun = False
        for step, row in zip(reversed(self.steps), reversed(rows), strict=True):
            if row is not None:
                lam, begun = lam + row, True
            if begun:
                back, K = step.pulled(lam)
                step.add_parameter_part(K, G)
                lam = back.T
        return G[:, 0] + self._through_P(lam[0])

    def _through_P(self, row: Array) -> Array:
        """row P (groups, columns)."""
        structure = self.structure
        if structure.count == 1:
            return np.matmul(row, self.P)
        parts = np.zeros((structure.count, self.size))
        parts[structure.of_state, structure.number] = row
        return np.matmul(parts[structure.of_group][:, None], self.P)[:, 0]

    def _close(self) -> None:
        """P ← Φ P + C over the block, which begins anew."""
        self._pull_all()
        rows = np.ascontiguousarray(self.structure.rows()[:, :-1].T)
        cotangents = []
        for step in reversed(self.steps):
            back, K = step.pulled(rows)
            rows = back.T
            cotangents.append(K)
        T = np.zeros((self.structure.count, self.size, self.size))
        T[self.structure.of_state, :, self.structure.number] = rows.T
        self.structure.transform(T, self.P)
        for step, K in zip(reversed(self.steps), cotangents, strict=True):
            step.add_parameter_part(K, self.P)
        self.steps, self.rows = [], []

    @property
    def sensitivities(self) -> Array:
        """dr/dw (n, m) of the present state, columns in the order of the field's labels."""
        self._close()
        whole = self.structure.count == 1
        return self.lane.bound.rows(self.P if whole else self.structure.sensitivities(self.P))

    # -- to disk and back

    def state_dict(self) -> dict[str, Array]:
        """P, the steps of the block with their weights, and the rows that wait."""
        waits = np.array([row is not None for row in self.rows], dtype=bool)
        rows = np.array([np.zeros(self.lane.n) if row is None else row for row in self.rows])
        return super().state_dict() | stacked(self.steps) | ({"rows": rows, "waits": waits} if self.steps else {})

    def load_state_dict(self, arrays: dict[str, Array]) -> None:
        """The same again."""
        super().load_state_dict(arrays)
        self.steps = taken_apart(self.lane, arrays)
        self.rows = [None] * len(self.steps)
        if self.steps:
            count, n = len(self.steps), self.lane.n
            rows, waits = (arrays.get(name, np.empty(0)) for name in ("rows", "waits"))
            if rows.shape != (count, n) or waits.shape != (count,):
                raise UsageError("memory 'rows'", given=f"shape {rows.shape}", allowed=f"shape {(count, n)}")
            self.rows = [row.copy() if there else None for row, there in zip(rows, waits, strict=True)]

    @property
    def nbytes(self) -> int:
        """Bytes that are carried."""
        return self.P.nbytes + sum(step.nbytes for step in self.steps)


def default_block(lane: Lane, size: int) -> int:
    """K: what one row costs through K/2 steps, beside what P ← Φ P + C costs divided among K, within bounded memory.

    A step of the row's way back reads and writes as many numbers as there are parameters, whatever it computes; Φ P
    takes 2 size² flops a parameter. Both are equal at K² ∝ size².
    """
    w = lane.bound.system.w.size
    memory = 8 * (w + lane.s * lane.n * (size + 1))
    return int(max(1, min(4 + size // 4, 64, BLOCK_BYTES // memory)))


@dataclass(frozen=True)
class ExactRule(Rule):
    """Exact RTRL; ``block``: steps in a block, at least 1, by default chosen."""

    block: int | None = None
    is_exact: ClassVar[bool] = True

    def start(self, lane: Lane, rng: np.random.Generator) -> Exact:
        """A memory for one lane."""
        return Exact(lane, rng, self.block)
