"""Networks of elementwise cells: the functions of the field table, for every cell at once.

A unit i has state components z_ai (a < A) and pre-activations u_pi (p < B),

    u = Ŵ s,   s = [h(z); x; 1],   dz_ai/dt = G_a(z_i, u_i, θ_i),   Ŵ = [W U b] of shape (B n, n + nx + 1).

A cell is elementwise, and enters through the addresses of compiled loops over the units (source h; rate G; partials
∂G/∂z, ∂G/∂u, h′ and again h; drive ∂G/∂u and by_theta ∂G/∂θ for the parameter part), so these functions are compiled
once. With c_pai = ∂G_a/∂u_pi:

    VJP         R_bi = h′_bi (Ŵᵀ Kc)_i + Σ_a ∂G_a/∂z_bi K_ai,   Kc_pi = Σ_a c_pai K_ai       2 B n² flops for one row;
                R = Jᵀ K for q rows, with J made once: 2 A² n² q
    ACCUMULATE  row i of Ŵ:  G_i += Kc_iᵀ s  over all stages, one GEMM a unit       2 B n S q (n + nx + 1) flops
    JACOBIAN    J_ai,bj = Σ_p c_pai Ŵ_pij h′_bj + δ_ij ∂G_a/∂z_bi;   LEAK is its second term

Layout: r is (A, n) and u (B, n), units last; kernel parameters w are Ŵ row by row, then θ (Θ, n). Group g = p n + i is
a row of Ŵ; its columns are the entries of that row, then (in the groups p = 0) the Θ parameters of unit i. Where few
weights exist, a row holds those alone (ctrnn.kernels.products): ``width`` entries of n + nx + 1, in w, in the flops
above, and in the columns of P = dr/dw.
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels.abi import (
    ACCUMULATE,
    COLUMNS,
    DGEMM,
    EXTRA,
    G_STRIDE,
    INLINE,
    JACOBIAN,
    LEAK,
    LEAN,
    OWN,
    SCRATCH,
    SIGNATURES,
    STOP,
    VJP,
    W_AT,
    X_STRIDE,
    F,
    alive,
    at,
    call_elementwise,
    call_f,
    call_partials,
    doubles,
    gemm,
    integers,
    stopped,
)
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import LazyTable, lazy
from ctrnn.kernels.products import gathered, matmat_listed, matvec, matvec_listed, vecmat, vecmat_listed

# ctx entries of a network
(
    UNITS, STATES, PREACTS, THETAS, INPUTS, WIDTH, INDEX, SOURCE, RATE, PARTIALS, DRIVE, BY_THETA, NEEDS_U,
    DRIVE_NEEDS_U, TABLE,
) = range(EXTRA, EXTRA + 15)  # fmt: skip
CTX_SIZE = EXTRA + 15


def scratch_size(n: int, A: int, B: int, inputs: int) -> int:
    """Doubles of scratch that the functions below use: s, u, the three partials, and for one cotangent Kc and Ŵᵀ Kc."""
    return (n + inputs + 1) + B * n + n * (A * A + A * B + A) + (B + 1) * n


@njit(**INLINE)
def _sources(ctx, r_, x_, s):
    """s = [h(z); x; 1]."""
    n, nx = ctx[UNITS], ctx[INPUTS]
    x = doubles(x_, nx)
    call_elementwise(ctx[SOURCE], n, r_, at(s), 0, 0)
    for j in range(nx):
        s[n + j] = x[j]
    s[n + nx] = 1.0


@njit(**INLINE)
def _preactivations(ctx, w_, s, u):
    """u = Ŵ s."""
    rows, width = ctx[PREACTS] * ctx[UNITS], ctx[WIDTH]
    if ctx[INDEX] != 0:
        matvec_listed(doubles(w_, (rows, width)), integers(ctx[INDEX], (rows, width)), s, u)
    else:
        matvec(doubles(w_, (rows, width)), s, u)


@njit(inline="always")
def _partials(ctx, r_, w_, x_):
    """Gz (A, A, n) [of, by], Gu (A, B, n), h′ (A, n), all in the scratch."""
    n, A, B, nx = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[INPUTS]
    sources = n + nx + 1
    start = ctx[SCRATCH]
    s = doubles(start, sources)
    u = doubles(start + 8 * sources, B * n)
    if ctx[NEEDS_U]:
        _sources(ctx, r_, x_, s)
        _preactivations(ctx, w_, s, u)
    start += 8 * (sources + B * n)
    Gz = doubles(start, (A, A, n))
    start += 8 * A * A * n
    Gu = doubles(start, (A, B, n))
    start += 8 * A * B * n
    hz = doubles(start, (A, n))
    call_partials(ctx[PARTIALS], n, r_, at(u), w_ + 8 * B * n * ctx[WIDTH], at(Gz), at(Gu), at(hz), at(s))
    return Gz, Gu, hz


@lazy(SIGNATURES[F], **LEAN)
def field(ctx_, t, r_, w_, x_, out_):
    """The slot F of a field's table (ctrnn.kernels.abi): out = F(t, r, w, x)."""
    ctx = integers(ctx_, CTX_SIZE)
    n, B, nx = ctx[UNITS], ctx[PREACTS], ctx[INPUTS]
    sources = n + nx + 1
    s = doubles(ctx[SCRATCH], sources)
    u = doubles(ctx[SCRATCH] + 8 * sources, B * n)
    _sources(ctx, r_, x_, s)
    _preactivations(ctx, w_, s, u)
    call_elementwise(ctx[RATE], n, r_, at(u), w_ + 8 * B * n * ctx[WIDTH], out_)


