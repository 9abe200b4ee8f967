"""What RTRL does between blocks: G_g ← T G_g for every group of parameters, in place.

Layout: G (groups, q, columns), T (parts, q, q), ``part`` (groups,) says which T is a group's own. 2 q² columns flops a
group, one BLAS product into a buffer that stays in the cache, and a copy back.
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels.abi import alive, at, gemm, stopped
from ctrnn.kernels.compiled import njit


@njit(cache=True, nogil=True, error_model="numpy")
def transform(dgemm, T, part, G, first, last, stop):
    """Groups ``first`` to ``last``, unless ``stop`` (ctrnn.kernels.abi.STOP) says that they are not wanted any more."""
    _, q, columns = G.shape
    product = np.empty((q, columns))
    for g in range(first, last):
        if stopped(stop):
            break
        gemm(dgemm, False, False, q, columns, q, at(T[part[g]]), q, at(G[g]), columns, 0.0, at(product), columns)
        G[g] = product
    alive(product)
