"""The products with Ŵ that a network is made of.

They are Ŵ s, k Ŵ and Kᵀ Ŵ, with Ŵ stored whole or as lists of the weights that exist.

Whole: Ŵ (rows, sources), row by row. These loops are bound by how fast Ŵ comes from the cache: 8 bytes for 2 flops.
Listed: row i holds ``width`` weights Ŵ[i, c] and ``index`` (rows, width) says which source each belongs to; shorter
rows are filled up with weights 0 of source 0. 2 flops a weight, and 16 bytes: in the time of one, about ten weights
stored whole can be used, so lists pay below a tenth or so.
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


@njit(**FAST)
def matvec_listed(W, index, s, u):
    """u = Ŵ s."""
    rows, width = W.shape
    for i in range(rows):
        total = 0.0
        for c in range(width):
            total += W[i, c] * s[index[i, c]]
        u[i] = total


@njit(**FAST)
def vecmat_listed(k, W, index, out):
    """out (n,) = k Ŵ of the first n columns of Ŵ."""
    rows, width = W.shape
    n = out.size
    for j in range(n):
        out[j] = 0.0
    for i in range(rows):
        for c in range(width):
            j = index[i, c]
            if j < n:
                out[j] += k[i] * W[i, c]


@njit(**FAST)
def matmat_listed(K, W, index, out):
    """out (n, q) = Ŵᵀ K of the first n columns of Ŵ, for q columns K (rows, q)."""
    rows, width = W.shape
    n, q = out.shape
    out[:] = 0.0
    for i in range(rows):
        row = K[i]
        for c in range(width):
            j, w = index[i, c], W[i, c]
            if j < n and w != 0.0:
                to = out[j]
                for k in range(q):
                    to[k] += w * row[k]


@njit(cache=True, nogil=True)
def gathered(s, index, out):
    """out (S, width) ← the listed columns of s (S, sources)."""
    for m in range(s.shape[0]):
        for c in range(index.size):
            out[m, c] = s[m, index[c]]
