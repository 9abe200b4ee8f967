"""Sums over rows of LANES numbers, the running sum in registers.

A loop over lanes inside another loop is not compiled to that by itself.

    row_dot      out = Σ_i a_i b_i + c     a, b (count, L), c (L,)                    2 L flops, two rows read, an i
    row_sum      out = Σ_i c_i k_i         c (count,), k (count, stride) of which L   2 L flops, one row, a c_i ≠ 0
    row_step     out = r + h Σ_i c_i k_i   r, h (L,)                                  2 L more

LLVM cuts a row into vectors as long as the processor's: four of 512 bits, sixteen of 128. a·b + c is one operation
where there is one. Arguments are addresses; a row that c_i = 0 multiplies is not read, so that it may hold anything.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ctrnn.kernels.abi import LANES

_DOUBLE, _WORD = ir.DoubleType(), ir.IntType(64)
_ROW = ir.VectorType(_DOUBLE, LANES)
_CONTRACT = ("contract",)
_i = types.int64


def _at(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    """A pointer to what lies ``offset`` doubles behind an address."""
    return builder.inttoptr(builder.add(address, builder.mul(offset, _WORD(8))), kind.as_pointer())


def _sum(builder: Any, count: Any, term: Any) -> Any:
    """Σ_i of what ``term`` adds to the sum so far."""
    total = cgutils.alloca_once_value(builder, ir.Constant(_ROW, [0.0] * LANES))
    with cgutils.for_range(builder, count) as loop:
        term(loop.index, total)
    return builder.load(total)


def _load(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _ROW.as_pointer()), align=8)


def _store(builder: Any, row: Any, address: Any) -> None:
    builder.store(row, builder.inttoptr(address, _ROW.as_pointer()), align=8)


def _add(builder: Any, total: Any, a: Any, b: Any) -> None:
    product = builder.fmul(a, b, flags=_CONTRACT)
    builder.store(builder.fadd(builder.load(total), product, flags=_CONTRACT), total)


def _combination(builder: Any, count: Any, c: Any, k: Any, stride: Any) -> Any:
    """Σ_i c_i k_i."""

    def term(i: Any, total: Any) -> None:
        factor = builder.load(_at(builder, c, i, _DOUBLE))
        with builder.if_then(builder.fcmp_unordered("!=", factor, _DOUBLE(0.0))):
            one = builder.insert_element(ir.Constant(_ROW, ir.Undefined), factor, ir.IntType(32)(0))
            every = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
            _add(builder, total, every, builder.load(_at(builder, k, builder.mul(i, stride), _ROW), align=8))

    return _sum(builder, count, term)


@intrinsic
def row_dot(typingctx, count, a, b, c, out):
    """out = Σ_i a_i b_i + c."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, a, b, c, out = arguments

        def term(i: Any, total: Any) -> None:
            offset = builder.mul(i, _WORD(LANES))
            _add(builder, total, *(builder.load(_at(builder, rows, offset, _ROW), align=8) for rows in (a, b)))

        _store(builder, builder.fadd(_sum(builder, count, term), _load(builder, c)), out)
        return context.get_dummy_value()

    return types.void(_i, _i, _i, _i, _i), codegen


@intrinsic
def row_sum(typingctx, count, c, k, stride, out):
    """out = Σ_i c_i k_i, with k_i at i · stride doubles behind k."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _store(builder, _combination(builder, *arguments[:4]), arguments[4])
        return context.get_dummy_value()

    return types.void(_i, _i, _i, _i, _i), codegen


@intrinsic
def row_step(typingctx, count, c, k, stride, h, r, out):
    """out = r + h Σ_i c_i k_i."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, (h, r, out) = _combination(builder, *arguments[:4]), arguments[4:]
        change = builder.fmul(_load(builder, h), total, flags=_CONTRACT)
        _store(builder, builder.fadd(_load(builder, r), change, flags=_CONTRACT), out)
        return context.get_dummy_value()

    return types.void(_i, _i, _i, _i, _i, _i, _i), codegen
