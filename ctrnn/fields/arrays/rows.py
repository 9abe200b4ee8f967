"""Array equations for many rows at once.

Where everything lies, the programs, and a field's numbers made ready (ctrnn.kernels.batch.graph_rows).

A *part* of a value is copied to rows of its own here; sources of a stack are multiplied one by one, each with its
columns of the weights; the bias is set first. The numbers that a run is given: ``RowsNumbers``, for B rows; what comes
back of the parameters: one array, of which ``vector`` makes the flat gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ctrnn.fields.arrays import loops
from ctrnn.fields.arrays.graph import Elementwise, Graph, Stack, outs_of
from ctrnn.fields.arrays.layout import Layout
from ctrnn.fields.arrays.programs import Edge, Loop, _strides, edges
from ctrnn.fields.arrays.values import Product, Spread, Turn, Value
from ctrnn.fields.base import Array
from ctrnn.fields.bound import RowSlots
from ctrnn.kernels.batch import graph_rows as K
from ctrnn.kernels.batch.tiles import LANES, multiply_add, padded

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


class RowsCode:
    """Programs and places of one graph."""

    def __init__(self, graph: Graph, trained: Callable[[Array], Array], width: int, inputs: int) -> None:
        self.graph, self.layout = graph, RowsLayout(graph, trained)
        self.width = padded(width)
        self.inputs = inputs
        self.alone = len(graph.states) == 1  # then given rows are the state's own
        self.tape = self.scratch = self.fixed = self.matrices = self.gradients = self.gathered = 0
        self._keep: list[Any] = []
        self._value: dict[Value, Place] = {}
        self._cot: dict[Value, Place] = {}
        self._slope: dict[tuple[int, int, str], Place | None] = {}
        #: (offset, rows, columns, stride, entries) of matrices in w; (offset, stride, entries) of rows in w
        self.filled: list[tuple[int, Array, int]] = []
        self.tiled: list[tuple[int, Array, int]] = []
        self._back_of: dict[tuple[int, int], int] = {}
        #: where entries lie in what comes back: (places, entries), and (offset in rows, stride, entries) of what
        #: gathers row by row
        self.returned: list[tuple[Array, Array]] = []
        self.row_returned: list[tuple[int, int, Array]] = []
        self._stacks: list[list[int]] = []
        self.programs = {
            K.FORWARD: self._forward(),
            K.BACK: self._back(False),
            K.BACK_TO_INPUTS: self._back(True),
            K.PREPARE: self._prepare,
            K.VALUES: self._values,
        }
        self.plan = np.zeros(K.PLAN_SIZE, dtype=np.int64)
        operands = max((len(v.inputs) + len(v.outs) * (1 + len(v.inputs)) for v in self._nodes(Elementwise)), default=1)
        self.plan[: K.PROGRAMS] = (
            self.scratch, self.matrices, self.gradients, operands, self.width, inputs, multiply_add.address,
            self._address([len(self._stacks), *(number for row in self._stacks for number in row)]),
        )  # fmt: skip
        for number, program in self.programs.items():
            code = [x for step in program for x in (step[0], len(step) + 1, *step[1:])]
            self.plan[K.PROGRAMS + 2 * number] = self._address([*code, *[0] * 24])
            self.plan[K.PROGRAMS + 2 * number + 1] = len(code)

    def _nodes(self, kind: type) -> list[Any]:
        return [node for node in self.graph.nodes if isinstance(node, kind)]

    def _address(self, numbers: Any) -> int:
        kept = np.array(numbers, dtype=np.int64)
        self._keep.append(kept)
        return int(kept.ctypes.data)

    # --- places

    def _room(self, what: str, size: int) -> int:
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

    def _place(self, v: Value) -> Place:
        """Where the rows of a value lie; they are made there when first asked for."""
        if v in self._value:
            return self._value[v]
        if v.is_weight:
            assert v.entries is not None
            at = self._room("fixed", v.size)
            self.tiled.append((at, v.entries, padded(v.size)))
            place = (K.FIXED, at, padded(v.size))
        elif self._is_out(v) and self.alone:
            place = (K.OUT, 0, self.width)
        else:
            taped = v in self._back_reads
            place = (K.TAPE if taped else K.SCRATCH, self._room("tape" if taped else "scratch", v.size), padded(v.size))
        self._value[v] = place
        return place

    def _is_out(self, v: Value) -> bool:
        return v in self._outs

    def _get(self, program: list[Any], v: Value) -> Place:
        """The place of a value that is there: a leaf or a part is copied first."""
        if v in self._value or v.is_weight:
            return self._place(v)
        if v.kind == "time":
            program.append((K.TIME, *self._place(v)))
        elif v.parent is not None:
            of = self._get(program, v.parent)
            program.append((K.MOVE, v.size, 0, *of, v.start, *self._place(v), 0))
        elif v.kind == "state" and self.alone:
            if v not in self._back_reads:  # the given rows will do
                self._value[v] = (K.R, 0, self.width)
            else:
                program.append((K.COPY, self.width, 0, K.R, 0, self.width, *self._place(v)))
        elif v.kind in ("state", "input"):
            base, stride = (K.R, self.width) if v.kind == "state" else (K.X, self.inputs)
            program.append((K.MOVE, v.size, 0, base, 0, stride, v.start, *self._place(v), 0))
        return self._place(v)

    def slope(self, node: Elementwise, k: int, v: Value) -> Place | None | Literal[False]:
        """Where ∂ out_k/∂ v lies; None where it is 1, False where it is 0."""
        return self._slope.get((id(node), k, v.name), False)

    # --- forward

    def _forward(self) -> list[Any]:
        graph = self.graph
        self._outs = set(graph.outs.values())
        self._back_reads = self._needed_back()
        self._prepare: list[Any] = []
        #: F alone: the same steps, of which the loops make no partial derivatives
        self._values: list[Any] = []
        program: list[Any] = []
        for node in graph.nodes:
            begin = len(program)
            if isinstance(node, Elementwise):
                self._elementwise(program, node)
            elif isinstance(node, Stack):
                self._stack(program, node)
            elif isinstance(node, Product):
                a, b = self._get(program, node.a), self._get(program, node.b)
                fi, fl, sl, sj = _strides(node)
                to = self._place(node.out)
                program.append((K.CONTRACT, node.m, node.k, node.n, fi, fl, sl, sj, node.n, 1, 0, *a, *b, *to))
            else:
                program.append(self._plain(node, 0, self._get(program, node.a), self._place(node.out), back=False))
            self._values += program[begin:]
            if isinstance(node, Elementwise):
                del self._values[-1]
                self._loop(self._values, Loop(node, list(range(len(node.outs))), []))
        begin = len(program)
        if not self.alone:
            start = 0
            for state in graph.states:
                of = self._place(graph.outs[state])
                program.append((K.MOVE, state.size, 0, *of, 0, K.OUT, 0, self.width, start))
                start += state.size
        self._values += program[begin:]
        return program

    @staticmethod
    def _plain(node: Any, add: int, k: Place, to: Place, back: bool) -> tuple[int, ...]:
        if isinstance(node, Turn):
            rows, columns = node.out.shape if back else node.a.shape
            return (K.TURN, rows, columns, add, *k, *to)
        if isinstance(node, Spread) != back:
            return (K.SPREAD, to[2], add, *k, *to)
        size = node.out.size if isinstance(node, Spread) else node.a.size
        return (K.SUM, size, add, *NOWHERE, *k, *to)

    def _elementwise(self, program: list[Any], node: Elementwise) -> None:
        slopes: list[tuple[int, Value]] = []
        fixed: list[tuple[int, Value]] = []
        for k in range(len(node.outs)):
            for v in node.inputs:
                if self.layout.slope(node, k, v) is False:
                    continue
                if self.layout.slope(node, k, v) is None:
                    self._slope[id(node), k, v.name] = None
                    continue
                read = loops.formulas_of(Loop(node, [], [(k, v)]))[1]
                constant = all(u.is_weight for u in read)
                base, room = (K.FIXED, "fixed") if constant else (K.TAPE, "tape")
                self._slope[id(node), k, v.name] = (base, self._room(room, node.size), padded(node.size))
                (fixed if constant else slopes).append((k, v))
        self._loop(program, Loop(node, list(range(len(node.outs))), slopes))
        if fixed:
            self._loop(self._prepare, Loop(node, [], fixed))

    def _loop(self, program: list[Any], loop: Loop) -> None:
        address, inputs, _, made = loops.compiled(loop)
        self._keep.append(made)
        node = loop.node
        operands = [self._get(program, v) for v in inputs]
        operands += [self._place(node.outs[k]) for k in loop.outs]
        for k, v in loop.slopes:
            place = self.slope(node, k, v)
            assert isinstance(place, tuple)
            operands.append(place)
        stride = padded(node.size)
        program.append((K.LOOP, stride, len(operands), address, *(number for place in operands for number in place)))

    def _stack(self, program: list[Any], node: Stack) -> None:
        wide = padded(node.rows)
        # the rows of a stack lie together; its values are their parts
        keeps = len(node.outs) == 1 and node.outs[0] in self._back_reads
        u = (K.TAPE if keeps else K.SCRATCH, self._room("tape" if keeps else "scratch", node.rows), wide)
        sources = [(s, column, self._get(program, s)) for s, column in node.sources]
        if node.has_one:
            at = self.matrices
            self.matrices += wide
            self.filled.append((at, node.entries[:, node.one][None], wide))
            program.append((K.SET, at, *u))
        else:
            program.append((K.ZERO, *u))
        taped = node.trained > 0
        cot = (K.TAPE if taped else K.SCRATCH, self._room("tape" if taped else "scratch", node.rows), wide)
        self._cot_of_rows = getattr(self, "_cot_of_rows", {}) | {id(node): cot}
        for s, column, place in sources:
            columns = node.entries[:, column : column + s.size]
            forward, back = self.matrices, self.matrices + s.size * wide
            self.matrices = back + node.rows * padded(s.size)
            self.filled += [(forward, columns.T, wide), (back, columns, padded(s.size))]
            self._back_of[id(node), column] = back
            program.append((K.PRODUCT, s.size, wide // LANES, *place, forward, wide, *u))
            if column < node.trained:
                self._stacks.append(
                    [node.rows, cot[1], wide, place[1], place[2], s.size, self._returns(columns, padded(s.size))]
                )
        if node.has_one and node.one < node.trained:
            self._stacks.append(
                [node.rows, cot[1], wide, 0, 0, 0, self._returns(node.entries[:, node.one][None], wide)]
            )
        start = 0
        for out in node.outs:
            if len(node.outs) == 1:
                self._value[out], self._cot[out] = u, cot
            else:
                program.append((K.MOVE, out.size, 0, *u, start, *self._place(out), 0))
            start += out.size

    def _returns(self, entries: Array, stride: int) -> int:
        """Room in what comes back for the cotangents of these entries, row by row."""
        at = self.gradients
        self.gradients += len(entries) * stride
        filled = np.full((len(entries), stride), -1, dtype=np.int64)
        filled[:, : entries.shape[1]] = self.layout.trained(entries)
        # what fills up is never looked at: it may be anything
        kept = np.flatnonzero(filled.ravel() >= 0)
        self.returned.append((at + kept, filled.ravel()[kept]))
        return at

    # --- back

    def _cotangent(self, v: Value) -> Place:
        if v.is_weight:
            if v not in self._cot:
                assert v.entries is not None
                one = self.layout.is_one_number(v)
                at = self._room("gathered", 1 if one else v.size)
                entries = self.layout.trained(v.entries[:1] if one else v.entries)
                self.row_returned.append((at, padded(entries.size), entries))
                self._cot[v] = (K.P, at, padded(entries.size))
            return self._cot[v]
        if self.alone and self._is_out(v):
            return K.K, 0, self.width
        if self.alone and v.kind == "state":
            return K.RR, 0, self.width
        if v not in self._cot:
            self._cot[v] = (K.SCRATCH, self._room("scratch", v.size), padded(v.size))
        return self._cot[v]

    def _back(self, to_inputs: bool) -> list[Any]:
        layout, graph = self.layout, self.graph

        def useful(v: Value) -> bool:
            owner = v.parent or v
            return owner in layout.only_states or layout.of_weights(v) or (to_inputs and owner in layout.follows_state)

        program: list[Any] = []
        written: set[Value] = set()
        parts: dict[Value, list[Value]] = {}
        for node in graph.nodes:
            for v in node.inputs:
                if v.parent is not None and useful(v) and v not in parts.setdefault(v.parent, []):
                    parts[v.parent].append(v)
        if not self.alone:
            start = 0
            for state in graph.states:
                out = graph.outs[state]
                program.append((K.MOVE, state.size, 0, K.K, 0, self.width, start, *self._cotangent(out), 0))
                start += state.size

        def gather_parts(owner: Value) -> None:
            mine = [v for v in parts.get(owner, []) if v in written]
            if mine and owner not in written:
                program.append((K.ZERO, *self._cotangent(owner)))
                written.add(owner)
            for v in mine:
                program.append((K.MOVE, v.size, 1, *self._cotangent(v), 0, *self._cotangent(owner), v.start))

        for node in reversed(graph.nodes):
            for out in outs_of(node):
                gather_parts(out)
            if isinstance(node, Stack):
                if not any(out in written for out in node.outs):
                    if node.trained:
                        program.append((K.ZERO, *self._cot_of_rows[id(node)]))
                    continue
                self._whole_cotangent(program, node, written)
            for edge in edges(layout, node):
                if useful(edge.to) and (isinstance(node, Stack) or edge.out in written or self._is_out(edge.out)):
                    self._pull(program, edge, written)
        start = 0
        for state in graph.states:
            gather_parts(state)
            if state not in written:
                program.append((K.ZERO, *self._cotangent(state)))
            if not self.alone:
                program.append((K.MOVE, state.size, 0, *self._cotangent(state), 0, K.RR, 0, self.width, start))
            start += state.size
        if to_inputs:
            for v in sorted(layout.follows_inputs, key=lambda v: v.start):
                gather_parts(v)
                if v not in written:
                    program.append((K.ZERO, *self._cotangent(v)))
                program.append((K.MOVE, v.size, 0, *self._cotangent(v), 0, K.XB, 0, self.inputs, v.start))
        return program

    def _whole_cotangent(self, program: list[Any], node: Stack, written: set[Value]) -> None:
        """u̅ of a stack of several values from theirs."""
        if len(node.outs) == 1:
            return
        start, cot = 0, self._cot_of_rows[id(node)]
        if not all(out in written for out in node.outs):
            program.append((K.ZERO, *cot))
        for out in node.outs:
            if out in written:
                program.append((K.MOVE, out.size, 0, *self._cotangent(out), 0, *cot, start))
            start += out.size

    def _pull(self, program: list[Any], edge: Edge, written: set[Value]) -> None:
        node, to = edge.node, edge.to
        target = self._cotangent(to)
        k = self._cot_of_rows[id(node)] if isinstance(node, Stack) else self._cotangent(edge.out)
        add = int(to in written or to.is_weight)
        if isinstance(node, Elementwise):
            slope = self.slope(node, edge.k, to)
            assert slope is not False
            one = to.is_weight and self.layout.is_one_number(to)
            if one:
                program.append((K.SUM if slope is None else K.GATHER, node.size, 1, *(slope or NOWHERE), *k, *target))
            elif slope is None:
                program.append((K.COPY, padded(node.size), add, *k, *target))
            else:
                program.append((K.SCALE, padded(node.size), add, *slope, *k, *target))
        elif isinstance(node, Stack):
            if not add:
                program.append((K.ZERO, *target))
            back = self._back_of[id(node), edge.column]
            program.append((K.PRODUCT, node.rows, target[2] // LANES, *k, back, padded(to.size), *target))
        elif isinstance(node, Product):
            fi, fl, sl, sj = _strides(node)
            factor = self._value[node.b if edge.column == 0 else node.a]
            if edge.column == 1:
                strides = (node.k, node.m, node.n, fl, fi, node.n, 1, sl, sj)
            else:
                strides = (node.k, node.n, node.m, sl, sj, 1, node.n, fl, fi)
            program.append((K.CONTRACT, *strides, add, *factor, *k, *target))
        else:
            program.append(self._plain(node, add, k, target, back=True))
        written.add(to)


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
        return self.code.width

    def tape(self, B: int, S: int) -> int:
        """Numbers of the tape of S stages of B rows."""
        return B * S * self.code.tape

    def gradients(self, B: int) -> int:
        """Numbers of what comes back of the parameters."""
        return self.code.gradients + B * self.code.gathered

    def numbers(self, entries: Array, B: int) -> RowsNumbers:
        """The field's numbers for B rows (w), and the ctx and its room; ``entries``: Field.rows_entries."""
        code = self.code
        w = np.zeros(code.matrices + B * code.fixed)
        for at, of, stride in code.filled:
            w[at : at + len(of) * stride].reshape(len(of), stride)[:, : of.shape[1]] = entries[of]
        for at, of, stride in code.tiled:
            rows = w[code.matrices + B * at : code.matrices + B * (at + stride)].reshape(B, stride)
            rows[:], rows[:, : of.size] = 1.0, entries[of]  # 1: nothing is ever divided by what fills up
        room = np.zeros(K.REGISTERS + int(code.plan[K.POINTERS]) + B * code.scratch)
        ctx = np.array([code.plan.ctypes.data, room.ctypes.data], dtype=np.int64)
        found = RowsNumbers(w, ctx, room, self)
        K.call_prepare(K.prepare.address, ctx, B, w)
        return found

    def vector(self, G: Array, B: int) -> Array:
        """The flat gradient (m,) of what came back."""
        code = self.code
        flat = np.zeros(self.m + 1)  # the last for what is not trained
        for places, entries in code.returned:
            np.add.at(flat, entries, G[places])
        for at, stride, entries in code.row_returned:
            start = code.gradients + B * at
            rows = G[start : start + B * stride].reshape(B, stride)[:, : entries.size]
            np.add.at(flat, entries, rows.sum(axis=0))
        return flat[:-1]
