"""B rows of any field that has F_ROWS (ctrnn.kernels.abi) through fixed steps of an explicit method, and back.

    z_i = r + h Σ_j a_ij k_j,   k_i = F(z_i),   r⁺ = r + h Σ_i b_i k_i
    for i = s … 1:   K̄ = h b_i Λ + h Σ_{j>i} a_ji R̄_j,   R̄_i = K̄ J_i [+ h b_i ∂ℓ/∂r];      Λ ← Λ + Σ_i R̄_i

(ctrnn.kernels.pullback has the source.) Rows are ``width`` numbers apart; N = B width. The tape keeps what F_ROWS wants
of all S = C s stages; the parameter part is taken of some steps together, while they are in the cache. A row's numbers
do not depend on the others.
"""

from __future__ import annotations

from ctrnn.kernels.abi import LEAN, at, call_accumulate_rows, call_f_rows, call_vjp_rows, copy, stopped
from ctrnn.kernels.compiled import njit

FUSED = LEAN | {"fastmath": {"contract"}}

#: rows, of stages and trials, whose parameter part is one product
PANEL_ROWS = 128


@njit(**FUSED)
def forward(f, ctx, w, a, b, h, t, x, r, z, k, S, tape, states, stop):
    """r (N,) -> its value at the end, in place; states (C, N) at the end of every step.

    a (s, s), b (s,), h (C,), t (C, s), x (C, s, B, ·); z (C or 1, s, N) receives the stages; the tape
    those S = C s stages, or is of one, S = 0, and nothing goes back. k (s, N) is working space. ``stop``
    (ctrnn.kernels.abi.STOP) ends it: what it has made is of no use then.
    """
    C, s = t.shape
    N, B = r.size, x.shape[2]
    for m in range(C):
        if stopped(stop):
            return
        for i in range(s):
            z_i = z[m % z.shape[0], i]
            copy(r, z_i)
            for l in range(i):
                c = h[m] * a[i, l]
                if c != 0.0:
                    k_l = k[l]
                    for e in range(N):
                        z_i[e] += c * k_l[e]
            call_f_rows(f, at(ctx), B, S, m * s + i, t[m, i], at(z_i), at(w), at(x[m, i]), at(k[i]), at(tape))
        for i in range(s):
            c, k_i = h[m] * b[i], k[i]
            for e in range(N):
                r[e] += c * k_i[e]
        copy(r, states[m])


@njit(**FUSED)
def backward(vjp, accumulate, ctx, w, a, b, h, jumps, sources, lam, K, R, tape, x_bar, G, stop):
    """Λ (N,) at the last end -> Λ at the start, in place; jumps (C or 0, N) at the ends, sources (C or 0, s, N).

    G receives the parameter part, x_bar (C, s, B, ·) or (0, s, B, ·) the cotangents of the inputs.
    K (N,) and R (s, N) are working space.
    """
    C, s = h.size, b.size
    N, B = lam.size, x_bar.shape[2]
    together = max(1, PANEL_ROWS // (s * B))
    for m in range(C - 1, -1, -1):
        if stopped(stop):
            return
        if jumps.shape[0] > 0:
            for e in range(N):
                lam[e] += jumps[m, e]
        for i in range(s - 1, -1, -1):
            c = h[m] * b[i]
            for e in range(N):
                K[e] = c * lam[e]
            for l in range(i + 1, s):
                c, R_l = h[m] * a[l, i], R[l]
                if c != 0.0:
                    for e in range(N):
                        K[e] += c * R_l[e]
            to_x = at(x_bar[m, i]) if x_bar.shape[0] > 0 else 0
            call_vjp_rows(vjp, at(ctx), B, C * s, m * s + i, at(w), at(K), at(R[i]), to_x, at(tape), at(G))
            if sources.shape[0] > 0:
                c, R_i, source = h[m] * b[i], R[i], sources[m, i]
                for e in range(N):
                    R_i[e] += c * source[e]
        for i in range(s):
            R_i = R[i]
            for e in range(N):
                lam[e] += R_i[e]
        if m % together == 0:
            count = s * min(together, C - m)
            call_accumulate_rows(accumulate, at(ctx), B, C * s, s * m, count, at(tape), at(G))
