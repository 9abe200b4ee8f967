"""A batch of trials of one network side by side, by a fixed step: q trials go through each stage as the rows of one matrix product.

    Z_i = R + h Σ_j a_ij k_j,   U_i = φ(Z_i) Wᵀ + D(t_i),   k_i = G(Z_i, U_i, θ),   R⁺ = R + h Σ_i b_i k_i        all (q, n)

D = X Uᵀ + b is the drive, one (q, n) for each input interval of ``steps`` steps: held, or linear from that of the interval before
to its own, D(t) = (1 − p) D_before + p D with p from 0 to 1 over the interval. The transposed step (ctrnn.kernels.pullback has its source):

    for i = s … 1:   K̄ = h b_i Λ + h Σ_{j>i} a_ji R̄_j,    K̄c = K̄ ∂G/∂u,    R̄_i = φ′ (K̄c W) + K̄ ∂G/∂z
                     W̄ += K̄cᵀ φ(Z_i),    D̄ += p K̄c,    D̄_before += (1 − p) K̄c,    θ̄ += K̄ ∂G/∂θ
    Λ ← Λ + Σ_i R̄_i                                       and once an interval    X̄ = D̄ U,  Ū += D̄ᵀ X,  b̄ += D̄

For cells of one state and one pre-activation, whose compiled loops (ctrnn.fields.cells) take q n units as they take n.

Layout: trials are rows; what belongs to a stage lies together, N = q n numbers. The trials that go together are ``first`` to first + q of the whole
arrays (T, B, ·). Kept for the way back: Z of all stages, and U where ∂G needs it, 8 s n bytes a step and trial each. K̄c and φ(Z) wait in a buffer of some
stages for one product of useful length.

Flops of a stage and trial: 2n² forward and 4n² backward (for nx inputs 2n nx and 4n nx, once an interval), as for one trial alone; but W is read once for
q of them. φ is evaluated three times: forward, and backward with its slope and for W̄. Measured for n = 64, q = 4, a stage of all four: forward
1.1 µs and backward 2.0 µs, of these 1.8 in the three products, at 57 GFLOP/s what the core can do at most, and 0.8 in φ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ctrnn.kernels.abi import LEAN, at, call_elementwise, call_partials, copy, doubles, gemm

#: a·b + c as one operation
FUSED: dict[str, Any] = LEAN | {"fastmath": {"contract"}}


class Scheme(NamedTuple):
    """What all threads share."""

    source: int  # addresses of the cell's loops
    rate: int
    partials: int
    by_theta: int  # 0: θ is not trained
    dgemm: int
    a: np.ndarray  # (s, s), strictly lower
    b: np.ndarray  # (s,)
    c: np.ndarray  # (s,)
    h: float
    steps: int  # in an input interval
    linear: bool  # whether the input runs linearly, or is held


class Kept(NamedTuple):
    """What the forward pass leaves to the backward pass; step m is row m, modulo the number of rows."""

    Z: np.ndarray  # (rows, s, N)
    U: np.ndarray  # (rows, s, N)


@njit(inline="always")
def _row(array, t, first, N):
    """The N numbers of trials ``first`` and on, at t of an array (T, B, n)."""
    return doubles(at(array[t, first]), N)


@njit(inline="always")
def _drive(scheme, X, t, first, UT, b, D):
    """D (q n,) ← X_t Uᵀ + b"""
    nx, n = UT.shape
    for e in range(0, D.size, n):
        for i in range(n):
            D[e + i] = b[i]
    if nx > 0:
        gemm(scheme.dgemm, False, False, D.size // n, n, nx, at(X[t, first]), nx, at(UT), n, 1.0, at(D), n)


@njit(inline="always")
def _progress(scheme, j, i):
    """p at stage i of step j of the interval."""
    return (j + scheme.c[i]) / scheme.steps if scheme.linear else 1.0


@njit(**FUSED)
def forward(scheme, WT, UT, b, theta, X, R, kept, k, H, D, states, first):
    """WT = Wᵀ (n, n), UT = Uᵀ (nx, n), b (n,), theta and R (N,), X (T, B, nx) -> states (T, B, n) at the end of each interval, and R there.

    k (s, N), H (N,) and D (2, N) are working space.
    """
    T, n, N, s = X.shape[0], b.size, R.size, scheme.b.size
    for t in range(T):
        drive, before = D[t % 2], D[(t + 1) % 2]
        _drive(scheme, X, t, first, UT, b, drive)
        if t == 0:
            copy(drive, before)
        for j in range(scheme.steps):
            m = t * scheme.steps + j
            for i in range(s):
                Z, U = kept.Z[m % kept.Z.shape[0], i], kept.U[m % kept.U.shape[0], i]
                copy(R, Z)
                for l in range(i):
                    w, k_l = scheme.h * scheme.a[i, l], k[l]
                    if w != 0.0:
                        for e in range(N):
                            Z[e] += w * k_l[e]
                p = _progress(scheme, j, i)
                if p == 1.0:
                    copy(drive, U)
                else:
                    for e in range(N):
                        U[e] = (1.0 - p) * before[e] + p * drive[e]
                call_elementwise(scheme.source, N, at(Z), at(H), 0, 0)
                gemm(scheme.dgemm, False, False, N // n, n, n, at(H), n, at(WT), n, 1.0, at(U), n)
                call_elementwise(scheme.rate, N, at(Z), at(U), at(theta), at(k[i]))
            for i in range(s):
                w, k_i = scheme.h * scheme.b[i], k[i]
                for e in range(N):
                    R[e] += w * k_i[e]
        copy(R, _row(states, t, first, N))


@njit(**FUSED)
def backward(
    scheme, W, U_in, theta, X, kept, cotangent, lam, W_bar, U_bar, b_bar, theta_bar, X_bar, R_bar, work, panel, first
):  # fmt: skip
    """Cotangents (T, B, n) of the states -> those of R0 in lam (N,) and of X in X_bar (T, B, nx) or (0, B, nx), where nobody wants it.

    Added to W_bar (n, n), U_bar (n, nx), and a number a trial to b_bar and theta_bar (N,). U_in is the weights of the input.
    R_bar (s, N), work (7, N) and panel (2, stages, N) are working space.
    """
    T, n, N, s, nx = cotangent.shape[0], cotangent.shape[2], lam.size, scheme.b.size, X.shape[2]
    K, Gz, Gu, Gth, hz, D_bar = work[0], work[1], work[2], work[3], work[4], work[5:]
    filled = 0
    for e in range(N):
        D_bar[0, e] = D_bar[1, e] = 0.0
    for t in range(T - 1, -1, -1):
        jump = _row(cotangent, t, first, N)
        drive, before = D_bar[t % 2], D_bar[(t + 1) % 2]
        for e in range(N):
            lam[e] += jump[e]
        for j in range(scheme.steps - 1, -1, -1):
            m = t * scheme.steps + j
            for i in range(s - 1, -1, -1):
                w = scheme.h * scheme.b[i]
                for e in range(N):
                    K[e] = w * lam[e]
                for l in range(i + 1, s):
                    w, R_l = scheme.h * scheme.a[l, i], R_bar[l]
                    if w != 0.0:
                        for e in range(N):
                            K[e] += w * R_l[e]
                Z, U, Kc, H, R_i = (
                    kept.Z[m, i],
                    kept.U[m % kept.U.shape[0], i],
                    panel[0, filled],
                    panel[1, filled],
                    R_bar[i],
                )
                call_partials(scheme.partials, N, at(Z), at(U), at(theta), at(Gz), at(Gu), at(hz))
                call_elementwise(scheme.source, N, at(Z), at(H), 0, 0)
                for e in range(N):
                    Kc[e] = Gu[e] * K[e]
                gemm(scheme.dgemm, False, False, N // n, n, n, at(Kc), n, at(W), n, 0.0, at(R_i), n)
                for e in range(N):
                    R_i[e] = hz[e] * R_i[e] + Gz[e] * K[e]
                p = _progress(scheme, j, i)
                for e in range(N):
                    drive[e] += p * Kc[e]
                if p != 1.0:
                    for e in range(N):
                        before[e] += (1.0 - p) * Kc[e]
                if scheme.by_theta != 0:
                    call_elementwise(scheme.by_theta, N, at(Z), at(U), at(theta), at(Gth))
                    for e in range(N):
                        theta_bar[e] += Gth[e] * K[e]
                filled += 1
                if filled == panel.shape[1]:
                    _weights(scheme, panel, filled, W_bar, N)
                    filled = 0
            for i in range(s):
                R_i = R_bar[i]
                for e in range(N):
                    lam[e] += R_i[e]
        if t == 0:
            for e in range(N):
                drive[e] += before[e]
        for e in range(N):
            b_bar[e] += drive[e]
        if nx > 0:
            gemm(scheme.dgemm, True, False, n, nx, N // n, at(drive), n, at(X[t, first]), nx, 1.0, at(U_bar), nx)
            if X_bar.shape[0] > 0:
                gemm(
                    scheme.dgemm, False, False, N // n, nx, n, at(drive), n, at(U_in), nx, 0.0, at(X_bar[t, first]), nx
                )
        for e in range(N):
            drive[e] = 0.0  # it is the one before the next
    _weights(scheme, panel, filled, W_bar, N)


@njit(**LEAN)
def _weights(scheme, panel, filled, W_bar, N):
    """W̄ += K̄cᵀ φ(Z) over the stages that wait."""
    n = W_bar.shape[0]
    rows = filled * (N // n)
    if rows > 0:
        gemm(scheme.dgemm, True, False, n, n, rows, at(panel[0]), n, at(panel[1]), n, 1.0, at(W_bar), n)
