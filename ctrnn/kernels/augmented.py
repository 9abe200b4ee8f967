"""The variational equation as fields of their own, for any solver.

Forward (continuous RTRL), y = [r | P | S | l | g | g₀ | g_o]:

    dr/dt = F,   dP/dt = J P + F_w,   dS/dt = J S          P = dr/dw (groups, n, columns), S = dr/dr0 (n, n)
    for l = ∫ a ℓ dt:   dl/dt = aℓ,   dg/dt = (a ∂ℓ/∂r) P,   dg₀/dt = (a ∂ℓ/∂r) S,   dg_o/dt = a ∂ℓ/∂(V, c)

With the slot LEAK in the place of JACOBIAN, P keeps only what a unit remembers by itself (leak-only, RFLO; Murray
2019).

Backward (continuous BPTT, the adjoint), integrated from t1 to t0, y = [r | λ | g] or, with r(t) given as an input, [λ |
g]:

    dr/dt = F,   dλ/dt = −λ J − a ∂ℓ/∂r,   dg/dt = −λ F_w

(Pontryagin et al. 1962; Chen et al. 2018.) Flops a call: 2n²(groups·columns) forward, of order n² + n·columns backward.
The loss is reached through an address too, loss(ctx, r, s, out): s are the targets and the weight a that travel behind
the field's inputs, out = [aℓ, a ∂ℓ/∂r (n), a ∂ℓ/∂(V, c)].
"""

from ctrnn.kernels.abi import (
    ACCUMULATE,
    COLUMNS,
    DGEMM,
    EXTRA,
    GROUPS,
    JACOBIAN,
    LEAK,
    SIGNATURES,
    VJP,
    X_STRIDE,
    F,
    at,
    call_accumulate,
    call_elementwise,
    call_f,
    call_vjp,
    doubles,
    gemm,
    integers,
)
from ctrnn.kernels.abi import N as N_ALL
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy

# ctx of an augmented field: that of the base field is at BASE, its table at TABLE
TABLE, BASE, STATES, INPUTS, SLOT, LOSS, LOSS_CTX, READOUT, WITH_P, R_INPUT, MEMORY = range(EXTRA, EXTRA + 11)
CTX_SIZE = EXTRA + 11
# Below this size of n² columns a plain loop beats the call of a BLAS.
SMALL = 4096


@njit(cache=True, nogil=True, error_model="numpy")
def _product(dgemm, J, P, out, n, columns):
    """out = J P for row-major J (n, n), P and out (n, columns)."""
    if dgemm != 0 and n * n * columns > SMALL:
        gemm(dgemm, False, False, n, columns, n, at(J), n, at(P), columns, 0.0, at(out), columns)
        return
    for i in range(n):
        for k in range(columns):
            out[i, k] = 0.0
        for j in range(n):
            a = J[i, j]
            if a != 0.0:
                for k in range(columns):
                    out[i, k] += a * P[j, k]


@lazy(SIGNATURES[F])
def forward(ctx_, t, y_, w_, x_, out_):
    """The slot F of the system [r | P | S | l | …], forward in time."""
    ctx = integers(ctx_, CTX_SIZE)
    table, base = integers(ctx[TABLE], JACOBIAN + 2), ctx[BASE]
    n, g, c, readout = ctx[STATES], ctx[GROUPS], ctx[COLUMNS], ctx[READOUT]
    call_f(table[F], base, t, y_, w_, x_, out_)
    y, out = y_ + 8 * n, out_ + 8 * n
    P = doubles(y, (g, n, c))
    S = doubles(y + 8 * g * n * c, (n, n))
    if ctx[WITH_P]:
        J = doubles(ctx[MEMORY], (n, n))
        call_f(table[ctx[SLOT]], base, t, y_, w_, x_, at(J))
        dP = doubles(out, (g, n, c))
        for k in range(g):
            _product(ctx[DGEMM], J, P[k], dP[k], n, c)
        times = doubles(ctx[MEMORY] + 8 * n * n, 1)
        times[0] = t
        eye = doubles(ctx[MEMORY] + 8 * (n * n + 1), (n, n))
        eye[:] = 0.0
        for i in range(n):
            eye[i, i] = 1.0
        # F_w is the parameter part of n identity rows; it adds itself to J P
        call_accumulate(table[ACCUMULATE], base, 1, n, at(times), y_, w_, x_, at(eye), out)
        _product(ctx[DGEMM], J, S, doubles(out + 8 * g * n * c, (n, n)), n, n)
        y += 8 * (g * n * c + n * n)
        out += 8 * (g * n * c + n * n)
    if ctx[LOSS] != 0:
        part = doubles(ctx[MEMORY] + 8 * (2 * n * n + 1), 1 + n + readout)
        call_elementwise(ctx[LOSS], ctx[LOSS_CTX], y_, x_ + 8 * ctx[INPUTS], at(part), 0)
        doubles(out, 1)[0] = part[0]
        out += 8
        if ctx[WITH_P]:
            dg = doubles(out, (g, c))
            dg0 = doubles(out + 8 * g * c, n)
            dg[:] = 0.0
            dg0[:] = 0.0
            for i in range(n):
                a = part[1 + i]
                for k in range(g):
                    for j in range(c):
                        dg[k, j] += a * P[k, i, j]
                for j in range(n):
                    dg0[j] += a * S[i, j]
            out += 8 * (g * c + n)
        last = doubles(out, readout)
        for k in range(readout):
            last[k] = part[1 + n + k]


