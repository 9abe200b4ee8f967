"""Array equations for many rows at once: the compiled functions of a field, and its numbers made ready for them.

Where everything lies, says ctrnn.fields.arrays.row_places; what is done there, ctrnn.fields.arrays.row_programs; it is
done by ctrnn.kernels.batch.graph_rows. The numbers that a run is given: ``RowsNumbers``, for B rows; what comes back of
the parameters: one array, of which ``vector`` makes the flat gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.fields.arrays.graph import Elementwise, Graph
from ctrnn.fields.arrays.row_places import Places
from ctrnn.fields.arrays.row_programs import Back, Forward
from ctrnn.fields.base import Array
from ctrnn.fields.bound import RowSlots
from ctrnn.kernels.batch import graph_rows as K
from ctrnn.kernels.batch.tiles import multiply_add


class RowsCode:
    """Programs and places of one graph, as the kernels read them: ``plan``."""

    def __init__(self, graph: Graph, trained: Callable[[Array], Array], width: int, inputs: int) -> None:
        self.places = places = Places(graph, trained, width, inputs)
        forward = Forward(places)
        programs = {
            K.FORWARD: forward.program,
            K.BACK: Back(places, to_inputs=False).program,
            K.BACK_TO_INPUTS: Back(places, to_inputs=True).program,
            K.PREPARE: forward.prepare,
            K.VALUES: forward.values,
        }
        self.plan = np.zeros(K.PLAN_SIZE, dtype=np.int64)
        nodes = [node for node in graph.nodes if isinstance(node, Elementwise)]
        operands = max((len(v.inputs) + len(v.outs) * (1 + len(v.inputs)) for v in nodes), default=1)
        self.plan[: K.PROGRAMS] = (
            places.scratch, places.matrices, places.gradients, operands, places.width, inputs, multiply_add.address,
            self._address([len(places.stacks), *(number for row in places.stacks for number in row)]),
        )  # fmt: skip
        for number, program in programs.items():
            code = [x for step in program for x in (step[0], len(step) + 1, *step[1:])]
            self.plan[K.PROGRAMS + 2 * number] = self._address([*code, *[0] * 24])
            self.plan[K.PROGRAMS + 2 * number + 1] = len(code)

    def _address(self, numbers: Any) -> int:
        kept = np.array(numbers, dtype=np.int64)
        self.places.keep.append(kept)
        return int(kept.ctypes.data)


@dataclass
class RowsNumbers:
    """A field's numbers for B rows, and the ctx of the slots.

    ``w`` and ``ctx`` are to be kept as long as their addresses are used.
    """

    w: Array
    ctx: Array
    room: Array
    keep: Any


class GraphRows(RowSlots):
    """Rows of array equations (the slots F_ROWS, VJP_ROWS, ACCUMULATE_ROWS of ctrnn.kernels.abi)."""

    def __init__(self, code: RowsCode, m: int) -> None:
        self.code, self.m = code, m
        self.f, self.vjp = K.field.address, K.vjp.address
        self.accumulate = K.accumulate.address

    @property
    def width(self) -> int:
        """Numbers in a row of the state, as the loops lay it."""
        return self.code.places.width

    def tape(self, B: int, S: int) -> int:
        """Numbers of the tape of S stages of B rows."""
        return B * S * self.code.places.tape

    def gradients(self, B: int) -> int:
        """Numbers of what comes back of the parameters."""
        return self.code.places.gradients + B * self.code.places.gathered

    def numbers(self, entries: Array, B: int) -> RowsNumbers:
        """The field's numbers for B rows (w), and the ctx and its room; ``entries``: Field.rows_entries."""
        code, places = self.code, self.code.places
        w = np.zeros(places.matrices + B * places.fixed)
        for at, of, stride in places.filled:
            w[at : at + len(of) * stride].reshape(len(of), stride)[:, : of.shape[1]] = entries[of]
        for at, of, stride in places.tiled:
            rows = w[places.matrices + B * at : places.matrices + B * (at + stride)].reshape(B, stride)
            rows[:], rows[:, : of.size] = 1.0, entries[of]  # 1: nothing is ever divided by what fills up
        room = np.zeros(K.REGISTERS + int(code.plan[K.POINTERS]) + B * places.scratch)
        ctx = np.array([code.plan.ctypes.data, room.ctypes.data], dtype=np.int64)
        found = RowsNumbers(w, ctx, room, self)
        K.call_prepare(K.prepare.address, ctx, B, w)
        return found

    def vector(self, G: Array, B: int) -> Array:
        """The flat gradient (m,) of what came back."""
        places = self.code.places
        flat = np.zeros(self.m + 1)  # the last for what is not trained
        for lie, entries in places.returned:
            np.add.at(flat, entries, G[lie])
        for at, stride, entries in places.row_returned:
            start = places.gradients + B * at
            rows = G[start : start + B * stride].reshape(B, stride)[:, : entries.size]
            np.add.at(flat, entries, rows.sum(axis=0))
        return flat[:-1]
