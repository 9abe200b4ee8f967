"""Products of a few rows with a matrix, C ← C + A M, whose rows do not depend on each other's company.

    C_ej ← (…((C_ej + A_e0 M_0j) + A_e1 M_1j) + …)

each sum in the order of k, a·b + c as one operation where the processor has it;
so a row comes out bit for bit the same whether it is computed alone or as one of many. (BLAS promises no such thing,
and is called at a cost of some 20 ns.)

Layout: the columns of M and C are filled up to a multiple of LANES = 8, the vector of 512 bits (two or four vectors
elsewhere), and begin at every row. A tile of R rows and V vectors of C stays in registers while k runs: R V products
for V loads of M and R of A. Four rows are bound by arithmetic, one row by the cache that holds M, of which it reads 8
bytes for 2 flops. A's elements may lie anywhere, A_ek at e and k strides: its transpose costs the same.

Flops: 2 q K n. Measured on one core of 58 GFLOP/s (its BLAS): four rows 48 at n = 16, 56 to 58 from n = 64 on; one row
45 at n = 64, and 23, the bandwidth of the second-level cache, beyond.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ctrnn.kernels.abi import LEAN, call
from ctrnn.kernels.lazy import lazy

#: numbers in a vector, to which rows are filled up
LANES = 8


def padded(n: int) -> int:
    """The width of rows of n numbers."""
    return -(-n // LANES) * LANES


@intrinsic(prefer_literal=True)
def _tile(typingctx, rows, vectors, K, A, row_stride, k_stride, M, m_stride, C, width):
    """C (rows, 8 vectors) += A (rows, K) M (K, 8 vectors), addresses; strides, and C's ``width``, are in numbers."""
    R, V = rows.literal_value, vectors.literal_value
    signature = types.void(rows, vectors, *[types.int64] * 8)

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        f64, i64, i32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
        vector = ir.VectorType(f64, LANES)
        unset, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)
        _, _, K, A, row_stride, k_stride, M, m_stride, C, width = arguments

        def offset(base: Any, stride: Any, count: Any, numbers: int = 0) -> Any:
            """base + 8 (stride · count + numbers)."""
            count = count if isinstance(count, ir.Value) else ir.Constant(i64, count)
            offset = builder.add(builder.mul(stride, count), ir.Constant(i64, numbers))
            return builder.add(base, builder.mul(offset, ir.Constant(i64, 8)))

        def vector_at(address: Any) -> Any:
            return builder.inttoptr(address, vector.as_pointer())

        ends = {(e, j): vector_at(offset(C, width, e, LANES * j)) for e in range(R) for j in range(V)}
        sums = {key: cgutils.alloca_once(builder, vector) for key in ends}  # registers, once LLVM has seen them
        for key, end in ends.items():
            builder.store(builder.load(end, align=8), sums[key])
        with cgutils.for_range(builder, K) as loop:
            row = [builder.load(vector_at(offset(M, m_stride, loop.index, LANES * j)), align=8) for j in range(V)]
            for e in range(R):
                element = offset(offset(A, row_stride, e), k_stride, loop.index)
                number = builder.load(builder.inttoptr(element, f64.as_pointer()), align=8)
                spread = builder.insert_element(unset, number, ir.Constant(i32, 0))
                spread = builder.shuffle_vector(spread, unset, first)
                for j in range(V):
                    product = builder.fmul(spread, row[j], flags=("contract",))
                    total = builder.fadd(builder.load(sums[e, j]), product, flags=("contract",))
                    builder.store(total, sums[e, j])
        for key, end in ends.items():
            builder.store(builder.load(sums[key]), end, align=8)
        return context.get_dummy_value()

    return signature, codegen


@lazy(types.void(*[types.int64] * 10), **LEAN)
def multiply_add(q, K, A, row_stride, k_stride, M, m_stride, C, width, vectors):
    """C (q, 8 vectors) += A (q, K) M (K, 8 vectors), addresses.

    A_ek lies at A + 8 (e row_stride + k k_stride), row k of M at M + 8 k m_stride.
    Rows of C are ``width`` numbers apart.
    """
    e = 0
    while e + 4 <= q:
        a, c, j = A + 8 * row_stride * e, C + 8 * width * e, 0
        while j + 4 <= vectors:
            _tile(4, 4, K, a, row_stride, k_stride, M + 64 * j, m_stride, c + 64 * j, width)
            j += 4
        while j < vectors:
            _tile(4, 1, K, a, row_stride, k_stride, M + 64 * j, m_stride, c + 64 * j, width)
            j += 1
        e += 4
    while e < q:
        a, c, j = A + 8 * row_stride * e, C + 8 * width * e, 0
        while j + 8 <= vectors:
            _tile(1, 8, K, a, row_stride, k_stride, M + 64 * j, m_stride, c + 64 * j, width)
            j += 8
        while j + 2 <= vectors:
            _tile(1, 2, K, a, row_stride, k_stride, M + 64 * j, m_stride, c + 64 * j, width)
            j += 2
        if j < vectors:
            _tile(1, 1, K, a, row_stride, k_stride, M + 64 * j, m_stride, c + 64 * j, width)
        e += 1


@intrinsic
def call_multiply_add(typingctx, address, q, K, A, row_stride, k_stride, M, m_stride, C, width, vectors):
    """``multiply_add`` at its address: it is compiled once, and not again into each of those who use it."""
    return call(types.void(*[types.int64] * 10))


#: rows that go into a product of a transpose together, so that they are in the cache for all its tiles
BLOCK = 128
