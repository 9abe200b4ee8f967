"""Learning while a run goes on: explicit steps of some lanes, and the way back through steps whose weights differ.

    forward     r_i = r + h Σ_{j<i} a_ij k_j,   k_i = F(t + c_i h, r_i, w, x),   r⁺ = r + h Σ_i b_i k_i     of each lane
    back        Λ ← (Λ + jump) Φ_m,   Ḡ ← Ḡ + Λ C_m    for m = C … 1, Φ_m and C_m at the weights w_m of step m

and through what is carried, g += Λ P of each group of parameters.

(ctrnn.kernels.pullback has the step's transpose.) Weights are reached by an address a step. The parameter part of all
steps is one call of ACCUMULATE where the field reads W_AT (ctrnn.kernels.abi), so that it stays one matrix product a
group of parameters.
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels.abi import ACCUMULATE, LEAN, W_AT, F, System, at, call_accumulate, call_f, copy, doubles, gemm
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.products import vecmat
from ctrnn.kernels.pullback import pull_rows


@njit(**LEAN)
def advance(system, a, b, t, h, x, r, stage_r, stage_x, k):
    """One step of all lanes, r (B, n) in place; False where a state is no longer finite.

    t (s,) are the stages' times, x (B, channels) the inputs, held. stage_r (B, 1, s, n) and stage_x (B, 1, s, channels)
    receive the stages; k (s, n) is working space.
    """
    B, n = r.shape
    s = b.size
    finite = True
    for lane in range(B):
        now = r[lane]
        for i in range(s):
            y, u = stage_r[lane, 0, i], stage_x[lane, 0, i]
            copy(x[lane], u)
            copy(now, y)
            for l in range(i):
                c = h * a[i, l]
                if c != 0.0:
                    for j in range(n):
                        y[j] += c * k[l, j]
            call_f(system.table[F], at(system.ctx), t[i], at(y), at(system.w), at(u), at(k[i]))
        for i in range(s):
            c = h * b[i]
            if c != 0.0:
                for j in range(n):
                    now[j] += c * k[i, j]
        for j in range(n):
            if not np.isfinite(now[j]):
                finite = False
    return finite


@njit(**LEAN)
def back(system, w_at, size, a, b, implicit, h, stage_t, stage_r, stage_x, jumps, nothing, rows, K, R, estimate):
    """Take ``rows`` (n, q) from the end of C steps to their start, in place; K (C, s, n, q) keeps the cotangents.

    w_at (C,): addresses of the weights (size,) of each step; jumps (C, n) or (0, n) act on the last cotangent; nothing
    (0, s, n); the rest as in ctrnn.kernels.pullback, whose steps these are. False where a stage is singular.
    """
    for m in range(h.size - 1, -1, -1):
        one = System(system.table, system.ctx, doubles(w_at[m], size), system.code, system.data, system.signal)
        jump = jumps[m : m + 1] if jumps.shape[0] > 0 else jumps
        if not pull_rows(
            one, a, b, implicit, h[m : m + 1], stage_t[m : m + 1], stage_r[m : m + 1], stage_x[m : m + 1], jump,
            nothing, rows, K[m : m + 1], R, estimate,
        ):  # fmt: skip
            return False
    return True


@njit(**LEAN)
def back_by_jacobians(dgemm, J, weight, h, jumps, rows, K, R):
    """As ``back``, of steps with one stage, r⁺ = r + h b F(r), whose J (C, n, n) is at hand; weight: b.

    One row costs 2 n² flops a step and reads J once; R (n q,) is working space.
    """
    n, q = rows.shape
    size = n * q
    lam = doubles(at(rows), size)
    for m in range(h.size - 1, -1, -1):
        if jumps.shape[0] > 0:
            for j in range(n):
                rows[j, q - 1] += jumps[m, j]
        k = doubles(at(K[m]), size)
        c = h[m] * weight
        for j in range(size):
            k[j] = c * lam[j]
        if q == 1:
            vecmat(k, J[m], R)
        else:
            gemm(dgemm, True, False, n, q, n, at(J[m]), n, at(K[m]), q, 0.0, at(R), q)
        for j in range(size):
            lam[j] += R[j]


@njit(**LEAN)
def parameter_part(system, w_at, stage_w_at, stage_t, stage_r, stage_x, K, G_):
    """The parameter part of all stages, added at the address G_; K may be overwritten.

    stage_w_at (C s,): addresses of the weights of each stage, of a field that reads them; (0,): a step at a time.
    """
    C, s, _, q = K.shape
    if stage_w_at.size > 0:
        system.ctx[W_AT] = at(stage_w_at)
        call_accumulate(
            system.table[ACCUMULATE], at(system.ctx), C * s, q, at(stage_t), at(stage_r), w_at[0], at(stage_x),
            at(K), G_,
        )  # fmt: skip
        system.ctx[W_AT] = 0
        return
    for m in range(C):
        call_accumulate(
            system.table[ACCUMULATE], at(system.ctx), s, q, at(stage_t[m]), at(stage_r[m]), w_at[m], at(stage_x[m]),
            at(K[m]), G_,
        )  # fmt: skip


@njit(**LEAN)
def through(rows, part, P, g, first, last, work):
    """g (groups, columns) += rows[part] P of the groups ``first`` to ``last``: P is read once, 2 flops for 8 bytes.

    rows (parts, q), part (groups,) says whose row is a group's own, P (groups, q, columns); work (columns,) or more.
    """
    columns = g.shape[1]
    out = work[:columns]
    for group in range(first, last):
        vecmat(rows[part[group]], P[group], out)
        to = g[group]
        for c in range(columns):
            to[c] += out[c]
