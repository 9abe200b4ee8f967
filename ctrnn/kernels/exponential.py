"""Euler's method on G_h makes exponential Euler of F:  r⁺ = r + h G_h,  G_h = φ₁(hD) F,  φ₁(z) = (e^z − 1)/z.

D_i = ∂F_i/∂r_i (Pope, Commun. ACM 6:491, 1963; Hochbruck & Ostermann, Acta Numerica 19, 2010; in neural models Rush &
Larsen, IEEE TBME 25, 1978). D depends on t, r, w and x as F does, and is a field too, with the same parameters. With a
= φ₁(hD), b = h φ₁′(hD) F, element by element,

    K ∂G = (K a) ∂F + (K b) ∂D

for ∂/∂r and ∂/∂w alike: VJP, ACCUMULATE and JACOBIAN are those of F and of D. h is a channel of x, behind the inputs
of F, which the stepper fills in.

Second order: along a direction, δa = h φ₁′ δD and δb = h² φ₁″ F δD + h φ₁′ δF, and so

    δ(K ∂G) = (K δa) ∂F + (K a) δ∂F + (K δb) ∂D + (K b) δ∂D
"""

import math

import numpy as np

from ctrnn.kernels.abi import (
    ACCUMULATE,
    EXTRA,
    JACOBIAN,
    JVP,
    SCRATCH,
    SECOND,
    SIGNATURES,
    VJP,
    X_STRIDE,
    F,
    N,
    address_of,
    alive,
    at,
    call_accumulate,
    call_f,
    call_jvp,
    call_second,
    call_vjp,
    doubles,
    integers,
)
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy

# more ctx entries: the table and the ctx of F and of D, and the channel of h
F_TABLE, F_CTX, D_TABLE, D_CTX, CHANNEL = range(EXTRA, EXTRA + 5)
CTX_SIZE = EXTRA + 5
# and behind them, for second order: the addresses and the ctx of each
F_JVP, F_SECOND, F_CTX_2, D_JVP, D_SECOND, D_CTX_2 = range(CTX_SIZE, CTX_SIZE + 6)
CTX_SIZE_2 = CTX_SIZE + 6
#: Taylor coefficients of φ₁′ and φ₁″, the highest first, to round-off for |z| < 1
_FIRST = tuple((k + 1) / math.factorial(k + 2) for k in range(18, -1, -1))
_SECOND = tuple((k + 1) * (k + 2) / math.factorial(k + 3) for k in range(18, -1, -1))


@njit(inline="always")
def phi(z):
    """φ₁(z) = (e^z − 1)/z."""
    return math.expm1(z) / z if z != 0.0 else 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def dphi(z):
    """φ₁′ = (e^z − φ₁)/z, by its series near 0."""
    if abs(z) < 1.0:
        total = 0.0
        for c in _FIRST:
            total = total * z + c
        return total
    return (math.exp(z) - phi(z)) / z


@njit(cache=True, nogil=True, error_model="numpy")
def ddphi(z):
    """φ₁″ = (e^z − 2φ₁′)/z, by its series near 0."""
    if abs(z) < 1.0:
        total = 0.0
        for c in _SECOND:
            total = total * z + c
        return total
    return (math.exp(z) - 2.0 * dphi(z)) / z


@njit(inline="always")
def _step(ctx, x_):
    """h, from its channel."""
    return doubles(x_, ctx[CHANNEL] + 1)[ctx[CHANNEL]]


@njit(cache=True, nogil=True, error_model="numpy")
def _factors(ctx, t, r_, w_, x_, a, b):
    """a (n,) and b (n,) at one point."""
    h, n = _step(ctx, x_), ctx[N]
    call_f(integers(ctx[D_TABLE], 1)[F], ctx[D_CTX], t, r_, w_, x_, at(a))
    call_f(integers(ctx[F_TABLE], 1)[F], ctx[F_CTX], t, r_, w_, x_, at(b))
    for i in range(n):
        b[i] *= h * dphi(h * a[i])
        a[i] = phi(h * a[i])


