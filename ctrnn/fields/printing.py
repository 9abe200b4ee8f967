"""Graphs of formulas (ctrnn.fields.algebra) as source text, in the dialects of those who compute with them.

    compiled   math.tanh(z), a if c else b      functions of one state (ctrnn.fields.native)
    loop       tanh(z) of ctrnn.kernels.elementwise, which becomes vector instructions
    numpy      np.tanh(z), np.where(c, a, b)    whole arrays
    mpmath     mp.tanh(z)                       as many digits as are asked for
    torch      T.tanh(z), of ctrnn.fields.torch_functions
    formula    what people write, and ctrnn.fields.expressions reads

Numbers are written as float64 with all their digits; only whole exponents stay whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from ctrnn.fields.algebra import Node, inside, joined, mul, number, power

#: operations in one line; a longer sum or product goes over several
LONGEST = 40
#: nested operations in one line
DEEPEST = 12

_SUM, _PRODUCT, _UNARY, _ATOM = range(4)


class Dialect:
    """How operations are written; each method has the texts of its arguments."""

    functions: Mapping[str, str] = {}
    prefix = "math."
    compare = "{a} {relation} {b}"
    join = {"and": " and ", "or": " or "}

    def constant(self, node: Node) -> tuple[str, int]:
        """A number, and how tightly it binds."""
        assert node.value is not None
        return repr(node.value), _UNARY if node.value < 0.0 else _ATOM

    def call(self, op: str, *args: str) -> str:
        """A function of arguments."""
        return f"{self.functions.get(op, self.prefix + op)}({', '.join(args)})"

    def where(self, condition: str, yes: str, no: str) -> str:
        """A choice by a condition."""
        return f"({yes} if {condition} else {no})"

    def power(self, base: str, exponent: str) -> str:
        """A power."""
        return f"{base}**{exponent}"

    def condition(self, op: str, parts: Sequence[str]) -> str:
        """Conditions joined by and, or."""
        return "(" + self.join[op].join(f"({part})" for part in parts) + ")"


class _Compiled(Dialect):
    functions = {"abs": "abs", **{k: k for k in ("sigmoid", "softplus", "sign", "power_log")}}


class _Loop(Dialect):
    functions = {**_Compiled.functions, **{k: k for k in ("exp", "log", "tanh")}}


class _Numpy(Dialect):
    prefix = "np."
    functions = {
        "asin": "np.arcsin", "acos": "np.arccos", "atan": "np.arctan", "abs": "np.abs", "sign": "np.sign",
        "erf": "special.erf", "sigmoid": "special.expit", "softplus": "softplus", "power_log": "power_log",
    }  # fmt: skip
    join = {"and": " & ", "or": " | "}

    def where(self, condition: str, yes: str, no: str) -> str:
        """A choice by a condition."""
        return f"np.where({condition}, {yes}, {no})"


class _Mpmath(Dialect):
    prefix = "mp."
    functions = {"abs": "abs", **{k: k for k in ("sigmoid", "softplus", "sign", "power_log")}}

    def constant(self, node: Node) -> tuple[str, int]:
        """A number, and how tightly it binds."""
        if node.op in ("pi", "e"):
            return f"mp.{node.op}", _ATOM
        value = node.exact
        if isinstance(value, Fraction):
            return f"mp.mpf({value.numerator})/{value.denominator}", _PRODUCT
        return (f"mp.mpf({value!r})", _ATOM) if value is not None else ("", _ATOM)


class _Torch(Dialect):
    prefix = "T."
    join = {"and": " & ", "or": " | "}

    def where(self, condition: str, yes: str, no: str) -> str:
        """A choice by a condition."""
        return f"T.where({condition}, {yes}, {no})"

    def power(self, base: str, exponent: str) -> str:
        """A power."""
        return f"T.pow({base}, {exponent})"


class _Formula(Dialect):
    prefix = ""

    def constant(self, node: Node) -> tuple[str, int]:
        """A number, and how tightly it binds."""
        value = node.exact
        if isinstance(value, Fraction):
            if value.denominator == 1:
                return str(value), _UNARY if value < 0 else _ATOM
            return str(value), _PRODUCT
        return (repr(value), _UNARY if value < 0 else _ATOM) if value is not None else (node.op, _ATOM)


DIALECTS: Mapping[str, Dialect] = {
    "compiled": _Compiled(),
    "loop": _Loop(),
    "numpy": _Numpy(),
    "mpmath": _Mpmath(),
    "torch": _Torch(),
    "formula": _Formula(),
}
#: dialects that write a constant as the number it is
_ROUNDED = ("compiled", "loop", "numpy", "torch")


class _Writer:
    def __init__(self, dialect: str, names: Mapping[str, str]) -> None:
        self.dialect, self.rounded, self.names = DIALECTS[dialect], dialect in _ROUNDED, names
        #: what has been given a name already
        self.known: dict[Node, str] = {}
        #: and when
        self.rank: dict[Node, int] = {}

    def name(self, node: Node, given: str) -> None:
        self.rank[node], self.known[node] = len(self.rank), given

    def at(self, node: Node, level: int) -> str:
        """The text of a node, in brackets where what surrounds it binds closer."""
        text, own = self.write(node)
        return text if own >= level else f"({text})"

    def write(self, node: Node) -> tuple[str, int]:
        dialect = self.dialect
        if node in self.known:
            return self.known[node], _ATOM
        if node.op in ("number", "pi", "e") or self.is_constant(node):
            return dialect.constant(node)
        if node.op == "name":
            return self.names.get(node.args[0], node.args[0]), _ATOM
        if node.op == "add":
            return self.sum(node), _SUM
        if node.op == "mul":
            return self.product(list(node.args))
        if node.op == "pow":
            return self.power(node)
        if node.op == "where":
            return dialect.where(*(self.at(a, _SUM) for a in node.args)), _ATOM
        if node.op in ("and", "or"):
            return dialect.condition(node.op, [self.at(a, _SUM) for a in node.args]), _ATOM
        if node.op in ("<", "<=", ">", ">="):
            a, b = (self.at(a, _SUM) for a in node.args)
            return dialect.compare.format(a=a, relation=node.op, b=b), _SUM
        if node.op == "power_log":
            return dialect.call(
                node.op, self.at(node.args[0], _SUM), self.at(node.args[1], _SUM), self.whole(node)
            ), _ATOM
        return dialect.call(node.op, self.at(node.args[0], _SUM)), _ATOM

    def is_constant(self, node: Node) -> bool:
        """Whether a node is written as its number; one beyond the range of float64 is not."""
        return self.rounded and node.value is not None and math.isfinite(node.value)

    def whole(self, node: Node) -> str:
        return str(int(node.args[2].exact))

    def sum(self, node: Node) -> str:
        text = ""
        for term in sorted(node.args, key=self.place):
            sign = self.negative(term) and text
            written = self.at(mul(-1, term) if sign else term, _PRODUCT)
            text += (" - " if sign else " + " if text else "") + written
        return text

    def place(self, term: Node) -> tuple[int, bool]:
        """Where a term of a sum comes: first what was computed before, in that order, then what has no minus.

        Fluxes from one state to another then cancel without losing the small ones.
        """
        bare = term.args[1] if term.op == "mul" and term.args[0].exact is not None else term
        given = self.known.get(bare)
        return (len(self.known), self.negative(term)) if given is None else (self.rank[bare], False)

    def negative(self, node: Node) -> bool:
        if node in self.known:
            return False
        first = node.args[0] if node.op == "mul" else node
        return first.exact is not None and first.exact < 0

    def product(self, factors: list[Node]) -> tuple[str, int]:
        above: list[Node] = []
        below: list[Node] = []
        if len(factors) == 2 and factors[0].op == "number" and factors[1].op == "mul" and factors[1] not in self.known:
            factors = [factors[0], *factors[1].args]
        for factor in factors:
            p = factor.args[1].exact if factor.op == "pow" and factor not in self.known else None
            if p is not None and p < 0 and not self.is_constant(factor):
                below.append(power(factor.args[0], -p))
            else:
                above.append(factor)
        minus = ""
        if above and above[0].exact == -1 and len(factors) > 1:
            minus, above = "-", above[1:]
        if self.rounded:  # constants are one number
            constant = [f for f in above if self.is_constant(f)]
            value = mul(*(number(f.value) for f in constant if f.value is not None))
            if len(constant) > 1 and value.op == "number":  # else it is beyond the range of float64
                above = [value, *(f for f in above if f not in constant)]
        text = "*".join(self.at(f, _UNARY if i else _PRODUCT) for i, f in enumerate(above)) or self.at(number(1), _ATOM)
        if below:
            under = "*".join(self.at(f, _UNARY) for f in below)
            text += f"/({under})" if len(below) > 1 else f"/{self.at(below[0], _UNARY + 1)}"
        return minus + text, _UNARY if minus and not below and len(above) == 1 else _PRODUCT

    def power(self, node: Node) -> tuple[str, int]:
        """A power."""
        base, exponent = node.args
        p = exponent.exact
        if p is not None and p < 0:
            return self.product([node])
        if p == Fraction(1, 2):
            return self.dialect.call("sqrt", self.at(base, _SUM)), _ATOM
        text = str(int(p)) if isinstance(p, Fraction) and p.denominator == 1 else self.at(exponent, _ATOM)
        return self.dialect.power(self.at(base, _ATOM), text), _UNARY


def text(node: Node) -> str:
    """The formula, as people write it.

    >>> from ctrnn.fields.algebra import symbol
    >>> x, k = symbol("x"), symbol("k")
    >>> text(-x / (2 * k) + x**2 * k**0.5)
    'sqrt(k)*x**2 - x/(2*k)'
    """
    return _Writer("formula", {}).write(node)[0]


def assignments(
    targets: Sequence[str], formulas: Sequence[Node], dialect: str, names: Mapping[str, str] | None = None
) -> list[str]:
    """Lines ``target = formula``.

    What occurs more than once, or is long, is computed in a line of its own before it is first used.

    ``names`` says how the names are written. Each target follows what it needs, so that few values are waited for at a
    time.
    """
    formulas, short = _in_pieces(list(formulas))
    writer = _Writer(dialect, {} if names is None else names)
    uses: dict[Node, int] = {}
    order = inside(formulas)
    for node in order:
        for argument in node.args if node.op not in ("number", "name") else ():
            uses[argument] = uses.get(argument, 0) + 1
    for f in formulas:
        uses[f] = uses.get(f, 0) + 1
    lines: list[str] = []
    depth: dict[Node, int] = {}

    def prepare(root: Node) -> None:
        for node in inside_new(root):
            if node.op in ("number", "name", "pi", "e") or writer.is_constant(node):
                depth[node] = 0
                continue
            depth[node] = 1 + max((depth[a] for a in node.args), default=0)
            condition = node.op in ("and", "or", "<", "<=", ">", ">=")
            if node is not root and (uses[node] > 1 or node in short or (depth[node] > DEEPEST and not condition)):
                written = writer.write(node)[0]
                given = f"c_{len(writer.known)}"
                lines.append(f"{given} = {written}")
                writer.name(node, given)
                depth[node] = 0

    def inside_new(root: Node) -> list[Node]:
        """Like ``inside``, but what has a name is not opened again."""
        found: dict[Node, None] = {}
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in found or node in writer.known:
                continue
            if ready:
                found[node] = None
                continue
            stack.append((node, True))
            if node.op not in ("number", "name") and not writer.is_constant(node):
                stack += [(a, False) for a in reversed(node.args)]
        return list(found)

    for target, f in zip(targets, formulas, strict=True):
        prepare(f)
        written = writer.write(f)[0]
        if uses[f] > 1 and f not in writer.known and f.op not in ("number", "name") and f.value is None:
            given = f"c_{len(writer.known)}"
            lines.append(f"{given} = {written}")
            writer.name(f, given)
            written = given
            depth[f] = 0
        lines.append(f"{target} = {written}")
    return lines


def _in_pieces(formulas: list[Node]) -> tuple[list[Node], set[Node]]:
    """The formulas with long sums and products in pieces, and the pieces, which get a line each."""
    pieces: set[Node] = set()
    if not any(len(node.args) > LONGEST for node in inside(formulas)):
        return formulas, pieces
    made: dict[Node, Node] = {}
    for node in inside(formulas):
        if node.op in ("number", "name"):
            made[node] = node
            continue
        args = [made[a] for a in node.args]
        while node.op in ("add", "mul") and len(args) > LONGEST:
            parts = [tuple(args[i : i + LONGEST]) for i in range(0, len(args), LONGEST)]
            args = [joined(node.op, part) if len(part) > 1 else part[0] for part in parts]
            pieces.update(args)
        made[node] = node if tuple(args) == node.args else joined(node.op, tuple(args))
    return [made[f] for f in formulas], pieces
