"""What the interpreter does for each slot, as programs of its steps (ctrnn.kernels.graph_steps), derived from a graph.

values       F, and the partial derivatives that the way back needs; nothing that nobody asks for
back         cotangents from the outputs to the states, or towards the trained weights
tangents     δ of every value along (δr, δw)
back of δ    each step of ``back`` is bilinear in a factor (a partial derivative, weights, a value) and a cotangent: its
             δ is the same step twice, with δ of the one and of the other
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ctrnn.fields.algebra import names_in
from ctrnn.fields.arrays.graph import Elementwise, Node, Stack, outs_of
from ctrnn.fields.arrays.layout import Layout, Ref
from ctrnn.fields.arrays.values import Product, Spread, Turn, Value
from ctrnn.kernels import graph_steps as G


@dataclass
class Loop:
    """A compiled loop of an elementwise node: these of its outputs, then these of its partial derivatives.

    Or δ of the latter.
    """

    node: Elementwise
    outs: list[int]
    slopes: list[tuple[int, Value]]
    tangent: bool = False


Step = tuple[Any, ...]
Program = list[Step | Loop]


@dataclass(frozen=True)
class Edge:
    """How the cotangent of one output of a node reaches one of its inputs."""

    node: Node
    out: Value
    k: int  # which output
    to: Value
    column: int = 0  # of a stack: where the source begins; of a product: 0 for a, 1 for b


def edges(layout: Layout, node: Node) -> list[Edge]:
    """The pairs of an output of a node and a value that it depends on."""
    if isinstance(node, Elementwise):
        return [
            Edge(node, out, k, v)
            for k, out in enumerate(node.outs)
            for v in node.inputs
            if layout.slope(node, k, v) is not False
        ]
    if isinstance(node, Stack):
        return [Edge(node, node.outs[0], 0, s, column) for s, column in node.sources]
    if isinstance(node, Product):
        return [Edge(node, node.out, 0, node.a, 0), Edge(node, node.out, 0, node.b, 1)]
    return [Edge(node, node.out, 0, node.a)]


class Writer:
    """Writes the programs of one graph."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.graph = layout, layout.graph
        self.parents = {v.parent for node in self.graph.nodes for v in node.inputs if v.parent is not None}

    # --- values

    def values(self, slopes: Callable[[Elementwise, int, Value], bool] | None, stacks: bool = False) -> Program:
        """Values; with ``slopes`` (which are wanted) the outputs themselves are not.

        ``stacks``: the sources of trained stacks are wanted too.
        """
        layout, want, loops = self.layout, set(), {}
        live: set[int] = set()

        def need(v: Value) -> None:
            want.add(v.parent or v)

        for node in reversed(self.graph.nodes):
            if isinstance(node, Elementwise):
                outs = [k for k, v in enumerate(node.outs) if (slopes is None if self._is_out(v) else v in want)]
                wanted = [
                    (k, v)
                    for k in range(len(node.outs))
                    for v in node.inputs
                    if slopes is not None and layout.slope(node, k, v) and slopes(node, k, v)
                ]
                loops[id(node)] = Loop(node, outs, wanted)
                for v in self._read(loops[id(node)]):
                    need(v)
                continue
            used = any(v in want for v in outs_of(node))
            if used:
                live.add(id(node))
            sources = isinstance(node, Stack) and stacks and node.trained > 0
            product = isinstance(node, Product) and slopes is not None
            if used or sources or product:
                for v in node.inputs:
                    need(v)
        program: Program = []
        for node in self.graph.nodes:
            if isinstance(node, Elementwise):
                loop = loops[id(node)]
                if loop.outs or loop.slopes:
                    program.append(loop)
            elif isinstance(node, Stack):
                if id(node) in live or (stacks and node.trained):
                    self._sources(program, node, ones=stacks or not layout.bias_is_last(node))
                if id(node) in live:
                    self._rows(program, node, 0, G.W, layout.sources_at[id(node)], layout.ref(node.outs[0]))
            elif id(node) in live:
                self._forward(program, node, self.layout.ref)
        return program

    def _is_out(self, v: Value) -> bool:
        return self.layout.ref(v)[0] == G.OUT

    def _read(self, loop: Loop) -> list[Value]:
        """The inputs that a loop reads."""
        node = loop.node
        used = names_in([*(node.expressions[k] for k in loop.outs), *(node.partial(k, v) for k, v in loop.slopes)])
        return [v for v in node.inputs if v.name in used]

    def _sources(self, program: Program, node: Stack, ones: bool) -> None:
        """[s; 1] of a stack, where it is not made in place; without ``ones`` s alone."""
        base, at = self.layout.sources_at[id(node)]
        if len(node.sources) == 1 and not node.has_one:
            return
        for source, column in node.sources:
            if self.layout.ref(source) != (base, at + column):
                program.append((G.COPY, source.size, 0, *self.layout.ref(source), base, at + column))
        if node.has_one and ones:
            program.append((G.ONE, 1, base, at + node.one))

    def _rows(self, program: Program, node: Stack, add: int, weights: int, s: Ref, u: Ref, one: int = 1) -> None:
        """u (+)= Ŵ [s; one]."""
        layout = self.layout
        at, index, width = layout.rows_at[id(node)], layout.index_at(node), layout.width(node)
        if index:
            program.append((G.LISTED, node.rows, width, add, index, weights, at, *s, *u))
        else:
            last = layout.bias_is_last(node)
            program.append((G.MATVEC, node.rows, width, node.width - last, last and one, add, weights, at, *s, *u))

    def _forward(self, program: Program, node: Node, ref: Callable[[Value], Ref]) -> None:
        """A product, sum, spread or transpose of values."""
        if isinstance(node, Product):
            if node.n == 1 and not node.a_turned:
                sizes = node.m, node.k, node.k, 0, 0
                program.append((G.MATVEC, *sizes, *ref(node.a), *ref(node.b), *ref(node.out)))
            else:
                program.append(_left(node, 0, ref(node.a), ref(node.b), ref(node.out)))
        else:
            program.append(_plain(node, 0, ref(node.a), ref(node.out), back=False))  # type: ignore[union-attr]

    # --- back

    def back(self, towards: str) -> Program:
        """Cotangents towards the "states" or the "weights"."""
        layout = self.layout
        program: Program = []
        useful = layout.of_state if towards == "states" else layout.of_weights
        written = self._clear(program, useful, layout.cotangent)
        for node in reversed(self.graph.nodes):
            if isinstance(node, Stack):
                if not any(out in written for out in node.outs):
                    continue
                self._fill(program, node, written, layout.cotangent)
            for edge in edges(layout, node):
                if not useful(edge.to) or not self._is_written(edge.out, node, written):
                    continue
                if towards == "weights" and self._only_terms(edge.to):
                    continue
                self._pull(program, edge, False, layout.cotangent(edge.out), edge.to, layout.cotangent, written)
        if towards == "states":
            for state in self.graph.states:
                if state not in written:
                    program.append((G.ZERO, state.size, *layout.cotangent(state)))
        return program

    def _only_terms(self, v: Value) -> bool:
        """Whether the cotangent of a value is only made where a stack's panels need it."""
        for node in self.graph.nodes:
            if isinstance(node, Stack) and v in node.outs:
                return not self.layout.keeps_cotangent(node)
        return False

    def _clear(self, program: Program, useful: Callable[[Value], bool], cot: Callable[[Value], Ref]) -> set[Value]:
        """What has parts begins at 0."""
        written: set[Value] = set()
        for parent in sorted((p for p in self.parents if p and useful(p)), key=lambda p: p.name):
            if parent.kind in ("state", "made") and not parent.is_weight:
                program.append((G.ZERO, parent.size, *cot(parent)))
                written.add(parent)
        return written

    def _fill(self, program: Program, node: Stack, written: set[Value], cot: Callable[[Value], Ref]) -> None:
        for out in node.outs:
            if out not in written:
                program.append((G.ZERO, out.size, *cot(out)))
                written.add(out)

    def _is_written(self, out: Value, node: Node, written: set[Value]) -> bool:
        return self._is_out(out) or out in written or isinstance(node, Stack)

    def _pull(
        self, program: Program, edge: Edge, delta: bool, k: Ref, to: Value, cot: Callable[[Value], Ref],
        written: set[Value],
    ) -> None:  # fmt: skip
        """One edge, with its factor or with δ of it."""
        layout, node = self.layout, edge.node
        target = cot(to)
        owner = to.parent or to
        add = int(owner in written or to.is_weight)
        if isinstance(node, Elementwise):
            slope = layout.slope(node, edge.k, to)
            if delta and not slope:
                return
            assert slope is not False
            step: Step
            if slope is not None and delta:
                slope = (G.DD, slope[1])
            if to.is_weight and layout.is_one_number(to):
                step = (
                    (G.SUM, node.size, 1, *k, *target)
                    if slope is None
                    else (G.GATHER, node.size, 1, *slope, *k, *target)
                )
            elif slope is None:
                step = (G.COPY, node.size, add, *k, *target)
            else:
                step = (G.SCALE, node.size, add, *slope, *k, *target)
        elif isinstance(node, Stack):
            if delta and not node.trained:
                return
            weights = G.DW if delta else G.W
            at, index, width = layout.rows_at[id(node)], layout.index_at(node), layout.width(node)
            first, last = edge.column, edge.column + to.size
            if index:
                step = (G.BACK_LISTED, node.rows, width, first, last, add, index, weights, at, *k, *target)
            else:
                step = (G.BACK, node.rows, width, first, to.size, add, weights, at, *k, *target)
        elif isinstance(node, Product):
            other = node.b if edge.column == 0 else node.a
            factor = layout.tangent(other) if delta else layout.ref(other)
            if factor is None:
                return
            step = (
                _to_left(node, add, factor, k, target) if edge.column == 0 else _to_right(node, add, factor, k, target)
            )
        else:
            if delta:
                return
            step = _plain(node, add, k, target, back=True)
        program.append(step)
        written.add(owner)

    # --- tangents, and second order

    def tangents(self) -> Program:
        """δ of all values along (DR, DW), the values and all partial derivatives being there."""
        layout = self.layout
        program: Program = []
        for node in self.graph.nodes:
            if isinstance(node, Elementwise):
                for k, out in enumerate(node.outs):
                    to, add = layout.tangent(out), 0
                    if to is None:
                        if self._is_out(out):
                            program.append((G.ZERO, out.size, *layout.ref(out)))
                        continue
                    for v in node.inputs:
                        slope, of = layout.slope(node, k, v), layout.tangent(v)
                        if slope is False or of is None:
                            continue
                        if slope is None:
                            program.append((G.COPY, node.size, add, *of, *to))
                        else:
                            program.append((G.SCALE, node.size, add, *slope, *of, *to))  # type: ignore[misc]
                        add = 1
                    if not add:
                        program.append((G.ZERO, out.size, *to))
            elif isinstance(node, Stack):
                self._tangent_of_stack(program, node)
            elif (to := layout.tangent(outs_of(node)[0])) is None:
                continue
            elif isinstance(node, Product):
                add = 0
                if (b := layout.tangent(node.b)) is not None:
                    program.append(_left(node, add, layout.ref(node.a), b, to))
                    add = 1
                if (a := layout.tangent(node.a)) is not None:
                    program.append(_right(node, add, layout.ref(node.b), a, to))
            else:
                a = layout.tangent(node.a)
                assert a is not None
                program.append(_plain(node, 0, a, to, back=False))
        return program

    def _tangent_of_stack(self, program: Program, node: Stack) -> None:
        layout = self.layout
        if layout.tangent(node.outs[0]) is None:
            return
        u = (G.DV, layout.ref(node.outs[0])[1])
        base, at = layout.sources_at[id(node)]
        if len(node.sources) == 1 and not node.has_one:
            ds = layout.tangent(node.sources[0][0])
        else:
            ds = (G.DV, at)
            for source, column in node.sources:
                of = layout.tangent(source)
                if of is None:
                    program.append((G.ZERO, source.size, G.DV, at + column))
                elif of != (G.DV, at + column):
                    program.append((G.COPY, source.size, 0, *of, G.DV, at + column))
            if node.has_one:
                program.append((G.ZERO, 1, G.DV, at + node.one))
        add = 0
        if node.trained:
            self._rows(program, node, 0, G.DW, (base, at), u)
            add = 1
        if ds is not None:
            self._rows(program, node, add, G.W, ds, u, one=0)

    def slopes_along(self) -> Program:
        """δ of all partial derivatives."""
        layout = self.layout
        program: Program = []
        for node in self.graph.nodes:
            if isinstance(node, Elementwise):
                wanted = [(k, v) for k in range(len(node.outs)) for v in node.inputs if layout.slope(node, k, v)]
                if wanted:
                    program.append(Loop(node, [], wanted, tangent=True))
        return program

    def back_twice(self) -> tuple[Program, Program]:
        """Cotangents of all values, and δ of them with the cotangent of the outputs held.

        To the states in RR, to the weights in DP.
        """
        layout = self.layout

        def useful(v: Value) -> bool:
            return layout.of_state(v) or layout.of_weights(v)

        def delta(v: Value) -> Ref:
            base, offset = layout.cotangent(v)
            return {G.C: G.DC, G.P: G.DP}.get(base, base), offset

        first: Program = []
        second: Program = []
        written = self._clear(first, useful, layout.cotangent)
        first[:] = [step for step in first if step[-2] != G.RR]  # type: ignore[index]
        moved = self._clear(second, useful, delta)
        for node in reversed(self.graph.nodes):
            if isinstance(node, Stack):
                self._fill(first, node, written, layout.cotangent)
                self._fill(second, node, moved, delta)
            for edge in edges(layout, node):
                if not useful(edge.to) or not self._is_written(edge.out, node, written):
                    continue
                leaf = edge.to.is_weight or (edge.to.parent or edge.to).kind == "state"
                if not leaf:
                    self._pull(first, edge, False, layout.cotangent(edge.out), edge.to, layout.cotangent, written)
                if not self._is_out(edge.out) and (edge.out in moved or isinstance(node, Stack)):
                    self._pull(second, edge, False, delta(edge.out), edge.to, delta, moved)
                self._pull(second, edge, True, layout.cotangent(edge.out), edge.to, delta, moved)
        for state in self.graph.states:
            if state not in moved:
                second.append((G.ZERO, state.size, *layout.cotangent(state)))
        return first, second


