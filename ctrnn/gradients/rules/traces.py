"""Traces: P = dr/dw where each parameter is kept for few states, in the time that they take.

    e_k ← Φ_kk e_k + C_k        k: a parameter and the states that it is kept for, Φ_kk the block of Φ between those

Rules say which states (``sets``) and which parameters go with each. A step of one explicit stage has Φ = 1 + h b J and
C = h b F_w: J is made once, O(n²), and all of C comes back by one row for each colour of the states, where two states
that a parameter acts on have different colours (Curtis, Powell & Reid, J. Inst. Maths Applics 13:117, 1974): one row
for the weights of a network (ctrnn.kernels.rules.traces). Other steps are taken whole, Φ and C by n rows.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.rules.compiled import CompiledMemory
from ctrnn.gradients.rules.rule import Memory
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.kernels.rules import traces as k

#: how many times the states of a parameter have to go into all states for traces to be quicker than products with zeros
SPARSE = 3


class Sets:
    """Which parameters are kept for which states.

    Parameters
    ----------
    states : list of arrays of int
        The states of each set.
    of, parameters : (pairs,) arrays of int
        Which parameters are kept for which set; a pair may stand there twice.
    """

    def __init__(self, states: list[Array], of: Array, parameters: Array) -> None:
        self.states, self.of, self.parameters = padded(states), of, parameters

    @classmethod
    def by_reach(cls, keep: Any) -> Sets:
        """Of parameters that are kept for the states where ``keep`` (n, m), a sparse array, is not 0."""
        by_parameter = keep.tocsc()
        by_parameter.sort_indices()
        counts = np.diff(by_parameter.indptr)
        sets: list[Array] = []
        none = np.empty(0, dtype=np.int64)
        of, parameters = [none], [none]
        for count in np.unique(counts[counts > 0]):  # of those that reach as many states, which reach the same
            chosen = np.flatnonzero(counts == count)
            reached = by_parameter.indices[by_parameter.indptr[chosen][:, None] + np.arange(count)]
            patterns, which = np.unique(reached, axis=0, return_inverse=True)
            of.append(len(sets) + which.ravel())
            parameters.append(chosen)
            sets += list(patterns)
        return cls(sets, np.concatenate(of), np.concatenate(parameters))

    @property
    def size(self) -> int:
        """States of the largest set."""
        return int(self.states.shape[1])

    def entries(self, lane: Lane) -> tuple[Array, Array]:
        """The set of each trace, and the entry of (groups, columns) of its parameter."""
        chosen = _ones_at(self.of, self.parameters, (len(self.states), lane.field.m))
        of, entry = by_entries(chosen, lane).nonzero()
        order = np.lexsort((entry, of))
        return of[order], entry[order]


def ones(pattern: Any) -> Any:
    """A sparse array of ones where another one is not 0."""
    pattern.data[:] = pattern.data != 0
    return pattern


def by_entries(by_parameter: Any, lane: Lane) -> Any:
    """The columns (…, m) of a sparse array at the entries (…, groups · columns) of its parameters."""
    index = lane.bound.kernel.index.ravel()
    there = np.flatnonzero(index >= 0)  # no parameter lies at −1
    return by_parameter @ _ones_at(index[there], there, (by_parameter.shape[1], index.size))


def _ones_at(rows: Array, columns: Array, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    # of float32, sums of ones never come to 0
    return csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)


def traces(lane: Lane, rng: np.random.Generator, sets: Sets, by_leak: bool = False) -> Memory:
    """A memory of traces; by_leak: with the leak in the place of J, of steps with one explicit stage."""
    if lane.one_stage:
        return Traces(lane, rng, sets, by_leak)
    return WholeTraces(lane, rng, sets)


class Traces(CompiledMemory):
    """e (states of a set, traces), of steps with one explicit stage."""

    carried: ClassVar[tuple[str, ...]] = ("e",)
    functions = (k.take, k.add, k.collect, k.reset)
    pulls = k.pull

    def __init__(self, lane: Lane, rng: np.random.Generator, sets: Sets, by_leak: bool) -> None:
        super().__init__(lane, rng, k.SIZE)
        system, n = lane.bound.system, lane.n
        of, entry = sets.entries(lane)
        F_w = lane.field._pattern()[1]
        colour = coloured(F_w)
        colours = int(colour.max(initial=-1)) + 1
        states = sets.states[of]  # (traces, states of a set)
        index = lane.bound.kernel.index
        acts = np.zeros(states.shape, dtype=bool)
        for j, of_trace in enumerate(states.T):
            here = np.flatnonzero(of_trace >= 0)
            acts[here, j] = F_w[of_trace[here], index[entry[here]]] != 0
        group, column = entry // lane.columns, entry % lane.columns
        at = (group[:, None] * colours + colour[states]) * lane.columns + column[:, None]
        runs = _runs(entry, states, np.where(acts, at, -1))
        self.e = self._lies(k.E, np.zeros((sets.size, entry.size)))
        for key, value in (
            (k.TABLE, system.table.ctypes.data), (k.CTX, system.ctx.ctypes.data), (k.N, n), (k.GROUPS, lane.groups),
            (k.COLUMNS, lane.columns), (k.COLOURS, colours), (k.STATES, sets.size), (k.BY_LEAK, by_leak),
            (k.COUNT, len(runs)), (k.TRACES, entry.size),
        ):  # fmt: skip
            self.memory[key] = value
        rows = (colour[:, None] == np.arange(colours)).astype(float)
        for key, array in ((k.B, np.ascontiguousarray(lane.b)), (k.ROWS, rows), (k.RUNS, runs), (k.G, self.g)):
            self._lies(key, array)
        room = {k.C: lane.groups * colours * lane.columns, k.J: n * n, k.K: n * colours, k.OLD: self.e.size}
        for key, count in room.items():
            self._room(key, count)


def _runs(entry: Array, states: Array, at: Array) -> Array:
    """Traces that follow each other in all that they touch, as the compiled functions want them."""
    follows = (np.diff(entry) == 1) & (states[1:] == states[:-1]).all(axis=1)
    follows &= ((np.diff(at, axis=0) == 1) & (at[:-1] >= 0) | (at[1:] < 0) & (at[:-1] < 0)).all(axis=1)
    first = np.concatenate([[0], np.flatnonzero(~follows) + 1])[: entry.size]
    length = np.diff(np.append(first, entry.size))
    return np.ascontiguousarray(
        np.column_stack([first, length, entry[first], states[first], at[first]]), dtype=np.int64
    )


class WholeTraces(Memory):
    """e (traces, states of a set) of any steps, by the whole Φ and C of each."""

    carried: ClassVar[tuple[str, ...]] = ("e",)

    def __init__(self, lane: Lane, rng: np.random.Generator, sets: Sets) -> None:
        super().__init__(lane, rng)
        self.set, self.entry = sets.entries(lane)
        self.group, self.column = self.entry // lane.columns, self.entry % lane.columns
        self.sets, self.is_state = np.maximum(sets.states, 0), sets.states >= 0
        self.states, self.there = self.sets[self.set], self.is_state[self.set]
        self.e = np.zeros((self.entry.size, sets.size))

    def reset(self) -> None:
        """No trace."""
        self.e[...] = 0.0

    def take(self, step: Step) -> None:
        """Each trace by its block of Φ, and what the step adds."""
        both = self.is_state[:, :, None] & self.is_state[:, None, :]
        blocks = np.where(both, step.phi[self.sets[:, :, None], self.sets[:, None, :]], 0.0)
        added = step.C[self.group[:, None], self.states, self.column[:, None]] * self.there
        self.e[...] = np.einsum("kij,kj->ki", blocks[self.set], self.e) + added

    def pull(self, row: Array) -> Array:
        """∂ℓ/∂r P."""
        g = self.lane.zeros()
        np.add.at(g.reshape(-1), self.entry, np.einsum("kj,kj->k", row.take(self.states) * self.there, self.e))
        return g


def coloured(F_w: Any) -> Array:
    """A colour for each state (n,), so that states which one parameter acts on differ; the first that is free.

    >>> coloured(np.array([[True, False], [True, True], [False, True]]))
    array([0, 1, 0])
    """
    from scipy.sparse import csr_array

    sparse = csr_array(F_w, dtype=np.float32)
    together = (sparse @ sparse.T).toarray() > 0.0
    colour = np.full(sparse.shape[0], -1)
    for i in range(len(colour)):
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
