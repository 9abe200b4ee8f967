"""The parts of a system of array equations that know nothing of each other.

Which states and which parameters each entry of a value is made from, as sparse matrices of booleans carried through the
graph; the parts are the connected components of J's. A parameter that acts on several parts joins nothing, but then its
gradient belongs to none of them, and there are no parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.fields.algebra import names_in
from ctrnn.fields.arrays.graph import Elementwise, Graph, Stack
from ctrnn.fields.arrays.values import Product, Spread, Turn, Value
from ctrnn.fields.base import Array


class Structure:
    """What each entry of each value is made from; ``number``: the parameter of each entry of weights, or −1.

    exists : tells of entries of weights which can be other than 0
    """

    def __init__(self, graph: Graph, n: int, m: int, number: Array, exists: Array) -> None:
        from scipy import sparse

        self.graph, self.n, self.m, self.number, self.exists = graph, n, m, number, exists
        self._sparse = sparse
        #: (size, n) and (size, m)
        self._made: dict[Value, tuple[Any, Any]] = {}
        for node in graph.nodes:
            self._node(node)

    def of_states(self) -> tuple[Any, Any]:
        """J (n, n) and F_w (n, m)."""
        found = [self._of(self.graph.outs[state]) for state in self.graph.states]
        stack = self._sparse.vstack
        return stack([J for J, _ in found], format="csr"), stack([w for _, w in found], format="csr")

    def _ones(self, rows: Array, columns: Array, shape: tuple[int, int]) -> Any:
        # of float32, sums of ones never come to 0
        return self._sparse.csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)

    def _of(self, v: Value) -> tuple[Any, Any]:
        if v in self._made:
            return self._made[v]
        if v.parent is not None:
            J, w = self._of(v.parent)
            found = J[v.start : v.start + v.size], w[v.start : v.start + v.size]
        else:
            rows = np.arange(v.size if v.kind == "state" else 0)
            J = self._ones(rows, v.start + rows, (v.size, self.n))
            entries = self.number[v.entries] if v.entries is not None else np.full(v.size, -1)
            trained = np.flatnonzero(entries >= 0)
            found = J, self._ones(trained, entries[trained], (v.size, self.m))
        self._made[v] = found
        return found

    def _sum(self, size: int, terms: list[tuple[Any, Value]]) -> tuple[Any, Any]:
        """Σ select · value of both, as booleans."""
        J, w = (self._sparse.csr_array((size, k), dtype=np.float32) for k in (self.n, self.m))
        for select, v in terms:
            of_states, of_weights = self._of(v)
            J, w = J + select @ of_states, w + select @ of_weights
        for found in (J, w):
            found.sum_duplicates()
            found.data[:] = found.data != 0
        return J, w

    def _eye(self, size: int) -> Any:
        return self._ones(np.arange(size), np.arange(size), (size, size))

    def _node(self, node: Any) -> None:
        if isinstance(node, Elementwise):
            for out, expression in zip(node.outs, node.expressions, strict=True):
                used = names_in([expression])
                terms = [(self._eye(node.size), v) for v in node.inputs if v.name in used]
                self._made[out] = self._sum(node.size, terms)
        elif isinstance(node, Stack):
            terms = []
            for s, column in node.sources:
                rows, columns = np.nonzero(self.exists[node.entries[:, column : column + s.size]])
                terms.append((self._ones(rows, columns, (node.rows, s.size)), s))
            J, w = self._sum(node.rows, terms)
            numbers = self.number[node.entries]
            rows, columns = np.nonzero(numbers >= 0)
            w = w + self._ones(rows, numbers[rows, columns], (node.rows, self.m))
            start = 0
            for out in node.outs:
                self._made[out] = J[start : start + out.size], w[start : start + out.size]
                start += out.size
        elif isinstance(node, Product):
            i, l, j = (a.ravel() for a in np.indices((node.m, node.k, node.n)))
            a = l * node.m + i if node.a_turned else i * node.k + l
            b = j * node.k + l if node.b_turned else l * node.n + j
            select = [
                (self._ones(i * node.n + j, at, (node.out.size, v.size)), v) for at, v in ((a, node.a), (b, node.b))
            ]
            self._made[node.out] = self._sum(node.out.size, select)
        else:
            size, inner = node.out.size, node.a.size
            if isinstance(node, Turn):
                at = np.arange(size).reshape(node.a.shape[::-1])
                select = self._ones(at.T.ravel(), np.arange(size), (size, size))
            else:
                rows = np.arange(size) if isinstance(node, Spread) else np.zeros(inner, dtype=int)
                columns = np.zeros(size, dtype=int) if isinstance(node, Spread) else np.arange(inner)
                select = self._ones(rows, columns, (size, inner))
            self._made[node.out] = self._sum(size, [(select, node.a)])

    def parts(self) -> tuple[Array, Array] | None:
        """The part of each state (n,) and of each parameter (m,); None where all is one."""
        from scipy.sparse.csgraph import connected_components

        J, by_w = self.of_states()
        count, part = connected_components(J, directed=False)
        if count == 1:
            return None
        of_parameter = np.zeros(self.m, dtype=np.int64)
        rows, columns = by_w.nonzero()
        of_parameter[columns] = part[rows]
        if (of_parameter[columns] != part[rows]).any():
            return None
        return part.astype(np.int64), of_parameter
