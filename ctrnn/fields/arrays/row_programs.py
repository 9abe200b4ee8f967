"""Array equations for many rows at once: the programs of the way forward, of F alone, and of the way back.

A program is a list of steps for ctrnn.kernels.batch.graph_rows: a loop over numbers, a product with a matrix, a sum, a
copy, with the places that it reads and writes. A *part* of a value is copied to rows of its own; sources of a stack
are multiplied one by one, each with its columns of the weights; the bias is set first. The way back takes the nodes
from last to first, and each edge adds its cotangent (reverse accumulation, Griewank & Walther 2008, chapter 3).
"""

from __future__ import annotations

from typing import Any

from ctrnn.fields.arrays import loops
from ctrnn.fields.arrays.graph import Elementwise, Stack, outs_of
from ctrnn.fields.arrays.programs import Edge, Loop, edges, strides
from ctrnn.fields.arrays.row_places import NOWHERE, Place, Places
from ctrnn.fields.arrays.values import Product, Spread, Turn, Value
from ctrnn.kernels.batch import graph_rows as K
from ctrnn.kernels.batch.tiles import LANES, padded

Step = tuple[int, ...]


class Forward:
    """The steps of a graph's way forward.

    program : with the partial derivatives that the way back reads
    values : F alone: the same steps, of which the loops make no partial derivatives
    prepare : partial derivatives of weights alone, once for all stages
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.program: list[Step] = []
        self.values: list[Step] = []
        self.prepare: list[Step] = []
        graph, program = places.graph, self.program
        for node in graph.nodes:
            begin = len(program)
            if isinstance(node, Elementwise):
                self._elementwise(node)
            elif isinstance(node, Stack):
                self._stack(node)
            elif isinstance(node, Product):
                a, b = places.get(program, node.a), places.get(program, node.b)
                to = places.place(node.out)
                program.append((K.CONTRACT, node.m, node.k, node.n, *strides(node), node.n, 1, 0, *a, *b, *to))
            else:
                program.append(_plain(node, 0, places.get(program, node.a), places.place(node.out), back=False))
            self.values += program[begin:]
            if isinstance(node, Elementwise):
                del self.values[-1]
                self._loop(self.values, Loop(node, list(range(len(node.outs))), []))
        begin = len(program)
        if not places.alone:
            start = 0
            for state in graph.states:
                of = places.place(graph.outs[state])
                program.append((K.MOVE, state.size, 0, *of, 0, K.OUT, 0, places.width, start))
                start += state.size
        self.values += program[begin:]

    def _elementwise(self, node: Elementwise) -> None:
        places, layout = self.places, self.places.layout
        slopes: list[tuple[int, Value]] = []
        fixed: list[tuple[int, Value]] = []
        for k in range(len(node.outs)):
            for v in node.inputs:
                if layout.slope(node, k, v) is False:
                    continue
                if layout.slope(node, k, v) is None:
                    places.slopes[id(node), k, v.name] = None
                    continue
                read = loops.formulas_of(Loop(node, [], [(k, v)]))[1]
                constant = all(u.is_weight for u in read)
                base, room = (K.FIXED, "fixed") if constant else (K.TAPE, "tape")
                places.slopes[id(node), k, v.name] = (base, places.room(room, node.size), padded(node.size))
                (fixed if constant else slopes).append((k, v))
        self._loop(self.program, Loop(node, list(range(len(node.outs))), slopes))
        if fixed:
            self._loop(self.prepare, Loop(node, [], fixed))

    def _loop(self, program: list[Step], loop: Loop) -> None:
        places, node = self.places, loop.node
        address, inputs, _, made = loops.compiled(loop)
        places.keep.append(made)
        operands = [places.get(program, v) for v in inputs]
        operands += [places.place(node.outs[k]) for k in loop.outs]
        for k, v in loop.slopes:
            place = places.slope(node, k, v)
            assert isinstance(place, tuple)
            operands.append(place)
        stride = padded(node.size)
        program.append((K.LOOP, stride, len(operands), address, *(number for place in operands for number in place)))

    def _stack(self, node: Stack) -> None:
        places, program, wide = self.places, self.program, padded(node.rows)
        # the rows of a stack lie together; its values are their parts
        keeps = len(node.outs) == 1 and node.outs[0] in places.read_back
        u = (K.TAPE if keeps else K.SCRATCH, places.room("tape" if keeps else "scratch", node.rows), wide)
        sources = [(s, column, places.get(program, s)) for s, column in node.sources]
        if node.has_one:
            at = places.matrices
            places.matrices += wide
            places.filled.append((at, node.entries[:, node.one][None], wide))
            program.append((K.SET, at, *u))
        else:
            program.append((K.ZERO, *u))
        taped = node.trained > 0
        cot = (K.TAPE if taped else K.SCRATCH, places.room("tape" if taped else "scratch", node.rows), wide)
        places.of_rows[id(node)] = cot
        for s, column, place in sources:
            columns = node.entries[:, column : column + s.size]
            forward, back = places.matrices, places.matrices + s.size * wide
            places.matrices = back + node.rows * padded(s.size)
            places.filled += [(forward, columns.T, wide), (back, columns, padded(s.size))]
            places.back_of[id(node), column] = back
            program.append((K.PRODUCT, s.size, wide // LANES, *place, forward, wide, *u))
            if column < node.trained:
                at = places.returns(columns, padded(s.size))
                places.stacks.append([node.rows, cot[1], wide, place[1], place[2], s.size, at])
        if node.has_one and node.one < node.trained:
            at = places.returns(node.entries[:, node.one][None], wide)
            places.stacks.append([node.rows, cot[1], wide, 0, 0, 0, at])
        start = 0
        for out in node.outs:
            if len(node.outs) == 1:
                places.value_of[out], places.cotangent_of[out] = u, cot
            else:
                program.append((K.MOVE, out.size, 0, *u, start, *places.place(out), 0))
            start += out.size


class Back:
    """The steps of the way back, ``program``: to the states and the weights, and ``to_inputs`` if they are wanted."""

    def __init__(self, places: Places, to_inputs: bool) -> None:
        self.places, self.to_inputs = places, to_inputs
        self.program: list[Step] = []
        #: values that have a cotangent already; the next one is added
        self.written: set[Value] = set()
        #: the useful parts of each value
        self.parts: dict[Value, list[Value]] = {}
        graph, program = places.graph, self.program
        for node in graph.nodes:
            for v in node.inputs:
                if v.parent is not None and self._useful(v) and v not in self.parts.setdefault(v.parent, []):
                    self.parts[v.parent].append(v)
        if not places.alone:
            start = 0
            for state in graph.states:
                to = places.cotangent(graph.outs[state])
                program.append((K.MOVE, state.size, 0, K.K, 0, places.width, start, *to, 0))
                start += state.size
        for node in reversed(graph.nodes):
            self._node(node)
        start = 0
        for state in graph.states:
            self._gather_parts(state)
            if state not in self.written:
                program.append((K.ZERO, *places.cotangent(state)))
            if not places.alone:
                program.append((K.MOVE, state.size, 0, *places.cotangent(state), 0, K.RR, 0, places.width, start))
            start += state.size
        if to_inputs:
            for v in sorted(places.layout.follows_inputs, key=lambda v: v.start):
                self._gather_parts(v)
                if v not in self.written:
                    program.append((K.ZERO, *places.cotangent(v)))
                program.append((K.MOVE, v.size, 0, *places.cotangent(v), 0, K.XB, 0, places.inputs, v.start))

    def _useful(self, v: Value) -> bool:
        """Whether anything wanted follows from the cotangent of a value."""
        owner, layout = v.parent or v, self.places.layout
        wanted = owner in layout.only_states or layout.of_weights(v)
        return wanted or (self.to_inputs and owner in layout.follows_state)

    def _gather_parts(self, owner: Value) -> None:
        """The cotangents of a value's parts, added to its own."""
        places = self.places
        mine = [v for v in self.parts.get(owner, []) if v in self.written]
        if mine and owner not in self.written:
            self.program.append((K.ZERO, *places.cotangent(owner)))
            self.written.add(owner)
        for v in mine:
            self.program.append((K.MOVE, v.size, 1, *places.cotangent(v), 0, *places.cotangent(owner), v.start))

    def _node(self, node: Any) -> None:
        """Back through one node."""
        places, written = self.places, self.written
        for out in outs_of(node):
            self._gather_parts(out)
        if isinstance(node, Stack):
            if not any(out in written for out in node.outs):
                if node.trained:
                    self.program.append((K.ZERO, *places.of_rows[id(node)]))
                return
            self._rows_of(node)
        for edge in edges(places.layout, node):
            comes = isinstance(node, Stack) or edge.out in written or places.is_out(edge.out)
            if self._useful(edge.to) and comes:
                self._pull(edge)

    def _rows_of(self, node: Stack) -> None:
        """u̅ of a stack of several values from theirs."""
        if len(node.outs) == 1:
            return
        start, cot = 0, self.places.of_rows[id(node)]
        if not all(out in self.written for out in node.outs):
            self.program.append((K.ZERO, *cot))
        for out in node.outs:
            if out in self.written:
                self.program.append((K.MOVE, out.size, 0, *self.places.cotangent(out), 0, *cot, start))
            start += out.size

    def _pull(self, edge: Edge) -> None:
        """Add what comes back along one edge."""
        places, program, node, to = self.places, self.program, edge.node, edge.to
        target = places.cotangent(to)
        k = places.of_rows[id(node)] if isinstance(node, Stack) else places.cotangent(edge.out)
        add = int(to in self.written or to.is_weight)
        if isinstance(node, Elementwise):
            slope = places.slope(node, edge.k, to)
            assert slope is not False
            if to.is_weight and places.layout.is_one_number(to):
                program.append((K.SUM if slope is None else K.GATHER, node.size, 1, *(slope or NOWHERE), *k, *target))
            elif slope is None:
                program.append((K.COPY, padded(node.size), add, *k, *target))
            else:
                program.append((K.SCALE, padded(node.size), add, *slope, *k, *target))
        elif isinstance(node, Stack):
            if not add:
                program.append((K.ZERO, *target))
            back = places.back_of[id(node), edge.column]
            program.append((K.PRODUCT, node.rows, target[2] // LANES, *k, back, padded(to.size), *target))
        elif isinstance(node, Product):
            fi, fl, sl, sj = strides(node)
            factor = places.value_of[node.b if edge.column == 0 else node.a]
            if edge.column == 1:
                sizes = (node.k, node.m, node.n, fl, fi, node.n, 1, sl, sj)
            else:
                sizes = (node.k, node.n, node.m, sl, sj, 1, node.n, fl, fi)
            program.append((K.CONTRACT, *sizes, add, *factor, *k, *target))
        else:
            program.append(_plain(node, add, k, target, back=True))
        self.written.add(to)


def _plain(node: Any, add: int, k: Place, to: Place, back: bool) -> Step:
    """The step of a node without numbers of its own: a transpose, a sum, or what spreads a number."""
    if isinstance(node, Turn):
        rows, columns = node.out.shape if back else node.a.shape
        return (K.TURN, rows, columns, add, *k, *to)
    if isinstance(node, Spread) != back:
        return (K.SPREAD, to[2], add, *k, *to)
    size = node.out.size if isinstance(node, Spread) else node.a.size
    return (K.SUM, size, add, *NOWHERE, *k, *to)
