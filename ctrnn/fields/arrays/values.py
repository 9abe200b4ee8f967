"""What a system of array equations is made of: values, and the steps that make one from others.

A value is a scalar (), a vector (n,) or a matrix (n, m). It is a state, an input, time, a weight (entries of parameters
and constants), a part of another value (a slice), or what a step makes:

    Formula     elementwise: a formula (ctrnn.fields.algebra) in the symbols of values of its shape and of scalars
    Product     op(A) op(B), (m, k) (k, n) -> (m, n), op transposing or not; vectors are columns or rows. Also dot,
                outer
    Affine      Σ_j A_j s_j + b with weights A_j and b: what products and a bias in one sum become
    Sum, Spread, Turn     a vector's sum; a scalar in every entry; a matrix transposed

A step of the same kind on the same values is made once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ctrnn.fields.algebra import Node, names_in, symbol

Shape = tuple[int, ...]


@dataclass(eq=False)
class Value:
    """An array. ``kind``: "state", "input", "time", "weight", "part" or "made".

    start : of a state or an input, its first number among all of them; of a part, its first number in ``parent``
    entries : of a weight, where each number lies among those of all parameters, all constants, and one 0
    """

    name: str
    shape: Shape
    kind: str
    start: int = 0
    parent: Value | None = None
    entries: np.ndarray | None = None
    step: Any = None

    @property
    def size(self) -> int:
        """Numbers that it holds."""
        return prod(self.shape)

    @property
    def is_weight(self) -> bool:
        """Whether it is an array of parameters."""
        return self.kind == "weight"

    def __repr__(self) -> str:
        return f"{self.name}{list(self.shape)}"


@dataclass(eq=False)
class Formula:
    """A value that is a scalar formula of others, entry by entry."""

    out: Value
    expression: Node
    inputs: tuple[Value, ...]


@dataclass(eq=False)
class Product:
    """out (m, n) = op(a) (m, k) op(b) (k, n)."""

    out: Value
    a: Value
    a_turned: bool
    b: Value
    b_turned: bool
    m: int
    k: int
    n: int

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values that it reads."""
        return (self.a, self.b)

    @property
    def is_affine(self) -> bool:
        """Whether it is a matrix of weights times a vector that is none, which an Affine takes over."""
        return self.a.is_weight and len(self.a.shape) == 2 and self.n == 1 and not self.b.is_weight


@dataclass(eq=False)
class Affine:
    """out = Σ_j A_j s_j + Σ b; ``terms``: pairs (A_j, s_j), ``biases``: weights."""

    out: Value
    terms: tuple[tuple[Value, Value], ...]
    biases: tuple[Value, ...]

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values that it reads."""
        return tuple(s for _, s in self.terms)


@dataclass(eq=False)
class Sum:
    """The sum of all entries."""

    out: Value
    a: Value

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values that it reads."""
        return (self.a,)


class Spread(Sum):
    """A scalar in every entry of ``out``."""


class Turn(Sum):
    """The transpose of a matrix."""


