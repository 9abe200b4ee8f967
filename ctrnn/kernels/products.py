"""Products of a matrix stored whole and a vector: W s and k W.

These loops are bound by how fast W comes from the cache: 8 bytes for 2 flops.
"""

from __future__ import annotations

from typing import Any

from ctrnn.kernels.abi import INLINE
from ctrnn.kernels.compiled import njit

#: sums in any order, and a·b + c as one operation: what vector instructions need
FAST: dict[str, Any] = INLINE | {"fastmath": {"reassoc", "contract"}}


@njit(**FAST)
def matvec(W, s, u):
    """u = W s, four rows at a time: four sums are under way while each is waited for, and s is read once for all."""
    rows, columns = W.shape
    i = 0
    while i + 4 <= rows:
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        for j in range(columns):
            sj = s[j]
            a += W[i, j] * sj
            b += W[i + 1, j] * sj
            c += W[i + 2, j] * sj
            d += W[i + 3, j] * sj
        u[i], u[i + 1], u[i + 2], u[i + 3] = a, b, c, d
        i += 4
    while i < rows:
        a = 0.0
        for j in range(columns):
            a += W[i, j] * s[j]
        u[i] = a
        i += 1


@njit(**FAST)
def vecmat(k, W, out):
    """out = k W of the first columns of W.

    W row by row, so that memory is read in order, four rows to each pass over ``out``.
    """
    rows, columns = W.shape[0], out.size
    for j in range(columns):
        out[j] = 0.0
    i = 0
    while i + 4 <= rows:
        a, b, c, d = k[i], k[i + 1], k[i + 2], k[i + 3]
        for j in range(columns):
            out[j] += (a * W[i, j] + b * W[i + 1, j]) + (c * W[i + 2, j] + d * W[i + 3, j])
        i += 4
    while i < rows:
        a = k[i]
        for j in range(columns):
            out[j] += a * W[i, j]
        i += 1
