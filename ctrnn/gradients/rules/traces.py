"""Traces: P = dr/dw where each parameter is kept for few states, in the time that they take.

    e_k ← Φ_kk e_k + C_k        k: a parameter and the states that it is kept for, Φ_kk the block of Φ between those

Rules say which states (``sets``) and which parameters go with each. A step of one explicit stage has Φ = 1 + h b J and
C = h b F_w: J is made once, O(n²), and all of C comes back by one row for each colour of the states, where two states
that a parameter acts on have different colours (Curtis, Powell & Reid, J. Inst. Maths Applics 13:117, 1974): one row
for the weights of a network (ctrnn.kernels.rules.traces). Parameters that act on many states, as a time constant that
all units share, have no part in the colours: their columns of C come by a derivative along each. Other steps are taken
whole, Φ and C by n rows.
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
#: what a derivative along a parameter costs, of a row that comes back
ALONG = 2


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

    def pays(self, lane: Lane) -> bool:
        """Whether traces are quicker than P with zeros: by Σ s², of the s states of each, where blocks may differ."""
        n, m = lane.n, lane.field.m
        counts = (self.states >= 0).sum(axis=1).astype(float)
        if lane.one_stage:
            return bool(SPARSE**2 * (counts[self.of] ** 2).sum() <= float(n) * n * m)
        return bool(SPARSE * self.size <= n)

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
    """e, run by run (states of a set, traces), of steps with one explicit stage."""

    carried: ClassVar[tuple[str, ...]] = ("e",)
    functions = (k.take, k.add, k.collect, k.reset)
    pulls = k.pull

    def __init__(self, lane: Lane, rng: np.random.Generator, sets: Sets, by_leak: bool) -> None:
        super().__init__(lane, rng, k.SIZE)
        system, n, field = lane.bound.system, lane.n, lane.field
        F_w = field._pattern()[1]
        wide = wide_parameters(F_w, field)
        narrow = np.ones(field.m)
        narrow[wide] = 0.0
        colour = coloured(F_w * narrow)
        colours = int(colour.max(initial=-1)) + 1
        by_rows = lane.groups * colours * lane.columns
        rows = (colour[:, None] == np.arange(colours)).astype(float)
        directions = np.array([field._kernel_direction(np.arange(field.m) == p) for p in wide])
        runs = _runs(lane, sets, F_w, wide, colour, by_rows)
        at = _starts(runs)
        sizes = runs[at + k.LENGTH] * runs[at + k.STATES]
        total, largest = int(sizes.sum()), int(sizes.max(initial=0))
        self.e = self._lies(k.E, np.zeros(total))
        for key, value in (
            (k.TABLE, system.table.ctypes.data), (k.CTX, system.ctx.ctypes.data), (k.N, n), (k.GROUPS, lane.groups),
            (k.COLUMNS, lane.columns), (k.ROW_ENTRIES, by_rows), (k.COLOURS, colours), (k.BY_LEAK, by_leak),
            (k.WIDE, len(wide)), (k.WEIGHTS, system.w.size), (k.COUNT, len(at)), (k.TRACES, total),
        ):  # fmt: skip
            self.memory[key] = value
        if len(wide):
            jvp, ctx, _ = lane.tangents
            self.memory[k.JVP_AT], self.memory[k.JVP_CTX] = jvp, ctx.ctypes.data
        for key, array in (
            (k.B, np.ascontiguousarray(lane.b)), (k.ROWS, rows), (k.NO_DR, np.zeros(n)), (k.DIRECTIONS, directions),
            (k.RUNS, runs), (k.G, self.g),
        ):  # fmt: skip
            self._lies(key, array)
        for key, count in ((k.C, by_rows + len(wide) * n), (k.J, n * n), (k.K, n * colours), (k.OLD, largest)):
            self._room(key, count)


def wide_parameters(F_w: Any, field: Any) -> Array:
    """The parameters that act on so many states that a derivative along each is less than the rows of their colours."""
    counts = np.bincount(F_w.tocoo().coords[1], minlength=field.m)
    levels = np.unique(counts)
    beyond = np.array([(counts > level).sum() for level in levels])
    return np.flatnonzero(counts > levels[np.argmin(levels + ALONG * beyond)])


def _runs(lane: Lane, sets: Sets, F_w: Any, wide: Array, colour: Array, by_rows: int) -> Array:
    """Traces that follow each other in all that they touch, as the compiled functions want them."""
    index, colours = lane.bound.kernel.index.ravel(), int(colour.max(initial=-1)) + 1
    of, entry = sets.entries(lane)
    number = np.full(lane.field.m, -1)
    number[wide] = np.arange(len(wide))
    # what comes along a parameter comes once, also where that lies at several entries
    is_first = lane.bound.kernel.parameter_index[0][index[entry]] == entry
    keep = (number[index[entry]] < 0) | is_first
    of, entry = of[keep], entry[keep]
    counts = (sets.states >= 0).sum(axis=1)[of]
    made, begin = [np.empty(0, dtype=np.int64)], 0
    for count in np.unique(counts):
        here = np.flatnonzero(counts == count)
        its, states = entry[here], sets.states[of[here], :count]
        parameter, (group, column) = index[its], np.divmod(its, lane.columns)
        acts = np.stack([np.asarray(F_w[of_trace, parameter] != 0) for of_trace in states.T], axis=1)
        at = (group[:, None] * colours + colour[states]) * lane.columns + column[:, None]
        at = np.where(number[parameter][:, None] < 0, at, by_rows + number[parameter][:, None] * lane.n + states)
        at = np.where(acts, at, -1)
        follows = (np.diff(its) == 1) & (states[1:] == states[:-1]).all(axis=1) & (number[parameter[1:]] < 0)
        follows &= number[parameter[:-1]] < 0
        follows &= ((np.diff(at, axis=0) == 1) & (at[:-1] >= 0) | (at[1:] < 0) & (at[:-1] < 0)).all(axis=1)
        first = np.concatenate([[0], np.flatnonzero(~follows) + 1])
        length = np.diff(np.append(first, its.size))
        starts = begin + count * np.concatenate([[0], np.cumsum(length)])
        begin = int(starts[-1])
        made.append(
            np.column_stack(
                [starts[:-1], length, its[first], np.full(first.size, count), states[first], at[first]]
            ).ravel()
        )
    return np.ascontiguousarray(np.concatenate(made), dtype=np.int64)


def _starts(runs: Array) -> Array:
    """Where each run begins."""
    found, i = [], 0
    while i < runs.size:
        found.append(i)
        i += k.HEAD + 2 * int(runs[i + k.STATES])
    return np.array(found, dtype=np.int64)


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
