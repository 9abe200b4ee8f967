"""A small compiler for the small part of Python that generated functions are written in: from syntax trees to LLVM.

    name = expression      a[i, j] = expression      a[i] += expression      for i in range(n): …      if condition: …
    views of addresses     r = doubles(r_, (3, q))   k = integers(ctx_, 8)   c = scratch(40)   j = table((0, 2, 5))

Expressions are numbers, names, a[i, j], + − * / ** << >>, comparisons, ``a if c else b`` (both are computed, one is
chosen), ``math.tanh(z)`` and the like, min, max, abs, and the functions of ctrnn.kernels.functions and
ctrnn.kernels.elementwise, which are written out in their place. Types need not be found: all numbers are float64, but
for counts, indices and addresses. This file walks the tree; ctrnn.fields.instructions writes what the walk meets.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

from ctrnn.fields.instructions import BOOL, DOUBLE, INT, Instructions

_LLVM = {types.int64: INT, types.float64: DOUBLE}
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
        kind = ir.FunctionType(ir.VoidType(), [_LLVM[a] for a in signature.args])
        self.function = ir.Function(module, kind, name=function.__name__)
        self.function.attributes.add("nounwind")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.make = Instructions(module, self.builder, body.name, contract)
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
                self.promise(self.builder.store(self.make.cast(self.value(value), view.kind), pointer), view)
        else:
            raise self.refuse(target)

    def fill(self, view: _View, value: Any) -> None:
        """Every entry of an array gets a value."""
        size: Any = 1
        for length in view.shape:
            size = self.make.operation("Mult", size, length)
        flat = view._replace(shape=(size,))
        with self.counted(0, size) as i:
            self.builder.store(self.make.cast(value, view.kind), self.pointer(flat, (i,)))

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
        return _Loop(self, self.make.cast(first, INT), self.make.cast(last, INT))

    def branch(self, node: ast.If) -> None:
        """``if``, and the names that either side has changed."""
        condition = self.make.cast(self.value(node.test), BOOL)
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
            at = self.make.operation("Add", self.make.operation("Mult", at, length), i)
        return self.builder.gep(view.pointer, [self.make.cast(at, INT)], inbounds=True)

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
        if not self.make.flags:
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
        pointer = self.builder.inttoptr(self.make.cast(self.value(address), INT), kind.as_pointer())
        return _View(ast.unparse(node), pointer, tuple(self.value(n) for n in lengths), kind)

    def scratch(self, node: ast.Call) -> _View:
        """Working memory on the stack."""
        size = self.value(node.args[0])
        with self.builder.goto_entry_block():
            pointer = self.builder.alloca(DOUBLE, ir.Constant(INT, size))
        return _View("", pointer, (size,), DOUBLE)

    def table(self, node: ast.Call) -> _View:
        """A constant array of whole numbers."""
        numbers = ast.literal_eval(node.args[0])
        array = ir.Constant(ir.ArrayType(INT, len(numbers)), list(numbers))
        variable = ir.GlobalVariable(self.module, array.type, name=self.module.get_unique_name("table"))
        variable.initializer, variable.global_constant, variable.linkage = array, True, "internal"
        return _View("", self.builder.bitcast(variable, INT.as_pointer()), (len(numbers),), INT)

    # --- expressions

    def value(self, node: ast.expr) -> Any:
        """The value of an expression: a Python number where it is known now."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.named(node)
        if isinstance(node, ast.BinOp):
            return self.make.operation(type(node.op).__name__, self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Subscript):
            return self.load(self.value(node.value), self.index(node.slice))
        if isinstance(node, ast.UnaryOp):
            value = self.value(node.operand)
            return self.make.negation(value) if isinstance(node.op, ast.Not) else self.make.negative(value)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.IfExp):
            return self.make.select(self.value(node.test), self.value(node.body), self.value(node.orelse))
        if isinstance(node, ast.Compare):
            sides = [self.value(v) for v in (node.left, *node.comparators)]
            return self.make.compared([type(op).__name__ for op in node.ops], sides)
        if isinstance(node, ast.BoolOp):
            return self.make.joined(isinstance(node.op, ast.And), [self.value(v) for v in node.values])
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

    def call(self, node: ast.Call) -> Any:
        """A function of ``math``, of the language or of the module."""
        if isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "math"):
                raise self.refuse(node)
            args = [self.value(a) for a in node.args]
            if name in _INTRINSICS:
                return self.make.intrinsic(name, *args)
            if name == "copysign":
                return self.make.intrinsic("copysign", *args)
            if name in _LIBRARY:
                return self.make.library(name, *args)
            raise self.refuse(node)
        if not isinstance(node.func, ast.Name):
            raise self.refuse(node)
        name = node.func.id
        if name in ("doubles", "integers"):
            return self.view(node, DOUBLE if name == "doubles" else INT)
        if name == "scratch":
            return self.scratch(node)
        if name == "table":
            return self.table(node)
        args = [self.value(a) for a in node.args]
        if name == "abs":
            return self.make.intrinsic("fabs", *args)
        if name in ("min", "max"):
            return self.make.extreme("<" if name == "min" else ">", *args)
        if name in ("_bits", "_float"):
            from_, to = (DOUBLE, INT) if name == "_bits" else (INT, DOUBLE)
            return self.builder.bitcast(self.make.cast(args[0], from_), to)
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
                return self.make.select(condition, yes, self.returned([*node.orelse, *nodes[k + 1 :]]))
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
        self.i = builder.phi(INT)
        self.i.add_incoming(self.first, before)
        self.outer = dict(self.compiler.values), dict(self.compiler.read)
        return self.i

    def __exit__(self, *_: Any) -> None:
        builder = self.compiler.builder
        following = builder.add(self.i, ir.Constant(INT, 1), flags=("nsw", "nuw"))
        self.i.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, self.last), self.body, self.end)
        builder.position_at_end(self.end)
        self.compiler.values, self.compiler.read = self.outer
