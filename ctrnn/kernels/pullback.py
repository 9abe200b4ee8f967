"""The one primitive of all exact gradients: cotangents back through recorded Runge–Kutta steps.

Let Λ hold q cotangents on r⁺. A step r⁺ = r + h Σ b_i k_i, k_i = F(r_i), r_i = r + h Σ a_ij k_j is transposed by

    for i = s … 1:   K̄_i (I − h a_ii J_i) = h b_i Λ + h Σ_{j>i} a_ji R̄_j        R̄_i = K̄_i J_i
    Λ ← Λ + Σ_i R̄_i                    parameter rows Ḡ ← Ḡ + Σ_i K̄_i F_w,i

(reverse differentiation of the step; Hager 2000, Sanz-Serna 2016). The last of the q cotangents may carry a loss:
a jump ∂ℓ/∂r at the end of a step, and for ∫ ℓ dt the source h b_i ∂ℓ/∂r at each stage, which is the step's own
quadrature of the integral, so the gradient is that of the number that was computed, to round-off. An implicit stage's cotangent is solved
for with its own J_i, at its own r_i: exact where Newton's method has converged, whatever J it used. Returns False where such a matrix is singular.
Component j of R̄_i is K̄_i J_i as long as h a_ii Σ_k |J_kj| ≤ 1. Beyond that the product would multiply the rounding of K̄_i by h J, and what a
stiff system conserves would be lost: there it is taken from the equation that K̄_i solves, R̄_i = (K̄_i − right-hand side)/(h a_ii).

Layout: Λ, K̄, R̄ are (n, q), cotangents as columns, so that a product with Jᵀ is one matrix product; K̄ of all stages is
kept, (C, s, n, q), and the parameter part is accumulated for the whole block at once.
Flops a step, dense network of n units: s (2n²q) for the rows and s (2n c q) for the parameter part of each group.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ctrnn.kernels.abi import ACCUMULATE, JACOBIAN, LEAN, VJP, at, call_accumulate, call_f, call_vjp, copy
from ctrnn.kernels.linalg import factor, solve_transposed

#: sums over stages go through this many entries at a time, so that large ones are summed in the cache
CHUNK = 2048


@njit(cache=True, nogil=True, error_model="numpy")
def pullback(system, a, b, lapack, h, stage_t, stage_r, stage_x, jumps, sources, rows, K, G):
    """Take ``rows`` (n, q) from the end of the recorded steps to their start, in place.

    a (s, s), b (s,); lapack as in ctrnn.kernels.linalg, for implicit stages; h (C,), stage_t (C, s), stage_r (C, s, n), stage_x (C, s, x_stride) are the record.
    jumps (C, n) or (0, n) and sources (C, s, n) or (0, s, n) act on the last cotangent.
    K (C, s, n, q) is working space; G (groups, q, columns) receives the parameter part, added to what is there.
    """
    if not pull_rows(system, a, b, lapack, h, stage_t, stage_r, stage_x, jumps, sources, rows, K):
        return False
    parameter_part(system, stage_t, stage_r, stage_x, K, at(G))
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def pull_rows(system, a, b, lapack, h, stage_t, stage_r, stage_x, jumps, sources, rows, K):
    """The rows alone; K keeps the cotangents of all stages, for ``parameter_part``."""
    C, s, n = stage_r.shape
    size = rows.size
    implicit = a[s - 1, s - 1] != 0.0
    # flat views: one loop over all cotangents, which the compiler can vectorise
    R, lam, flat = np.zeros((s, size)), rows.reshape(size), K.reshape((C, s, size))
    M = np.empty((n, n) if implicit else (0, 0))
    pivots = np.empty(n if implicit else 0, dtype=np.int32)
    right, large = np.empty(size if implicit else 0), np.empty(n if implicit else 0)
    return _pull_rows(
        system,
        a,
        b,
        lapack,
        h,
        stage_t,
        stage_r,
        stage_x,
        jumps,
        sources,
        rows,
        lam,
        K,
        flat,
        R,
        M,
        pivots,
        right,
        large,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def parameter_part(system, stage_t, stage_r, stage_x, K, G_):
    """The parameter part of all stages, added at the address G_."""
    C, s, _, q = K.shape
    call_accumulate(
        system.table[ACCUMULATE],
        at(system.ctx),
        C * s,
        q,
        at(stage_t),
        at(stage_r),
        at(system.w),
        at(stage_x),
        at(K),
        G_,
    )


@njit(**LEAN)
def _pull_rows(
    system, a, b, lapack, h, stage_t, stage_r, stage_x, jumps, sources, rows, lam, K, flat, R, M, pivots, right, large
):
    C, s, n = stage_r.shape
    q = rows.shape[1]
    size = n * q
    for m in range(C - 1, -1, -1):
        if jumps.shape[0] > 0:
            for j in range(n):
                rows[j, q - 1] += jumps[m, j]
        for i in range(s - 1, -1, -1):
            Ki, Ri = flat[m, i], R[i]
            for begin in range(0, size, CHUNK):
                end = min(begin + CHUNK, size)
                w = h[m] * b[i]
                for j in range(begin, end):
                    Ki[j] = w * lam[j]
                for l in range(i + 1, s):
                    w = h[m] * a[l, i]
                    if w != 0.0:
                        Rl = R[l]
                        for j in range(begin, end):
                            Ki[j] += w * Rl[j]
            if a[i, i] != 0.0:
                copy(Ki, right)
                if sources.shape[0] > 0:
                    w = h[m] * a[i, i] * h[m] * b[i]
                    for j in range(n):
                        Ki[j * q + q - 1] += w * sources[m, i, j]
                call_f(
                    system.table[JACOBIAN], at(system.ctx), stage_t[m, i], at(stage_r[m, i]), at(system.w),
                    at(stage_x[m, i]), at(M),
                )  # fmt: skip
                for j in range(n):
                    large[j] = 0.0
                for j in range(n):
                    for p in range(n):
                        M[j, p] *= -h[m] * a[i, i]
                        large[p] += abs(M[j, p])
                    M[j, j] += 1.0
                if not factor(lapack, M, pivots):
                    return False
                solve_transposed(lapack, M, pivots, K[m, i])
            call_vjp(
                system.table[VJP], at(system.ctx), stage_t[m, i], at(stage_r[m, i]), at(system.w),
                at(stage_x[m, i]), q, at(Ki), at(Ri),
            )  # fmt: skip
            if sources.shape[0] > 0:
                w = h[m] * b[i]
                for j in range(n):
                    Ri[j * q + q - 1] += w * sources[m, i, j]
            if a[i, i] != 0.0:
                for j in range(n):
                    if large[j] > 1.0:
                        for p in range(j * q, j * q + q):
                            Ri[p] = (Ki[p] - right[p]) / (h[m] * a[i, i])
        for begin in range(0, size, CHUNK):
            end = min(begin + CHUNK, size)
            for i in range(s):
                Ri = R[i]
                for j in range(begin, end):
                    lam[j] += Ri[j]
    return True