@lazy(SIGNATURES[F])
def field(ctx_, t, r_, w_, x_, out_):
    """The slot F of a field's table (ctrnn.kernels.abi): out = F(t, r, w, x)."""
    ctx = integers(ctx_, CTX_SIZE)
    n = ctx[N]
    h = _step(ctx, x_)
    call_f(integers(ctx[F_TABLE], 1)[F], ctx[F_CTX], t, r_, w_, x_, out_)
    call_f(integers(ctx[D_TABLE], 1)[F], ctx[D_CTX], t, r_, w_, x_, ctx[SCRATCH])
    out, d = doubles(out_, n), doubles(ctx[SCRATCH], n)
    for i in range(n):
        out[i] *= phi(h * d[i])


@lazy(SIGNATURES[VJP])
def vjp(ctx_, t, r_, w_, x_, q, K_, R_):
    """The slot VJP of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    n = ctx[N]
    a, b = doubles(ctx[SCRATCH], n), doubles(ctx[SCRATCH] + 8 * n, n)
    _factors(ctx, t, r_, w_, x_, a, b)
    K, R = doubles(K_, (n, q)), doubles(R_, (n, q))
    scaled, other = np.empty((n, q)), np.empty((n, q))
    for i in range(n):
        for c in range(q):
            scaled[i, c] = K[i, c] * a[i]
    call_vjp(integers(ctx[F_TABLE], VJP + 1)[VJP], ctx[F_CTX], t, r_, w_, x_, q, at(scaled), R_)
    for i in range(n):
        for c in range(q):
            scaled[i, c] = K[i, c] * b[i]
    call_vjp(integers(ctx[D_TABLE], VJP + 1)[VJP], ctx[D_CTX], t, r_, w_, x_, q, at(scaled), at(other))
    for i in range(n):
        for c in range(q):
            R[i, c] += other[i, c]
    alive(scaled, other)


@lazy(SIGNATURES[ACCUMULATE])
def accumulate(ctx_, S, q, t_, r_, w_, x_, K_, G_):
    """The slot ACCUMULATE of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    n = ctx[N]
    a, b = doubles(ctx[SCRATCH], n), doubles(ctx[SCRATCH] + 8 * n, n)
    by_d = integers(ctx[D_TABLE], ACCUMULATE + 1)[ACCUMULATE]
    t, K, other = doubles(t_, S), doubles(K_, (S, n, q)), np.empty((S, n, q))
    for m in range(S):
        _factors(ctx, t[m], r_ + 8 * m * n, w_, x_ + 8 * m * ctx[X_STRIDE], a, b)
        for i in range(n):
            for c in range(q):
                other[m, i, c] = K[m, i, c] * b[i]
                K[m, i, c] *= a[i]
    call_accumulate(integers(ctx[F_TABLE], ACCUMULATE + 1)[ACCUMULATE], ctx[F_CTX], S, q, t_, r_, w_, x_, K_, G_)
    call_accumulate(by_d, ctx[D_CTX], S, q, t_, r_, w_, x_, at(other), G_)
    alive(other)


