"""Second order through recorded Runge–Kutta steps: the tangent of the steps, and the tangent of their pullback.

δ is the derivative along a direction (δr0, δw); step sizes are constants, as in the gradient. Forward, through a step
with stages r_i:

    k_i = F(r_i)        δk_i = J_i δr_i + F_w,i δw        δr_i = δr + h Σ_{j≤i} a_ij δk_j        δr⁺ = δr + h Σ b_i δk_i

and backward, with the cotangents K̄_i of the pullback (ctrnn.kernels.pullback) and σ_i the source of ∫ ℓ dt, h b_i
∂ℓ/∂r at the stage:

    δK̄_i = h b_i δΛ + h Σ_{j≥i} a_ji δR̄_j        δR̄_i = δK̄_i J_i + K̄_i δJ_i + δσ_i
    δΛ ← δΛ + Σ_i δR̄_i                           δḠ ← δḠ + Σ_i δK̄_i F_w,i + K̄_i δF_w,i

Forward over reverse: the product of the Hessian with a direction, exact for the steps taken, at a small multiple of the
gradient's cost (Pearlmutter, Neural Comput. 6:147, 1994; Griewank & Walther, Evaluating Derivatives, 2008, ch. 5).
Where a_ii ≠ 0 (diagonally implicit methods) the terms j = i make each stage a linear system with I − h a_ii J_i:

    (I − h a_ii J_i) δk_i = J_i (δr + h Σ_{j<i} a_ij δk_j) + F_w,i δw
    δK̄_i (I − h a_ii J_i) = h b_i δΛ + h Σ_{j>i} a_ji δR̄_j + h a_ii (K̄_i δJ_i + δσ_i)
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels.abi import (
    ACCUMULATE,
    JACOBIAN,
    VJP,
    alive,
    at,
    call_accumulate,
    call_f,
    call_jvp,
    call_second,
    call_vjp,
)  # fmt: skip
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.linalg import factor, solve, solve_transposed


@njit(cache=True, nogil=True, error_model="numpy")
def _factored(system, lapack, t, r, x, w, M, pivots):
    """M ← the factors of I − w J at a stage; False where it is singular."""
    call_f(system.table[JACOBIAN], at(system.ctx), t, at(r), at(system.w), at(x), at(M))
    n = r.size
    for i in range(n):
        for j in range(n):
            M[i, j] = -w * M[i, j]
        M[i, i] += 1.0
    return factor(lapack, M, pivots)


@njit(cache=True, nogil=True, error_model="numpy")
def tangent(system, lapack, jvp, ctx, a, b, h, stage_t, stage_r, stage_x, dr, dw, stages, ends):
    """Take the direction ``dr`` (n,) from the start of the recorded steps to their end, in place.

    False for a singular stage.

    jvp, ctx : the address of JVP and the ctx it wants; dw : δw as the kernel lays w out.
    stages (C, s, n) receives δr_i, ends (C, n) receives δr⁺ of each step.
    """
    C, s, n = stage_r.shape
    k = np.zeros((s, n))
    M = np.empty((n, n))
    pivots = np.empty(n, dtype=np.int32)
    for m in range(C):
        for i in range(s):
            d = stages[m, i]
            for j in range(n):
                d[j] = dr[j]
            for l in range(i):
                w = h[m] * a[i, l]
                if w != 0.0:
                    for j in range(n):
                        d[j] += w * k[l, j]
            call_jvp(
                jvp, at(ctx), stage_t[m, i], at(stage_r[m, i]), at(system.w), at(stage_x[m, i]), at(d), at(dw), at(k[i])
            )
            w = h[m] * a[i, i]
            if w != 0.0:
                if not _factored(system, lapack, stage_t[m, i], stage_r[m, i], stage_x[m, i], w, M, pivots):
                    return False
                solve(lapack, M, pivots, k[i].reshape((n, 1)))
                for j in range(n):
                    d[j] += w * k[i, j]
        for i in range(s):
            w = h[m] * b[i]
            if w != 0.0:
                for j in range(n):
                    dr[j] += w * k[i, j]
        for j in range(n):
            ends[m, j] = dr[j]
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def pullback_tangent(
    system, lapack, second, ctx, a, b, h, stage_t, stage_r, stage_x, jumps, sources, K, stages, dw, lam, dK, G
):  # fmt: skip
    """Take δΛ, ``lam`` (n,), from the end of the recorded steps to their start, in place; False for a singular stage.

    second, ctx : the address of SECOND and the ctx it wants. jumps (C, n) or (0, n) and sources (C, s, n) or (0, s, n)
        are δ of those of
    the pullback. K (C, s, n) are its K̄_i, stages (C, s, n) the δr_i of ``tangent``; dK (C, s, n) is working space;
    G (groups, 1, columns) receives δ of the parameter part, added to what is there.
    """
    C, s, n = stage_r.shape
    R = np.zeros((s, n))
    turned = np.zeros(n)  # K̄ δJ + δσ
    M = np.empty((n, n))
    pivots = np.empty(n, dtype=np.int32)
    for m in range(C - 1, -1, -1):
        if jumps.shape[0] > 0:
            for j in range(n):
                lam[j] += jumps[m, j]
        for i in range(s - 1, -1, -1):
            Ki, Ri = dK[m, i], R[i]
            call_second(
                second, at(ctx), stage_t[m, i], at(stage_r[m, i]), at(system.w), at(stage_x[m, i]),
                at(stages[m, i]), at(dw), at(K[m, i]), at(turned), at(G),
            )  # fmt: skip
            if sources.shape[0] > 0:
                for j in range(n):
                    turned[j] += h[m] * b[i] * sources[m, i, j]
            for j in range(n):
                Ki[j] = h[m] * b[i] * lam[j]
            for l in range(i + 1, s):
                w = h[m] * a[l, i]
                if w != 0.0:
                    for j in range(n):
                        Ki[j] += w * R[l, j]
            w = h[m] * a[i, i]
            if w != 0.0:
                for j in range(n):
                    Ki[j] += w * turned[j]
                if not _factored(system, lapack, stage_t[m, i], stage_r[m, i], stage_x[m, i], w, M, pivots):
                    return False
                solve_transposed(lapack, M, pivots, Ki.reshape((n, 1)))
            call_vjp(
                system.table[VJP], at(system.ctx), stage_t[m, i], at(stage_r[m, i]), at(system.w),
                at(stage_x[m, i]), 1, at(Ki), at(Ri),
            )  # fmt: skip
            for j in range(n):
                Ri[j] += turned[j]
        for i in range(s):
            for j in range(n):
                lam[j] += R[i, j]
    call_accumulate(
        system.table[ACCUMULATE], at(system.ctx), C * s, 1, at(stage_t), at(stage_r), at(system.w),
        at(stage_x), at(dK), at(G),
    )  # fmt: skip
    alive(R, turned)
    return True
