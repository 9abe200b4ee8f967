"""Products of a matrix stored whole and a vector: W s and k W.

These loops are bound by how fast W comes from the cache: 8 bytes for 2 flops.
"""

from __future__ import annotations

from typing import Any

from ctrnn.kernels.abi import INLINE, at, doubles
from ctrnn.kernels.compiled import njit

#: sums in any order, and a·b + c as one operation: what vector instructions need
FAST: dict[str, Any] = INLINE | {"fastmath": {"reassoc", "contract"}}


@njit(**FAST)
def matvec_at(W_, rows, width, columns, bias, add, s_, u_):
    """u (+)= W s of the first columns of W, and the next one if there is a bias; addresses, rows ``width`` apart.

    Four sums are under way while each is waited for, and s is read once for all.
    """
    W, s, u = doubles(W_, (rows, width)), doubles(s_, columns), doubles(u_, rows)
    i = 0
    while i + 4 <= rows:
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        for j in range(columns):
            sj = s[j]
            a += W[i, j] * sj
            b += W[i + 1, j] * sj
            c += W[i + 2, j] * sj
            d += W[i + 3, j] * sj
        if bias:
            a, b, c, d = a + W[i, columns], b + W[i + 1, columns], c + W[i + 2, columns], d + W[i + 3, columns]
        if add:
            a, b, c, d = a + u[i], b + u[i + 1], c + u[i + 2], d + u[i + 3]
        u[i], u[i + 1], u[i + 2], u[i + 3] = a, b, c, d
        i += 4
    while i < rows:
        a = 0.0
        for j in range(columns):
            a += W[i, j] * s[j]
        if bias:
            a += W[i, columns]
        u[i] = a + (u[i] if add else 0.0)
        i += 1


@njit(**FAST)
def vecmat_at(k_, W_, rows, width, columns, add, out_):
    """out (+)= k W of the first columns of W; addresses, rows ``width`` apart.

    W row by row, so that memory is read in order, four rows to each pass over ``out``.
    """
    k, out = doubles(k_, rows), doubles(out_, columns)
    if add == 0:
        for j in range(columns):
            out[j] = 0.0
    i = 0
    while i + 4 <= rows:
        a, b, c, d = k[i], k[i + 1], k[i + 2], k[i + 3]
        A, B = doubles(W_ + 8 * i * width, columns), doubles(W_ + 8 * (i + 1) * width, columns)
        C, D = doubles(W_ + 8 * (i + 2) * width, columns), doubles(W_ + 8 * (i + 3) * width, columns)
        for j in range(columns):
            out[j] += (a * A[j] + b * B[j]) + (c * C[j] + d * D[j])
        i += 4
    while i < rows:
        a, A = k[i], doubles(W_ + 8 * i * width, columns)
        for j in range(columns):
            out[j] += a * A[j]
        i += 1


@njit(**FAST)
def matvec(W, s, u):
    """u = W s."""
    matvec_at(at(W), W.shape[0], W.shape[1], W.shape[1], 0, 0, at(s), at(u))


@njit(**FAST)
def vecmat(k, W, out):
    """out = k W of the first columns of W."""
    vecmat_at(at(k), at(W), W.shape[0], W.shape[1], out.size, 0, at(out))
