"""Networks of elementwise cells: the functions of the field table, for every cell at once.

A unit i has state components z_ai (a < A) and pre-activations u_pi (p < B),

    u = Ŵ s,   s = [h(z); x; 1],   dz_ai/dt = G_a(z_i, u_i, θ_i),   Ŵ = [W U b] of shape (B n, n + nx + 1).

A cell is elementwise, and enters through the addresses of compiled loops over the units (source h; rate G; partials ∂G/∂z, ∂G/∂u, h′;
drive ∂G/∂u and by_theta ∂G/∂θ for the parameter part), so these functions are compiled once. With c_pai = ∂G_a/∂u_pi:

    VJP         R_bi = h′_bi (Ŵᵀ Kc)_i + Σ_a ∂G_a/∂z_bi K_ai,   Kc_pi = Σ_a c_pai K_ai       2 B n (n q) flops
    ACCUMULATE  row i of Ŵ:  G_i += Kc_iᵀ s  over all stages, one strided GEMM a unit       2 B n S q (n + nx + 1) flops
    JACOBIAN    J_ai,bj = Σ_p c_pai Ŵ_pij h′_bj + δ_ij ∂G_a/∂z_bi;   LEAK is its second term

Layout: r is (A, n) and u (B, n), units last; kernel parameters w are Ŵ row by row, then θ (Θ, n). Group g = p n + i is a
row of Ŵ; its columns are the entries of that row, then (in the groups p = 0) the Θ parameters of unit i.
"""

from __future__ import annotations

import numpy as np
from numba import cfunc, njit

from ctrnn.kernels.abi import (
    ACCUMULATE,
    COLUMNS,
    DGEMM,
    EXTRA,
    JACOBIAN,
    LEAK,
    SCRATCH,
    SIGNATURES,
    VJP,
    X_STRIDE,
    F,
    alive,
    at,
    call_elementwise,
    call_partials,
    doubles,
    gemm,
    integers,
)  # fmt: skip

# ctx entries of a network
(
    UNITS, STATES, PREACTS, THETAS, INPUTS, SOURCE, RATE, PARTIALS, DRIVE, BY_THETA, NEEDS_U, DRIVE_NEEDS_U,
) = range(EXTRA, EXTRA + 12)  # fmt: skip
CTX_SIZE = EXTRA + 12


def scratch_size(n: int, A: int, B: int, inputs: int) -> int:
    """Doubles of scratch that the functions below use (s, u, and the three partials)."""
    return (n + inputs + 1) + B * n + n * (A * A + A * B + A)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _matvec(W, rows, columns, s, u):
    for i in range(rows):
        total = 0.0
        for j in range(columns):
            total += W[i, j] * s[j]
        u[i] = total


@njit(cache=True, nogil=True, error_model="numpy")
def _sources(ctx, r_, x_, s):
    """s = [h(z); x; 1]"""
    n, nx = ctx[UNITS], ctx[INPUTS]
    x = doubles(x_, nx)
    call_elementwise(ctx[SOURCE], n, r_, at(s), 0, 0)
    for j in range(nx):
        s[n + j] = x[j]
    s[n + nx] = 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _preactivations(ctx, r_, w_, x_, s, u):
    n, B, nx = ctx[UNITS], ctx[PREACTS], ctx[INPUTS]
    _sources(ctx, r_, x_, s)
    _matvec(doubles(w_, (B * n, n + nx + 1)), B * n, n + nx + 1, s, u)


@njit(cache=True, nogil=True, error_model="numpy")
def _partials(ctx, r_, w_, x_):
    """Gz (A, A, n) [of, by], Gu (A, B, n), h′ (A, n), all in the scratch."""
    n, A, B, nx = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[INPUTS]
    sources = n + nx + 1
    start = ctx[SCRATCH]
    s = doubles(start, sources)
    u = doubles(start + 8 * sources, B * n)
    if ctx[NEEDS_U]:
        _preactivations(ctx, r_, w_, x_, s, u)
    start += 8 * (sources + B * n)
    Gz = doubles(start, (A, A, n))
    start += 8 * A * A * n
    Gu = doubles(start, (A, B, n))
    start += 8 * A * B * n
    hz = doubles(start, (A, n))
    call_partials(ctx[PARTIALS], n, r_, at(u), w_ + 8 * B * n * sources, at(Gz), at(Gu), at(hz))
    return Gz, Gu, hz


@njit(cache=True, nogil=True)
def _axpys(W, rows, columns, k, out):
    """out += k W, for one row k; W row by row, so that memory is read in order."""
    for i in range(rows):
        g = k[i]
        for j in range(columns):
            out[j] += g * W[i, j]


@cfunc(SIGNATURES[F], cache=True)
def field(ctx_, t, r_, w_, x_, out_):
    ctx = integers(ctx_, CTX_SIZE)
    n, B, nx = ctx[UNITS], ctx[PREACTS], ctx[INPUTS]
    sources = n + nx + 1
    s = doubles(ctx[SCRATCH], sources)
    u = doubles(ctx[SCRATCH] + 8 * sources, B * n)
    _preactivations(ctx, r_, w_, x_, s, u)
    call_elementwise(ctx[RATE], n, r_, at(u), w_ + 8 * B * n * sources, out_)


