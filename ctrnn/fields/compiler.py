"""A small compiler for the small part of Python that generated functions are written in: from syntax trees to LLVM.

    name = expression      a[i, j] = expression      a[i] += expression      for i in range(n): …      if condition: …
    views of addresses     r = doubles(r_, (3, q))   k = integers(ctx_, 8)   c = scratch(40)   j = table((0, 2, 5))

Expressions are numbers, names, a[i, j], + − * / ** << >>, comparisons, ``a if c else b`` (both are computed, one is
chosen), ``math.tanh(z)`` and the like, min, max, abs, and the functions of ctrnn.kernels.functions and
ctrnn.kernels.elementwise, which are written out in their place. Types need not be found: all numbers are float64, but
for counts, indices and addresses.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

_DOUBLE, _INT, _BOOL = ir.DoubleType(), ir.IntType(64), ir.IntType(1)
_LLVM = {types.int64: _INT, types.float64: _DOUBLE}
_INTRINSICS = ("exp", "log", "sin", "cos", "sqrt", "fabs")
_LIBRARY = ("tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "log1p", "expm1")


class _View(NamedTuple):
    """An array at a pointer; row by row."""

    name: str
    pointer: Any
    shape: tuple[Any, ...]
    kind: Any


@lru_cache(maxsize=64)
def _definition(function: Any) -> ast.FunctionDef:
    """The syntax tree of a function that is written out where it is called."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return tree


