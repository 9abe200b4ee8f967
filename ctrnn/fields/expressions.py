"""Text to mathematics: a formula as the user writes it, read into SymPy.

    expression  ::=  number | name | -e | e + e | e - e | e * e | e / e | e ** e | f(e, ...)
                   | e if condition else e
    condition   ::=  e < e | e <= e | e > e | e >= e | condition and/or condition

The text is parsed by Python's own grammar (``ast``) and rebuilt node by node from the whitelist
above. Nothing of it is ever evaluated, so a formula in an experiment file can do nothing but be a
formula. Nor can it hang the reader: its length, its depth and the size of the numbers in it are
bounded before SymPy sees them.

Symbols are real numbers. At a corner a function takes the derivative of one side, as torch does:
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
from typing import Any

import sympy
from sympy import Piecewise, S
from sympy.core.evalf import prec_to_dps
from sympy.core.function import ArgumentIndexError

from ctrnn.errors import ExpressionError, UsageError, nearest

MAX_LENGTH = 10_000  # characters
MAX_DEPTH = 90  # nested operations; Python's own parser gives up at 200 parentheses
MAX_BITS = 1024  # of an exact number: about the range of a float64
MAX_EXPONENT = 1000
MAX_BRANCHES = 6  # max, min, relu, ... inside a condition: it is expanded, 2^branches


class sigmoid(sympy.Function):  # noqa: N801 - printed under this name
    """sigmoid(z) = 1/(1 + e^-z): a function of its own, so that compiled code avoids overflow."""

    nargs = 1

    @classmethod
    def eval(cls, z: Any) -> Any:
        return S.Half if z.is_zero else None

    def fdiff(self, argindex: int = 1) -> Any:
        if argindex != 1:
            raise ArgumentIndexError(self, argindex)
        return self * (1 - self)

    def _eval_evalf(self, prec: int) -> Any:
        return (1 / (1 + sympy.exp(-self.args[0]))).evalf(prec_to_dps(prec))

    def _eval_is_extended_real(self) -> bool | None:
        return self.args[0].is_extended_real

    def _eval_is_positive(self) -> bool | None:
        return self.args[0].is_extended_real


class softplus(sympy.Function):  # noqa: N801 - printed under this name
    """softplus(z) = log(1 + e^z), with softplus' = sigmoid."""

    nargs = 1

    @classmethod
    def eval(cls, z: Any) -> Any:
        return sympy.log(2) if z.is_zero else None

    def fdiff(self, argindex: int = 1) -> Any:
        if argindex != 1:
            raise ArgumentIndexError(self, argindex)
        return sigmoid(self.args[0])

    def _eval_evalf(self, prec: int) -> Any:
        return sympy.log(1 + sympy.exp(self.args[0])).evalf(prec_to_dps(prec))

    def _eval_is_extended_real(self) -> bool | None:
        return self.args[0].is_extended_real

    def _eval_is_positive(self) -> bool | None:
        return self.args[0].is_extended_real


def _cases(*cases: tuple[Any, Any], otherwise: Any) -> Any:
    """The first value whose condition holds."""
    return Piecewise(*((value, _flat(c)) for value, c in cases), (otherwise, True))


def _flat(condition: Any) -> Any:
    """The condition with the cases inside it multiplied out to comparisons, and, or."""
    if not condition.has(Piecewise):
        return condition
    # Left alone, SymPy puts an if-then-else here, which printers of compiled code do not know.
    condition = sympy.piecewise_fold(condition)
    return condition.rewrite(sympy.ITE).to_nnf() if condition.has(Piecewise) else condition


def _relu(z: Any) -> Any:
    return _cases((S.Zero, sympy.Le(z, 0)), otherwise=z)  # in this order a NaN stays a NaN


def _abs(z: Any) -> Any:
    # Not sympy.Abs: its second derivative is a Dirac delta, and its first unreadable for log(z).
    return _cases((z, sympy.Gt(z, 0)), (S.Zero, sympy.Ge(z, 0)), otherwise=-z)


def _sign(z: Any) -> Any:
    return _cases((S.One, sympy.Gt(z, 0)), (S.Zero, sympy.Ge(z, 0)), otherwise=S.NegativeOne)


