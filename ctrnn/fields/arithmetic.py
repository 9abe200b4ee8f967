"""Numbers in formulas: exact ones while they are short, float64 beyond; and what each operation makes of float64.

Whole numbers and quotients of them stay exact (`fractions.Fraction`) up to some 1024 bits, about the range of float64;
what is longer is rounded to a float64. The sums, products and powers here are None where no such number holds them: the
formula then stays as it stands. Nothing raises: the value of what is not real, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

#: of an exact number, about the range of float64; what is longer is rounded to a float64
MAX_BITS = 1024

Number = Fraction | float


def kept(value: Number) -> Number | None:
    """The number if float64 has it, exact only while it is short; None if it is out of range."""
    if isinstance(value, Fraction):
        if value and not Fraction(1, 2**MAX_BITS) < abs(value) < 2**MAX_BITS:
            return None
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            value = float(value)
        return value
    return value if math.isfinite(value) else None


def plus(a: Number, b: Number) -> Number | None:
    """a + b."""
    return kept(a + b)


def times(a: Number, b: Number) -> Number | None:
    """a b; None, too, where it is too small."""
    found = kept(a * b)
    return None if found == 0 and a and b else found  # an underflow


def raised(b: Number, p: Number) -> Number | None:
    """b^p where that is a number of the same kind: a whole power in range."""
    if not isinstance(p, Fraction) or p.denominator != 1 or (b == 0 and p < 0):
        return None
    size = math.log2(abs(b)) if b and isinstance(b, float) else 0.0
    if isinstance(b, Fraction):
        size = max(b.numerator.bit_length(), b.denominator.bit_length())
    if abs(size * p) > MAX_BITS:
        return None
    found = kept(b ** int(p))
    return None if found == 0 and b else found


def _at_zero(b: float, p: float) -> float:
    if b == 0.0 and p < 0.0:
        return math.inf
    found = b**p
    return found if isinstance(found, float) else math.nan


def _power_log(b: float, p: float, k: float) -> float:
    return 0.0 if b == 0.0 and p > 0.0 else _at_zero(b, p) * math.log(b) ** k


def _sigmoid(z: float) -> float:
    e = math.exp(-abs(z))
    return (1.0 if z >= 0.0 else e) / (1.0 + e)


#: what each operation does to numbers
VALUES: Mapping[str, Callable[..., float]] = {
    **{k: getattr(math, k) for k in ("exp", "log", "sqrt", "sin", "cos", "asin", "acos", "atan")},
    "tan": lambda z: math.tan(z) if abs(math.cos(z)) > 1e-15 else math.inf,  # the pole at pi/2
    **{k: getattr(math, k) for k in ("sinh", "cosh", "tanh", "erf")},
    "sigmoid": _sigmoid,
    "softplus": lambda z: max(z, 0.0) + math.log1p(math.exp(-abs(z))),
    "abs": abs,
    "sign": lambda z: math.copysign(1.0, z) if z else 0.0,
    "pow": _at_zero,
    "power_log": _power_log,
    "add": lambda *terms: math.fsum(terms),
    "mul": lambda *factors: math.prod(factors),
    "<": lambda a, b: float(a < b),
    "<=": lambda a, b: float(a <= b),
    ">": lambda a, b: float(a > b),
    ">=": lambda a, b: float(a >= b),
    "and": lambda *parts: float(all(parts)),
    "or": lambda *parts: float(any(parts)),
    "where": lambda condition, yes, no: yes if condition else no,
    "pi": lambda: math.pi,
    "e": lambda: math.e,
}


def value(op: str, values: Sequence[float | None]) -> float | None:
    """The operation's value; None where one of the values is not known."""
    if None in values:
        return None
    try:
        return float(VALUES[op](*values))
    except OverflowError:
        return math.inf
    except (ValueError, ZeroDivisionError):
        return math.nan