class Compiler:
    """One function. Values are Python numbers, where they are known, or LLVM's."""

    def __init__(
        self, module: Any, function: Callable[..., None], signature: Any, contract: bool, body: ast.FunctionDef
    ) -> None:
        self.module, self.body = module, body
        self.globals = function.__globals__
        self.flags = ("contract",) if contract else ()
        kind = ir.FunctionType(ir.VoidType(), [_LLVM[a] for a in signature.args])
        self.function = ir.Function(module, kind, name=function.__name__)
        self.function.attributes.add("nounwind")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.values: dict[str, Any] = dict(zip([a.arg for a in body.args.args], self.function.args, strict=True))
        self.written = {
            node.value.id
            for node in ast.walk(body)
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)
        }
        #: numbers that were read already, by view and index
        self.read: dict[tuple[str, tuple[int, ...]], Any] = {}

    def run(self) -> None:
        """Compile the whole body."""
        self.statements(self.body.body)
        self.builder.ret_void()

    def refuse(self, node: ast.AST) -> NotImplementedError:
        """The error for what is outside the language."""
        return NotImplementedError(f"{self.body.name}, line {getattr(node, 'lineno', 0)}: {ast.unparse(node)[:200]}")

    # --- statements

    def statements(self, nodes: Sequence[ast.stmt]) -> None:
        """One statement after another."""
        for node in nodes:
            self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        """One statement."""
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            self.assign(node.targets[0], node.value)
        elif isinstance(node, ast.AugAssign):
            load = ast.parse(ast.unparse(node.target), mode="eval").body
            self.assign(node.target, ast.BinOp(load, node.op, node.value))
        elif isinstance(node, ast.For):
            self.loop(node)
        elif isinstance(node, ast.If):
            self.branch(node)
        elif not isinstance(node, ast.Pass) and not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            raise self.refuse(node)

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        """A name, or an entry of an array, gets a value."""
        if isinstance(target, ast.Name):
            found = self.value(value)
            if isinstance(found, _View):
                found = found._replace(name=target.id)
                self.read = {key: value for key, value in self.read.items() if key[0] != target.id}
            self.values[target.id] = found
        elif isinstance(target, ast.Tuple):
            for part, found in zip(target.elts, self.value(value), strict=True):
                if not isinstance(part, ast.Name):
                    raise self.refuse(target)
                self.values[part.id] = found
        elif isinstance(target, ast.Subscript):
            view = self.value(target.value)
            if isinstance(target.slice, ast.Slice):
                self.fill(view, self.value(value))
            else:
                pointer = self.pointer(view, self.index(target.slice))
                self.promise(self.builder.store(self.cast(self.value(value), view.kind), pointer), view)
        else:
            raise self.refuse(target)

    def fill(self, view: _View, value: Any) -> None:
        """Every entry of an array gets a value."""
        size: Any = 1
        for length in view.shape:
            size = self.arithmetic(ast.Mult(), size, length)
        flat = view._replace(shape=(size,))
        with self.counted(0, size) as i:
            self.builder.store(self.cast(value, view.kind), self.pointer(flat, (i,)))

    def loop(self, node: ast.For) -> None:
        """``for i in range(…)``."""
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            raise self.refuse(node)
        assert isinstance(node.target, ast.Name)
        bounds = [self.value(a) for a in call.args]
        first, last = bounds if len(bounds) == 2 else (0, bounds[0])
        with self.counted(first, last) as i:
            self.values[node.target.id] = i
            self.statements(node.body)

    def counted(self, first: Any, last: Any) -> _Loop:
        """A loop over whole numbers, as a context."""
        return _Loop(self, self.cast(first, _INT), self.cast(last, _INT))

    def branch(self, node: ast.If) -> None:
        """``if``, and the names that either side has changed."""
        condition = self.cast(self.value(node.test), _BOOL)
        before, read = dict(self.values), dict(self.read)
        with self.builder.if_else(condition) as (yes, no):
            for part, body in ((yes, node.body), (no, node.orelse)):
                with part:
                    self.values, self.read = dict(before), dict(read)
                    self.statements(body)
        self.values, self.read = before, read

    # --- places

    def index(self, node: ast.expr) -> tuple[Any, ...]:
        """The indices in brackets."""
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        return tuple(self.value(part) for part in parts)

    def pointer(self, view: _View, index: tuple[Any, ...]) -> Any:
        """Where an entry lies."""
        if len(index) != len(view.shape):
            raise NotImplementedError(f"{self.body.name}: {view.name} has {len(view.shape)} indices")
        at: Any = index[0]
        for i, length in zip(index[1:], view.shape[1:], strict=True):
            at = self.arithmetic(ast.Add(), self.arithmetic(ast.Mult(), at, length), i)
        return self.builder.gep(view.pointer, [self.cast(at, _INT)], inbounds=True)

    def load(self, view: _View, index: tuple[Any, ...]) -> Any:
        """An entry; one that cannot have changed is read once."""
        known = view.name not in self.written and all(isinstance(i, int) for i in index)
        if known and (found := self.read.get((view.name, index))) is not None:
            return found
        value = self.builder.load(self.pointer(view, index))
        self.promise(value, view)
        if known:
            self.read[view.name, index] = value
        return value

    def promise(self, access: Any, view: _View) -> None:
        """Promise LLVM, in loops, that what is written is never read or written under another name.

        Else it compares addresses, and gives up beyond some twenty arrays.
        """
        if not self.flags:
            return
        domain = self.module.add_metadata([ir.MetaDataString(self.module, "views")])
        scopes = {
            name: self.module.add_metadata([ir.MetaDataString(self.module, name), domain])
            for name in ("in", *sorted(self.written))
        }
        own = view.name if view.name in self.written else "in"
        access.set_metadata("alias.scope", self.module.add_metadata([scopes[own]]))
        access.set_metadata("noalias", self.module.add_metadata([s for name, s in scopes.items() if name != own]))

    def view(self, node: ast.Call, kind: Any) -> _View:
        """An address seen as an array."""
        address, shape = node.args
        lengths = shape.elts if isinstance(shape, ast.Tuple) else [shape]
        pointer = self.builder.inttoptr(self.cast(self.value(address), _INT), kind.as_pointer())
        return _View(ast.unparse(node), pointer, tuple(self.value(n) for n in lengths), kind)

    def scratch(self, node: ast.Call) -> _View:
        """Working memory on the stack."""
        size = self.value(node.args[0])
        with self.builder.goto_entry_block():
            pointer = self.builder.alloca(_DOUBLE, ir.Constant(_INT, size))
        return _View("", pointer, (size,), _DOUBLE)

    def table(self, node: ast.Call) -> _View:
        """A constant array of whole numbers."""
        numbers = ast.literal_eval(node.args[0])
        array = ir.Constant(ir.ArrayType(_INT, len(numbers)), list(numbers))
        variable = ir.GlobalVariable(self.module, array.type, name=self.module.get_unique_name("table"))
        variable.initializer, variable.global_constant, variable.linkage = array, True, "internal"
        return _View("", self.builder.bitcast(variable, _INT.as_pointer()), (len(numbers),), _INT)

    # --- expressions

    def value(self, node: ast.expr) -> Any:
        """The value of an expression: a Python number where it is known now."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.named(node)
        if isinstance(node, ast.BinOp):
            return self.binary(node)
        if isinstance(node, ast.Subscript):
            return self.load(self.value(node.value), self.index(node.slice))
        if isinstance(node, ast.UnaryOp):
            return self.unary(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.IfExp):
            return self.select(self.value(node.test), self.value(node.body), self.value(node.orelse))
        if isinstance(node, ast.Compare):
            return self.comparison(node)
        if isinstance(node, ast.BoolOp):
            join = self.builder.and_ if isinstance(node.op, ast.And) else self.builder.or_
            parts = [self.cast(self.value(v), _BOOL) for v in node.values]
            result = parts[0]
            for part in parts[1:]:
                result = join(result, part)
            return result
        if isinstance(node, ast.Attribute):
            return getattr(self.globals[node.value.id], node.attr)  # type: ignore[attr-defined]
        if isinstance(node, ast.Tuple):
            return tuple(self.value(e) for e in node.elts)
        raise self.refuse(node)

    def named(self, node: ast.Name) -> Any:
        """The value of a name."""
        if node.id in self.values:
            return self.values[node.id]
        found = self.globals.get(node.id)
        if not isinstance(found, int | float):
            raise self.refuse(node)
        return found

    def is_float(self, value: Any) -> bool:
        """Whether a value is a float64."""
        return isinstance(value, float) or getattr(value, "type", None) == _DOUBLE

    def cast(self, value: Any, kind: Any) -> Any:
        """A value as another type."""
        if isinstance(value, bool | int | float):
            return ir.Constant(kind, float(value) if kind == _DOUBLE else int(value))
        if value.type == kind:
            return value
        if kind == _DOUBLE:
            return (self.builder.uitofp if value.type == _BOOL else self.builder.sitofp)(value, _DOUBLE)
        if kind == _INT and value.type == _BOOL:
            return self.builder.zext(value, _INT)
        if kind == _BOOL and value.type == _INT:
            return self.builder.icmp_signed("!=", value, ir.Constant(_INT, 0))
        raise NotImplementedError(f"{self.body.name}: {value.type} as {kind}")

    def binary(self, node: ast.BinOp) -> Any:
        """An operation on two values."""
        a, b = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Pow):
            return self.power(a, b)
        return self.arithmetic(node.op, a, b)

    def arithmetic(self, op: ast.operator, a: Any, b: Any) -> Any:
        """a op b; numbers that are known are worked out now."""
        kind = type(op).__name__
        if isinstance(a, int | float) and isinstance(b, int | float):
            if kind == "Div":
                return math.copysign(math.inf, a) if b == 0 and a else a / b if b else math.nan
            return {
                "Add": lambda: a + b, "Sub": lambda: a - b, "Mult": lambda: a * b,
                "LShift": lambda: a << b, "RShift": lambda: a >> b,  # type: ignore[operator]
            }[kind]()  # fmt: skip
        if self.is_float(a) or self.is_float(b) or kind == "Div":
            make = {"Add": "fadd", "Sub": "fsub", "Mult": "fmul", "Div": "fdiv"}[kind]
            return getattr(self.builder, make)(self.cast(a, _DOUBLE), self.cast(b, _DOUBLE), flags=self.flags)
        if kind in ("LShift", "RShift"):
            return getattr(self.builder, "shl" if kind == "LShift" else "ashr")(self.cast(a, _INT), self.cast(b, _INT))
        if (kind == "Mult" and 0 in (a, b)) or (kind == "Add" and a == 0 and isinstance(a, int)):
            return 0 if kind == "Mult" else b
        make = {"Add": "add", "Sub": "sub", "Mult": "mul"}[kind]
        # the bits of a float64 may overflow, addresses do not
        return getattr(self.builder, make)(self.cast(a, _INT), self.cast(b, _INT))

    def unary(self, node: ast.UnaryOp) -> Any:
        """An operation on one value."""
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return self.builder.not_(self.cast(value, _BOOL))
        if isinstance(value, int | float):
            return -value
        if self.is_float(value):
            return self.builder.fneg(value)
        return self.builder.neg(value)

    def power(self, base: Any, exponent: Any) -> Any:
        """base ** exponent; whole exponents by squaring."""
        if isinstance(exponent, int):  # by squaring
            base = self.cast(base, _DOUBLE)
            result, k = None, abs(exponent)
            while k:
                if k & 1:
                    result = base if result is None else self.builder.fmul(result, base, flags=self.flags)
                k >>= 1
                if k:
                    base = self.builder.fmul(base, base, flags=self.flags)
            result = self.cast(1.0, _DOUBLE) if result is None else result
            return result if exponent >= 0 else self.builder.fdiv(self.cast(1.0, _DOUBLE), result)
        return self.intrinsic("pow", base, exponent)

    def intrinsic(self, name: str, *args: Any) -> Any:
        """A function that LLVM knows."""
        function = self.module.declare_intrinsic(
            f"llvm.{name}", [_DOUBLE], ir.FunctionType(_DOUBLE, [_DOUBLE] * len(args))
        )
        return self.builder.call(function, [self.cast(a, _DOUBLE) for a in args])

    def library(self, name: str, z: Any) -> Any:
        """A function of the C library."""
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(_DOUBLE, [_DOUBLE]), name=name)
            function.attributes.add("nounwind")
        return self.builder.call(function, [self.cast(z, _DOUBLE)])

    def comparison(self, node: ast.Compare) -> Any:
        """a < b, and chains of such."""
        sides = [self.value(v) for v in (node.left, *node.comparators)]
        result = None
        names = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!="}
        for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True):
            name = names[type(op).__name__]
            if self.is_float(a) or self.is_float(b):
                make = self.builder.fcmp_unordered if name == "!=" else self.builder.fcmp_ordered
                held = make(name, self.cast(a, _DOUBLE), self.cast(b, _DOUBLE))
            else:
                held = self.builder.icmp_signed(name, self.cast(a, _INT), self.cast(b, _INT))
            result = held if result is None else self.builder.and_(result, held)
        return result

    def select(self, condition: Any, yes: Any, no: Any) -> Any:
        """The one if the condition holds, else the other."""
        if isinstance(condition, bool | int | float):
            return yes if condition else no
        kind = _DOUBLE if self.is_float(yes) or self.is_float(no) else _INT
        return self.builder.select(self.cast(condition, _BOOL), self.cast(yes, kind), self.cast(no, kind))

    def call(self, node: ast.Call) -> Any:
        """A function of ``math``, of the language or of the module."""
        if isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "math"):
                raise self.refuse(node)
            args = [self.value(a) for a in node.args]
            if name in _INTRINSICS:
                return self.intrinsic(name, *args)
            if name == "copysign":
                return self.intrinsic("copysign", *args)
            if name in _LIBRARY:
                return self.library(name, *args)
            raise self.refuse(node)
        if not isinstance(node.func, ast.Name):
            raise self.refuse(node)
        name = node.func.id
        if name in ("doubles", "integers"):
            return self.view(node, _DOUBLE if name == "doubles" else _INT)
        if name == "scratch":
            return self.scratch(node)
        if name == "table":
            return self.table(node)
        args = [self.value(a) for a in node.args]
        if name == "abs":
            return self.intrinsic("fabs", *args)
        if name in ("min", "max"):
            a, b = (self.cast(v, _DOUBLE) for v in args)
            return self.builder.select(self.builder.fcmp_ordered("<" if name == "min" else ">", b, a), b, a)
        if name in ("_bits", "_float"):
            from_, to = (_DOUBLE, _INT) if name == "_bits" else (_INT, _DOUBLE)
            return self.builder.bitcast(self.cast(args[0], from_), to)
        function: Any = self.globals.get(name)
        if not hasattr(function, "py_func"):
            raise self.refuse(node)
        return self.inlined(function.py_func, args)

    def inlined(self, function: Any, args: list[Any]) -> Any:
        """The value of a function of one expression, written in place."""
        definition = _definition(function)
        outer = self.values, self.globals
        self.values = dict(zip([a.arg for a in definition.args.args], args, strict=True))
        self.globals = function.__globals__
        result = self.returned(definition.body)
        self.values, self.globals = outer
        return result

    def returned(self, nodes: Sequence[ast.stmt]) -> Any:
        """The value of a function's body; of ``if condition: return a`` both ends are computed and one is chosen."""
        for k, node in enumerate(nodes):
            if isinstance(node, ast.Return) and node.value is not None:
                return self.value(node.value)
            if isinstance(node, ast.If):
                condition = self.value(node.test)
                if isinstance(condition, bool | int | float):
                    return self.returned([*(node.body if condition else node.orelse), *nodes[k + 1 :]])
                values = dict(self.values)
                yes = self.returned(node.body)
                self.values = values
                return self.select(condition, yes, self.returned([*node.orelse, *nodes[k + 1 :]]))
            self.statement(node)
        raise NotImplementedError(f"{self.body.name}: a function that returns nothing")


class _Loop:
    """``with`` this, the compiler writes the body of a loop i = first … last − 1.

    Names made inside are not seen after it.
    """

    def __init__(self, compiler: Compiler, first: Any, last: Any) -> None:
        self.compiler, self.first, self.last = compiler, first, last

    def __enter__(self) -> Any:
        builder, function = self.compiler.builder, self.compiler.function
        self.body, self.end = function.append_basic_block("body"), function.append_basic_block("end")
        before = builder.block
        builder.cbranch(builder.icmp_signed("<", self.first, self.last), self.body, self.end)
        builder.position_at_end(self.body)
        self.i = builder.phi(_INT)
        self.i.add_incoming(self.first, before)
        self.outer = dict(self.compiler.values), dict(self.compiler.read)
        return self.i

    def __exit__(self, *_: Any) -> None:
        builder = self.compiler.builder
        following = builder.add(self.i, ir.Constant(_INT, 1), flags=("nsw", "nuw"))
        self.i.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, self.last), self.body, self.end)
        builder.position_at_end(self.end)
        self.compiler.values, self.compiler.read = self.outer