def _heaviside(z: Any) -> Any:
    return _cases((S.One, sympy.Ge(z, 0)), otherwise=S.Zero)


def _max(*z: Any) -> Any:
    return _extreme(sympy.Gt, z)


def _min(*z: Any) -> Any:
    return _extreme(sympy.Lt, z)


def _extreme(beats: Callable[..., Any], z: Sequence[Any]) -> Any:
    """z_i if it beats all that come after it; those before it have lost already."""
    cases = [(a, sympy.And(*(beats(a, b) for b in z[i + 1 :]))) for i, a in enumerate(z[:-1])]
    return _cases(*cases, otherwise=z[-1])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": sympy.exp,
    "log": sympy.log,
    "log10": lambda z: sympy.log(z) / sympy.log(10),
    "sqrt": sympy.sqrt,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "asin": sympy.asin,
    "acos": sympy.acos,
    "atan": sympy.atan,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "tanh": sympy.tanh,
    "erf": sympy.erf,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "relu": _relu,
    "abs": _abs,
    "sign": _sign,
    "heaviside": _heaviside,
    "step": _heaviside,
    "min": _min,
    "max": _max,
    "where": lambda condition, yes, no: _cases((yes, condition), otherwise=no),
}
"""Every function a formula may call: name -> constructor of the SymPy expression."""

ARITY: dict[str, tuple[int, int]] = {"min": (2, 8), "max": (2, 8), "where": (3, 3)}  # others: 1
CONSTANTS: dict[str, Any] = {"pi": sympy.pi, "e": sympy.E}
_RELATIONS: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: sympy.Lt,
    ast.LtE: sympy.Le,
    ast.Gt: sympy.Gt,
    ast.GtE: sympy.Ge,
}
_NOT_REAL = (S.ComplexInfinity, S.NaN, S.Infinity, S.NegativeInfinity, S.ImaginaryUnit)
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
_WORDS = frozenset({"if", "else", "and", "or"})
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")