@lazy(SIGNATURES[JACOBIAN])
def jacobian(ctx_, t, r_, w_, x_, J_):
    """The slot JACOBIAN of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    n = ctx[N]
    a, b = doubles(ctx[SCRATCH], n), doubles(ctx[SCRATCH] + 8 * n, n)
    _factors(ctx, t, r_, w_, x_, a, b)
    J, other = doubles(J_, (n, n)), np.empty((n, n))
    call_f(integers(ctx[F_TABLE], JACOBIAN + 1)[JACOBIAN], ctx[F_CTX], t, r_, w_, x_, J_)
    call_f(integers(ctx[D_TABLE], JACOBIAN + 1)[JACOBIAN], ctx[D_CTX], t, r_, w_, x_, at(other))
    for i in range(n):
        for j in range(n):
            J[i, j] = J[i, j] * a[i] + b[i] * other[i, j]
    alive(other)


@lazy(SIGNATURES[JVP])
def jvp(ctx_, t, r_, w_, x_, dr_, dw_, out_):
    """The slot JVP of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE_2)
    n, h = ctx[N], _step(ctx, x_)
    f, d, df, dd = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    call_f(integers(ctx[F_TABLE], 1)[F], ctx[F_CTX], t, r_, w_, x_, at(f))
    call_f(integers(ctx[D_TABLE], 1)[F], ctx[D_CTX], t, r_, w_, x_, at(d))
    call_jvp(ctx[F_JVP], ctx[F_CTX_2], t, r_, w_, x_, dr_, dw_, at(df))
    call_jvp(ctx[D_JVP], ctx[D_CTX_2], t, r_, w_, x_, dr_, dw_, at(dd))
    out = doubles(out_, n)
    for i in range(n):
        out[i] = phi(h * d[i]) * df[i] + h * dphi(h * d[i]) * f[i] * dd[i]


@lazy(SIGNATURES[SECOND])
def second(ctx_, t, r_, w_, x_, dr_, dw_, K_, R_, G_):
    """The slot SECOND of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE_2)
    n, h = ctx[N], _step(ctx, x_)
    f, d, df, dd, scaled, part = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty((4, n)), np.empty(n)
    time = np.full(1, t)
    f_table, d_table = integers(ctx[F_TABLE], JACOBIAN + 1), integers(ctx[D_TABLE], JACOBIAN + 1)
    call_f(f_table[F], ctx[F_CTX], t, r_, w_, x_, at(f))
    call_f(d_table[F], ctx[D_CTX], t, r_, w_, x_, at(d))
    call_jvp(ctx[F_JVP], ctx[F_CTX_2], t, r_, w_, x_, dr_, dw_, at(df))
    call_jvp(ctx[D_JVP], ctx[D_CTX_2], t, r_, w_, x_, dr_, dw_, at(dd))
    K, R = doubles(K_, n), doubles(R_, n)
    for i in range(n):
        p, dp, ddp = phi(h * d[i]), dphi(h * d[i]), ddphi(h * d[i])
        scaled[0, i] = K[i] * p
        scaled[1, i] = K[i] * h * dp * f[i]
        scaled[2, i] = K[i] * h * dp * dd[i]
        scaled[3, i] = K[i] * (h * h * ddp * f[i] * dd[i] + h * dp * df[i])
    call_second(ctx[F_SECOND], ctx[F_CTX_2], t, r_, w_, x_, dr_, dw_, at(scaled[0]), R_, G_)
    call_second(ctx[D_SECOND], ctx[D_CTX_2], t, r_, w_, x_, dr_, dw_, at(scaled[1]), at(part), G_)
    for i in range(n):
        R[i] += part[i]
    call_vjp(f_table[VJP], ctx[F_CTX], t, r_, w_, x_, 1, at(scaled[2]), at(part))
    for i in range(n):
        R[i] += part[i]
    call_accumulate(f_table[ACCUMULATE], ctx[F_CTX], 1, 1, at(time), r_, w_, x_, at(scaled[2]), G_)
    call_vjp(d_table[VJP], ctx[D_CTX], t, r_, w_, x_, 1, at(scaled[3]), at(part))
    for i in range(n):
        R[i] += part[i]
    call_accumulate(d_table[ACCUMULATE], ctx[D_CTX], 1, 1, at(time), r_, w_, x_, at(scaled[3]), G_)
    alive(scaled, time)


def table() -> np.ndarray:
    """The field table that all fields of exponential Euler share."""
    return np.array([f.address for f in (field, vjp, accumulate, jacobian)] + [0], dtype=np.int64)


def second_addresses() -> tuple[int, int]:
    """Of JVP and SECOND."""
    return address_of(jvp), address_of(second)
