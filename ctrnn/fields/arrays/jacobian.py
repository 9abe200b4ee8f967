"""The program of J = ∂F/∂r: the tangents of all n states at once, each value's as simple as it is.

    diagonals   at columns c, c + 1, …: d (a partial derivative), or 1
    rows        W diag(d) at some columns, with W the rows of a stack, not multiplied out
    whole       a matrix (size, n) in M

An elementwise node of diagonals gives diagonals (products of partial derivatives); a stack of diagonals gives rows; the
rest is whole. For a rate network J then costs n² and not n³ flops. With all products held (``products=False``) only
diagonals remain: what a unit does to itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ctrnn.fields.arrays.graph import Elementwise, Stack, outs_of
from ctrnn.fields.arrays.layout import Layout, Ref
from ctrnn.fields.arrays.programs import Program, _left, _plain, _right
from ctrnn.fields.arrays.values import Product, Value
from ctrnn.kernels import graph_steps as G

#: a pass over numbers, in flops of a matrix product, for each number
PASS = 12


class Rows(NamedTuple):
    """W diag(e) at a column of J: ``columns`` columns from the ``first`` on of rows of W, ``at`` their offset."""

    at: int
    width: int
    listed: int  # the address of the sources of rows that are lists, or 0
    first: int
    columns: int
    e: Ref | None
    column: int

    def part(self, start: int) -> Rows:
        """Those from a row on."""
        skipped = start * self.width
        return self._replace(at=self.at + skipped, listed=self.listed + 8 * skipped if self.listed else 0)


@dataclass
class Tangent:
    """∂ value/∂ r."""

    diagonals: list[tuple[int, Ref | None]] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    whole: int | None = None

    @property
    def is_diagonal(self) -> bool:
        """Whether only the diagonal can be other than 0."""
        return not self.rows and self.whole is None


class Jacobian:
    """The program, how many products of partial derivatives and rows of M it needs, and what it costs in flops."""

    def __init__(self, layout: Layout, products: bool = True) -> None:
        self.layout, self.products = layout, products
        self.n = layout.n
        self.program: Program = []
        self.matrices = self.cost = 0
        #: products of partial derivatives lie behind these
        self.partials = layout.partials
        self.tangent: dict[Value, Tangent] = {}
        for node in layout.graph.nodes:
            if isinstance(node, Elementwise):
                for k, out in enumerate(node.outs):
                    if layout.ref(out)[0] == G.OUT or layout.of_state(out):
                        self._elementwise(node, k, out)
            elif not products or not any(layout.of_state(v) for v in outs_of(node)):
                for out in outs_of(node):
                    self.tangent[out] = Tangent()
            elif isinstance(node, Stack):
                self._stack(node)
            else:
                self._other(node)

    def _of(self, v: Value) -> Tangent:
        if v.kind == "state":
            return Tangent([(v.start, None)])
        if v.parent is not None:
            return self._part(self._of(v.parent), v.start)
        return self.tangent.get(v, Tangent())

    @staticmethod
    def _part(t: Tangent, start: int) -> Tangent:
        return Tangent(
            [(column + start, None if d is None else (d[0], d[1] + start)) for column, d in t.diagonals],
            [rows.part(start) for rows in t.rows],
            None if t.whole is None else t.whole + start,
        )

    def _put(self, *step: Any) -> None:
        self.program.append(step)

    def _matrix(self, size: int) -> int:
        self.matrices += size
        return self.matrices - size

    def _times(self, size: int, d: Ref, e: Ref, to: Ref | None = None) -> Ref:
        """d e, or added to ``to``."""
        add = int(to is not None)
        if to is None:
            to = (G.D, self.partials)
            self.partials += size
        self._put(G.TIMES, size, add, *d, *e, *to)
        return to

    def _elementwise(self, node: Elementwise, k: int, out: Value) -> None:
        layout, size = self.layout, node.size
        terms = []
        for v in node.inputs:
            slope = layout.slope(node, k, v)
            if slope is not False and layout.of_state(v):
                terms.append((self._of(v), slope))
        is_out = layout.ref(out)[0] == G.OUT
        if not is_out and all(t.is_diagonal for t, _ in terms):
            by_column: dict[int, list[tuple[Ref | None, Any]]] = {}
            for t, slope in terms:
                for column, e in t.diagonals:
                    by_column.setdefault(column, []).append((slope, e))
            self.tangent[out] = Tangent([(c, self._sum(size, pairs)) for c, pairs in by_column.items()])
            return
        to = (G.RR, layout.ref(out)[1]) if is_out else (G.M, self._matrix(size))
        add = 0
        for t, slope in terms:
            d = (G.NONE, 0) if slope is None else slope
            for rows in t.rows:
                self._rows(size, rows, add, d, to)
                add = 1
            if t.whole is not None:
                if slope is None:
                    self._put(G.COPY, size, add, G.M, t.whole, *to)
                else:
                    self._put(G.SCALE, size, add, *slope, G.M, t.whole, *to)
                add = 1
                self.cost += PASS * size * self.n
        if not add:
            self._put(G.ZERO, size, *to)
        for t, slope in terms:
            for column, e in t.diagonals:
                entry = self._sum(size, [(slope, e)])
                self._put(G.DIAGONAL, size, *((G.NONE, 0) if entry is None else entry), *to, column)
        if not is_out:
            self.tangent[out] = Tangent(whole=to[1])

    def _sum(self, size: int, pairs: list[tuple[Ref | None, Ref | None]]) -> Ref | None:
        """Σ d e, where None is 1."""
        if len(pairs) == 1 and None in pairs[0]:
            d, e = pairs[0]
            return d if e is None else e
        ones: Ref | None = None
        total: Ref | None = None
        for d, e in pairs:
            if d is None or e is None:
                if ones is None:
                    ones = (G.D, self.partials)
                    self.partials += size
                    self._put(G.ONE, size, *ones)
                d, e = (ones if d is None else d), (ones if e is None else e)
            total = self._times(size, d, e, total)
        return total

    def _rows(self, size: int, rows: Rows, add: int, d: Ref, to: Ref) -> None:
        """to[:, column:] (+)= diag(d) W diag(e)."""
        right = (G.NONE, 0) if rows.e is None else rows.e
        operands = (*d, G.W, rows.at, *right, *to, rows.column)
        if rows.listed:
            last = rows.first + rows.columns
            self._put(G.ROWS_LISTED, size, rows.width, rows.first, last, add, rows.listed, *operands)
        else:
            self._put(G.ROWS, size, rows.width, rows.first, rows.columns, add, *operands)
        self.cost += PASS * size * (self.n if rows.listed else rows.columns)

    def _stack(self, node: Stack) -> None:
        layout = self.layout
        at, width, index = layout.rows_at[id(node)], layout.width(node), layout.index_at(node)
        sources = [(self._of(s), s, column) for s, column in node.sources if layout.of_state(s)]
        if all(t.is_diagonal for t, _, _ in sources):
            row = 0
            for out in node.outs:
                whole = [
                    Rows(at, width, index, first, s.size, e, column)
                    for t, s, first in sources
                    for column, e in t.diagonals
                ]
                self.tangent[out] = Tangent(rows=[rows.part(row) for rows in whole])
                row += out.size
            return
        to, add = (G.M, self._matrix(node.rows)), 0
        for t, s, first in sources:
            if not t.is_diagonal:
                of = self._whole(t, s.size, diagonals=False)
                if index:
                    last = first + s.size
                    self._put(G.TIMES_LISTED, node.rows, width, first, last, add, index, G.W, at, G.M, of, *to)
                else:
                    strides = (width, 1, 1, 1, 1, 1)
                    self._put(G.CONTRACT, node.rows, s.size, 1, *strides, add, G.W, at + first, G.M, of, *to)
                self.cost += 2 * node.rows * s.size * self.n
                add = 1
            for column, e in t.diagonals:
                self._rows(node.rows, Rows(at, width, index, first, s.size, e, column), add, (G.NONE, 0), to)
                add = 1
        row = 0
        for out in node.outs:
            self.tangent[out] = Tangent(whole=to[1] + row)
            row += out.size

    def _whole(self, t: Tangent, size: int, diagonals: bool = True) -> int:
        """A tangent as a matrix (size, n)."""
        if t.whole is not None and not (t.rows or (diagonals and t.diagonals)):
            return t.whole
        to, add = (G.M, self._matrix(size)), 0
        for rows in t.rows:
            self._rows(size, rows, add, (G.NONE, 0), to)
            add = 1
        if t.whole is not None:
            self._put(G.COPY, size, add, G.M, t.whole, *to)
            add = 1
        if not add:
            self._put(G.ZERO, size, *to)
        for column, d in t.diagonals if diagonals else ():
            self._put(G.DIAGONAL, size, *((G.NONE, 0) if d is None else d), *to, column)
        self.cost += PASS * size * self.n
        return to[1]

    def _other(self, node: Any) -> None:
        """A product of values, a sum, a spread or a transpose: of whole tangents."""
        layout, out = self.layout, node.out
        to, add = (G.M, self._matrix(out.size)), 0
        if isinstance(node, Product):
            for carried, factor, write in ((node.b, node.a, _left), (node.a, node.b, _right)):
                if layout.of_state(carried):
                    of = self._whole(self._of(carried), carried.size)
                    self.program.append(write(node, add, layout.ref(factor), (G.M, of), to))
                    self.cost += 2 * node.m * node.k * node.n * self.n
                    add = 1
        else:
            of = self._whole(self._of(node.a), node.a.size)
            self.program.append(_plain(node, 0, (G.M, of), to, back=False))
            self.cost += PASS * out.size * self.n
        self.tangent[out] = Tangent(whole=to[1])
