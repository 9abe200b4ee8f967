"""A field's functions at many points with one call from Python, and its products of second order at one point."""

from numba import njit

from ctrnn.kernels import abi
from ctrnn.kernels.abi import at, call_f, call_jvp, call_second


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
