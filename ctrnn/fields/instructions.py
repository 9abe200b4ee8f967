"""Arithmetic for the compiler: of numbers that are known now, and of LLVM's, which are known when the code runs.

What is known is worked out here and now; the rest becomes an instruction. A value is a Python number or one of LLVM's:
a float64, a whole number of 64 bits, or a condition. Divisions, powers and comparisons are those of IEEE 754, as
NumPy's are: x/0 is infinite, and a NaN is neither smaller nor larger than anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

DOUBLE, INT, BOOL = ir.DoubleType(), ir.IntType(64), ir.IntType(1)


class Instructions:
    """What writes the instructions of one function, named ``name``; ``contract``: a·b + c may be one of them."""

    def __init__(self, module: Any, builder: Any, name: str, contract: bool) -> None:
        self.module, self.builder, self.name = module, builder, name
        self.flags = ("contract",) if contract else ()

    def is_float(self, value: Any) -> bool:
        """Whether a value is a float64."""
        return isinstance(value, float) or getattr(value, "type", None) == DOUBLE

    def cast(self, value: Any, kind: Any) -> Any:
        """A value as another type."""
        if isinstance(value, bool | int | float):
            return ir.Constant(kind, float(value) if kind == DOUBLE else int(value))
        if value.type == kind:
            return value
        if kind == DOUBLE:
            return (self.builder.uitofp if value.type == BOOL else self.builder.sitofp)(value, DOUBLE)
        if kind == INT and value.type == BOOL:
            return self.builder.zext(value, INT)
        if kind == BOOL and value.type == INT:
            return self.builder.icmp_signed("!=", value, ir.Constant(INT, 0))
        raise NotImplementedError(f"{self.name}: {value.type} as {kind}")

    def operation(self, kind: str, a: Any, b: Any) -> Any:
        """a op b, of the operation that ``ast`` calls by this name; numbers that are known are worked out now."""
        if kind == "Pow":
            return self.power(a, b)
        if isinstance(a, int | float) and isinstance(b, int | float):
            if kind == "Div":
                return math.copysign(math.inf, a) if b == 0 and a else a / b if b else math.nan
            return {
                "Add": lambda: a + b, "Sub": lambda: a - b, "Mult": lambda: a * b,
                "LShift": lambda: a << b, "RShift": lambda: a >> b,  # type: ignore[operator]
            }[kind]()  # fmt: skip
        if self.is_float(a) or self.is_float(b) or kind == "Div":
            make = {"Add": "fadd", "Sub": "fsub", "Mult": "fmul", "Div": "fdiv"}[kind]
            return getattr(self.builder, make)(self.cast(a, DOUBLE), self.cast(b, DOUBLE), flags=self.flags)
        if kind in ("LShift", "RShift"):
            return getattr(self.builder, "shl" if kind == "LShift" else "ashr")(self.cast(a, INT), self.cast(b, INT))
        if (kind == "Mult" and 0 in (a, b)) or (kind == "Add" and a == 0 and isinstance(a, int)):
            return 0 if kind == "Mult" else b
        make = {"Add": "add", "Sub": "sub", "Mult": "mul"}[kind]
        # the bits of a float64 may overflow, addresses do not
        return getattr(self.builder, make)(self.cast(a, INT), self.cast(b, INT))

    def negative(self, value: Any) -> Any:
        """−value."""
        if isinstance(value, int | float):
            return -value
        if self.is_float(value):
            return self.builder.fneg(value)
        return self.builder.neg(value)

    def negation(self, value: Any) -> Any:
        """Whether a condition does not hold."""
        return self.builder.not_(self.cast(value, BOOL))

    def power(self, base: Any, exponent: Any) -> Any:
        """base ** exponent; whole exponents by squaring."""
        if isinstance(exponent, int):  # by squaring
            base = self.cast(base, DOUBLE)
            result, k = None, abs(exponent)
            while k:
                if k & 1:
                    result = base if result is None else self.builder.fmul(result, base, flags=self.flags)
                k >>= 1
                if k:
                    base = self.builder.fmul(base, base, flags=self.flags)
            result = self.cast(1.0, DOUBLE) if result is None else result
            return result if exponent >= 0 else self.builder.fdiv(self.cast(1.0, DOUBLE), result)
        return self.intrinsic("pow", base, exponent)

    def intrinsic(self, name: str, *args: Any) -> Any:
        """A function that LLVM knows."""
        function = self.module.declare_intrinsic(
            f"llvm.{name}", [DOUBLE], ir.FunctionType(DOUBLE, [DOUBLE] * len(args))
        )
        return self.builder.call(function, [self.cast(a, DOUBLE) for a in args])

    def library(self, name: str, z: Any) -> Any:
        """A function of the C library."""
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(DOUBLE, [DOUBLE]), name=name)
            function.attributes.add("nounwind")
        return self.builder.call(function, [self.cast(z, DOUBLE)])

    def joined(self, is_and: bool, parts: Sequence[Any]) -> Any:
        """Whether all of the conditions hold, or any."""
        join = self.builder.and_ if is_and else self.builder.or_
        result, *others = (self.cast(part, BOOL) for part in parts)
        for other in others:
            result = join(result, other)
        return result

    def compared(self, kinds: Sequence[str], sides: Sequence[Any]) -> Any:
        """a < b, and chains of such, of the comparisons that ``ast`` calls by these names."""
        result = None
        names = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!="}
        for kind, a, b in zip(kinds, sides[:-1], sides[1:], strict=True):
            name = names[kind]
            if self.is_float(a) or self.is_float(b):
                make = self.builder.fcmp_unordered if name == "!=" else self.builder.fcmp_ordered
                held = make(name, self.cast(a, DOUBLE), self.cast(b, DOUBLE))
            else:
                held = self.builder.icmp_signed(name, self.cast(a, INT), self.cast(b, INT))
            result = held if result is None else self.builder.and_(result, held)
        return result

    def select(self, condition: Any, yes: Any, no: Any) -> Any:
        """The one if the condition holds, else the other."""
        if isinstance(condition, bool | int | float):
            return yes if condition else no
        kind = DOUBLE if self.is_float(yes) or self.is_float(no) else INT
        return self.builder.select(self.cast(condition, BOOL), self.cast(yes, kind), self.cast(no, kind))

    def extreme(self, sign: str, a: Any, b: Any) -> Any:
        """The smaller ("<") or the larger (">") of two numbers; the first where they are not ordered."""
        a, b = self.cast(a, DOUBLE), self.cast(b, DOUBLE)
        return self.builder.select(self.builder.fcmp_ordered(sign, b, a), b, a)
