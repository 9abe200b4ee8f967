"""Dense LU with partial pivoting, for the Newton systems of implicit stages: P A = L U in place.

Small matrices (n ≤ SMALL) by the textbook loops, 2n³/3 flops, where the call of a library would cost more than the
work; larger ones by LAPACK (dgetrf, dgetrs) at addresses that SciPy gives. ``A`` is kept row-major; LAPACK sees its
transpose, so there the meanings of "solve" and "solve transposed" swap. Several right-hand sides lie as columns, B (n,
q) row-major.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ctrnn.kernels.abi import INLINE, OWN, alive, at, doubles
from ctrnn.kernels.compiled import njit

SMALL = 32

_i = types.int64


@intrinsic
def _dgetrf(typingctx, address, n, A, pivots, info):
    """LAPACK dgetrf of an n by n matrix at addresses; integers of 32 bits."""
    i32 = ir.IntType(32)

    def codegen(context, builder, signature, arguments):
        address, n, A, pivots, info = arguments
        size = cgutils.alloca_once(builder, i32)
        builder.store(builder.trunc(n, i32), size)
        p32, pd = i32.as_pointer(), ir.DoubleType().as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [p32, p32, pd, p32, p32, p32])
        call = builder.inttoptr(address, kind.as_pointer())
        values = [size, size, builder.inttoptr(A, pd), size, builder.inttoptr(pivots, p32), builder.inttoptr(info, p32)]
        builder.call(call, values)
        return context.get_dummy_value()

    return types.void(_i, _i, _i, _i, _i), codegen


@intrinsic
def _dgetrs(typingctx, address, transposed, n, q, A, pivots, B, info):
    """LAPACK dgetrs with q right-hand sides as columns of a column-major B."""
    i32, i8 = ir.IntType(32), ir.IntType(8)

    def codegen(context, builder, signature, arguments):
        address, transposed, n, q, A, pivots, B, info = arguments
        p32, pd = i32.as_pointer(), ir.DoubleType().as_pointer()

        def slot(kind, value):
            pointer = cgutils.alloca_once(builder, kind)
            builder.store(value, pointer)
            return pointer

        flag = slot(i8, builder.select(transposed, ir.Constant(i8, ord("T")), ir.Constant(i8, ord("N"))))
        size, columns = slot(i32, builder.trunc(n, i32)), slot(i32, builder.trunc(q, i32))
        kind = ir.FunctionType(ir.VoidType(), [i8.as_pointer(), p32, p32, pd, p32, p32, pd, p32, p32])
        call = builder.inttoptr(address, kind.as_pointer())
        values = [
            flag, size, columns, builder.inttoptr(A, pd), size, builder.inttoptr(pivots, p32),
            builder.inttoptr(B, pd), size, builder.inttoptr(info, p32),
        ]  # fmt: skip
        builder.call(call, values)
        return context.get_dummy_value()

    return types.void(_i, types.boolean, _i, _i, _i, _i, _i, _i), codegen


@njit(**OWN)
def factor(lapack, A, pivots):
    """A (n, n) ← its L and U; pivots (n,) int32. False where a pivot is 0 or not finite: A is singular or NaN.

    lapack (2,) int64 holds the addresses of dgetrf and dgetrs, or zeros.
    """
    n = A.shape[0]
    if n > SMALL and lapack[0] != 0:
        info = np.zeros(1, dtype=np.int32)
        _dgetrf(lapack[0], n, at(A), at(pivots), at(info))
        failed = info[0]
        alive(info)
        if failed != 0:
            return False
        for i in range(n):
            if not np.isfinite(A[i, i]):
                return False
        return True
    for k in range(n):
        p = k
        for i in range(k + 1, n):
            if abs(A[i, k]) > abs(A[p, k]):
                p = i
        pivots[k] = p
        if p != k:
            for j in range(n):
                A[k, j], A[p, j] = A[p, j], A[k, j]
        pivot = A[k, k]
        if pivot == 0.0 or not np.isfinite(pivot):
            return False
        for i in range(k + 1, n):
            l = A[i, k] / pivot
            A[i, k] = l
            if l != 0.0:
                for j in range(k + 1, n):
                    A[i, j] -= l * A[k, j]
    return True


@njit(**OWN)
def solve(lapack, A, pivots, B):
    """B (n, q) ← A⁻¹ B, with A as ``factor`` left it."""
    n, q = B.shape
    if n > SMALL and lapack[0] != 0:
        _by_lapack(lapack, True, A, pivots, B)
        return
    for k in range(n):
        p = pivots[k]
        if p != k:
            for c in range(q):
                B[k, c], B[p, c] = B[p, c], B[k, c]
    for i in range(n):
        for j in range(i):
            l = A[i, j]
            if l != 0.0:
                for c in range(q):
                    B[i, c] -= l * B[j, c]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            u = A[i, j]
            if u != 0.0:
                for c in range(q):
                    B[i, c] -= u * B[j, c]
        for c in range(q):
            B[i, c] /= A[i, i]


@njit(**INLINE)
def solve_one(lapack, A, pivots, b):
    """b (n,) ← A⁻¹ b: what Newton's method spends its time on where n is small."""
    n = b.size
    if n > SMALL and lapack[0] != 0:
        _by_lapack(lapack, True, A, pivots, doubles(at(b), (n, 1)))
        return
    for k in range(n):
        p = pivots[k]
        b[k], b[p] = b[p], b[k]
    for i in range(n):
        total = b[i]
        for j in range(i):
            total -= A[i, j] * b[j]
        b[i] = total
    for i in range(n - 1, -1, -1):
        total = b[i]
        for j in range(i + 1, n):
            total -= A[i, j] * b[j]
        b[i] = total / A[i, i]


@njit(**OWN)
def solve_transposed(lapack, A, pivots, B):
    """B (n, q) ← A⁻ᵀ B, with the same factors."""
    n, q = B.shape
    if n > SMALL and lapack[0] != 0:
        _by_lapack(lapack, False, A, pivots, B)
        return
    for i in range(n):
        for j in range(i):
            u = A[j, i]
            if u != 0.0:
                for c in range(q):
                    B[i, c] -= u * B[j, c]
        for c in range(q):
            B[i, c] /= A[i, i]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            l = A[j, i]
            if l != 0.0:
                for c in range(q):
                    B[i, c] -= l * B[j, c]
    for k in range(n - 1, -1, -1):
        p = pivots[k]
        if p != k:
            for c in range(q):
                B[k, c], B[p, c] = B[p, c], B[k, c]


@njit(**OWN)
def _by_lapack(lapack, transposed, A, pivots, B):
    n, q = B.shape
    columns = np.empty((q, n))  # column-major B
    for c in range(q):
        for i in range(n):
            columns[c, i] = B[i, c]
    info = np.zeros(1, dtype=np.int32)
    _dgetrs(lapack[1], transposed, n, q, at(A), at(pivots), at(columns), at(info))
    for c in range(q):
        for i in range(n):
            B[i, c] = columns[c, i]
    alive(info)


def lapack_addresses() -> np.ndarray:
    """dgetrf and dgetrs of the LAPACK that SciPy was built with."""
    from numba.extending import get_cython_function_address

    names = ("dgetrf", "dgetrs")
    return np.array([get_cython_function_address("scipy.linalg.cython_lapack", n) for n in names], dtype=np.int64)
