"""The named losses at one state, for systems that integrate them beside it: out = [aℓ, a ∂ℓ/∂r (n), a ∂ℓ/∂(V, c)].

    squared error   ℓ = ½‖o − y‖²            ∂ℓ/∂u = o − y, through the softmax o ∘ (∂ℓ/∂o − ∂ℓ/∂o · o)
    cross-entropy   ℓ = −Σ y log o           ∂ℓ/∂u = (Σ y) o − y
    read-out        o = g(u), u = V r + c    ∂ℓ/∂r = ∂ℓ/∂u V,  ∂ℓ/∂V = ∂ℓ/∂u rᵀ,  ∂ℓ/∂c = ∂ℓ/∂u

Called as loss(ctx, r, s, out, 0) with s = [y (p), a]. Without a read-out o are the states that ``SELECTION`` lists. The
formulas are those of ctrnn.objective, which works on whole arrays of times; here there is one, thousands of times a
second.
"""

import math

from numba import types

from ctrnn.kernels.abi import doubles, integers
from ctrnn.kernels.lazy import lazy

N, OUTPUTS, SELECTION, V, C, SOFTMAX, CROSS_ENTROPY, MEMORY, CTX_SIZE = range(9)
SIGNATURE = types.void(*[types.int64] * 5)


@lazy(SIGNATURE)
def named(ctx_, r_, s_, out_, unused):
    """The rate of a named loss with its derivatives, as a C function."""
    ctx = integers(ctx_, CTX_SIZE)
    n, p = ctx[N], ctx[OUTPUTS]
    r, s = doubles(r_, n), doubles(s_, p + 1)
    a = s[p]
    readout = ctx[V] != 0
    out = doubles(out_, 1 + n + (p * n + p if readout else 0))
    o = doubles(ctx[MEMORY], p)
    l_u = doubles(ctx[MEMORY] + 8 * p, p)
    Vm = doubles(ctx[V], (p, n))
    c = doubles(ctx[C], p)
    selection = integers(ctx[SELECTION], p)
    top = 0.0  # log Σ e^u, for the softmax
    if readout:
        largest = -math.inf
        for i in range(p):
            u = c[i]
            for j in range(n):
                u += Vm[i, j] * r[j]
            o[i] = u
            largest = max(largest, u)
        if ctx[SOFTMAX]:
            total = 0.0
            for i in range(p):
                total += math.exp(o[i] - largest)
            top = largest + math.log(total)
    else:
        for i in range(p):
            o[i] = r[selection[i]]
    l = 0.0
    if ctx[CROSS_ENTROPY]:
        weight = 0.0
        for i in range(p):
            l -= s[i] * (o[i] - top)
            weight += s[i]
        for i in range(p):
            l_u[i] = weight * math.exp(o[i] - top) - s[i]
    else:
        dot = 0.0
        for i in range(p):
            if ctx[SOFTMAX]:
                o[i] = math.exp(o[i] - top)
            l_u[i] = o[i] - s[i]
            l += 0.5 * l_u[i] * l_u[i]
            dot += l_u[i] * o[i]
        if ctx[SOFTMAX]:
            for i in range(p):
                l_u[i] = o[i] * (l_u[i] - dot)
    out[0] = a * l
    for j in range(n):
        out[1 + j] = 0.0
    for i in range(p):
        g = a * l_u[i]
        if readout:
            for j in range(n):
                out[1 + j] += g * Vm[i, j]
                out[1 + n + i * n + j] = g * r[j]
            out[1 + n + p * n + i] = g
        else:
            out[1 + selection[i]] = g
