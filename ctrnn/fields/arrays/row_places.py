"""Array equations for many rows at once: where everything lies.

A place is (base, offset, stride): row b of a value of B rows begins at base + B·offset + b·stride, in one of the arrays
that the loops are given (ctrnn.kernels.batch.graph_rows): the rows of states themselves, the tape, which the way back
reads, scratch, weights that are the same in each row, or what comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ctrnn.fields.arrays.graph import Elementwise, Graph, Stack, outs_of
from ctrnn.fields.arrays.layout import Layout
from ctrnn.fields.arrays.values import Product, Value
from ctrnn.fields.base import Array
from ctrnn.kernels.batch import graph_rows as K
from ctrnn.kernels.batch.tiles import padded

Place = tuple[int, int, int]  # base, offset, stride
NOWHERE: Place = (0, 0, 0)


class RowsLayout(Layout):
    """Inputs count as states: their cotangents may be wanted."""

    def _follow(self) -> None:
        self.follows_inputs = {
            v.parent or v for node in self.graph.nodes for v in node.inputs if (v.parent or v).kind == "input"
        }
        super()._follow()
        self.only_states = set(self.follows_state)
        # whatever an input reaches
        reached = set(self.follows_inputs)
        for node in self.graph.nodes:
            if any((v.parent or v) in reached for v in node.inputs):
                reached |= set(outs_of(node))
        self.follows_state |= reached


class Places:
    """The places of one graph's values, cotangents and slopes, given out when first asked for."""

    def __init__(self, graph: Graph, trained: Callable[[Array], Array], width: int, inputs: int) -> None:
        self.graph, self.layout = graph, RowsLayout(graph, trained)
        self.width, self.inputs = padded(width), inputs
        self.alone = len(graph.states) == 1  # then given rows are the state's own
        #: numbers of each array, of one row where it has rows
        self.tape = self.scratch = self.fixed = self.matrices = self.gradients = self.gathered = 0
        #: what owns the memory behind addresses
        self.keep: list[Any] = []
        self.value_of: dict[Value, Place] = {}
        self.cotangent_of: dict[Value, Place] = {}
        self.slopes: dict[tuple[int, int, str], Place | None] = {}
        #: cotangents of the rows of a stack, by its id, and where its weights lie for the way back, by id and column
        self.of_rows: dict[int, Place] = {}
        self.back_of: dict[tuple[int, int], int] = {}
        #: (offset, entries, stride) of matrices in w, and of rows in w
        self.filled: list[tuple[int, Array, int]] = []
        self.tiled: list[tuple[int, Array, int]] = []
        #: where entries lie in what comes back: (places, entries), and (offset in rows, stride, entries) of what
        #: gathers row by row
        self.returned: list[tuple[Array, Array]] = []
        self.row_returned: list[tuple[int, int, Array]] = []
        #: what the products of trained stacks need: rows, cotangents, sources, and where they come back
        self.stacks: list[list[int]] = []
        self.outs = set(graph.outs.values())
        self.read_back = self._needed_back()

    def room(self, what: str, size: int) -> int:
        """Room for so many numbers in one of the arrays: its offset."""
        at = getattr(self, what)
        setattr(self, what, at + padded(size))
        return int(at)

    def _needed_back(self) -> set[Value]:
        """Values that the way back reads: sources of trained stacks, and factors."""
        needed: set[Value] = set()
        for node in self.graph.nodes:
            if isinstance(node, Stack) and node.trained:
                needed |= {s for s, column in node.sources if column < node.trained}
            elif isinstance(node, Product):
                needed |= set(node.inputs)
        return needed

    def place(self, v: Value) -> Place:
        """Where the rows of a value lie; they are made there when first asked for."""
        if v in self.value_of:
            return self.value_of[v]
        if v.is_weight:
            assert v.entries is not None
            at = self.room("fixed", v.size)
            self.tiled.append((at, v.entries, padded(v.size)))
            place = (K.FIXED, at, padded(v.size))
        elif self.is_out(v) and self.alone:
            place = (K.OUT, 0, self.width)
        else:
            taped = v in self.read_back
            place = (K.TAPE if taped else K.SCRATCH, self.room("tape" if taped else "scratch", v.size), padded(v.size))
        self.value_of[v] = place
        return place

    def is_out(self, v: Value) -> bool:
        """Whether a value is dr/dt of a state."""
        return v in self.outs

    def get(self, program: list[Any], v: Value) -> Place:
        """The place of a value that is there: a leaf or a part is copied first."""
        if v in self.value_of or v.is_weight:
            return self.place(v)
        if v.kind == "time":
            program.append((K.TIME, *self.place(v)))
        elif v.parent is not None:
            of = self.get(program, v.parent)
            program.append((K.MOVE, v.size, 0, *of, v.start, *self.place(v), 0))
        elif v.kind == "state" and self.alone:
            if v not in self.read_back:  # the given rows will do
                self.value_of[v] = (K.R, 0, self.width)
            else:
                program.append((K.COPY, self.width, 0, K.R, 0, self.width, *self.place(v)))
        elif v.kind in ("state", "input"):
            base, stride = (K.R, self.width) if v.kind == "state" else (K.X, self.inputs)
            program.append((K.MOVE, v.size, 0, base, 0, stride, v.start, *self.place(v), 0))
        return self.place(v)

    def slope(self, node: Elementwise, k: int, v: Value) -> Place | None | Literal[False]:
        """Where ∂ out_k/∂ v lies; None where it is 1, False where it is 0."""
        return self.slopes.get((id(node), k, v.name), False)

    def cotangent(self, v: Value) -> Place:
        """Where the cotangent of a value lies; of a weight, where it gathers."""
        if v.is_weight:
            if v not in self.cotangent_of:
                assert v.entries is not None
                one = self.layout.is_one_number(v)
                at = self.room("gathered", 1 if one else v.size)
                entries = self.layout.trained(v.entries[:1] if one else v.entries)
                self.row_returned.append((at, padded(entries.size), entries))
                self.cotangent_of[v] = (K.P, at, padded(entries.size))
            return self.cotangent_of[v]
        if self.alone and self.is_out(v):
            return K.K, 0, self.width
        if self.alone and v.kind == "state":
            return K.RR, 0, self.width
        if v not in self.cotangent_of:
            self.cotangent_of[v] = (K.SCRATCH, self.room("scratch", v.size), padded(v.size))
        return self.cotangent_of[v]

    def returns(self, entries: Array, stride: int) -> int:
        """Room in what comes back for the cotangents of these entries, row by row."""
        at = self.gradients
        self.gradients += len(entries) * stride
        filled = np.full((len(entries), stride), -1, dtype=np.int64)
        filled[:, : entries.shape[1]] = self.layout.trained(entries)
        # what fills up is never looked at: it may be anything
        kept = np.flatnonzero(filled.ravel() >= 0)
        self.returned.append((at + kept, filled.ravel()[kept]))
        return at