def parse(text: str, symbols: Mapping[str, sympy.Symbol], where: str = "expression") -> sympy.Expr:
    """A formula as a SymPy expression in the given symbols.

    ``symbols`` maps the names that may occur to real SymPy symbols; they take precedence over the
    constants ``pi`` and ``e``. ``where`` names the formula in error messages. Integers and their
    quotients stay exact, decimals are float64.

    Raises :class:`~ctrnn.errors.ExpressionError` with the place in the text.

    >>> import sympy
    >>> x, beta = sympy.symbols("x beta", real=True)
    >>> parse("-x/3 + tanh(beta*x)", {"x": x, "beta": beta})
    -x/3 + tanh(beta*x)
    >>> parse("beta * y", {"x": x, "beta": beta}, where="dx/dt")
    Traceback (most recent call last):
    ctrnn.errors.ExpressionError: dx/dt: unknown name 'y' at column 8; allowed: x, beta, pi, e
        beta * y
               ^
    """
    reader = _Reader(text, symbols, where)
    return reader.expression(reader.tree, 0)


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
    """One text: its syntax tree, and the walk that turns it into SymPy."""

    #: characters that no formula needs
    forbidden = "\\#'\"`@$!;:{}"

    def __init__(self, text: str, symbols: Mapping[str, sympy.Symbol], where: str) -> None:
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
        if isinstance(node, ast.Subscript):  # r[0] is the name of a number
            name = ast.unparse(node).replace(" ", "")
            if name in self.symbols:
                return self.symbols[name]
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
            return sympy.Integer(value)
        if type(value) is float:
            if not math.isfinite(value):
                raise self.error("a number beyond the range of float64", node)
            return sympy.Float(value)
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
            return sympy.Add(*self.chain(node, (ast.Add, ast.Sub), depth))
        if isinstance(node.op, ast.Mult | ast.Div):
            return sympy.Mul(*self.chain(node, (ast.Mult, ast.Div), depth))
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
                if right.is_zero:
                    raise self.error("division by zero", left.right)
                right = 1 / right
            terms.append(right)
            left = left.left
        terms.append(self.expression(left, depth + 1))
        return terms[::-1]

    def power(self, base: Any, exponent: Any, node: ast.BinOp) -> Any:
        if exponent.is_Float and float(exponent).is_integer():
            exponent = sympy.Integer(float(exponent))  # x**2.0 is x*x
        if exponent.is_number:
            size = self.value(exponent, node.right)
            if abs(size) > MAX_EXPONENT:
                raise self.error("an exponent too large", node.right, allowed=f"up to {MAX_EXPONENT}")
            self.bounded(base, size, node)
        if base.is_number and not exponent.is_number and self.value(base, node.left) <= 0:
            raise self.error("a variable power of a number that is not positive", node)
        return base**exponent

    def bounded(self, base: Any, exponent: float, node: ast.AST) -> None:
        """SymPy expands powers of numbers, also of those inside a product: keep them small."""
        for number in base.atoms(sympy.Number):
            size = abs(math.log2(abs(float(number)))) if number else 0.0
            exact = max(number.p.bit_length(), number.q.bit_length()) if number.is_Rational else 0
            if max(size, exact) * abs(exponent) > MAX_BITS:
                raise self.error("a power beyond the range of float64", node)
        if base.is_number:
            size = abs(self.value(base, node))
            if size == 0.0 and exponent < 0.0:
                raise self.error("division by zero", node)
            if size and abs(math.log2(size) * exponent) > MAX_BITS:
                raise self.error("a power beyond the range of float64", node)

    def call(self, node: ast.Call, depth: int) -> Any:
        if not isinstance(node.func, ast.Name):
            raise self.error("only a function's name can be called", node.func)
        name = node.func.id
        if name not in FUNCTIONS:
            if name in self.symbols or name in CONSTANTS:
                raise self.error(f"{name!r} is not a function", node.func, hint=f"{name}*(...)")
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
            if args[0].is_number and abs(self.value(args[0], node)) > 709.0:
                raise self.error(f"{name} beyond the range of float64", node)
            if args[0].has(sympy.log):  # exp(c log z) becomes z**c
                for number in args[0].atoms(sympy.Number):
                    self.bounded(args[0], float(number), node)
        self.branches(args, node)
        return FUNCTIONS[name](*args)

    def condition(self, node: ast.expr, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} deep", node)
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(v, depth + 1) for v in node.values]
            return sympy.And(*parts) if isinstance(node.op, ast.And) else sympy.Or(*parts)
        if not isinstance(node, ast.Compare):
            raise self.error("not a comparison", node, allowed="<, <=, >, >=, joined by and, or")
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands[:-1], operands[1:], strict=True):
            if type(operator) not in _RELATIONS:
                raise self.operator_error(left, right, allowed="<, <=, >, >=")
        sides = [self.expression(n, depth + 1) for n in operands]
        self.branches(sides, node)
        pairs = zip(node.ops, sides[:-1], sides[1:], strict=True)
        return sympy.And(*(_RELATIONS[type(operator)](a, b) for operator, a, b in pairs))

    def branches(self, args: Sequence[Any], node: ast.AST) -> None:
        if sum(a.count(Piecewise) for a in args) > MAX_BRANCHES:
            raise self.error("too many branches (max, relu, if, ...) inside one another", node)

    def value(self, number: Any, node: ast.AST) -> float:
        """A constant as a float64; its parts are known to be in range."""
        try:
            value = complex(number)
        except (OverflowError, TypeError, ValueError):
            value = complex(math.nan)
        if abs(value.imag) > 1e-12 * abs(value) or not math.isfinite(abs(value)):
            raise self.error("a constant that is not a finite real number", node)
        return value.real

    def checked(self, expression: Any, node: ast.AST) -> Any:
        if expression.is_number:
            self.value(expression, node)
        elif expression.has(*_NOT_REAL):
            raise self.error("not a finite real number", node)
        for number in expression.atoms(sympy.Number):
            if number and not sympy.Integer(2) ** -MAX_BITS < abs(number) < 2**MAX_BITS:
                raise self.error("a number beyond the range of float64", node)
        # sqrt(x**2) has become |x|, in SymPy's own function; see _abs.
        return expression.replace(sympy.Abs, _abs) if expression.has(sympy.Abs) else expression