@njit(cache=True, nogil=True, error_model="numpy")
def _of_state(ctx, slot, t, y_, w_, x_, J_):
    """J of [r | l | g_o] with ∂F/∂r, or its leak, from a slot of the field's table, and below it a ∂ℓ/∂r."""
    table, n, N = integers(ctx[TABLE], LEAK + 1), ctx[STATES], ctx[N_ALL]
    J = doubles(J_, (N, N))
    inner = doubles(ctx[MEMORY], (n, n))
    call_f(table[slot], ctx[BASE], t, y_, w_, x_, at(inner))
    J[:] = 0.0
    for i in range(n):
        for j in range(n):
            J[i, j] = inner[i, j]
    if ctx[LOSS] != 0:
        part = doubles(ctx[MEMORY] + 8 * (2 * n * n + 1), 1 + n + ctx[READOUT])
        call_elementwise(ctx[LOSS], ctx[LOSS_CTX], y_, x_ + 8 * ctx[INPUTS], at(part), 0)
        for j in range(n):
            J[n, j] = part[1 + j]


@lazy(SIGNATURES[JACOBIAN])
def forward_jacobian(ctx_, t, y_, w_, x_, J_):
    """J of [r | l | g_o], the forward system without P and S, for implicit solvers.

    The rows of g_o are left 0: nothing depends on g_o, so Newton's method is right there one iteration after r is.
    """
    _of_state(integers(ctx_, CTX_SIZE), JACOBIAN, t, y_, w_, x_, J_)


@lazy(SIGNATURES[LEAK])
def forward_leak(ctx_, t, y_, w_, x_, J_):
    """The same with LEAK in the place of ∂F/∂r, for leak-only sensitivities behind the state."""
    _of_state(integers(ctx_, CTX_SIZE), LEAK, t, y_, w_, x_, J_)


@lazy(SIGNATURES[ACCUMULATE])
def forward_accumulate(ctx_, S, q, t_, y_, w_, x_, K_, G_):
    """The parameter part of [r | l | g_o]: that of r, as w enters l and g_o through r only."""
    ctx = integers(ctx_, CTX_SIZE)
    accumulate, N = integers(ctx[TABLE], JACOBIAN + 2)[ACCUMULATE], ctx[N_ALL]
    for s in range(S):  # the first n rows of each stage's K
        y, x = y_ + 8 * s * N, x_ + 8 * s * ctx[X_STRIDE]
        call_accumulate(accumulate, ctx[BASE], 1, q, t_ + 8 * s, y, w_, x, K_ + 8 * s * N * q, G_)


@lazy(SIGNATURES[F])
def backward(ctx_, t, y_, w_, x_, out_):
    """The slot F of the adjoint system, backward in time."""
    ctx = integers(ctx_, CTX_SIZE)
    table, base = integers(ctx[TABLE], JACOBIAN + 2), ctx[BASE]
    n, g, c = ctx[STATES], ctx[GROUPS], ctx[COLUMNS]
    if ctx[R_INPUT]:
        r_ = x_ + 8 * (ctx[X_STRIDE] - n)
        y, out = y_, out_
    else:
        r_ = y_
        y, out = y_ + 8 * n, out_ + 8 * n
        call_f(table[F], base, t, r_, w_, x_, out_)
    rate = doubles(out, n + g * c)
    minus = doubles(ctx[MEMORY], n)
    lam = doubles(y, n)
    times = doubles(ctx[MEMORY] + 8 * n, 1)
    times[0] = t
    for i in range(n + g * c):
        rate[i] = 0.0
    for i in range(n):
        minus[i] = -lam[i]
    call_vjp(table[VJP], base, t, r_, w_, x_, 1, at(minus), out)
    call_accumulate(table[ACCUMULATE], base, 1, 1, at(times), r_, w_, x_, at(minus), out + 8 * n)
    if ctx[LOSS] != 0:
        part = doubles(ctx[MEMORY] + 8 * (n + 1), 1 + n + ctx[READOUT])
        call_elementwise(ctx[LOSS], ctx[LOSS_CTX], r_, x_ + 8 * ctx[INPUTS], at(part), 0)
        for i in range(n):
            rate[i] -= part[1 + i]


def memory_size(n: int, readout: int) -> int:
    """Doubles of working memory that the two functions use."""
    return 2 * n * n + 1 + max(1, n) + 1 + n + 1 + readout
