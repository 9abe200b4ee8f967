"""Texts with arrays: shapes are checked operator by operator, products and sums taken out.

What is elementwise is left to the reader of formulas.

    expression  ::=  as in ctrnn.fields.expressions  |  A @ v | v @ A | A @ B | A.T | outer(u, v)
                     |  dot(u, v) | sum(v) | mean(v) | v[2] | v[a:b] | A[i, j]

The text is walked twice: for the shape of every part of it, so that a mistake is reported where it stands; then for its
meaning, in which a product is a symbol of its own to the formula around it. Nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ctrnn.errors import ExpressionError
from ctrnn.fields.arrays.values import Affine, Builder, Gathered, Product, Shape, Value
from ctrnn.fields.expressions import _Reader

#: name -> how many arguments
ARRAY_FUNCTIONS: Mapping[str, int] = {"outer": 2, "dot": 2, "sum": 1, "mean": 1}


def shown(shape: Shape) -> str:
    """A shape in words.

    >>> shown(()), shown((3,)), shown((3, 4))
    ('a scalar', '(3,)', '(3, 4)')
    """
    return str(shape) if shape else "a scalar"


class ArrayReader(_Reader):
    """One text in named values: ``read`` gives the value it stands for."""

    forbidden = "\\#'\"`$!;{}"

    def __init__(self, text: str, named: Mapping[str, Value], builder: Builder, where: str) -> None:
        super().__init__(text, {name: builder.symbol(value) for name, value in named.items()}, where)
        self.named, self.builder = named, builder
        self._shapes: dict[int, Shape] = {}

    def read(self) -> Value:
        """The value of the text; raises ExpressionError, with the place."""
        shape = self.shape(self.tree)
        return self.builder.formula(self.expression(self.tree, 0), shape)

    # --- shapes

    def shape(self, node: ast.expr) -> Shape:
        """The shape of a part of the text. What is no formula at all is left to the second walk, and a scalar here."""
        if id(node) not in self._shapes:
            self._shapes[id(node)] = self._shape_of(node)
        return self._shapes[id(node)]

    def _shape_of(self, node: ast.expr) -> Shape:
        if isinstance(node, ast.Name):
            if node.id not in self.named:
                self.name(node)  # raises where it is no constant either
                return ()
            return self.named[node.id].shape
        if isinstance(node, ast.UnaryOp):
            return self.shape(node.operand)
        if isinstance(node, ast.BinOp):
            return self._of_operator(node)
        if isinstance(node, ast.Attribute):
            return self._of_transpose(node)
        if isinstance(node, ast.Subscript):
            return self._of_part(node)[1]
        if isinstance(node, ast.IfExp):
            return self._common("if", node, node.test, node.body, node.orelse)
        if isinstance(node, ast.Compare):
            return self._common("a comparison", node, node.left, *node.comparators)
        if isinstance(node, ast.BoolOp):
            return self._common("and, or", node, *node.values)
        if isinstance(node, ast.Call):
            return self._of_call(node)
        return ()

    def _common(self, what: str, node: ast.expr, *operands: ast.expr) -> Shape:
        """The one shape of elementwise operands, of which any may be scalars."""
        common: Shape = ()
        for operand in operands:
            shape = self.shape(operand)
            if shape and common and shape != common:
                raise self._mismatch(what, node, common, shape, "the same shape, or a scalar with an array")
            common = common or shape
        return common

    def _mismatch(
        self, what: str, node: ast.AST | int, a: Shape, b: Shape | None, allowed: str, hint: str = ""
    ) -> ExpressionError:
        given = shown(a) if b is None else f"{shown(a)} and {shown(b)}"
        return self.error(f"{what}: shapes {given} do not fit", node, allowed=allowed, hint=hint)

    def _of_operator(self, node: ast.BinOp) -> Shape:
        # a long sum is a deep tree: its operands first, from the left
        chain: list[ast.BinOp] = [node]
        while isinstance(chain[-1].left, ast.BinOp) and id(chain[-1].left) not in self._shapes:
            chain.append(chain[-1].left)
        for inner in reversed(chain):
            self._shapes[id(inner)] = self._of_pair(inner)
        return self._shapes[id(node)]

    def _of_pair(self, node: ast.BinOp) -> Shape:
        a, b = self.shape(node.left), self.shape(node.right)
        place, sign = self._operator(node)
        if not isinstance(node.op, ast.MatMult):
            if a and b and a != b:
                allowed = "the same shape, or a scalar with an array"
                hint = "@ for a matrix product" if isinstance(node.op, ast.Mult) and len(a) + len(b) > 2 else ""
                raise self._mismatch(repr(sign), place, a, b, allowed, hint)
            return a or b
        if not a or not b:
            raise self._mismatch("'@'", place, a, b, "a matrix and a vector, or two of either", "* with a scalar")
        if a[-1] != b[0]:
            allowed = f"{a[-1]} columns on the left and as many rows on the right"
            raise self._mismatch("'@'", place, a, b, allowed, self._transposed(node, a, b))
        return a[:-1] + b[1:]

    def _transposed(self, node: ast.BinOp, a: Shape, b: Shape) -> str:
        if len(a) == 2 and a[0] == b[0]:
            return f"{self._text(node.left)}.T @ ..."
        return f"... @ {self._text(node.right)}.T" if len(b) == 2 and b[1] == a[-1] else ""

    def _text(self, node: ast.expr) -> str:
        text = ast.unparse(node)
        return text if isinstance(node, ast.Name) else f"({text})"

    def _operator(self, node: ast.BinOp) -> tuple[int, str]:
        """Where the operator between two operands stands, and what it is."""
        after = self._column(node.left, end=True)
        sign = re.search(r"[^\s()]+", self.text[after : self._column(node.right)])
        return (after + sign.start(), sign.group()) if sign else (after, "this operator")

    def _of_transpose(self, node: ast.Attribute) -> Shape:
        shape = self.shape(node.value)
        if node.attr != "T":
            place = self._column(node.value, end=True)
            raise self.error(f"an attribute (.{node.attr}) has no place in a formula", place, allowed=".T of a matrix")
        if len(shape) != 2:
            hint = "outer(u, v) or dot(u, v)" if shape else ""
            raise self._mismatch(".T", self._column(node.value, end=True), shape, None, "a matrix", hint)
        return shape[::-1]

    def _of_call(self, node: ast.Call) -> Shape:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in ARRAY_FUNCTIONS:
            return self._common(name or "a function", node, *node.args)
        if node.keywords:
            raise self.error("a named argument has no place in a formula", node.keywords[0])
        count = ARRAY_FUNCTIONS[name]
        if len(node.args) != count:
            raise self.error(f"{name} with {len(node.args)} arguments", node, allowed=str(count))
        shapes = [self.shape(a) for a in node.args]
        if name in ("sum", "mean"):
            if not shapes[0]:
                raise self._mismatch(name, node, shapes[0], None, "a vector or a matrix")
            return ()
        if len(shapes[0]) != 1 or len(shapes[1]) != 1 or (name == "dot" and shapes[0] != shapes[1]):
            allowed = "two vectors" + (" of one length" if name == "dot" else "")
            raise self._mismatch(name, node, shapes[0], shapes[1], allowed)
        return () if name == "dot" else shapes[0] + shapes[1]

    def _of_part(self, node: ast.Subscript) -> tuple[list[tuple[int, int, bool]], Shape]:
        """Of an index: for each axis from where to where and whether the axis goes; and the shape."""
        shape = self.shape(node.value)
        indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        place = self._column(node.value, end=True)
        if not shape or len(indices) > len(shape):
            allowed = f"at most {len(shape)} indices" if shape else "an index of a vector or a matrix"
            raise self._mismatch("an index", place, shape, None, allowed)
        ranges, kept = [], []
        for axis, size in enumerate(shape):
            index = indices[axis] if axis < len(indices) else ast.Slice()
            if isinstance(index, ast.Slice):
                if index.step is not None:
                    raise self.error("a slice with a step", place, allowed="a:b")
                low, high = (self._whole(e, place) for e in (index.lower, index.upper))
                begin, end, _ = slice(low, high).indices(size)
                if end <= begin:
                    raise self.error(f"an empty slice of {size} numbers", place, allowed=f"a < b in 0 to {size}")
                for bound in (low, high):
                    if bound is not None and not -size <= bound <= size:
                        raise self.error(f"{bound} is outside {size} numbers", place, allowed=f"0 to {size}")
                ranges.append((begin, end, False))
                kept.append(end - begin)
            else:
                i = self._whole(index, place)
                if i is None or not -size <= i < size:
                    raise self.error(f"index {i} of {size} numbers", place, allowed=f"0 to {size - 1}")
                ranges.append((i % size, i % size + 1, True))
        return ranges, tuple(kept)

    def _whole(self, node: ast.expr | None, place: int) -> int | None:
        if node is None:
            return None
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            node, sign = node.operand, -1
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return sign * node.value
        raise self.error("an index that is not a whole number", place, allowed="v[2], v[a:b], A[i, j] with numbers")

    # --- meanings

    def value_at(self, node: ast.expr, depth: int) -> Value:
        """A part of the text as a value, for products and the like."""
        return self.builder.formula(self.expression(node, depth), self.shape(node))

    def expression(self, node: ast.expr, depth: int) -> Any:
        """As of scalars, with what makes arrays taken out first."""
        made = self._array(node, depth + 1)
        return super().expression(node, depth) if made is None else self.builder.symbol(made)

    def _array(self, node: ast.expr, depth: int) -> Value | None:
        """The value of a product, a transpose, a part or a function of arrays; None for anything else."""
        build = self.builder
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            return build.product(self.value_at(node.left, depth), self.value_at(node.right, depth), self.shape(node))
        if isinstance(node, ast.Attribute):
            return build.turned(self.value_at(node.value, depth))
        if isinstance(node, ast.Subscript):
            return self._part(self.value_at(node.value, depth), self._of_part(node)[0], self.shape(node))
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if name not in ARRAY_FUNCTIONS or name in self.named:
            return None
        assert isinstance(node, ast.Call)
        a, *rest = (self.value_at(argument, depth) for argument in node.args)
        if name in ("dot", "outer"):
            return build.product(a, rest[0], self.shape(node), outer=name == "outer")
        total = build.sum(a)
        return total if name == "sum" else build.formula(build.symbol(total) / a.size, ())

    def _part(self, a: Value, ranges: list[tuple[int, int, bool]], shape: Shape) -> Value:
        build = self.builder
        if len(ranges) == 1:
            return build.part(a, ranges[0][0], shape)
        (top, bottom, one_row), (left, right, one_column) = ranges
        rows, columns = bottom - top, right - left
        width = a.shape[1]
        if columns < width and rows > 1:  # columns are rows of the transpose
            turned = build.part(build.turned(a), left * a.shape[0], (columns, a.shape[0]))
            return self._part(build.turned(turned), [(top, bottom, one_row), (0, columns, one_column)], shape)
        lies = build.part(a, top * width + left, (rows, columns))
        return lies if shape == lies.shape else build.part(lies, 0, shape)

    def chain(self, node: ast.BinOp, kinds: tuple[type, type], depth: int) -> list[Any]:
        """The terms of a sum, in which products W @ s and a bias are one."""
        terms = super().chain(node, kinds, depth)
        shape = self.shape(node)
        if ast.Add not in kinds or len(shape) != 1:
            return terms
        values = [self.builder.of(term) if term.op == "name" else None for term in terms]
        products = [v for v in values if v is not None and v.shape == shape and _is_product(v)]
        biases = [v for v in values if v is not None and v.shape == shape and v.is_weight]
        if not products:
            return terms
        gathered = dict.fromkeys(products + biases)
        rest = [t for t, v in zip(terms, values, strict=True) if v not in gathered]
        # a product that stands there twice stays twice
        more = [self.builder.symbol(v) for v in products + biases]
        for v in gathered:
            more.remove(self.builder.symbol(v))
        return [*rest, *more, self.builder.symbol(self.builder.gathered(tuple(gathered), shape))]

    def unknown(self, what: str, node: ast.Name, known: Sequence[str]) -> ExpressionError:
        """The error of an unknown name, which knows the functions of arrays."""
        return super().unknown(what, node, [*known, *(ARRAY_FUNCTIONS if what == "function" else ())])


def _is_product(value: Value) -> bool:
    step = value.step
    return isinstance(step, Gathered | Affine) or (isinstance(step, Product) and step.is_affine)
