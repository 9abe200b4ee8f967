"""F of a network for LANES members of an ensemble at once, each with weights of its own.

    u_il = Σ_j Ŵ_ijl s_jl,   s = [h(z); x; 1],   dz_ail/dt = G_a(z_il, u_il, θ_il)

takes 2 B n (n + nx + 1) flops a member, and what G and h take.

Layout: ctrnn.kernels.network with the lane l behind every index, so that the loops of a cell over n units serve here as
loops over n · LANES of them. Ŵ is read once, in order; 8 bytes for 2 flops, from the cache that holds the weights of
LANES members.
"""

from __future__ import annotations

from ctrnn.kernels.abi import IN_LANES, LANES, LEAN, SCRATCH, SIGNATURES, at, call_elementwise, doubles, integers
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.network import CTX_SIZE, INDEX, INPUTS, PREACTS, RATE, SOURCE, UNITS, WIDTH
from ctrnn.kernels.vectors import row_dot


def scratch_size(n: int, B: int, inputs: int) -> int:
    """Doubles of scratch: s and u."""
    return LANES * ((n + inputs + 1) + B * n)


@lazy(SIGNATURES[IN_LANES], **LEAN, fastmath={"contract"})
def field(ctx_, L, t_, r_, w_, x_, out_):
    """The slot IN_LANES of a network."""
    ctx = integers(ctx_, CTX_SIZE)
    n, nx, rows, width = ctx[UNITS], ctx[INPUTS], ctx[PREACTS] * ctx[UNITS], ctx[WIDTH]
    s = doubles(ctx[SCRATCH], (n + nx + 1, LANES))
    u = doubles(ctx[SCRATCH] + 8 * LANES * (n + nx + 1), (rows, LANES))
    W, x = doubles(w_, (rows, width, LANES)), doubles(x_, (nx, LANES))
    call_elementwise(ctx[SOURCE], n * LANES, r_, at(s), 0, 0)
    for j in range(nx):
        for l in range(L):
            s[n + j, l] = x[j, l]
    if ctx[INDEX] == 0:
        for i in range(rows):
            row_dot(width - 1, at(W[i]), at(s), at(W[i, width - 1]), at(u[i]))  # the bias last
    else:
        index = integers(ctx[INDEX], (rows, width))
        for l in range(L):
            s[n + nx, l] = 1.0
        for i in range(rows):
            for l in range(L):
                u[i, l] = 0.0
            for c in range(width):
                j = index[i, c]
                for l in range(L):
                    u[i, l] += W[i, c, l] * s[j, l]
    call_elementwise(ctx[RATE], n * LANES, r_, at(u), w_ + 8 * LANES * rows * width, out_)
