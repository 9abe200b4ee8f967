"""Graphs of formulas (ctrnn.fields.algebra) as SymPy expressions, for people who want to go on with them.

Nothing here is needed to compute.

Corners are written as cases, not by SymPy's Abs, Max and sign: their second derivatives are Dirac deltas, and their
first ones unreadable for an argument that SymPy does not know to be real. Conditions are never brought into a normal
form, which can take for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from ctrnn.fields.algebra import Node, inside

#: cases inside one condition; each is a case of the condition, so that they multiply
MAX_BRANCHES = 6


class TooManyBranches(Exception):
    """Cases inside the conditions of cases."""


@lru_cache(maxsize=1)
def functions() -> dict[str, Any]:
    """sigmoid and softplus as functions of their own, which SymPy does not have; the others are its own."""
    import sympy
    from sympy.core.evalf import prec_to_dps
    from sympy.core.function import ArgumentIndexError

    class sigmoid(sympy.Function):  # noqa: N801 - printed under this name
        """sigmoid(z) = 1/(1 + e^-z)."""

        nargs = 1

        @classmethod
        def eval(cls, z: Any) -> Any:
            return sympy.S.Half if z.is_zero else None

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

    names = ("exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf")
    own = {"sigmoid": sigmoid, "softplus": softplus, "abs": _absolute, "sign": _sign}
    return {name: getattr(sympy, name) for name in names} | own


def _absolute(z: Any) -> Any:
    return _cases([(z, _relation(">", z, 0)), (0, _relation(">=", z, 0))], -z)


def _sign(z: Any) -> Any:
    return _cases([(1, _relation(">", z, 0)), (0, _relation(">=", z, 0))], -1)


def _cases(cases: Sequence[tuple[Any, Any]], otherwise: Any) -> Any:
    """The first value whose condition holds."""
    import sympy

    simple = not any(sympy.sympify(condition).has(sympy.Piecewise) for _, condition in cases)
    # left alone, SymPy would put an if-then-else into a condition that holds cases; and simplify it, which can take for
    # ever
    conditions = [(value, _opened(condition)) for value, condition in cases]
    return sympy.Piecewise(*conditions, (otherwise, True), evaluate=simple)


def _relation(op: str, a: Any, b: Any) -> Any:
    import sympy

    make = {"<": sympy.Lt, "<=": sympy.Le, ">": sympy.Gt, ">=": sympy.Ge}[op]
    a, b = sympy.sympify(a), sympy.sympify(b)
    return make(a, b, evaluate=not (a.has(sympy.Piecewise) or b.has(sympy.Piecewise)))


def _opened(condition: Any) -> Any:
    """A condition with the cases inside its sides multiplied out to comparisons, and, or."""
    import sympy

    if not condition.has(sympy.Piecewise):
        return condition
    if condition.func in (sympy.And, sympy.Or):
        return condition.func(*map(_opened, condition.args))
    inner = next(iter(sorted(condition.atoms(sympy.Piecewise), key=lambda p: (len(p.atoms(sympy.Piecewise)), str(p)))))
    parts, before = [], sympy.true
    for value, holds in inner.args:
        parts.append(sympy.And(before, holds, _opened(condition.xreplace({inner: value}))))
        before = sympy.And(before, sympy.Not(holds))
    return sympy.Or(*parts)


def to_sympy(formula: Node, symbols: Mapping[str, Any]) -> Any:
    """The formula in real SymPy symbols. Raises TooManyBranches where it would not fit into a page."""
    import sympy

    made: dict[Node, Any] = {}
    named = {"pi": sympy.pi, "e": sympy.E}
    for node in inside([formula]):
        if node.op == "number":
            value = node.args[0]
            made[node] = (
                sympy.Rational(value.numerator, value.denominator)
                if isinstance(value, Fraction)
                else sympy.Float(value)
            )
            continue
        if node.op == "name":
            made[node] = symbols[node.args[0]]
            continue
        args = [made[a] for a in node.args]
        if (
            node.op in ("<", "<=", ">", ">=", "abs", "sign")
            and sum(a.count(sympy.Piecewise) for a in args) > MAX_BRANCHES
        ):
            raise TooManyBranches
        if node.op in named:
            made[node] = named[node.op]
        elif node.op == "add":
            made[node] = sympy.Add(*args)
        elif node.op == "mul":
            made[node] = sympy.Mul(*args)
        elif node.op == "pow":
            made[node] = args[0] ** args[1]
        elif node.op in ("<", "<=", ">", ">="):
            made[node] = _relation(node.op, *args)
        elif node.op in ("and", "or"):
            made[node] = (sympy.And if node.op == "and" else sympy.Or)(*args)
        elif node.op == "where":
            made[node] = _where(*args)
        elif node.op == "power_log":
            made[node] = args[0] ** args[1] * sympy.log(args[0]) ** args[2]
        else:
            made[node] = functions()[node.op](*args)
        if made[node].has(sympy.Abs):  # SymPy has found the root of a square
            made[node] = made[node].replace(sympy.Abs, _absolute)
    return made[formula]


def _where(condition: Any, yes: Any, no: Any) -> Any:
    import sympy

    if isinstance(no, sympy.Piecewise) and not condition.has(sympy.Piecewise):  # a if c else (b if d else e)
        return sympy.Piecewise((yes, condition), *no.args)
    return _cases([(yes, condition)], no)


def is_real(expression: Any) -> bool:
    """Whether nothing infinite or imaginary stands in an expression."""
    from sympy import S

    return not expression.has(S.ComplexInfinity, S.NaN, S.Infinity, S.NegativeInfinity, S.ImaginaryUnit)
