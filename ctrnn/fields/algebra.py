"""Formulas as graphs: equal parts are one node, so that what occurs often is derived, written and computed once.

    number  name  pi  e  | add  mul  pow  power_log | exp log sin … | where  < <= > >=  and or

Nodes are made by the functions below, which fold numbers, collect equal terms and equal factors (x + x = 2x, x x⁻¹ =
1), and do nothing else: no expansion and no normal form, so that a formula of N operations is a graph of at most N
nodes, made in a time that grows with N (the hash-consing of Ershov, *On programming of arithmetic operations*, 1958).
Numbers that were written as integers or quotients of integers stay exact (ctrnn.fields.arithmetic). Everything is real:
a power or a logarithm that is not, is NaN.

``relu``, ``max`` and the like are cases (``where``); |z| and sign z are functions of their own with the derivatives
sign z and 0.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any
from weakref import WeakValueDictionary

from ctrnn.fields import arithmetic
from ctrnn.fields.arithmetic import Number


class Node:
    """A formula: an operation and what it is applied to. Equal formulas are the same object."""

    __slots__ = ("__weakref__", "args", "op", "order", "value")

    op: str
    args: tuple[Any, ...]
    #: the number that a constant formula is; None where it depends on a name. NaN where no real number is meant
    value: float | None
    #: by what the terms of a sum and the factors of a product are sorted: the same in every process
    order: tuple[int, str]

    def __add__(self, other: Any) -> Node:
        return add(self, other)

    def __radd__(self, other: Any) -> Node:
        return add(other, self)

    def __sub__(self, other: Any) -> Node:
        return add(self, mul(-1, other))

    def __rsub__(self, other: Any) -> Node:
        return add(other, mul(-1, self))

    def __mul__(self, other: Any) -> Node:
        return mul(self, other)

    def __rmul__(self, other: Any) -> Node:
        return mul(other, self)

    def __truediv__(self, other: Any) -> Node:
        return mul(self, power(other, -1))

    def __rtruediv__(self, other: Any) -> Node:
        return mul(other, power(self, -1))

    def __neg__(self) -> Node:
        return mul(-1, self)

    def __pow__(self, other: Any) -> Node:
        return power(self, other)

    @property
    def exact(self) -> Number | None:
        """The number that this is, as it was written; None where it is something else."""
        return self.args[0] if self.op == "number" else None

    def __repr__(self) -> str:
        # the structure; ctrnn.fields.printing.text writes it as people do
        return (
            f"{self.op}({', '.join(map(str, self.args))})" if self.op not in ("number", "name") else str(self.args[0])
        )


_table: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()
_lock = threading.Lock()
_RANK = {"number": 0, "pi": 1, "e": 1, "name": 2}


def _node(op: str, args: tuple[Any, ...]) -> Node:
    key = (op, type(args[0]), *args) if op == "number" else (op, *args)
    with _lock:
        if (known := _table.get(key)) is not None:
            return known
        made = Node()
        made.op, made.args = op, args
        if op in ("number", "name"):
            made.value = float(args[0]) if op == "number" else None
        else:
            made.value = arithmetic.value(op, [a.value for a in args])
        if op in _RANK:
            made.order = (_RANK[op], str(args[0]) if args else op)
        else:
            inside = " ".join(a.order[1] if isinstance(a, Node) else str(a) for a in args)
            made.order = (3, f"{zlib.crc32(f'{op} {inside}'.encode()):08x}")
        _table[key] = made
        return made


# --- numbers


def number(value: int | float | Fraction) -> Node:
    """A number; integers and fractions are exact."""
    return _node("number", (Fraction(value) if isinstance(value, int) else value,))


def as_node(value: Any) -> Node:
    """A node as it is, a Python number as a node."""
    return value if isinstance(value, Node) else number(value)


#: the elementary functions of one argument
FUNCTIONS = (
    "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "sigmoid", "softplus",
    "abs", "sign",
)  # fmt: skip
RELATIONS = ("<", "<=", ">", ">=")


# --- constructors


def symbol(text: str) -> Node:
    """A state, a parameter, an input, or time."""
    return _node("name", (text,))


ZERO, ONE, HALF = number(0), number(1), number(Fraction(1, 2))
PI, E = _node("pi", ()), _node("e", ())


def _split(node: Node) -> tuple[Number, Node]:
    """c and the rest of c·rest. A product with a number is that number and the product without it, which is shared."""
    if node.op == "number":
        return node.args[0], ONE
    if node.op == "mul" and node.args[0].op == "number" and len(node.args) == 2:
        return node.args[0].args[0], node.args[1]
    return Fraction(1), node


def add(*terms: Any) -> Node:
    """Their sum, equal terms collected."""
    if len(terms) == 2 and terms[0] is ZERO:
        return as_node(terms[1])
    collected: dict[Node, Number] = {}
    apart: list[Node] = []
    for term in map(as_node, terms):
        c, rest = _split(term)
        together = arithmetic.plus(collected.get(rest, Fraction(0)), c)
        if together is None:
            apart.append(term)
        else:
            collected[rest] = together
    whole = collected.pop(ONE, Fraction(0))
    parts = [mul(c, rest) for rest, c in collected.items() if c != 0] + apart
    parts.sort(key=lambda part: part.order)
    if whole != 0:
        parts.insert(0, number(whole))
    if not parts:
        return number(whole)
    return parts[0] if len(parts) == 1 else _node("add", tuple(parts))


def mul(*factors: Any) -> Node:
    """Their product, equal factors collected where their exponents are whole."""
    whole: Number = Fraction(1)
    exponents: dict[Node, int] = {}
    apart: list[Node] = []

    def count(factor: Node) -> None:
        base, p = factor, 1
        if factor.op == "pow":
            exponent = factor.args[1].exact
            if isinstance(exponent, Fraction) and exponent.denominator == 1:
                base, p = factor.args[0], int(exponent)
        exponents[base] = exponents.get(base, 0) + p

    for factor in map(as_node, factors):
        c, rest = _split(factor)
        together = arithmetic.times(whole, c)
        if together is None:
            apart.append(number(c))
        else:
            whole = together
        if rest is not ONE:
            count(rest)
    if whole == 0:
        return number(whole)
    parts = [made for base, p in exponents.items() if (made := power(base, p)) is not ONE]
    for part in [p for p in parts if p.op == "number"]:
        parts.remove(part)
        together = arithmetic.times(whole, part.args[0])
        if together is None:
            apart.append(part)
        else:
            whole = together
    parts += apart
    parts.sort(key=lambda part: part.order)
    if not parts:
        return number(whole)
    rest = parts[0] if len(parts) == 1 else _node("mul", tuple(parts))
    if whole == 1:
        return rest
    c, inner = _split(rest)  # a single factor may be a product with a number
    together = arithmetic.times(whole, c)
    if together is None:
        return _node("mul", (number(whole), rest))
    return inner if together == 1 else _node("mul", (number(together), inner))


def power(base: Any, exponent: Any) -> Node:
    """base^exponent. Whole powers of powers are one; √(z²) is |z|."""
    base, exponent = as_node(base), as_node(exponent)
    p = exponent.exact
    if isinstance(p, float) and p.is_integer() and abs(p) < 2**53:
        p = Fraction(int(p))
        exponent = number(p)
    if p == 0:
        return ONE
    if p == 1:
        return base
    b = base.exact
    if b == 1:
        return ONE
    if b is not None and p is not None:
        if b == 0 and p > 0:
            return ZERO
        if (folded := arithmetic.raised(b, p)) is not None:
            return number(folded)
    if base.op == "pow" and isinstance(p, Fraction):
        inner, q = base.args[0], base.args[1].exact
        if isinstance(q, Fraction) and q.denominator == 1:
            if p.denominator == 1:
                return power(inner, p * q)
            if q % 2 == 0:
                return power(function("abs", inner), p * q)
    return _node("pow", (base, exponent))


def function(op: str, z: Any) -> Node:
    """An elementary function of one argument."""
    z = as_node(z)
    if op == "sqrt":
        return power(z, HALF)
    if op == "log" and z.op == "exp":
        return z.args[0]
    if op == "log" and z is ONE:
        return ZERO
    if z is ZERO:
        if op in ("sin", "tan", "asin", "atan", "sinh", "tanh", "erf", "abs", "sign"):
            return ZERO
        if op in ("exp", "cos", "cosh"):
            return ONE
        if op == "sigmoid":
            return HALF
    if op in ("abs", "sign") and z.exact is not None:
        return number(abs(z.exact)) if op == "abs" else number((z.exact > 0) - (z.exact < 0))
    return _node(op, (z,))


def power_log(b: Node, p: Node, k: int) -> Node:
    """b^p (log b)^k, 0 at b = 0 < p."""
    return _node("power_log", (b, p, number(k)))


def compare(relation: str, a: Any, b: Any) -> Node:
    """A condition: 1 where it holds and 0 where it does not."""
    return _node(relation, (as_node(a), as_node(b)))


def both(*conditions: Node) -> Node:
    """All of the conditions."""
    return _node("and", conditions) if len(conditions) > 1 else conditions[0]


def either(*conditions: Node) -> Node:
    """Any of the conditions."""
    return _node("or", conditions) if len(conditions) > 1 else conditions[0]


def where(condition: Node, yes: Any, no: Any) -> Node:
    """The one if the condition holds, else the other; what is not chosen may be anything."""
    yes, no = as_node(yes), as_node(no)
    if yes is no:
        return yes
    if condition.value is not None and not math.isnan(condition.value):
        return yes if condition.value else no
    return _node("where", (condition, yes, no))


def relu(z: Node) -> Node:
    """max(z, 0); a NaN stays a NaN."""
    return where(compare("<=", z, ZERO), ZERO, z)  # in this order a NaN stays a NaN


def heaviside(z: Node) -> Node:
    """1 from z = 0 on, 0 below."""
    return where(compare(">=", z, ZERO), ONE, ZERO)


def largest(*z: Node) -> Node:
    """The maximum; of tied arguments the last."""
    return _extreme(">", z)


def smallest(*z: Node) -> Node:
    """The minimum; of tied arguments the last."""
    return _extreme("<", z)


def _extreme(beats: str, z: tuple[Node, ...]) -> Node:
    """z_i if it beats all that come after it; those before it have lost already."""
    value = z[-1]
    for i in range(len(z) - 2, -1, -1):
        value = where(both(*(compare(beats, z[i], later) for later in z[i + 1 :])), z[i], value)
    return value


# --- walks


def inside(roots: Iterable[Node]) -> list[Node]:
    """Every node of some formulas, once, arguments before what is made of them."""
    found: dict[Node, None] = {}
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if node in found:
            continue
        if ready:
            found[node] = None
            continue
        stack.append((node, True))
        if node.op not in ("number", "name"):
            stack += [(a, False) for a in reversed(node.args) if a not in found]
    return list(found)


def names_in(roots: Iterable[Node]) -> set[str]:
    """The names that occur."""
    return {node.args[0] for node in inside(roots) if node.op == "name"}


def substituted(roots: Iterable[Node], values: Mapping[str, Node]) -> list[Node]:
    """The formulas with names replaced."""
    roots = list(roots)
    made: dict[Node, Node] = {}
    for node in inside(roots):
        if node.op == "name":
            made[node] = values.get(node.args[0], node)
        elif node.op == "number":
            made[node] = node
        else:
            made[node] = rebuilt(node, [made[a] for a in node.args])
    return [made[root] for root in roots]


def joined(op: str, args: tuple[Node, ...]) -> Node:
    """A sum or a product as it stands, with nothing collected."""
    return _node(op, args)


def rebuilt(node: Node, args: list[Node]) -> Node:
    """The same operation on other arguments."""
    op = node.op
    if op == "add":
        return add(*args)
    if op == "mul":
        return mul(*args)
    if op == "pow":
        return power(*args)
    if op == "where":
        return where(*args)
    if op in FUNCTIONS:
        return function(op, args[0])
    return _node(op, tuple(args))