@lazy(SIGNATURES[JACOBIAN], **LEAN)
def jacobian(ctx_, t, r_, w_, x_, J_):
    """J (A, n, A, n), from the partials."""
    ctx = integers(ctx_, CTX_SIZE)
    n, A, B, width = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[WIDTH]
    J = doubles(J_, (A, n, A, n))
    W = doubles(w_, (B, n, width))
    Gz, Gu, hz = _partials(ctx, r_, w_, x_)
    for a in range(A):
        for i in range(n):
            for b in range(A):
                row = J[a, i, b]
                row[:] = 0.0
                for p in range(B):
                    g = Gu[a, p, i]
                    if ctx[INDEX] != 0:
                        index = integers(ctx[INDEX], (B, n, width))[p, i]
                        for c in range(width):
                            if index[c] < n:
                                row[index[c]] += g * W[p, i, c]
                    else:
                        for j in range(n):
                            row[j] += g * W[p, i, j]
                for j in range(n):
                    row[j] *= hz[b, j]
                row[i] += Gz[a, b, i]


@njit(**INLINE)
def _vjp_one(ctx, r_, w_, x_, K, R):
    """One cotangent, K and R (A, n); nothing is allocated."""
    n, A, B, width = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[WIDTH]
    Gz, Gu, hz = _partials(ctx, r_, w_, x_)
    start = ctx[SCRATCH] + 8 * (n + ctx[INPUTS] + 1 + B * n + n * (A * A + A * B + A))
    Kc, back = doubles(start, B * n), doubles(start + 8 * B * n, n)
    for p in range(B):
        for i in range(n):
            Kc[p * n + i] = Gu[0, p, i] * K[0, i]
        for a in range(1, A):
            for i in range(n):
                Kc[p * n + i] += Gu[a, p, i] * K[a, i]
    W = doubles(w_, (B * n, width))
    if ctx[INDEX] != 0:
        vecmat_listed(Kc, W, integers(ctx[INDEX], (B * n, width)), back)
    else:
        vecmat(Kc, W, back)
    for b in range(A):
        for i in range(n):
            R[b, i] = hz[b, i] * back[i] + Gz[0, b, i] * K[0, i]
        for a in range(1, A):
            for i in range(n):
                R[b, i] += Gz[a, b, i] * K[a, i]


@njit(**OWN)
def _vjp_listed(ctx, r_, w_, x_, K, R):
    """Many cotangents through lists of weights, K and R (A, n, q)."""
    A, n, q = K.shape
    B, width = ctx[PREACTS], ctx[WIDTH]
    Gz, Gu, hz = _partials(ctx, r_, w_, x_)
    Kc, back = np.zeros((B * n, q)), np.empty((n, q))
    for p in range(B):
        for a in range(A):
            _scaled(Gu[a, p], K[a], Kc[p * n : p * n + n])
    matmat_listed(Kc, doubles(w_, (B * n, width)), integers(ctx[INDEX], (B * n, width)), back)
    for b in range(A):
        R[b] = 0.0
        _scaled(hz[b], back, R[b])
        for a in range(A):
            _scaled(Gz[a, b], K[a], R[b])


@njit(cache=True, nogil=True, error_model="numpy")
def _scaled(g, K, out):
    """out[i, :] += g[i] K[i, :]."""
    n, q = K.shape
    for i in range(n):
        c, row, to = g[i], K[i], out[i]
        for k in range(q):
            to[k] += c * row[k]


@njit(**OWN)
def _vjp_many(ctx, t, r_, w_, x_, q, K_, R_):
    """J once for all cotangents."""
    n, A = ctx[UNITS], ctx[STATES]
    J = np.empty((A * n, A * n))
    call_f(integers(ctx[TABLE], JACOBIAN + 1)[JACOBIAN], at(ctx), t, r_, w_, x_, at(J))
    gemm(ctx[DGEMM], True, False, A * n, q, A * n, at(J), A * n, K_, q, 0.0, R_, q)
    alive(J)