@dataclass(eq=False)
class Gathered:
    """A sum of products and biases as it stands in a text, before it is known which of them others use too.

    ``addends`` in order.
    """

    out: Value
    addends: tuple[Value, ...]

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values that it reads."""
        return self.addends


@dataclass
class Builder:
    """Makes values and steps, each once; ``symbol`` and ``of`` lead from a value to its symbol in formulas and back."""

    made: dict[Any, Value] = field(default_factory=dict)
    by_name: dict[str, Value] = field(default_factory=dict)
    count: int = 0

    def leaf(self, value: Value) -> Value:
        """Make a value known by its name."""
        self.by_name[value.name] = value
        return value

    def symbol(self, value: Value) -> Node:
        """The symbol that stands for a value in formulas."""
        return symbol(value.name)

    def of(self, symbol: Node) -> Value:
        """The value that a symbol stands for."""
        return self.by_name[symbol.args[0]]

    def inputs_of(self, expression: Node) -> tuple[Value, ...]:
        """The values that a formula reads."""
        return tuple(self.by_name[name] for name in sorted(names_in([expression])))

    def _once(self, key: Any, shape: Shape, kind: str = "made", **more: Any) -> tuple[Value, bool]:
        if key in self.made:
            return self.made[key], False
        self.count += 1
        value = self.leaf(Value(f"#{self.count}", shape, kind, **more))
        self.made[key] = value
        return value, True

    def weight(self, entries: np.ndarray, shape: Shape) -> Value:
        """An array of parameters, by their numbers in the vector."""
        entries = np.ascontiguousarray(entries, dtype=np.int64).reshape(-1)
        return self._once(("weight", entries.tobytes(), shape), shape, "weight", entries=entries)[0]

    def formula(self, expression: Node, shape: Shape) -> Value:
        """The value of an expression; of a symbol alone, if the shape is its own, the value that it stands for."""
        if expression.op == "name" and self.of(expression).shape == shape:
            return self.of(expression)
        value, new = self._once((expression, shape), shape)
        if new:
            value.step = Formula(value, expression, self.inputs_of(expression))
        return value

    def product(self, a: Value, b: Value, shape: Shape, outer: bool = False) -> Value:
        """a @ b, or their outer product; transposes are moved onto the weights."""
        (a, a_turned), (b, b_turned) = _unturned(a), _unturned(b)
        if not a.is_weight and len(a.shape) == 1 and b.is_weight and len(b.shape) == 2 and not outer:
            # v @ A is Aᵀ v
            return self.product(self.turned(b), a, shape)
        if outer:
            m, k, n = a.size, 1, b.size
        else:
            m, k = (1, a.size) if len(a.shape) == 1 else a.shape[:: -1 if a_turned else 1]
            n = 1 if len(b.shape) == 1 else b.shape[0 if b_turned else 1]
        value, new = self._once(("product", a.name, a_turned, b.name, b_turned, outer), shape)
        if new:
            value.step = Product(value, a, a_turned, b, b_turned, m, k, n)
        return value

    def gathered(self, addends: tuple[Value, ...], shape: Shape) -> Value:
        """The sum of several values of one shape."""
        value, new = self._once(("gathered", *(a.name for a in addends)), shape)
        if new:
            value.step = Gathered(value, addends)
        return value

    def affine(self, terms: tuple[tuple[Value, Value], ...], biases: tuple[Value, ...], shape: Shape) -> Value:
        """Σ A s + Σ b."""
        names = tuple((A.name, s.name) for A, s in terms), tuple(b.name for b in biases)
        value, new = self._once(("affine", *names), shape)
        if new:
            value.step = Affine(value, terms, biases)
        return value

    def sum(self, a: Value) -> Value:
        """The sum of all entries."""
        value, new = self._once(("sum", a.name), ())
        if new:
            value.step = Sum(value, a)
        return value

    def spread(self, a: Value, shape: Shape) -> Value:
        """A scalar in every entry of a shape; of a weight, a longer list of entries."""
        if a.entries is not None:
            return self.weight(np.full(prod(shape), a.entries[0]), shape)
        value, new = self._once(("spread", a.name, shape), shape)
        if new:
            value.step = Spread(value, a)
        return value

    def turned(self, a: Value) -> Value:
        """The transpose."""
        rows, columns = a.shape
        if a.entries is not None:
            return self.weight(a.entries.reshape(rows, columns).T, (columns, rows))
        if isinstance(a.step, Turn):
            return a.step.a
        value, new = self._once(("turn", a.name), (columns, rows))
        if new:
            value.step = Turn(value, a)
        return value

    def part(self, a: Value, start: int, shape: Shape) -> Value:
        """Numbers that lie together, from ``start`` on."""
        if shape == a.shape:
            return a
        if a.entries is not None:
            return self.weight(a.entries[start : start + prod(shape)], shape)
        if a.parent is not None:
            return self.part(a.parent, a.start + start, shape)
        return self._once(("part", a.name, start, shape), shape, "part", start=start, parent=a)[0]


def _unturned(a: Value) -> tuple[Value, bool]:
    return (a.step.a, True) if isinstance(a.step, Turn) else (a, False)
