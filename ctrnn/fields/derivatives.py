"""Partial derivatives in a form that can be evaluated wherever the derivative exists.

SymPy differentiates b^p, with p no number, to p b^p/b and b^p log b. Both are 0·∞ at b = 0, where a Hill function
x^n/(K^n + x^n) starts: there p b^(p−1) has a value, and b^p log b the limit 0 (p > 0).
"""

from __future__ import annotations

from typing import Any

import sympy
from sympy.core.function import ArgumentIndexError


class power(sympy.Function):  # noqa: N801 - a function of formulas, like sympy.exp
    """b^p while it is being differentiated."""

    nargs = 2

    def fdiff(self, argindex: int = 1) -> Any:
        b, p = self.args
        if argindex == 1:
            return p * power(b, p - 1)
        if argindex == 2:
            return power_log(b, p, 1)
        raise ArgumentIndexError(self, argindex)


class power_log(sympy.Function):  # noqa: N801 - printed under this name
    """b^p (log b)^k, 0 at b = 0 < p."""

    nargs = 3

    def fdiff(self, argindex: int = 1) -> Any:
        b, p, k = self.args
        if argindex == 1:
            before = power(b, p - 1) if k == 1 else power_log(b, p - 1, k - 1)
            return p * power_log(b, p - 1, k) + k * before
        if argindex == 2:
            return power_log(b, p, k + 1)
        raise ArgumentIndexError(self, argindex)


def derivative(expression: Any, symbol: Any) -> Any:
    """∂ expression/∂ symbol.

    >>> x, n = sympy.symbols("x n", real=True)
    >>> derivative(x**n, x), derivative(x**n, n), derivative(x**3, x)
    (n*x**(n - 1), power_log(x, n, 1), 3*x**2)
    """
    expression = sympy.sympify(expression)
    if symbol not in expression.free_symbols:
        return sympy.S.Zero

    def has_corner(e: Any) -> bool:
        return e.is_Pow and not e.exp.is_Number and (e.base.is_zero or not e.base.is_number)

    held = expression.replace(has_corner, lambda e: power(e.base, e.exp))
    return sympy.diff(held, symbol).replace(power, lambda b, p: b**p)