@lazy(SIGNATURES[VJP], **LEAN)
def vjp(ctx_, t, r_, w_, x_, q, K_, R_):
    """With the weights stored whole."""
    ctx = integers(ctx_, CTX_SIZE)
    n, A = ctx[UNITS], ctx[STATES]
    if q == 1:
        _vjp_one(ctx, r_, w_, x_, doubles(K_, (A, n)), doubles(R_, (A, n)))
    else:
        _vjp_many(ctx, t, r_, w_, x_, q, K_, R_)


@lazy(SIGNATURES[VJP], **LEAN)
def vjp_listed(ctx_, t, r_, w_, x_, q, K_, R_):
    """With lists of weights."""
    ctx = integers(ctx_, CTX_SIZE)
    n, A = ctx[UNITS], ctx[STATES]
    if q == 1:
        _vjp_one(ctx, r_, w_, x_, doubles(K_, (A, n)), doubles(R_, (A, n)))
    else:
        _vjp_listed(ctx, r_, w_, x_, doubles(K_, (A, n, q)), doubles(R_, (A, n, q)))


@lazy(SIGNATURES[ACCUMULATE])
def accumulate(ctx_, S, q, t_, r_, w_, x_, K_, G_):
    """The slot ACCUMULATE of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    n, A, B, nth, width = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[THETAS], ctx[WIDTH]
    sources, columns = n + ctx[INPUTS] + 1, ctx[COLUMNS]
    theta = w_ + 8 * B * n * width
    K = doubles(K_, (S, A, n, q))
    stride = ctx[G_STRIDE] if ctx[G_STRIDE] != 0 else q * columns  # from group to group
    s = np.empty((S, sources))
    u = np.empty(B * n)
    Gu = np.empty((S, A, B, n))
    Gth = np.empty((A, nth, n))
    for m in range(S):
        here = r_ + 8 * m * A * n
        if ctx[W_AT] != 0:
            w_ = integers(ctx[W_AT], S)[m]
            theta = w_ + 8 * B * n * width
        _sources(ctx, here, x_ + 8 * m * ctx[X_STRIDE], s[m])
        if ctx[DRIVE_NEEDS_U] or ctx[BY_THETA] != 0:
            _preactivations(ctx, w_, s[m], u)
        call_elementwise(ctx[DRIVE], n, here, at(u), theta, at(Gu[m]))
        if ctx[BY_THETA] != 0:
            call_elementwise(ctx[BY_THETA], n, here, at(u), theta, at(Gth))
            for a in range(A):
                for h in range(nth):
                    for i in range(n):
                        g = Gth[a, h, i]
                        to = doubles(G_ + 8 * i * stride, (q, columns))
                        for k in range(q):
                            to[k, width + h] += g * K[m, a, i, k]
    if q == 1 and ctx[INDEX] == 0:  # one product for all rows of Ŵ
        Kc = np.zeros((S, B, n))
        for m in range(S):
            for a in range(A):
                row = K[m, a].reshape(n)
                for p in range(B):
                    for i in range(n):
                        Kc[m, p, i] += Gu[m, a, p, i] * row[i]
        gemm(ctx[DGEMM], True, False, B * n, sources, S, at(Kc), B * n, at(s), sources, 1.0, G_, stride)
        alive(Kc)
    else:  # a row of Ŵ at a time: its panel of Kc is gathered into the cache, where the product finds it
        panel, mine = np.empty((S, q)), s
        if ctx[INDEX] != 0:
            mine = np.empty((S, width))
        for p in range(B):
            for i in range(n):
                if stopped(ctx[STOP]):
                    break
                for m in range(S):
                    to = panel[m]
                    c, row = Gu[m, 0, p, i], K[m, 0, i]
                    for k in range(q):
                        to[k] = c * row[k]
                    for a in range(1, A):
                        c, row = Gu[m, a, p, i], K[m, a, i]
                        for k in range(q):
                            to[k] += c * row[k]
                if ctx[INDEX] != 0:
                    gathered(s, integers(ctx[INDEX], (B, n, width))[p, i], mine)
                to_row = G_ + 8 * (p * n + i) * stride
                gemm(ctx[DGEMM], True, False, q, width, S, at(panel), q, at(mine), width, 1.0, to_row, columns)
        alive(panel, mine)
    alive(s, u, Gu, Gth)


@lazy(SIGNATURES[LEAK])
def leak(ctx_, t, r_, w_, x_, J_):
    """The slot LEAK of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    n, A = ctx[UNITS], ctx[STATES]
    Gz, _, _ = _partials(ctx, r_, w_, x_)
    J = doubles(J_, (A, n, A, n))
    J[:] = 0.0
    for a in range(A):
        for b in range(A):
            for i in range(n):
                J[a, i, b, i] = Gz[a, b, i]


def table(listed: bool) -> LazyTable:
    """The functions that all networks share."""
    return LazyTable((field, vjp_listed if listed else vjp, accumulate, jacobian, leak))
