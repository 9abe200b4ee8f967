"""The one primitive of all exact gradients: cotangents back through recorded Runge–Kutta steps.

Let Λ hold q cotangents on r⁺. A step r⁺ = r + h Σ b_i k_i, k_i = F(r_i), r_i = r + h Σ a_ij k_j is transposed by

    for i = s … 1:   K̄_i (I − h a_ii J_i) = h b_i Λ + h Σ_{j>i} a_ji R̄_j        R̄_i = K̄_i J_i
    Λ ← Λ + Σ_i R̄_i                    parameter rows Ḡ ← Ḡ + Σ_i K̄_i F_w,i

(reverse differentiation of the step; Hager 2000, Sanz-Serna 2016). The last of the q cotangents may carry a loss:
a jump ∂ℓ/∂r at the end of a step, and for ∫ ℓ dt the source h b_i ∂ℓ/∂r at each stage, which is the step's own
quadrature of the integral, so the gradient is that of the number that was computed, to round-off. An implicit stage's
cotangent is solved for with its own J_i, at its own r_i: exact where Newton's method has converged, whatever J it used.
Returns False where such a matrix is singular. Component j of R̄_i is K̄_i J_i as long as h a_ii Σ_k |J_kj| ≤ 1. Beyond
that the product would multiply the rounding of K̄_i by h J, and what a stiff system conserves would be lost: there it
is taken from the equation that K̄_i solves, R̄_i = (K̄_i − right-hand side)/(h a_ii).

Layout: Λ, K̄, R̄ are (n, q), cotangents as columns, so that a product with Jᵀ is one matrix product; K̄ of all stages
is kept, (C, s, n, q), and the parameter part is accumulated for the whole block at once.
Flops a step, dense network of n units: s (2n²q) for the rows and s (2n c q) for the parameter part of each group.

The state's error test does not see how well λ is integrated: where the state rests, h grows until λ's error does not
matter to it. What the way back has at hand anyway says so: v = Σ_i weights_i R̄_i, with weights for which v vanishes to
a high order in h (ctrnn.gradients.recording.sensitivity_error). Of an implicit method it is v (I − hγJ)⁻¹, by the
factors of the stage that was solved last, as its error of the state is filtered (Shampine & Baca 1984): what a stiff
mode loses is gone within the step.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from ctrnn.kernels.abi import (
    ACCUMULATE,
    INLINE,
    JACOBIAN,
    LEAN,
    STOP,
    VJP,
    at,
    call,
    call_accumulate,
    call_f,
    call_vjp,
    copy,
    doubles,
    packing,
    stopped,
)
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.linalg import factor, solve_transposed

#: sums over stages go through this many entries at a time, so that large ones are summed in the cache
CHUNK = 2048

_i, _d = types.int64, types.float64
SOLVE = _i(_i, _i, _d, _i, _i, _i, _d, _i, _i, _i)


class Implicit(NamedTuple):
    """What implicit stages need; arrays of length 0 for explicit methods.

    Their part of the pullback is reached by its address, as fields are.
    """

    solve: int
    right: np.ndarray  # (n q,)
    work: tuple[np.ndarray, ...]  # lapack as in ctrnn.kernels.linalg, M (n, n), pivots (n,) int32, large (n,)


class Estimate(NamedTuple):
    """What is noted of each step for the error of the cotangents; arrays of length 0 where nothing is."""

    weights: np.ndarray  # (s,): v = Σ_i weights_i R̄_i
    scale: np.ndarray  # (n,): sizes of the states; norms are max_j scale_j |·_j|
    sizes: np.ndarray  # (C, q, 3): ‖v‖, and ‖Λ‖ at the end and at the start of the step, of each cotangent
    v: np.ndarray  # (n q,): working space


@cache
def no_estimate() -> Estimate:
    """Nothing is noted."""
    return Estimate(np.empty(0), np.empty(0), np.empty((0, 0, 3)), np.empty(0))


def estimate_for(weights: np.ndarray, scale: np.ndarray, steps: int, q: int) -> Estimate:
    """Room for what is noted of the steps of a block with q cotangents."""
    return Estimate(weights, scale, np.zeros((steps, q, 3)), np.empty(scale.size * q))


def implicit_for(a: np.ndarray, lapack: np.ndarray, rows: np.ndarray) -> Implicit:
    """For a tableau a (s, s) and rows (n, q)."""
    n, size = (len(rows), rows.size) if a[-1, -1] else (0, 0)
    work = (lapack, np.empty((n, n)), np.empty(n, dtype=np.int32), np.empty(n))
    return Implicit(solve.address if n else 0, np.empty(size), work)


pack, lapack_at, M_at, pivots_at, large_at = packing(
    np.zeros(2, dtype=np.int64), np.zeros((0, 0)), np.zeros(0, dtype=np.int32), np.zeros(0)
)


@intrinsic
def call_solve(typingctx, address, jacobian, ctx, t, r, w, x, hg, q, K, work):
    """Call the solution of an implicit stage at an address."""
    return call(SOLVE)


@lazy(SOLVE, **LEAN)
def solve(jacobian, ctx, t, r, w, x, hg, q, K_, work):
    """K̄ ← K̄ (I − hγJ)⁻¹ with J at (t, r, w, x); ``large`` ← the sums over k of hγ |J_kj|.

    With jacobian = 0 by the factors that are there. Returns 0 where the matrix is singular.
    """
    lapack, M, pivots, large = lapack_at(work), M_at(work), pivots_at(work), large_at(work)
    n = large.size
    if jacobian == 0:
        solve_transposed(lapack, M, pivots, doubles(K_, (n, q)))
        return 1
    call_f(jacobian, ctx, t, r, w, x, at(M))
    for j in range(n):
        large[j] = 0.0
    for j in range(n):
        for p in range(n):
            M[j, p] *= -hg
            large[p] += abs(M[j, p])
        M[j, j] += 1.0
    if not factor(lapack, M, pivots):
        return 0
    solve_transposed(lapack, M, pivots, doubles(K_, (n, q)))
    return 1


@njit(**LEAN)
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


@njit(**INLINE)
def combine(estimate, R):
    """v ← Σ_i weights_i R̄_i, of R (s, n q)."""
    for j in range(estimate.v.size):
        v = 0.0
        for i in range(estimate.weights.size):
            v += estimate.weights[i] * R[i, j]
        estimate.v[j] = v


@njit(**INLINE)
def note(estimate, m, which, rows, q):
    """Norms of rows (n q,) of step m, as ``which`` of its sizes."""
    sizes = estimate.sizes[m]
    for k in range(q):
        sizes[k, which] = 0.0
        for j in range(estimate.scale.size):
            size = estimate.scale[j] * abs(rows[j * q + k])
            if not size <= sizes[k, which]:  # a NaN stays one
                sizes[k, which] = size


@njit(**LEAN)
def pull_rows(system, a, b, implicit, h, stage_t, stage_r, stage_x, jumps, sources, rows, K, R, estimate):
    """Take ``rows`` (n, q) from the end of the recorded steps to their start, in place.

    False where a stage is singular.

    a (s, s), b (s,); h (C,), stage_t (C, s), stage_r (C, s, n), stage_x (C, s, x_stride) are the record.
    jumps (C, n) or (0, n) and sources (C, s, n) or (0, s, n) act on the last cotangent.
    K (C, s, n, q) keeps the cotangents of all stages, for ``parameter_part``; R (s, n q) is working space. ``estimate``
    receives what tells the error. STOP ends it: what it has made is of no use then.
    """
    C, s, n = stage_r.shape
    q = rows.shape[1]
    size = n * q
    # flat views: one loop over all cotangents, which the compiler can vectorise
    lam, flat = doubles(at(rows), size), doubles(at(K), (C, s, size))
    large = implicit.work[3]
    for m in range(C - 1, -1, -1):
        if jumps.shape[0] > 0:
            for j in range(n):
                rows[j, q - 1] += jumps[m, j]
        for i in range(s - 1, -1, -1):
            if stopped(system.ctx[STOP]):
                return True
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
                copy(Ki, implicit.right)
                hg = h[m] * a[i, i]
                if sources.shape[0] > 0:
                    w = hg * h[m] * b[i]
                    for j in range(n):
                        Ki[j * q + q - 1] += w * sources[m, i, j]
                regular = call_solve(
                    implicit.solve, system.table[JACOBIAN], at(system.ctx), stage_t[m, i], at(stage_r[m, i]),
                    at(system.w), at(stage_x[m, i]), hg, q, at(Ki), pack(implicit.work),
                )  # fmt: skip
                if regular == 0:
                    return False
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
                            Ri[p] = (Ki[p] - implicit.right[p]) / (h[m] * a[i, i])
        if estimate.weights.size > 0:
            note(estimate, m, 1, lam, q)
            combine(estimate, R)
            if implicit.right.size > 0:
                call_solve(implicit.solve, 0, at(system.ctx), 0.0, 0, 0, 0, 0.0, q, at(estimate.v), pack(implicit.work))
            note(estimate, m, 0, estimate.v, q)
        for begin in range(0, size, CHUNK):
            end = min(begin + CHUNK, size)
            for i in range(s):
                Ri = R[i]
                for j in range(begin, end):
                    lam[j] += Ri[j]
        if estimate.weights.size > 0:
            note(estimate, m, 2, lam, q)
    return True
