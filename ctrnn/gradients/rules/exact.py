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
from typing import Any, ClassVar

import numpy as np

from ctrnn.callbacks import Pending
from ctrnn.fields.base import Array
from ctrnn.gradients.recording.structure import Structure
from ctrnn.gradients.rules.kept import KeptSteps
from ctrnn.gradients.rules.rule import Rule, in_c
from ctrnn.gradients.rules.step import Lane
from ctrnn.kernels import online
from ctrnn.kernels.abi import address_of, dgemm_address, view
from ctrnn.kernels.rules import exact as e
from ctrnn.memory import claim
from ctrnn.threads import run_parallel, workers

#: bytes of P below which a second thread costs more than it saves
WORTH_THREADS = 2**23
#: bytes that the weights of a block's steps, and the cotangents at its end, may take
BLOCK_BYTES = 128 * 2**20


class Exact(KeptSteps):
    """P (groups, size, columns) at the beginning of a block, and the steps of the block."""

    carried: ClassVar[tuple[str, ...]] = ("P",)
    functions = (e.take, e.add, e.collect, e.reset)
    pulls = e.pull

    def __init__(self, lane: Lane, rng: np.random.Generator, block: int | None) -> None:
        self.structure = structure = Structure(lane.n, lane.bound)
        self.block = default_block(lane, structure.size) if block is None else block
        claim(
            "method", 8.0 * lane.groups * structure.size * lane.columns, 'method="snap-1", "rflo" or ctrnn.Sketch(rank)'
        )
        super().__init__(lane, rng, e.SIZE, self.block, slides=False)
        n, s, size, parts = lane.n, lane.s, structure.size, structure.count
        for entry, value in ((e.DGEMM, dgemm_address()), (e.ROWS, size), (e.PARTS, parts)):
            self.memory[entry] = value
        for entry, of in (
            (e.OF_STATE, structure.of_state),
            (e.NUMBER, structure.number),
            (e.OF_GROUP, structure.of_group),
        ):
            self._lies(entry, np.ascontiguousarray(of, dtype=np.int64))
        #: (groups, size, columns) at the beginning of the block
        self.P = self._lies(e.P, np.zeros((lane.groups, size, lane.columns)))
        self._lies(e.G, self.g)
        for entry, count in (
            (e.LEFT, parts * size), (e.T, parts * size * size), (e.BACK, n * size), (e.PRODUCT, lane.columns),
            (e.COTANGENTS, self.block * s * n * size), (e.ROOM, s * n * size),
        ):  # fmt: skip
            self._room(entry, count)
        self._pending = Pending()
        #: what goes through all of a large P is divided among threads
        self._threads = self._by_threads() if self.P.nbytes > WORTH_THREADS else None
        own = self._threads or (e.through, e.transform)
        self.memory[[e.THROUGH, e.TRANSFORM]] = [address_of(function) for function in own]

    def _by_threads(self) -> tuple[Any, Any]:
        """g += λ_0 P and P ← T P for large P, divided among threads."""
        structure, P = self.structure, self.P
        count, size = structure.count, structure.size

        def through(_: int, G: int) -> None:
            rows, g = view(int(self.memory[e.LEFT]), count, size), view(G, *P.shape[::2])
            edges = [len(P) * i // workers() for i in range(workers() + 1)]
            common = online.through, rows, structure.of_group, P, g
            run_parallel([(*common, *ends, np.empty(P.shape[2])) for ends in pairwise(edges)])

        def transform(_: int, __: int) -> None:
            structure.transform(view(int(self.memory[e.T]), count, size, size), P)

        return in_c(self._pending, through, e.OF_MEMORY), in_c(self._pending, transform, e.OF_MEMORY)

    def raise_pending(self) -> None:
        """Raise what the field, or a thread, has raised meanwhile."""
        super().raise_pending()
        self._pending.raise_pending()

    def peek(self) -> Array:
        """What ``collect`` would give; nothing changes."""
        found = self.lane.zeros()
        self.call(e.peek, found)
        return found

    @property
    def sensitivities(self) -> Array:
        """dr/dw (n, m) of the present state, columns in the order of the field's labels."""
        self.call(e.close)
        whole = self.structure.count == 1
        return self.lane.bound.rows(self.P if whole else self.structure.sensitivities(self.P))

    def load_state_dict(self, arrays: dict[str, Array]) -> None:
        """What ``state_dict`` gave; a block that has begun goes on as it was."""
        super().load_state_dict(arrays)
        self.memory[e.BEGUN] = self.P.any()


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
