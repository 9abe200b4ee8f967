"""Trials of one network side by side, by the fixed steps of an explicit method.

q trials go through each stage as the rows of one product.

    Z_i = R + h Σ_j a_ij k_j,   U_i = φ(Z_i) Wᵀ + D_i,   k_i = G(Z_i, U_i, θ),   R⁺ = R + h Σ_i b_i k_i     all (q, n)

The drive D = X Uᵀ + b is given, in rows: a stage takes p of its row and 1 − p of the row before. The transposed step
(ctrnn.kernels.pullback has its source):

    for i = s … 1:   K̄ = h b_i Λ + h Σ_{j>i} a_ji R̄_j,    K̄c = K̄ ∂G/∂u,    R̄_i = φ′ (K̄c W) + K̄ ∂G/∂z  [+ h b_i ∂ℓ/∂r]
                     W̄ += K̄cᵀ φ(Z_i),    D̄_row += p K̄c,    D̄_before += (1 − p) K̄c,    θ̄ += K̄ ∂G/∂θ
    Λ ← Λ + Σ_i R̄_i

for cells of one state and one pre-activation, whose compiled loops (ctrnn.fields.cells) take q n units as they take n.
What becomes of one trial, its states and Λ, does not depend on the others, to the bit (ctrnn.kernels.batch.tiles); W̄
and D̄ are sums.

Layout: trials are rows, filled up to ``width`` numbers (a multiple of 8) by units whose outgoing weights are 0; what
belongs to a stage lies together, N = q width numbers. The trials that go together are ``first`` to first + q of the
whole arrays (·, B, width). Kept for the way back: Z of all stages, and U where ∂G needs it, 8 s N bytes a step each.
K̄c and φ(Z) wait in a panel of some stages for one product of useful length.

Flops of a stage and trial: 2n² forward and 4n² backward, as for one trial alone; but W is read once for four of them. φ
is evaluated twice. For one trial the 16n² bytes of W that a stage reads, n² each way, are the limit from n = 64 on, for
many the products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ctrnn.kernels.abi import INLINE, LEAN, at, call_elementwise, call_partials, copy
from ctrnn.kernels.batch.tiles import LANES, call_multiply_add
from ctrnn.kernels.compiled import njit

#: a·b + c as one operation
FUSED: dict[str, Any] = LEAN | {"fastmath": {"contract"}}


class Scheme(NamedTuple):
    """The method, and the addresses of the cell's loops and of ``multiply_add`` (ctrnn.kernels.batch.tiles)."""

    source: int
    rate: int
    partials: int
    by_theta: int  # 0: θ is not trained
    multiply_add: int
    a: np.ndarray  # (s, s), strictly lower
    b: np.ndarray  # (s,)


class Steps(NamedTuple):
    """C steps, for all trials alike."""

    h: np.ndarray  # (C,)
    row: np.ndarray  # (C, s) the row of the drive at each stage; they ascend, without gaps
    share: np.ndarray  # (C, s) p, that row's share
    own: bool  # whether each stage has a row of its own, p = 1
    mark: np.ndarray  # (C,) the number of the end of a step among the states that are asked for, or −1


