"""A formula in arrays of states, number by number: "dot(r, r)" is r[0]² + r[1]² for two.

A loss, a condition or a reset reads the states of a field, and is compiled as a formula of scalars. So its arrays are
written out: an elementwise formula once for each entry, a product as its sums. The shapes are checked by the reader of
array equations first, with the place in the text. Nothing here is for the field itself, whose arrays stay whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from ctrnn.fields.algebra import Node, add, inside, mul, substituted, symbol
from ctrnn.fields.arrays.reader import ArrayReader, shown
from ctrnn.fields.arrays.values import Builder, Formula, Gathered, Product, Shape, Spread, Sum, Turn, Value
from ctrnn.fields.expressions import read
from ctrnn.names import arrays

#: operations of a formula that is written out
MAX_SIZE = 200_000


def read_scalar(text: str, names: Iterable[str], where: str = "expression") -> Node:
    """A scalar formula in numbers and in whole arrays of them, as a graph of scalars (ctrnn.fields.algebra).

    Raises :class:`~ctrnn.errors.ExpressionError` with the place in the text, and for a formula that is no scalar.

    >>> from ctrnn.fields.printing import text
    >>> text(read_scalar("sum(r**2)/2 - v", ["v", "r[0]", "r[1]"]))
    '1/2*(r[0]**2 + r[1]**2) - v'
    >>> read_scalar("r - v", ["v", "r[0]", "r[1]"], where="loss")
    Traceback (most recent call last):
    ctrnn.errors.ExpressionError: loss: an array (2,) at column 1; allowed: a scalar. Try: sum(...), mean(...), an entry
        r - v
        ^
    """
    return read_entries(text, names, (), where)[0]


def read_entries(text: str, names: Iterable[str], shape: Shape, where: str = "expression") -> list[Node]:
    """The entries of a formula of this shape, row by row; a scalar is the same in all of them.

    Raises :class:`~ctrnn.errors.ExpressionError` with the place in the text, and for a formula of another shape.
    """
    names = tuple(names)
    whole = arrays(names)
    inside_arrays = {name for columns, _ in whole.values() for name in names[columns]}
    if not whole or any(not (name.isidentifier() or name in inside_arrays) for name in names):
        return [read(text, names, where)] * prod(shape)  # a choice of numbers is no array
    builder = Builder()
    named: dict[str, Value] = {}
    entries: dict[Value, list[Node]] = {}
    for array, (columns, size) in whole.items():
        named[array] = builder.leaf(Value(array, size, "state"))
        entries[named[array]] = [symbol(name) for name in names[columns]]
        for i, name in enumerate(names[columns]):
            if name.isidentifier():  # r0 beside r
                named[name] = builder.leaf(Value(name, (), "part", start=i, parent=named[array]))
    for name in names:
        if name.isidentifier() and name not in named:
            named[name] = builder.leaf(Value(name, (), "state"))
            entries[named[name]] = [symbol(name)]
    reader = ArrayReader(text, named, builder, where)
    value = reader.read()
    if value.shape not in ((), shape):
        hint = "" if shape else "sum(...), mean(...), an entry"
        raise reader.error(f"an array {shown(value.shape)}", reader.start, allowed=shown(shape), hint=hint)
    return _Entries(builder, entries, reader).of(value) * (1 if value.shape else prod(shape))


class _Entries:
    """The entries of values, each made once."""

    def __init__(self, builder: Builder, known: Mapping[Value, list[Node]], reader: ArrayReader) -> None:
        self.builder, self.known, self.reader = builder, dict(known), reader
        self.size = 0

    def of(self, value: Value) -> list[Node]:
        """The entries of a value, row by row."""
        if value not in self.known:
            self.known[value] = self._made(value)
        return self.known[value]

    def _counted(self, size: int) -> None:
        self.size += size
        if self.size > MAX_SIZE:
            raise self.reader.error(f"more than {MAX_SIZE} operations", self.reader.start)

    def _made(self, value: Value) -> list[Node]:
        step = value.step
        if value.parent is not None:
            return self.of(value.parent)[value.start : value.start + value.size]
        if isinstance(step, Formula):
            return self._formula(step, value.size)
        if isinstance(step, Product):
            return self._product(step)
        if isinstance(step, Gathered):
            return [add(*each) for each in zip(*map(self.of, step.addends), strict=True)]
        if isinstance(step, Spread):
            return self.of(step.a) * value.size
        if isinstance(step, Turn):
            return list(np.array(self.of(step.a), dtype=object).reshape(step.a.shape).T.ravel())
        assert isinstance(step, Sum), step
        self._counted(step.a.size)
        return [add(*self.of(step.a))]

    def _formula(self, step: Formula, size: int) -> list[Node]:
        self._counted(size * len(inside([step.expression])))
        inputs = {v.name: self.of(v) * (size if v.size != size else 1) for v in step.inputs}
        return [
            substituted([step.expression], {name: nodes[i] for name, nodes in inputs.items()})[0] for i in range(size)
        ]

    def _product(self, step: Product) -> list[Node]:
        m, k, n = step.m, step.k, step.n
        self._counted(m * k * n)
        A = np.array(self.of(step.a), dtype=object).reshape((k, m) if step.a_turned else (m, k))
        B = np.array(self.of(step.b), dtype=object).reshape((n, k) if step.b_turned else (k, n))
        A, B = A.T if step.a_turned else A, B.T if step.b_turned else B
        return [add(*(mul(A[i, l], B[l, j]) for l in range(k))) for i in range(m) for j in range(n)]
