"""Traces: P = dr/dw where each parameter is kept for few states, in the time that they take.

    e_k ← Φ_kk e_k + C_k        k: a parameter and the states that it is kept for, Φ_kk the block of Φ between those

Rules say which states (``sets``) and which parameters go with each. A step of one explicit stage has Φ = 1 + h b J and
C = h b F_w: J is made once, O(n²), and all of C comes back by one row for each colour of the states, where two states
that a parameter acts on have different colours (Curtis, Powell & Reid, J. Inst. Maths Applics 13:117, 1974): one row
for the weights of a network. Other steps are taken whole, Φ and C by n rows.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.rules.rule import Memory
from ctrnn.gradients.rules.step import Lane, Step

#: how many times the states of a parameter have to go into all states for traces to be quicker than products with zeros
SPARSE = 3


class Traces(Memory):
    """e (traces, states of a set).

    Parameters
    ----------
    lane, rng
        As of any memory.
    sets : (sets, size) array of int
        The states of each set, −1 where it has fewer.
    chosen : (sets, m) array of bool
        Which parameters are kept for which set.
    """

    carried: ClassVar[tuple[str, ...]] = ("e",)

    def __init__(self, lane: Lane, rng: np.random.Generator, sets: Array, chosen: Array) -> None:
        super().__init__(lane, rng)
        index = lane.bound.kernel.index
        # no parameter lies at −1
        self.set, entry = np.nonzero(np.concatenate([chosen, np.zeros((len(sets), 1), dtype=bool)], axis=1)[:, index])
        self.group, self.column, self.entry = entry // lane.columns, entry % lane.columns, entry
        self.once = np.unique(entry).size == entry.size
        self.sets, self.is_state = np.maximum(sets, 0), sets >= 0
        self.states, self.there = self.sets[self.set], self.is_state[self.set]
        self.e = np.zeros((entry.size, sets.shape[1]))
        self.at, self.rows = np.empty(0, dtype=np.int64), np.empty((0, lane.n))
        if lane.one_stage:
            F_w = lane.field.sparsity()[1]
            acts = np.concatenate([F_w, np.zeros((lane.n, 1), dtype=bool)], axis=1)[:, index]
            colour = coloured(F_w)
            #: whether each state of each trace is acted on directly, and where in G (groups, colours, columns)
            self.acted = (acts[self.states, entry[:, None]] & self.there).astype(float)
            colours = int(colour.max(initial=-1)) + 1
            self.at = (self.group[:, None] * colours + colour[self.states]) * lane.columns + self.column[:, None]
            self.rows = (colour == np.arange(colour.max(initial=-1) + 1)[:, None]).astype(float)

    def reset(self) -> None:
        """No trace."""
        self.e[...] = 0.0

    def transition(self, step: Step) -> Array:
        """Φ (n, n)."""
        return np.eye(self.lane.n) + self.weight(step) * step.jacobian(0) if self.lane.one_stage else step.phi

    def weight(self, step: Step) -> float:
        """h b of the only stage."""
        return float(step.h[0] * self.lane.b[0])

    def added(self, step: Step) -> Array:
        """C at the traces (traces, states of a set)."""
        if not self.lane.one_stage:
            C: Array = step.C[self.group[:, None], self.states, self.column[:, None]]
            return C * self.there
        _, G = step.left(self.rows)
        return G.reshape(-1).take(self.at) * self.acted

    def take(self, step: Step) -> None:
        """Each trace by its block of Φ, and what the step adds."""
        phi = self.transition(step)
        if self.e.shape[1] == 1:
            kept = (phi[self.sets[:, 0], self.sets[:, 0]] * self.is_state[:, 0]).take(self.set)[:, None] * self.e
        else:
            both = self.is_state[:, :, None] & self.is_state[:, None, :]
            blocks = np.where(both, phi[self.sets[:, :, None], self.sets[:, None, :]], 0.0)
            kept = np.einsum("kij,kj->ki", blocks[self.set], self.e)
        self.e = kept + self.added(step)

    def pull(self, row: Array) -> Array:
        """∂ℓ/∂r P."""
        g = self.lane.zeros()
        parts = np.einsum("kj,kj->k", row.take(self.states) * self.there, self.e)
        if self.once:
            g.reshape(-1)[self.entry] = parts
        else:
            np.add.at(g.reshape(-1), self.entry, parts)
        return g


def coloured(F_w: Array) -> Array:
    """A colour for each state (n,), so that states which one parameter acts on differ; the first that is free.

    >>> coloured(np.array([[True, False], [True, True], [False, True]]))
    array([0, 1, 0])
    """
    together = (F_w.astype(float) @ F_w.T.astype(float)) > 0.0
    colour = np.full(len(F_w), -1)
    for i in range(len(F_w)):
        taken = set(colour[:i][together[i, :i]].tolist())
        colour[i] = next(c for c in range(i + 1) if c not in taken)
    return colour


def padded(sets: list[Array]) -> Array:
    """Sets of states as rows of one array, filled up with −1.

    >>> padded([np.array([0, 2]), np.array([1])])
    array([[ 0,  2],
           [ 1, -1]])
    """
    found = np.full((len(sets), max((len(s) for s in sets), default=0)), -1)
    for row, states in zip(found, sets, strict=True):
        row[: len(states)] = states
    return found