# --- products: op(A) (m, k) at f_i, f_l; op(B) (k, n) at s_l, s_j; C (m, n)


def strides(node: Product) -> tuple[int, int, int, int]:
    """f_i, f_l, s_l, s_j of a product."""
    a = (1, node.m) if node.a_turned else (node.k, 1)
    b = (1, node.k) if node.b_turned else (node.n, 1)
    return *a, *b


def _contract(
    I: int, L: int, J: int, f: tuple[int, int], s: tuple[int, int], t: tuple[int, int], *rest: Any
) -> Step:  # fmt: skip
    # a row or a column has a stride that nothing is ever multiplied by; BLAS wants it to be long enough
    if f[1] == 1:
        f = (max(f[0], L), 1)
    elif f[0] == 1:
        f = (1, max(f[1], I))
    t = (max(t[0], J), t[1]) if I == 1 else t
    add, factor, of, to = rest
    return (G.CONTRACT, I, L, J, *f, *s, *t, add, *factor, *of, *to)


def _left(node: Product, add: int, a: Ref, b: Ref, to: Ref) -> Step:
    """C (+)= op(A) op(B), B carried."""
    fi, fl, sl, sj = strides(node)
    return _contract(node.m, node.k, node.n, (fi, fl), (sl, sj), (node.n, 1), add, a, b, to)