@njit(**FUSED)
def forward(scheme, steps, WT, theta, D, first, R, Z, U, k, H, states):
    """States (K, B, width) at the ends that are marked, from R (N,) and D (rows, q or 1, width).

    R becomes the state at the last end, Z and U (C or 1, s, N) the stages.
    WT = Wᵀ (n, width), theta (N,). k (s, N) and H (N,) are working space.
    """
    width, N, s = WT.shape[1], R.size, scheme.b.size
    for m in range(steps.h.size):
        h = steps.h[m]
        for i in range(s):
            Z_i, U_i = Z[m % Z.shape[0], i], U[m % U.shape[0], i]
            copy(R, Z_i)
            for l in range(i):
                w, k_l = h * scheme.a[i, l], k[l]
                if w != 0.0:
                    for e in range(N):
                        Z_i[e] += w * k_l[e]
            _drive(D, steps.row[m, i], steps.share[m, i], U_i)
            call_elementwise(scheme.source, N, at(Z_i), at(H), 0, 0)
            _through(scheme.multiply_add, m * s + i, N // width, WT.shape[0], width, at(H), at(WT), at(U_i))
            call_elementwise(scheme.rate, N, at(Z_i), at(U_i), at(theta), at(k[i]))
        for i in range(s):
            w, k_i = h * scheme.b[i], k[i]
            for e in range(N):
                R[e] += w * k_i[e]
        if steps.mark[m] >= 0:
            for e in range(N // width):
                copy(R[e * width : (e + 1) * width], states[steps.mark[m], first + e])


@njit(**INLINE)
def _through(multiply_add, stage, q, n, width, A, M, C):
    """C (q, width) += A (q, n) M (n, width), addresses.

    Every other stage begins at the end of M, which is in the cache still.
    """
    back = stage % 2
    A, M = A + 8 * (n - 1) * back, M + 8 * width * (n - 1) * back
    k_stride, m_stride = 1 - 2 * back, width * (1 - 2 * back)
    call_multiply_add(multiply_add, q, n, A, width, k_stride, M, m_stride, C, width, width // LANES)


@njit(inline="always")
def _drive(D, row, p, U):
    """U (N,) ← p D_row + (1 − p) D_before of each trial, or of what drives them all."""
    width = D.shape[2]
    for e in range(U.size // width):
        now, to = D[row, e % D.shape[1]], U[e * width : (e + 1) * width]
        if p == 1.0:
            copy(now, to)
        else:
            before = D[max(row - 1, 0), e % D.shape[1]]
            for j in range(width):
                to[j] = p * now[j] + (1.0 - p) * before[j]


@njit(**FUSED)
def backward(
    scheme, steps, W, theta, Z, U, jumps, sources, first, lam, W_bar, D_bar, theta_bar, R_bar, work, panel
):  # fmt: skip
    """Take Λ (N,) from the last end to the start, in place.

    ``jumps`` (K, B, width) are added at the ends that are marked, ``sources`` (C or 0, s, B, width) at the stages.
    Added to W_bar (n, width) and to theta_bar (N,); written to D_bar (rows, q, width), or (rows, 1, width) for the sum
    over the trials. W (n, width). R_bar (s, N), work (4, N) and panel (2, stages, N) are working space.
    """
    N, s, width = lam.size, scheme.b.size, W.shape[1]
    K, Gz, Gu, hz = work[0], work[1], work[2], work[3]
    filled, entered = 0, -1
    for m in range(steps.h.size - 1, -1, -1):
        h = steps.h[m]
        if steps.mark[m] >= 0:
            for e in range(N // width):
                jump = jumps[steps.mark[m], first + e]
                for j in range(width):
                    lam[e * width + j] += jump[j]
        for i in range(s - 1, -1, -1):
            w = h * scheme.b[i]
            for e in range(N):
                K[e] = w * lam[e]
            for l in range(i + 1, s):
                w, R_l = h * scheme.a[l, i], R_bar[l]
                if w != 0.0:
                    for e in range(N):
                        K[e] += w * R_l[e]
            Z_i, U_i, R_i = Z[m, i], U[m % U.shape[0], i], R_bar[i]
            Kc, H = panel[0, filled], panel[1, filled]
            call_partials(scheme.partials, N, at(Z_i), at(U_i), at(theta), at(Gz), at(Gu), at(hz), at(H))
            for e in range(N):
                Kc[e] = Gu[e] * K[e]
                R_i[e] = 0.0
            _through(scheme.multiply_add, m * s + i, N // width, W.shape[0], width, at(Kc), at(W), at(R_i))
            for e in range(N):
                R_i[e] = hz[e] * R_i[e] + Gz[e] * K[e]
            if sources.shape[0] > 0:
                w = h * scheme.b[i]
                for e in range(N // width):
                    source = sources[m, i, first + e]
                    for j in range(width):
                        R_i[e * width + j] += w * source[j]
            if scheme.by_theta != 0:
                call_elementwise(scheme.by_theta, N, at(Z_i), at(U_i), at(theta), at(Gu))
                for e in range(N):
                    theta_bar[e] += Gu[e] * K[e]
            row, p = steps.row[m, i], steps.share[m, i]
            if steps.own:
                _put(D_bar, row, Kc)
            else:
                if row != entered:  # the one before receives from this one's stages too
                    if entered < 0:
                        _clear(D_bar, row)
                    _clear(D_bar, row - 1)
                    entered = row
                _add(D_bar, row, p, Kc)
                if p != 1.0:
                    _add(D_bar, max(row - 1, 0), 1.0 - p, Kc)
            filled += 1
            if filled == panel.shape[1]:
                _weights(scheme.multiply_add, panel, filled, W_bar, N)
                filled = 0
        for i in range(s):
            R_i = R_bar[i]
            for e in range(N):
                lam[e] += R_i[e]
    _weights(scheme.multiply_add, panel, filled, W_bar, N)


@njit(inline="always")
def _put(D_bar, row, Kc):
    """D̄_row ← K̄c, or its sum over the trials."""
    shared, width = D_bar.shape[1], D_bar.shape[2]
    for e in range(Kc.size // width):
        to, mine = D_bar[row, e % shared], Kc[e * width : (e + 1) * width]
        if e < shared:
            copy(mine, to)
        else:
            for j in range(width):
                to[j] += mine[j]


@njit(inline="always")
def _clear(D_bar, row):
    if row >= 0:
        for b in range(D_bar.shape[1]):
            for j in range(D_bar.shape[2]):
                D_bar[row, b, j] = 0.0


@njit(inline="always")
def _add(D_bar, row, p, Kc):
    """D̄_row += p K̄c."""
    width = D_bar.shape[2]
    for e in range(Kc.size // width):
        to, mine = D_bar[row, e % D_bar.shape[1]], Kc[e * width : (e + 1) * width]
        for j in range(width):
            to[j] += p * mine[j]


@njit(**LEAN)
def _weights(multiply_add, panel, filled, W_bar, N):
    """W̄ += K̄cᵀ φ(Z) over the stages that wait in the panel."""
    n, width = W_bar.shape
    rows = filled * (N // width)
    call_multiply_add(
        multiply_add, n, rows, at(panel[0]), 1, width, at(panel[1]), width, at(W_bar), width, width // LANES
    )
