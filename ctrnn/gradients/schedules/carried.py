"""What RTRL carries forward: P = dr/dw, S = dr/dr0, the loss so far and its gradient, through one block of steps after another.

A block of K steps gives, by the pullback of identity rows, its transition matrix Φ = dr⁺/dr and its parameter part C = ∂r⁺/∂w, and by one
more row the losses λ, c seen inside it:

    [P]    [Φ 0] [P]   [C]
    [g]  ← [λ 1] [g] + [c]        and S, dl/dr0 the same without C

Where the states fall into parts that know nothing of each other (a network whose weights are diagonal, or in blocks), dr_i/dw_g is 0 unless
state i and parameter g are in one part. Then one cotangent serves all parts at once: it is 1 at the first state of every part, the next at the
second, and what comes back lies side by side (Curtis, Powell & Reid, J. Inst. Maths Applics 13:117, 1974). The rows that are carried are as many
as the largest part has states, n when all hang together, and one for a diagonal network: O(columns) a unit.

Layout: G (groups, q, columns), the rows of P that are not 0, and g as the last of the q rows; S (n, q) likewise. G is changed in place and
the parameter part is added to it where it stands: P is the largest thing there is, and there is one of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrnn.fields.base import Array, Kernel
from ctrnn.gradients.recording.discrete import WORTH_THREADS, DiscreteRun
from ctrnn.gradients.recording.losses import Part
from ctrnn.gradients.result import check_finite
from ctrnn.kernels.stepper import Record
from ctrnn.threads import share, workers


class Structure:
    """Which states and parameters are in one part, and the place of each state within its part.

    of_state (n,), place (n,): part and place; of_group (groups,); size: states of the largest part; count: number of parts
    """

    def __init__(self, n: int, kernel: Kernel, together: bool = False) -> None:
        parts = None if together else kernel.parts
        if parts is None:
            parts = np.zeros(n, dtype=np.int64), np.zeros(kernel.groups, dtype=np.int64)
        self.n = n
        self.of_state, self.of_group = parts
        self.count = int(self.of_state.max(initial=0)) + 1
        self.place = np.zeros(n, dtype=np.int64)
        for part in range(self.count):
            states = np.flatnonzero(self.of_state == part)
            self.place[states] = np.arange(states.size)
        self.size = int(self.place.max(initial=0)) + 1

    def rows(self) -> Array:
        """The cotangents (n, q): at each state 1 in the column of its place; the last column is for the loss."""
        rows = np.zeros((self.n, self.size + 1))
        rows[np.arange(self.n), self.place] = 1.0
        return rows

    def transition(self, rows: Array) -> Array:
        """T (count, q, q) = [Φ 0; λ 1] of each part, from the cotangents that came back (n, q)."""
        T = np.zeros((self.count, self.size + 1, self.size + 1))
        T[self.of_state, :, self.place] = rows
        T[:, -1, -1] = 1.0
        return T


@dataclass
class Carried:
    """l and what is carried: G (groups, q, columns), S (n, q), and g_o = dl/d(V, c); ``begun``: whether G is more than zeros."""

    structure: Structure
    loss: float
    G: Array
    S: Array
    g_o: Array
    dgemm: int
    begun: bool = False

    @classmethod
    def at_start(cls, n: int, kernel: Kernel, readout: int, together: bool = False) -> Carried:
        """Nothing yet: P = 0, S = 1. ``together``: keep all of P, for those who will couple the parts."""
        from ctrnn.kernels.abi import dgemm_address

        structure = Structure(n, kernel, together)
        G = np.zeros((kernel.groups, structure.size + 1, kernel.columns))
        return cls(structure, 0.0, G, structure.rows(), np.zeros(readout), dgemm_address() if kernel.blas else 0)

    # -- seen whole

    @property
    def g(self) -> Array:
        """dl/dw (groups, columns), a view."""
        return self.G[:, -1]

    @property
    def g0(self) -> Array:
        """dl/dr0 (n,), a view."""
        return self.S[:, -1]

    @property
    def P(self) -> Array:
        """dr/dw (groups, n, columns); a view where all states are in one part."""
        s = self.structure
        if s.count == 1:
            return self.G[:, :-1]
        together = s.of_group[:, None] == s.of_state
        return np.where(together[:, :, None], self.G[:, s.place], 0.0)

    @property
    def dr_dr0(self) -> Array:
        """dr/dr0 (n, n)."""
        s = self.structure
        return np.where(s.of_state[:, None] == s.of_state, self.S[:, s.place].T, 0.0)

    # -- forward

    def observe(self, loss: float, l_r: Array, g_o: Array) -> None:
        """A loss at the present state, with its derivatives; raises NotFiniteError."""
        check_finite(loss, l_r)
        s = self.structure
        rows = np.zeros((s.count, s.size))
        rows[s.of_state, s.place] = l_r
        if self.begun:
            self.G[:, -1] += np.einsum("gk,gkc->gc", rows[s.of_group], self.G[:, :-1])
        self.S[:, -1] += np.einsum("jk,jk->j", rows[s.of_state], self.S[:, :-1])
        self.loss += loss
        self.g_o = self.g_o + g_o

    def take(self, run: DiscreteRun, record: Record, part: Part) -> None:
        """A block of recorded steps."""
        rows = self.structure.rows()
        pulled = run.pull_rows(record, part, rows)
        self.transform(self.structure.transition(rows))
        run.accumulate(record, pulled, self.G)
        self.begun = True
        self.loss += part.loss
        self.g_o = self.g_o + part.readout

    def transform(self, T: Array) -> None:
        """[P; g] ← T [P; g], and S likewise; T (count, q, q)."""
        s = self.structure
        self.S = self.S @ T[0].T if s.count == 1 else np.einsum("jkl,jl->jk", T[s.of_state], self.S)
        if not self.begun:
            return  # P and g are 0
        groups, q, columns = self.G.shape
        if not self.dgemm:
            self.G[...] = np.matmul(T[s.of_group], self.G)
            return
        from ctrnn.kernels.carry import transform

        threads = workers() if 2.0 * q * q * columns * groups > WORTH_THREADS else 1
        edges = np.linspace(0, groups, threads + 1).astype(int)
        share(
            [(transform, self.dgemm, T, s.of_group, self.G, a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        )

    def copy(self) -> Carried:
        """One that can go on while this one stays."""
        return Carried(self.structure, self.loss, self.G.copy(), self.S.copy(), self.g_o.copy(), self.dgemm, self.begun)