def _right(node: Product, add: int, b: Ref, a: Ref, to: Ref) -> Step:
    """C (+)= op(A) op(B), A carried."""
    fi, fl, sl, sj = strides(node)
    return _contract(node.n, node.k, node.m, (sj, sl), (fl, fi), (1, node.n), add, b, a, to)


def _to_right(node: Product, add: int, a: Ref, k: Ref, to: Ref) -> Step:
    """B̄ (+)= op(A)ᵀ C̄."""
    fi, fl, sl, sj = strides(node)
    return _contract(node.k, node.m, node.n, (fl, fi), (node.n, 1), (sl, sj), add, a, k, to)


def _to_left(node: Product, add: int, b: Ref, k: Ref, to: Ref) -> Step:
    """Ā (+)= C̄ op(B)ᵀ."""
    fi, fl, sl, sj = strides(node)
    return _contract(node.k, node.n, node.m, (sl, sj), (1, node.n), (fl, fi), add, b, k, to)


def _plain(node: Any, add: int, k: Ref, to: Ref, back: bool) -> Step:
    """A sum, a spread or a transpose, or its transpose."""
    if isinstance(node, Turn):
        rows, columns = node.out.shape if back else node.a.shape
        return (G.TURN, rows, columns, add, *k, *to)
    spreads = isinstance(node, Spread) != back
    size = node.out.size if isinstance(node, Spread) else node.a.size
    return (G.SPREAD if spreads else G.SUM, size, add, *k, *to)
