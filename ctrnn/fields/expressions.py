"""Text to mathematics: a formula as the user writes it, read into a graph (ctrnn.fields.algebra).

    expression  ::=  number | name | -e | e + e | e - e | e * e | e / e | e ** e | f(e, ...)
                   | e if condition else e
    condition   ::=  e < e | e <= e | e > e | e >= e | condition and/or condition

The text is parsed by Python's own grammar (``ast``) and rebuilt node by node from the whitelist
above. Nothing of it is ever evaluated, so a formula in an experiment file can do nothing but be a
formula. Nor can it hang the reader: its length, its depth and the size of the numbers in it are
bounded, and the graph has no more nodes than the text operations.

Names are real numbers. At a corner a function takes the derivative of one side, as torch does:
relu'(0) = abs'(0) = 0, and where max or min tie, the last of the tied arguments counts.
``heaviside`` (also ``step``) is 1 at 0: right-continuous, like the inputs of :mod:`ctrnn.inputs`.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from ctrnn.errors import ExpressionError, UsageError, nearest
from ctrnn.fields.algebra import (
    PI,
    E,
    Node,
    add,
    both,
    compare,
    either,
    function,
    heaviside,
    largest,
    mul,
    number,
    power,
    relu,
    smallest,
    symbol,
    where,
)
from ctrnn.fields.arithmetic import MAX_BITS
from ctrnn.fields.symbolic import TooManyBranches, is_real, to_sympy

MAX_LENGTH = 10_000  # characters
MAX_DEPTH = 90  # nested operations; Python's own parser gives up at 200 parentheses
MAX_EXPONENT = 1000


FUNCTIONS: dict[str, Callable[..., Node]] = {
    **{name: partial(function, name) for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan")},
    **{name: partial(function, name) for name in ("sinh", "cosh", "tanh", "erf", "sigmoid", "softplus")},
    "log10": lambda z: function("log", z) / function("log", number(10)),
    "relu": relu,
    "abs": partial(function, "abs"),
    "sign": partial(function, "sign"),
    "heaviside": heaviside,
    "step": heaviside,
    "min": smallest,
    "max": largest,
    "where": where,
}
"""Every function a formula may call: name -> constructor of the node."""

ARITY: dict[str, tuple[int, int]] = {"min": (2, 8), "max": (2, 8), "where": (3, 3)}  # others: 1
CONSTANTS: dict[str, Node] = {"pi": PI, "e": E}
_RELATIONS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_DESCRIPTIONS: dict[type[ast.AST], str] = {
    ast.Attribute: "an attribute (a.b)",
    ast.Subscript: "an index (a[i])",
    ast.Lambda: "a lambda",
    ast.JoinedStr: "text",
    ast.NamedExpr: "':='",
    ast.List: "a list",
    ast.Tuple: "a comma (a pair)",
    ast.Starred: "a star",
    ast.UnaryOp: "this operator",
}
#: what functions of NumPy and torch are here
_ELSEWHERE = {
    "maximum": "max(a, b)", "minimum": "min(a, b)", "clip": "min(max(v, low), high)", "transpose": "A.T",
    "matmul": "A @ B", "power": "a**b", "square": "a**2", "log1p": "log(1 + a)", "expm1": "exp(a) - 1",
}  # fmt: skip
_WORDS = frozenset({"if", "else", "and", "or"})
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")


def read(text: str, names: Iterable[str] | Mapping[str, Node], where: str = "expression") -> Node:
    """A formula in the given names, as a graph (ctrnn.fields.algebra).

    ``names`` may say what some stand for, as definitions do. They take precedence over the constants ``pi`` and ``e``.
    ``where`` names the formula in error messages. Integers and their quotients stay exact, decimals are float64.

    Raises :class:`~ctrnn.errors.ExpressionError` with the place in the text.

    >>> from ctrnn.fields.printing import text
    >>> text(read("-x/3 + tanh(beta*x)", ["x", "beta"]))
    'tanh(beta*x) - 1/3*x'
    >>> read("beta * y", ["x", "beta"], where="dx/dt")
    Traceback (most recent call last):
    ctrnn.errors.ExpressionError: dx/dt: unknown name 'y' at column 8; allowed: x, beta, pi, e
        beta * y
               ^
    """
    known = names if isinstance(names, Mapping) else {name: symbol(name) for name in names}
    reader = _Reader(text, known, where)
    return reader.expression(reader.tree, 0)


def parse(
    text: str, symbols: Mapping[str, Any], where: str = "expression", known: Mapping[str, Node] | None = None
) -> Any:
    """A formula as a SymPy expression in real symbols, by name; like ``read`` otherwise.

    ``known``: names and definitions, as of ``read``; by default the symbols alone.

    >>> import sympy
    >>> x, beta = sympy.symbols("x beta", real=True)
    >>> parse("-x/3 + tanh(beta*x)", {"x": x, "beta": beta})
    -x/3 + tanh(beta*x)
    """
    reader = _Reader(text, {name: symbol(name) for name in symbols} if known is None else known, where)
    formula = reader.expression(reader.tree, 0)
    try:
        expression = to_sympy(formula, symbols)
    except TooManyBranches:
        raise reader.error("too many branches (max, relu, if, ...) inside one another", reader.start) from None
    if not is_real(expression):
        raise reader.error("not a finite real number", reader.start)
    return expression


def check_names(names: Iterable[str], what: str) -> None:
    """Raise :class:`~ctrnn.errors.UsageError` unless every name can stand in a formula, once.

    >>> check_names(["E", "I", "beta"], "parameter")
    >>> check_names(["lambda"], "state")
    Traceback (most recent call last):
    ctrnn.errors.UsageError: state name: got 'lambda'; allowed: no Python word. Try: lambda_ or lam
    """
    seen: set[str] = set()
    for name in names:
        argument = f"{what} name"
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(argument, given=name, allowed="letters, digits and _, not starting with a digit")
        if keyword.iskeyword(name):
            raise UsageError(argument, given=name, allowed="no Python word", hint=_instead_of(name))
        if name in FUNCTIONS:
            raise UsageError(
                argument,
                given=name,
                allowed="a name that is not a function of formulas",
                hint=f"{name}_ or {name}0",
            )
        if unicodedata.normalize("NFKC", name) != name:
            plain = unicodedata.normalize("NFKC", name)
            raise UsageError(argument, given=name, allowed="plain letters", hint=repr(plain))
        if name in seen:
            raise UsageError(argument, given=name, allowed="each name once")
        seen.add(name)


def _instead_of(word: str) -> str:
    return "lambda_ or lam" if word == "lambda" else f"{word}_"


class _Reader:
    """One text: its syntax tree, and the walk that turns it into a graph."""

    #: characters that no formula needs
    forbidden = "\\#'\"`@$!;:{}"

    def __init__(self, text: str, symbols: Mapping[str, Node], where: str) -> None:
        if not isinstance(text, str):
            raise UsageError(where, given=text, allowed="a formula as text")
        if len(text) > MAX_LENGTH:
            raise UsageError(where, given=text, allowed=f"a formula of at most {MAX_LENGTH} characters")
        self.symbols, self.where = symbols, where
        self.text = "".join(" " if c.isspace() else c for c in text)  # a formula may span lines
        self.start = len(self.text) - len(self.text.lstrip())
        self.text = self.text.rstrip()
        self.tree = self._tree()

    # --- the text

    def _tree(self) -> ast.expr:
        if not self.text:
            raise self.error("an empty formula", 0)
        for place, character in enumerate(self.text):
            if not character.isprintable() or character in self.forbidden:
                raise self.error(f"{character!r} has no place in a formula", place)
        for match in _NAME.finditer(self.text):
            word = match.group()
            if word not in _WORDS and keyword.iskeyword(word):
                hint = "" if word in ("True", "False", "None", "not") else _instead_of(word)
                raise self.error(f"{word!r} is a Python word, not a name", match.start(), hint=hint)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text.lstrip(), mode="eval").body
        except SyntaxError as error:
            raise self.syntax_error(error) from None
        except (ValueError, RecursionError, MemoryError):
            raise self.error("too long, or nested too deeply", self.start) from None

    def syntax_error(self, error: SyntaxError) -> ExpressionError:
        place = self.start + error.offset - 1 if error.offset else len(self.text)
        # Python's own sentence, without its guesses at what a program may have meant.
        reason = (error.msg or "").split(". ")[0].split(" (")[0]
        reason = "cannot go on" if reason in ("", "invalid syntax") else reason
        if reason.startswith(("invalid decimal literal", "invalid imaginary literal")):
            return self.error("a number runs into a name", place, hint="write a product as 2*x")
        if equals := re.search(r"(?<![<>=!])=(?!=)", self.text):
            return self.error("'=' has no place in a formula", equals.start(), hint="the right-hand side")
        return self.error(reason, place)

    def error(self, problem: str, place: ast.AST | int, *, allowed: str = "", hint: str = "") -> ExpressionError:
        """The error with its column and a caret under it; ``place``: a node or a 0-based index."""
        if isinstance(place, ast.AST):
            place = self._column(place)
        message = f"{self.where}: {problem} at column {place + 1}"
        message += f"; allowed: {allowed}" if allowed else ""
        message += f". Try: {hint}" if hint else ""
        first = max(0, place - 60)  # a window of a long text
        line = ("..." if first else "") + self.text[first : first + 100]
        line += "..." if len(self.text) > first + 100 else ""
        caret = " " * (place - first + (3 if first else 0)) + "^"
        error = ExpressionError(self.where, given=self.text, allowed=allowed, hint=hint)
        error.args = (f"{message}\n    {line}\n    {caret}",)
        return error

    def _column(self, node: Any, end: bool = False) -> int:
        """0-based index into the text; ast counts UTF-8 bytes."""
        offset = node.end_col_offset if end else node.col_offset
        return self.start + len(self.text.lstrip().encode()[:offset].decode(errors="ignore"))

    # --- the walk

    def expression(self, node: ast.expr, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} deep", node)
        if isinstance(node, ast.Constant):
            return self.number(node)
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            inner = self.expression(node.operand, depth + 1)
            return -inner if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp):
            return self.checked(self.operation(node, depth), node)
        if isinstance(node, ast.Call):
            return self.checked(self.call(node, depth), node)
        if isinstance(node, ast.Subscript) and (name := ast.unparse(node).replace(" ", "")) in self.symbols:
            return self.symbols[name]  # r[0] is the name of a number
        if isinstance(node, ast.IfExp):
            yes, no = self.expression(node.body, depth + 1), self.expression(node.orelse, depth + 1)
            return FUNCTIONS["where"](self.condition(node.test, depth + 1), yes, no)
        if isinstance(node, ast.Compare | ast.BoolOp):
            raise self.error("a comparison is not a number", node, hint="a if x > 0 else b")
        place = self._column(node)
        if isinstance(node, ast.Attribute | ast.Subscript):
            place = self._column(node.value, end=True)
        what = _DESCRIPTIONS.get(type(node), f"a {type(node).__name__}")
        raise self.error(f"{what} has no place in a formula", place)

    def number(self, node: ast.Constant) -> Any:
        value = node.value
        if type(value) is int:
            if value.bit_length() > MAX_BITS:
                raise self.error("a number beyond the range of float64", node)
            return number(value)
        if type(value) is float:
            if not math.isfinite(value):
                raise self.error("a number beyond the range of float64", node)
            return number(value)
        raise self.error(f"{value!r} is not a real number", node)

    def name(self, node: ast.Name) -> Any:
        name = node.id
        if name in self.symbols:
            return self.symbols[name]
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in FUNCTIONS:
            raise self.error(f"{name!r} is a function", node, hint=f"{name}(...)")
        raise self.unknown("name", node, list(dict.fromkeys([*self.symbols, *CONSTANTS])))

    def unknown(self, what: str, node: ast.Name, known: Sequence[str]) -> ExpressionError:
        hint = nearest(node.id, known)
        shown = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
        return self.error(f"unknown {what} {node.id!r}", node, allowed=shown, hint=hint)

    def operation(self, node: ast.BinOp, depth: int) -> Any:
        if isinstance(node.op, ast.Add | ast.Sub):
            return add(*self.chain(node, (ast.Add, ast.Sub), depth))
        if isinstance(node.op, ast.Mult | ast.Div):
            return mul(*self.chain(node, (ast.Mult, ast.Div), depth))
        if isinstance(node.op, ast.Pow):
            base = self.expression(node.left, depth + 1)
            exponent = self.expression(node.right, depth + 1)
            return self.power(base, exponent, node)
        hint = "** for a power" if isinstance(node.op, ast.BitXor) else ""
        raise self.operator_error(node.left, node.right, hint=hint)

    def operator_error(self, left: ast.expr, right: ast.expr, *, allowed: str = "", hint: str = "") -> ExpressionError:
        """An operator between two operands; ast does not say where it stands."""
        after = self._column(left, end=True)
        sign = re.search(r"[^\s()]+", self.text[after : self._column(right)])
        place, operator = (after + sign.start(), sign.group()) if sign else (after, "this operator")
        problem = f"{operator!r} has no place in a formula"
        return self.error(problem, place, allowed=allowed, hint=hint)

    def chain(self, node: ast.BinOp, kinds: tuple[type, type], depth: int) -> list[Any]:
        """The terms of a ± b ± c ... (the factors of a * b / c ...): one sum, however long."""
        terms: list[Any] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp) and isinstance(left.op, kinds):
            right = self.expression(left.right, depth + 1)
            if isinstance(left.op, ast.Sub):
                right = -right
            elif isinstance(left.op, ast.Div):
                if right.value == 0.0:
                    raise self.error("division by zero", left.right)
                right = power(right, -1)
            terms.append(right)
            left = left.left
        terms.append(self.expression(left, depth + 1))
        return terms[::-1]

    def power(self, base: Node, exponent: Node, node: ast.BinOp) -> Node:
        size = exponent.value
        if size is not None:
            if abs(self.value(exponent, node.right)) > MAX_EXPONENT:
                raise self.error("an exponent too large", node.right, allowed=f"up to {MAX_EXPONENT}")
            if base.value is not None:
                b = abs(self.value(base, node.left))
                if b == 0.0 and size < 0.0:
                    raise self.error("division by zero", node)
                if b and abs(math.log2(b) * size) > MAX_BITS:
                    raise self.error("a power beyond the range of float64", node)
            elif not size.is_integer() and _never_positive(base):
                raise self.error("not a finite real number", node)
        elif base.value is not None and self.value(base, node.left) <= 0.0:
            raise self.error("a variable power of a number that is not positive", node)
        found = power(base, exponent)
        if found.op == "pow" and abs(found.args[1].value or 0.0) > MAX_EXPONENT**2:
            raise self.error("an exponent too large", node.right, allowed=f"up to {MAX_EXPONENT**2} in all")
        return found

    def call(self, node: ast.Call, depth: int) -> Any:
        if not isinstance(node.func, ast.Name):
            named = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            hint = f"{named}(...)" if named in FUNCTIONS else _ELSEWHERE.get(named, "")
            raise self.error("only a function's name can be called", node.func, hint=hint)
        name = node.func.id
        if name not in FUNCTIONS:
            if name in self.symbols or name in CONSTANTS:
                raise self.error(f"{name!r} is not a function", node.func, hint=f"{name}*(...)")
            if name in _ELSEWHERE:
                raise self.error(f"unknown function {name!r}", node.func, hint=_ELSEWHERE[name])
            raise self.unknown("function", node.func, list(FUNCTIONS))
        if node.keywords:
            raise self.error("a named argument has no place in a formula", node.keywords[0])
        low, high = ARITY.get(name, (1, 1))
        if not low <= len(node.args) <= high:
            many = f"{low}" if low == high else f"{low} to {high}"
            raise self.error(f"{name} with {len(node.args)} arguments", node, allowed=many)
        if name == "where":
            condition, *branches = node.args
            return FUNCTIONS["where"](
                self.condition(condition, depth + 1),
                *(self.expression(a, depth + 1) for a in branches),
            )
        args = [self.expression(a, depth + 1) for a in node.args]
        if name in ("exp", "sinh", "cosh"):
            if args[0].value is not None and abs(self.value(args[0], node)) > 709.0:
                raise self.error(f"{name} beyond the range of float64", node)
            power_of = args[0].op == "mul" and any(a.op == "log" for a in args[0].args)  # exp(c log z) is z**c
            if power_of and abs(args[0].args[0].value or 0.0) > MAX_EXPONENT:
                raise self.error("an exponent too large", node, allowed=f"up to {MAX_EXPONENT}")
        if name in ("sqrt", "log", "log10") and args[0].value is None and _never_positive(args[0]):
            raise self.error("not a finite real number", node)
        return FUNCTIONS[name](*args)

    def condition(self, node: ast.expr, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} deep", node)
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(v, depth + 1) for v in node.values]
            return both(*parts) if isinstance(node.op, ast.And) else either(*parts)
        if not isinstance(node, ast.Compare):
            raise self.error("not a comparison", node, allowed="<, <=, >, >=, joined by and, or")
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands[:-1], operands[1:], strict=True):
            if type(operator) not in _RELATIONS:
                raise self.operator_error(left, right, allowed="<, <=, >, >=")
        sides = [self.expression(n, depth + 1) for n in operands]
        for side in sides:
            if side.value is not None:
                self.value(side, node)
        pairs = zip(node.ops, sides[:-1], sides[1:], strict=True)
        return both(*(compare(_RELATIONS[type(operator)], a, b) for operator, a, b in pairs))

    def value(self, constant: Node, node: ast.AST) -> float:
        """A constant as a float64."""
        if constant.value is None or not math.isfinite(constant.value):
            raise self.error("a constant that is not a finite real number", node)
        return constant.value

    def checked(self, made: Node, node: ast.AST) -> Node:
        if made.value is not None:
            self.value(made, node)
        elif made.op != "name":
            for part in made.args:
                if part.value is not None:
                    self.value(part, node)
            rest = made.args[1] if made.op == "mul" else made
            numbers = sum(part.op == "number" for part in (*made.args, *(rest.args if rest.op == "mul" else ())))
            if made.op in ("add", "mul") and numbers > 1:  # their sum or product is none
                raise self.error("a number beyond the range of float64", node)
        return made


def _never_positive(z: Node) -> bool:
    """Whether z ≤ 0 can be seen from its form, as of −x²."""
    return z.op == "mul" and (z.args[0].value or 0.0) < 0.0 and all(map(_never_negative, z.args[1:]))


def _never_negative(z: Node) -> bool:
    if z.value is not None:
        return z.value >= 0.0
    if z.op in ("add", "mul"):
        return all(map(_never_negative, z.args))
    if z.op == "pow":
        p = z.args[1].exact
        return isinstance(p, Fraction) and (p.denominator == 2 or p % 2 == 0)
    return z.op in ("exp", "cosh", "abs", "sigmoid", "softplus")
