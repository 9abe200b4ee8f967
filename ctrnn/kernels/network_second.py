"""Second order of networks of elementwise cells (ctrnn.kernels.network has the first).

With u = Ŵ s, s = [h(z); x; 1], dz_a/dt = G_a(z, u, θ), along a direction (δz, δŴ, δθ):

    δs = [Σ_b h′_b δz_b; 0; 0]        δu = δŴ s + Ŵ δs
    JVP       δF_a = Σ_b ∂G_a/∂z_b δz_b + Σ_p ∂G_a/∂u_p δu_p + Σ_c ∂G_a/∂θ_c δθ_c

and with κ_p = Σ_a K_a ∂G_a/∂u_p, where δ of a partial derivative is taken along (δz, δu, δθ):

    SECOND    R_b = Σ_a K_a δ(∂G_a/∂z_b) + δh′_b (Ŵᵀκ) + h′_b (Ŵᵀδκ + δŴᵀκ)        δκ_p = Σ_a K_a δ(∂G_a/∂u_p)
              row p of Ŵ: δG += δκ_p sᵀ + κ_p δsᵀ        θ_c: δG += Σ_a K_a δ(∂G_a/∂θ_c)

Everything elementwise is compiled for the cell (ctrnn.fields.cells): three loops over the units, which see z, u, θ as
the rows of one array q (A + B + Θ, n), and δz, δu, δθ as those of δq. Flops: 4 B n (n + nx + 1) for JVP, 10 of those
for SECOND.
"""

from __future__ import annotations

from ctrnn.kernels.abi import (
    COLUMNS,
    JVP,
    SCRATCH,
    SECOND,
    SIGNATURES,
    address_of,
    at,
    call_elementwise,
    doubles,
    integers,
)
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.network import CTX_SIZE as FIRST
from ctrnn.kernels.network import INDEX, INPUTS, PREACTS, STATES, THETAS, UNITS, WIDTH

# more ctx entries: h and δh; δG; what SECOND needs of the cell
SOURCE_TANGENT, RATE_TANGENT, CURVATURE = range(FIRST, FIRST + 3)
CTX_SIZE = FIRST + 3


def scratch_size(n: int, A: int, B: int, n_theta: int, inputs: int) -> int:
    """Doubles of scratch: s, δs, q, δq, the elementwise results, and Ŵᵀκ with its δ."""
    return 2 * (n + inputs + 1) + (2 * (A + B + n_theta) + 2 * B + 3 * A + n_theta + 2) * n


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _prepared(ctx, r_, w_, x_, dr_, dw_):
    """s and δs (sources,), q and δq (A + B + Θ, n), in the scratch; and where the rest of it begins."""
    n, A, B, nth, nx = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[THETAS], ctx[INPUTS]
    sources = n + nx + 1
    start = ctx[SCRATCH]
    s, ds = doubles(start, sources), doubles(start + 8 * sources, sources)
    start += 16 * sources
    rows = A + B + nth
    q, dq = doubles(start, (rows, n)), doubles(start + 8 * rows * n, (rows, n))
    start += 16 * rows * n
    z, dz, x = doubles(r_, (A, n)), doubles(dr_, (A, n)), doubles(x_, nx)
    width = ctx[WIDTH]
    W, dW, index = doubles(w_, (B * n, width)), doubles(dw_, (B * n, width)), integers(ctx[INDEX], (B * n, width))
    theta, dtheta = doubles(w_ + 8 * B * n * width, (nth, n)), doubles(dw_ + 8 * B * n * width, (nth, n))
    for a in range(A):
        for i in range(n):
            q[a, i], dq[a, i] = z[a, i], dz[a, i]
    for c in range(nth):
        for i in range(n):
            q[A + B + c, i], dq[A + B + c, i] = theta[c, i], dtheta[c, i]
    call_elementwise(ctx[SOURCE_TANGENT], n, at(q), at(dq), at(s), at(ds))
    for j in range(nx):
        s[n + j], ds[n + j] = x[j], 0.0
    s[n + nx], ds[n + nx] = 1.0, 0.0
    for p in range(B):
        for i in range(n):
            k = p * n + i
            u, du = 0.0, 0.0
            for c in range(width):
                j = index[k, c] if ctx[INDEX] != 0 else c
                u += W[k, c] * s[j]
                du += dW[k, c] * s[j] + W[k, c] * ds[j]
            q[A + p, i], dq[A + p, i] = u, du
    return s, ds, q, dq, start


@lazy(SIGNATURES[JVP], error_model="python")
def jvp(ctx_, t, r_, w_, x_, dr_, dw_, out_):
    """The slot JVP of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    _, _, q, dq, _ = _prepared(ctx, r_, w_, x_, dr_, dw_)
    call_elementwise(ctx[RATE_TANGENT], ctx[UNITS], at(q), at(dq), out_, 0)


@lazy(SIGNATURES[SECOND], error_model="python")
def second(ctx_, t, r_, w_, x_, dr_, dw_, K_, R_, G_):
    """The slot SECOND of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    n, A, B, nth = ctx[UNITS], ctx[STATES], ctx[PREACTS], ctx[THETAS]
    s, ds, q, dq, start = _prepared(ctx, r_, w_, x_, dr_, dw_)
    # κ, δκ (B); Σ K δ(∂G/∂z) (A); h′, δh′ (A); Σ K δ(∂G/∂θ) (Θ)
    out = doubles(start, (2 * B + 3 * A + nth, n))
    call_elementwise(ctx[CURVATURE], n, at(q), at(dq), K_, start)
    start += 8 * (2 * B + 3 * A + nth) * n
    back, dback = doubles(start, n), doubles(start + 8 * n, n)
    width = ctx[WIDTH]
    W, dW, index = doubles(w_, (B * n, width)), doubles(dw_, (B * n, width)), integers(ctx[INDEX], (B * n, width))
    G = doubles(G_, (B * n, ctx[COLUMNS]))
    back[:] = 0.0
    dback[:] = 0.0
    for p in range(B):
        for i in range(n):
            k = p * n + i
            kappa, dkappa = out[p, i], out[B + p, i]
            for c in range(width):
                j = index[k, c] if ctx[INDEX] != 0 else c
                if j < n:
                    back[j] += kappa * W[k, c]
                    dback[j] += dkappa * W[k, c] + kappa * dW[k, c]
                G[k, c] += dkappa * s[j] + kappa * ds[j]
    for c in range(nth):
        for i in range(n):
            G[i, width + c] += out[2 * B + 3 * A + c, i]
    R = doubles(R_, (A, n))
    for b in range(A):
        hz, dhz = out[2 * B + A + b], out[2 * B + 2 * A + b]
        for i in range(n):
            R[b, i] = out[2 * B + b, i] + dhz[i] * back[i] + hz[i] * dback[i]


def addresses() -> tuple[int, int]:
    """Of JVP and SECOND, which all networks share."""
    return address_of(jvp), address_of(second)
