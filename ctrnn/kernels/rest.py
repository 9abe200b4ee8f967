"""Loops at rest for any field with compiled functions: Anderson's iteration to r*, and the flow to a row V* = a J⁻¹.

    anderson   r ← r + g − Σ_k γ_k E_k,   g = h F(r)    γ minimises ‖g − Σ_k γ_k D_k‖,
                                                        D_k and E_k the last changes of g and of r + g
    flow       V ← V + h (V J − a)                      the residual VJ − a is the step: one product an iteration

h is one number a state, (n,). An iteration costs one F or one V J, and 4 n MEMORY flops for Anderson's combination.

Sources: D. G. Anderson, J. ACM 12 (1965); H. F. Walker and P. Ni, SIAM J. Numer. Anal. 49 (2011); Almeida (1987);
Pineda (1987).
"""

import numpy as np

from ctrnn.kernels import abi
from ctrnn.kernels.abi import LEAN, OWN, alive, at, call_f, call_vjp, copy
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.linalg import factor, solve
from ctrnn.kernels.products import FAST, matvec, vecmat

MEMORY = 7  # changes that Anderson's iteration combines
IDLE = 40  # its steps without progress after which it ends
EPS = 2.0**-52


@njit(**FAST)
def _norm(v):
    total = 0.0
    for i in range(v.size):
        total += v[i] * v[i]
    return np.sqrt(total)


@njit(**LEAN)
def _rests(h, F, r, tol):
    """|h_i F_i| ≤ tol max(1, max |r_i|) for all i."""
    size = 1.0
    for i in range(r.size):
        size = max(size, abs(r[i]))
    for i in range(r.size):
        if not abs(h[i] * F[i]) <= tol * size:
            return False
    return True


@njit(**OWN)
def _weights(N, b, m, γ):
    """γ (m,) with N γ = b of the symmetric N, scaled to a diagonal of 1 and lifted by 1e-14."""
    A, B, size = np.empty((m, m)), np.empty((m, 1)), np.empty(m)
    for i in range(m):
        size[i] = 1.0 / np.sqrt(max(N[i, i], 1e-300))
    for i in range(m):
        for j in range(m):
            A[i, j] = N[i, j] * size[i] * size[j]
        A[i, i] += 1e-14
        B[i, 0] = b[i] * size[i]
    none, pivots = np.zeros(2, dtype=np.int64), np.empty(m, dtype=np.int32)
    if not factor(none, A, pivots):
        return False
    solve(none, A, pivots, B)
    for i in range(m):
        γ[i] = B[i, 0] * size[i]
    return True


@njit(**OWN)
def anderson(system, t, x, h, tol, most, r, F):
    """r (n,) ← the point with the smallest ‖F‖ on the way from r, and F there; the steps taken.

    h halves where the iteration loses its way.
    """
    n = r.size
    D, E, N = np.empty((MEMORY, n)), np.empty((MEMORY, n)), np.empty((MEMORY, MEMORY))
    here, there = r.copy(), np.empty(n)  # where it is, and F there
    g, image = np.empty(n), np.empty(n)  # h F, r + h F
    products, γ, out = np.empty(MEMORY), np.empty(MEMORY), np.empty(n)
    ctx, w, F_ = at(system.ctx), at(system.w), system.table[abi.F]
    call_f(F_, ctx, t, at(here), w, at(x), at(there))
    copy(there, F)
    best = size = _norm(there)
    scale, changes, steps, since, first, fast = 1.0, 0, 0, 0, True, False
    while steps < most and since < IDLE and not _rests(h, there, here, tol):
        slot = changes % MEMORY
        for i in range(n):
            new = scale * h[i] * there[i]
            D[slot, i], E[slot, i] = new - g[i], here[i] + new - image[i]
            g[i], image[i] = new, here[i] + new
        if not first:
            changes += 1
            m = min(changes, MEMORY)
            matvec(D[:m], D[slot], products[:m])
            for k in range(m):
                N[slot, k] = N[k, slot] = products[k]
        first = False
        m = min(changes, MEMORY)
        copy(image, here)
        # a step that halves ‖F‖ by itself is better left alone: cheaper, and as good
        if m > 0 and not fast:
            matvec(D[:m], g, products[:m])
            if _weights(N, products, m, γ):
                vecmat(γ[:m], E[:m], out)
                for i in range(n):
                    here[i] -= out[i]
        steps += 1
        before = size
        call_f(F_, ctx, t, at(here), w, at(x), at(there))
        size = _norm(there)
        fast = size < 0.5 * before
        if not size <= 100.0 * best:  # lost, or NaN
            copy(r, here)
            copy(F, there)
            size, scale, changes, first, fast = best, scale / 2, 0, True, False
            since += 1
            continue
        since = 0 if size < 0.99 * best else since + 1
        if size < best:
            best = size
            copy(here, r)
            copy(there, F)
    alive(D, E, N, g, image, products, γ, out, here, there)
    return steps


@njit(**OWN)
def flow(system, t, r, x, a, h, tol, most, V, history):
    """V (n,) from 0 towards a J⁻¹; history[k] = ‖VJ − a‖/‖a‖ after k iterations.

    Their number, and the residual that rounding leaves.

    It ends at tol, where rounding leaves no more, where the residual grows or falls by less than a fifth in four
    iterations, or after ``most``.
    """
    n = a.size
    R = np.empty(n)
    size, norm, k, rounding = _norm(a), 0.0, 0, 0.0
    for i in range(n):
        V[i], R[i] = 0.0, -a[i]
    history[0] = 1.0
    while k < most and history[k] > tol:
        for i in range(n):
            V[i] += h[i] * R[i]
        call_vjp(system.table[abi.VJP], at(system.ctx), t, at(r), at(system.w), at(x), 1, at(V), at(R))
        length = _norm(V)
        if length > 0.0:
            norm = max(norm, _norm(R) / length)  # ‖J‖ from below
        for i in range(n):
            R[i] -= a[i]
        k += 1
        history[k] = _norm(R) / size
        rounding = EPS * (4.0 * length * norm / size + 1.0)
        stays = history[k] > 0.9 * history[k - 1] and history[k] <= rounding
        if stays or not history[k] <= 1e3 or (k > 4 and history[k] > 0.8 * history[k - 4]):
            break
    alive(R)
    return k, rounding
