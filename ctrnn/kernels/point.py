"""A field's functions as called from Python: at one point, or at many with one call."""

from ctrnn.kernels import abi
from ctrnn.kernels.abi import alive, at, call_accumulate, call_f, call_jvp, call_second, call_vjp
from ctrnn.kernels.compiled import njit


@njit(cache=True)
def field(system, t, r, x, out):
    """out (n,) = F(t, r, w, x)."""
    call_f(system.table[abi.F], at(system.ctx), t, at(r), at(system.w), at(x), at(out))


@njit(cache=True)
def jacobian(system, t, r, x, out):
    """out (n, n) = J at a point."""
    call_f(system.table[abi.JACOBIAN], at(system.ctx), t, at(r), at(system.w), at(x), at(out))


@njit(cache=True)
def vjp(system, t, r, x, K, out):
    """out (n, q) from K (n, q), by the slot VJP."""
    q = K.shape[1]
    call_vjp(system.table[abi.VJP], at(system.ctx), t, at(r), at(system.w), at(x), q, at(K), at(out))


@njit(cache=True)
def accumulate(system, t, r, x, K, G):
    """Add K F_w at one point to G, by the slot ACCUMULATE."""
    from_t = r.copy()
    from_t[:] = t
    call_accumulate(
        system.table[abi.ACCUMULATE], at(system.ctx), 1, K.shape[1], at(from_t), at(r), at(system.w),
        at(x), at(K), at(G),
    )  # fmt: skip
    alive(from_t)


@njit(cache=True)
def fields(system, t, r, x, out):
    """F at the rows of r (K, n), at one t and x, into out (K, n)."""
    for k in range(r.shape[0]):
        call_f(system.table[abi.F], at(system.ctx), t, at(r[k]), at(system.w), at(x), at(out[k]))


@njit(cache=True)
def jacobians(system, t, r, x, out):
    """J at the rows of r (K, n), at one t and x, into out (K, n, n)."""
    for k in range(r.shape[0]):
        call_f(system.table[abi.JACOBIAN], at(system.ctx), t, at(r[k]), at(system.w), at(x), at(out[k]))


@njit(cache=True)
def jvps(system, jvp, ctx, t, r, x, dr, dw, out):
    """J δr + F_w δw at the rows of r (K, n), with a δr for each (K, n) and one δw, into out (K, n)."""
    for k in range(r.shape[0]):
        call_jvp(jvp, at(ctx), t, at(r[k]), at(system.w), at(x), at(dr[k]), at(dw), at(out[k]))


@njit(cache=True)
def second(system, function, ctx, t, r, x, dr, dw, K, R, G):
    """R[k] = K[k] δJ and G[k] += K[k] δF_w along (δr, δw), for the rows of K (q, n); R (q, n), G (q, entries)."""
    for k in range(K.shape[0]):
        call_second(
            function, at(ctx), t, at(r), at(system.w), at(x), at(dr), at(dw), at(K[k]), at(R[k]), at(G[k])
        )  # fmt: skip