@njit(cache=True, nogil=True, error_model="numpy")
def _scaled(g, K, out, n, q):
    """out[i, :] += g[i] K[i, :] for q columns; one loop where there is one column, which the compiler can vectorise."""
    if q == 1:
        k, o = K.reshape(n), out.reshape(n)
        for i in range(n):
            o[i] += g[i] * k[i]
        return
    for i in range(n):
        gi = g[i]
        if gi != 0.0:
            for c in range(q):
                out[i, c] += gi * K[i, c]


@cfunc(SIGNATURES[VJP], cache=True, error_model="numpy")
def vjp(ctx_, t, r_, w_, x_, q, K_, R_):
    ctx = integers(ctx_, CTX_SIZE)
    n, A, B, nx = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[INPUTS]
    sources = n + nx + 1
    Gz, Gu, hz = _partials(ctx, r_, w_, x_)
    K = doubles(K_, (A, n, q))
    R = doubles(R_, (A, n, q))
    Kc = np.zeros((B, n, q))
    for a in range(A):
        for p in range(B):
            _scaled(Gu[a, p], K[a], Kc[p], n, q)
    back = np.zeros((n, q))
    if q == 1:
        _axpys(doubles(w_, (B * n, sources)), B * n, n, Kc.reshape(B * n), back.reshape(n))
    else:
        gemm(ctx[DGEMM], True, False, n, q, B * n, w_, sources, at(Kc), q, 0.0, at(back), q)
    alive(Kc, back)
    for b in range(A):
        R[b] = 0.0
        _scaled(hz[b], back, R[b], n, q)
        for a in range(A):
            _scaled(Gz[a, b], K[a], R[b], n, q)


@cfunc(SIGNATURES[ACCUMULATE], cache=True, error_model="numpy")
def accumulate(ctx_, S, q, t_, r_, w_, x_, K_, G_):
    ctx = integers(ctx_, CTX_SIZE)
    n, A, B, nth, nx = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[THETAS], ctx[INPUTS]
    sources = n + nx + 1
    columns = ctx[COLUMNS]
    theta = w_ + 8 * B * n * sources
    W = doubles(w_, (B * n, sources))
    K = doubles(K_, (S, A, n, q))
    G = doubles(G_, (B * n, q, columns))
    s = np.empty((S, sources))
    Kc = np.zeros((S, B, n, q))
    u = np.empty(B * n)
    Gu = np.empty((A, B, n))
    Gth = np.empty((A, nth, n))
    for m in range(S):
        here = r_ + 8 * m * A * n
        _sources(ctx, here, x_ + 8 * m * ctx[X_STRIDE], s[m])
        if ctx[DRIVE_NEEDS_U] or ctx[BY_THETA] != 0:
            _matvec(W, B * n, sources, s[m], u)
        call_elementwise(ctx[DRIVE], n, here, at(u), theta, at(Gu))
        for a in range(A):
            for p in range(B):
                _scaled(Gu[a, p], K[m, a], Kc[m, p], n, q)
        if ctx[BY_THETA] != 0:
            call_elementwise(ctx[BY_THETA], n, here, at(u), theta, at(Gth))
            for a in range(A):
                for h in range(nth):
                    for i in range(n):
                        g = Gth[a, h, i]
                        for k in range(q):
                            G[i, k, sources + h] += g * K[m, a, i, k]
    if q == 1:
        gemm(ctx[DGEMM], True, False, B * n, sources, S, at(Kc), B * n, at(s), sources, 1.0, G_, columns)
    else:
        for i in range(B * n):
            gemm(
                ctx[DGEMM], True, False, q, sources, S, at(Kc) + 8 * i * q, B * n * q,
                at(s), sources, 1.0, G_ + 8 * i * q * columns, columns,
            )  # fmt: skip
    alive(Kc, s, u, Gu, Gth)


@cfunc(SIGNATURES[JACOBIAN], cache=True)
def jacobian(ctx_, t, r_, w_, x_, J_):
    ctx = integers(ctx_, CTX_SIZE)
    n, A, B, nx = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[INPUTS]
    W = doubles(w_, (B, n, n + nx + 1))
    Gz, Gu, hz = _partials(ctx, r_, w_, x_)
    J = doubles(J_, (A, n, A, n))
    for a in range(A):
        for i in range(n):
            for b in range(A):
                for j in range(n):
                    total = 0.0
                    for p in range(B):
                        total += Gu[a, p, i] * W[p, i, j]
                    J[a, i, b, j] = total * hz[b, j]
                J[a, i, b, i] += Gz[a, b, i]


@cfunc(SIGNATURES[LEAK], cache=True)
def leak(ctx_, t, r_, w_, x_, J_):
    ctx = integers(ctx_, CTX_SIZE)
    n, A = ctx[UNITS], ctx[STATES]
    Gz, _, _ = _partials(ctx, r_, w_, x_)
    J = doubles(J_, (A, n, A, n))
    J[:] = 0.0
    for a in range(A):
        for b in range(A):
            for i in range(n):
                J[a, i, b, i] = Gz[a, b, i]


def table() -> np.ndarray:
    """The field table that all networks share."""
    return np.array([f.address for f in (field, vjp, accumulate, jacobian, leak)], dtype=np.int64)
